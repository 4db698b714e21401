//! Key sets from a server, and what becomes of us when the server fails.

use std::sync::Mutex as Lock;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// What the server does when it is asked.
#[derive(Clone)]
enum Does {
    Answer(u16, String),
    Drip,
    /// Answers with a set once it is told to.
    Wait(Arc<tokio::sync::Notify>, String),
}

/// An identity provider's server on this machine.
struct Provider {
    url: String,
    does: Arc<Lock<Does>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Provider {
    async fn with(ids: &[&str]) -> Self {
        let does = Arc::new(Lock::new(Does::Answer(200, set(ids))));
        let asked = Arc::new(AtomicUsize::new(0));
        let routes = Router::new().fallback(answer).with_state((Arc::clone(&does), Arc::clone(&asked)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, does, asked, task }
    }

    fn now(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn jwks(&self) -> Arc<Jwks> {
        jwks(&self.url)
    }
}

async fn answer(State((does, asked)): State<(Arc<Lock<Does>>, Arc<AtomicUsize>)>) -> Response {
    asked.fetch_add(1, Ordering::SeqCst);
    let does = does.lock().unwrap().clone();
    match does {
        Does::Answer(status, body) => {
            let location = [(http::header::LOCATION, "/elsewhere")];
            (StatusCode::from_u16(status).unwrap(), location, body).into_response()
        }
        Does::Wait(told, body) => {
            told.notified().await;
            body.into_response()
        }
        Does::Drip => {
            let chunks = futures::stream::repeat(Ok::<_, std::convert::Infallible>(vec![b' '; 4_096]));
            axum::body::Body::from_stream(chunks).into_response()
        }
    }
}

/// As patient with the server as a busy machine may need it.
fn jwks(url: &str) -> Arc<Jwks> {
    jwks_within(Duration::from_secs(120), url)
}

fn jwks_within(fetch_max: Duration, url: &str) -> Arc<Jwks> {
    Arc::new(Jwks::with_patience(JwksSource::Url(url.to_owned()), fetch_max).unwrap())
}

fn set(ids: &[&str]) -> String {
    let key = |id: &&str| {
        serde_json::json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
            "x": "-NIJrPg-AtHlBxkn-tScJ_oK0GeMMjRvTLXPSuA18rA", "y": "BCOfRBn9t_08zEv5t6zKEAWrFDvmuETQHQaVuv-z6eM"
        })
    };
    serde_json::json!({ "keys": ids.iter().map(key).collect::<Vec<_>>() }).to_string()
}

fn has(set: Option<&Arc<KeySet>>, id: &str) -> bool {
    set.is_some_and(|set| set.find(Some(id)).is_some())
}

/// Lets time pass at once. The clock runs by itself before and after, as sockets need.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until what happens behind everybody's back has happened.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..12_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true within two minutes");
}

#[test]
fn keys_come_over_tls_or_from_this_machine() {
    assert!(matches!(secure("https://login.example.com/jwks"), Ok(Channel::Tls)));
    assert!(matches!(secure("http://127.0.0.1:9000/jwks"), Ok(Channel::ThisMachine)));
    assert!(matches!(secure("http://[::1]/jwks"), Ok(Channel::ThisMachine)));
    for url in [
        "http://login.example.com/jwks",
        "http://127.0.0.1.example.com/",
        "http://localhost@login.example.com/",
        "http://localhost.example.com/",
        "file:///etc/passwd",
        "jwks",
    ] {
        assert!(secure(url).is_err(), "{url}");
    }
}

#[test]
fn a_symmetric_key_is_no_key() {
    let set = br#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"a","alg":"HS256"}]}"#;
    assert!(matches!(keys(set), Err(NoJwks::Empty)));
}

