//! Real connections: heads that are too long or too slow, bodies that are not asked for, and the way down.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::{Gateway, Parts};

struct Live {
    address: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    keys: Arc<Keys>,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

async fn live(change: impl FnOnce(&mut Settings)) -> Live {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut settings = Settings { listen: any, admin_listen: any, ..Settings::default() };
    settings.limits.head_read_max = PATIENCE;
    settings.limits.drain_max = PATIENCE;
    change(&mut settings);
    let keys = Arc::new(Keys::default());
    let parts = Parts {
        routing: routing(),
        keys: Arc::clone(&keys) as Arc<dyn KeyRing>,
        log_origins: BTreeMap::new(),
        clock: Arc::new(SystemClock),
        metrics: Arc::new(|| "# metrics\n".to_owned()),
        console: None,
        doorstep: None,
    };
    let gateway = Gateway::bind(settings, parts).await.unwrap();
    let (address, admin) = (gateway.address(), gateway.admin_address());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(gateway.serve(async move { drop(stopped.await) }));
    Live { address, admin, keys, stop, serving }
}

/// Sends bytes, and reads until the other side closes.
async fn talk(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may close while we still write: then the answer is all that matters.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = closed.expect("the other side closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn health_readiness_and_metrics_are_on_the_admin_listener() {
    let live = live(|_| {}).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(talk(live.admin, get("/healthz").as_bytes()).await.starts_with("HTTP/1.1 200"));
    assert!(talk(live.admin, get("/metrics").as_bytes()).await.ends_with("# metrics\n"));
    let ready = talk(live.admin, get("/readyz").as_bytes()).await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\"directory\":\"down\""), "{ready}");
    assert!(talk(live.address, get("/metrics").as_bytes()).await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let live = live(|_| {}).await;
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(1024 * 1024));
    let answer = talk(live.address, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many: String = (0..200).map(|n| format!("x-{n}: a\r\n")).collect();
    let answer = talk(live.address, format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(
        talk(live.address, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.contains(" 200 ")
    );
}

#[tokio::test]
async fn connections_that_say_nothing_or_say_it_too_slowly_are_closed() {
    let live = live(|settings| {
        settings.limits.head_read_max = Duration::from_millis(300);
        settings.limits.idle_max = Duration::from_millis(600);
    })
    .await;
    for begun in ["", "P", "PRI * HT", "GET /healthz HTTP/1.1\r\nhost:"] {
        let started = Instant::now();
        talk(live.address, begun.as_bytes()).await;
        // The clocks are what is promised; this is ten times as long, and tells them from the ones that run by default.
        let kept = started.elapsed();
        assert!(kept < crate::Limits::default().head_read_max, "{begun:?} was kept for {kept:?}");
    }
}

#[tokio::test]
async fn half_a_head_holds_up_the_end_no_longer_than_the_drain() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new().route("/healthz", axum::routing::get(async || "well\n"));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let drain_max = Duration::from_millis(100);
        let limits = crate::Limits { head_read_max: PATIENCE * 10, drain_max, ..crate::Limits::default() };
        crate::serve_routes("test", listener, routes, 4, &limits, async move { drop(stopped.await) }).await;
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nho").await.unwrap();
    let mut some = [0; 15];
    stream.read_exact(&mut some).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 200 OK");
    stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_stream_whose_peer_answers_pings_and_takes_nothing_ends_its_connection() {
    let live = live(|settings| {
        settings.limits.write_stall_max = Duration::from_millis(200);
        settings.limits.idle_max = PATIENCE * 10;
    })
    .await;
    let stream = hyper_util::rt::TokioIo::new(TcpStream::connect(live.address).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    // A window of one byte, and nobody who reads it.
    let client = hyper::client::conn::http2::Builder::new(executor).initial_stream_window_size(1).clone();
    let (mut client, connection) = client.handshake::<_, Body>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let asked = Request::get("http://x/docs").header("authorization", format!("Bearer {ALL}"));
    let unread = client.send_request(asked.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(unread.status(), 200);
    let _ = tokio::time::timeout(PATIENCE, connection).await.expect("the connection is closed");
}

#[tokio::test]
async fn a_body_is_not_asked_for_when_the_request_is_refused() {
    let live = live(|_| {}).await;
    let head = "PUT /v1/subjects/anna/records/c/k HTTP/1.1\r\nhost: x\r\nauthorization: Bearer dom_reader_x\r\n\
                content-type: application/json\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n";
    let answer = talk(live.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!answer.contains("100 Continue"), "{answer}");
}

#[tokio::test]
async fn the_way_down_finishes_what_is_under_way() {
    let live = live(|settings| settings.limits.request_max = Duration::from_millis(500)).await;
    let address = live.address;
    let hanging = tokio::spawn(async move {
        talk(address, b"GET /docs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer dom_hanging_x\r\n\r\n").await
    });
    live.keys.hanging.subscribe().wait_for(|hanging| *hanging == 1).await.unwrap();
    live.stop.send(()).unwrap();
    assert!(hanging.await.unwrap().starts_with("HTTP/1.1 504"));
    tokio::time::timeout(PATIENCE, live.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