#[tokio::test]
async fn a_set_is_fetched_once_for_many_and_kept() {
    let provider = Provider::with(&["k1"]).await;
    let jwks = provider.jwks();
    let everybody = (0..50).map(|_| {
        let jwks = Arc::clone(&jwks);
        tokio::spawn(async move { jwks.current().await })
    });
    for set in futures::future::join_all(everybody).await {
        assert!(has(set.unwrap().as_ref(), "k1"));
    }
    pass(REFRESH_EVERY / 2).await;
    assert!(has(jwks.current().await.as_ref(), "k1"));
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn a_fetch_whose_caller_hangs_up_goes_on_for_the_next() {
    let provider = Provider::with(&[]).await;
    let told = Arc::new(tokio::sync::Notify::new());
    provider.now(Does::Wait(Arc::clone(&told), set(&["k1"])));
    let jwks = provider.jwks();
    let first = {
        let jwks = Arc::clone(&jwks);
        tokio::spawn(async move { jwks.current().await.is_some() })
    };
    until(|| provider.asked() == 1).await;
    first.abort();
    assert!(first.await.is_err(), "it waits no more");
    told.notify_one();
    assert!(has(jwks.current().await.as_ref(), "k1"));
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn a_set_that_is_due_is_fetched_behind_everybodys_back() {
    let provider = Provider::with(&["k1"]).await;
    let jwks = provider.jwks();
    let first = jwks.current().await.unwrap();
    provider.now(Does::Answer(200, set(&["k2"])));
    pass(REFRESH_EVERY).await;
    assert!(has(jwks.current().await.as_ref(), "k1"), "whoever asks does not wait");
    until(|| provider.asked() == 2 && has(jwks.set.load_full().as_ref(), "k2")).await;
    let second = jwks.current().await.unwrap();
    assert!(second.find(Some("k1")).is_none(), "a withdrawn key ends with the set");
    assert!(second.generation > first.generation, "what was verified before is verified again");
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_but_not_more_often_than_the_limit() {
    let provider = Provider::with(&["k1"]).await;
    let jwks = provider.jwks();
    jwks.current().await.unwrap();
    provider.now(Does::Answer(200, set(&["k1", "k2"])));
    tokio::time::pause();
    for _ in 0..20 {
        assert!(!has(jwks.renewed().await.as_ref(), "k2"), "at once it would be a way to make us fetch without end");
    }
    tokio::time::resume();
    assert_eq!(provider.asked(), 1);
    pass(REFRESH_SOONEST).await;
    for _ in 0..20 {
        assert!(has(jwks.renewed().await.as_ref(), "k2"));
    }
    assert_eq!(provider.asked(), 2);
}

#[tokio::test]
async fn what_is_no_key_set_changes_nothing() {
    let provider = Provider::with(&["k1"]).await;
    let jwks = provider.jwks();
    jwks.current().await.unwrap();
    let padded = format!("{}{}", set(&["k9"]), " ".repeat(SET_BYTES_MAX));
    let answers = [
        Does::Answer(500, set(&["k9"])),
        Does::Answer(404, set(&["k9"])),
        Does::Answer(302, set(&["k9"])),
        Does::Answer(203, set(&["k9"])),
        Does::Answer(200, "<html>log in</html>".to_owned()),
        Does::Answer(200, String::new()),
        Does::Answer(200, r#"{"keys":[]}"#.to_owned()),
        Does::Answer(200, padded),
        Does::Drip,
    ];
    for (n, does) in answers.into_iter().enumerate() {
        provider.now(does);
        pass(REFRESH_SOONEST).await;
        let set = jwks.renewed().await;
        assert_eq!(provider.asked(), n + 2, "it was asked");
        assert!(has(set.as_ref(), "k1") && !has(set.as_ref(), "k9"), "answer {n}");
    }
}

#[tokio::test]
async fn why_a_set_cannot_be_had_is_said_without_the_url() {
    let provider = Provider::with(&["k1"]).await;
    let jwks = provider.jwks();
    provider.now(Does::Answer(302, String::new()));
    assert!(matches!(jwks.fetch().await, Err(NoJwks::Status(302))));
    provider.now(Does::Answer(200, "x".repeat(SET_BYTES_MAX + 1)));
    assert!(matches!(jwks.fetch().await, Err(NoJwks::TooLarge)));
    provider.now(Does::Answer(200, "[]".to_owned()));
    assert!(matches!(jwks.fetch().await, Err(NoJwks::Malformed(_))));
    provider.task.abort();
    until(|| provider.task.is_finished()).await;
    // A new client: the old one may hold a connection that outlives the listener.
    let Err(error) = provider.jwks().fetch().await else { panic!("nobody answers there") };
    assert!(!format!("{error:?}").contains("jwks.json"), "{error:?}");
}

#[tokio::test]
async fn when_the_provider_is_down_the_last_set_serves_for_a_day() {
    let provider = Provider::with(&["k1"]).await;
    let jwks = provider.jwks();
    jwks.current().await.unwrap();
    provider.now(Does::Answer(503, String::new()));
    for _ in 0..23 {
        pass(Duration::from_secs(3_600)).await;
        let asked = provider.asked();
        assert!(has(jwks.current().await.as_ref(), "k1"));
        until(|| provider.asked() > asked && jwks.last.try_lock().is_ok()).await;
    }
    pass(Duration::from_secs(3_600)).await;
    assert!(jwks.current().await.is_none(), "keys that may have been withdrawn a day ago are no keys");
    provider.now(Does::Answer(200, set(&["k1"])));
    pass(REFRESH_SOONEST).await;
    assert!(has(jwks.current().await.as_ref(), "k1"));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_server_that_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let jwks = jwks_within(FETCH_MAX, &format!("http://{}/", silent.local_addr().unwrap()));
    let begun = Instant::now();
    assert!(jwks.current().await.is_none());
    assert!(begun.elapsed() <= FETCH_MAX + Duration::from_secs(1), "{:?}", begun.elapsed());
    // And whoever comes next is told at once.
    let begun = Instant::now();
    assert!(jwks.current().await.is_none());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}
