//! What the HTTP face promises without a database: every store here is one that nobody can reach.

mod browsers;
mod connections;
mod doors;
mod identity;
mod requests;
mod traces;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use futures::future::BoxFuture;
use geoip::GeoIp;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use residency::{Jurisdiction, Policy, Region};
use routing::{Routing, SystemClock};
use secrecy::SecretString;
use serde_json::Value;
use storage::{AuditReads, Directory, DirectorySettings, Pepper, Peppers, RegionSettings, RegionStore};
use tower::ServiceExt as _;

use crate::app::App;
use crate::callers::{KeyOwner, KeyRing};
use crate::{Settings, routes};

/// How long a test waits for what must come about. No test may demand more speed than this of the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A key that may do everything.
const ALL: &str = "dom_all_x";
/// A key that may read records.
const READER: &str = "dom_reader_x";
/// A key that opens the console.
const AUDITOR: &str = "dom_auditor_x";
/// A key whose lookup never ends.
const HANGING: &str = "dom_hanging_x";
/// A key whose lookup panics.
const CURSED: &str = "dom_cursed_x";

/// The keys of these tests.
#[derive(Default)]
struct Keys {
    revoked: std::sync::Mutex<HashMap<String, ()>>,
    /// How many lookups hang.
    hanging: tokio::sync::watch::Sender<usize>,
}

impl Keys {
    fn revoke(&self, key: &str) {
        self.revoked.lock().unwrap().insert(key.to_owned(), ());
    }
}

impl KeyRing for Keys {
    fn find<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Arc<KeyOwner>>, storage::Error>> {
        let owner = |name: &str, scopes: &[&str]| {
            let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            Arc::new(KeyOwner { id: name.to_owned(), name: name.to_owned(), scopes, tenant: None })
        };
        let all: Vec<_> = api::Scope::ALL.iter().map(|scope| scope.name()).collect();
        let found = match key {
            _ if self.revoked.lock().unwrap().contains_key(key) => None,
            ALL => Some(owner("all", &all)),
            READER => Some(owner("reader", &["records:read", "classify"])),
            AUDITOR => Some(owner("auditor", &["console:read", "audit:read"])),
            _ => None,
        };
        Box::pin(async move {
            match key {
                HANGING => {
                    self.hanging.send_modify(|hanging| *hanging += 1);
                    std::future::pending().await
                }
                CURSED => panic!("a bug"),
                _ => Ok(found),
            }
        })
    }
}

/// A gateway whose directory and regions nobody can reach.
struct Scene {
    routes: Router,
    keys: Arc<Keys>,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { cookie_secure: false, ..Settings::default() };
        settings.limits.body_read_max = Duration::from_millis(300);
        change(&mut settings);
        let keys = Arc::new(Keys::default());
        let console = Router::new().route("/console", axum::routing::get(async || "console").post(async || "posted"));
        let app = app(settings, Arc::clone(&keys) as Arc<dyn KeyRing>);
        Self { routes: routes::public(&app, Some(console), Some(console::doorstep())), keys }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.routes.clone().oneshot(request).await.unwrap()).await
    }

    async fn get(&self, path: &str, key: &str) -> Answer {
        self.send(request("GET", path, key).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, key: &str, media: &str, body: impl Into<Body>) -> Answer {
        self.send(request("POST", path, key).header("content-type", media).body(body.into()).unwrap()).await
    }
}

fn app(settings: Settings, keys: Arc<dyn KeyRing>) -> App {
    crate::app(settings, routing(), keys, BTreeMap::new(), Arc::new(SystemClock)).unwrap()
}

fn routing() -> Routing {
    let nowhere = || SecretString::from("postgres://nobody@127.0.0.1:1/nothing");
    // Nobody listens there, so that a connection is refused and no time has to pass before that is known.
    let limits =
        storage::Limits { answer_timeout: PATIENCE, connect_timeout: PATIENCE / 2, ..storage::Limits::default() };
    let peppers = Peppers::new(Pepper::new(1, &[7; 32]).unwrap(), Vec::new());
    let region = Region::new("eu-central").unwrap();
    let store = RegionStore::open(RegionSettings {
        region: region.clone(),
        jurisdiction: Jurisdiction::new("eu").unwrap(),
        dsn: nowhere(),
        log_origin: "eu-central.log.example.com".to_owned(),
        audit_reads: AuditReads::Durable,
        keeps_details: false,
        gateway: leaf::GatewayId::new("test", 1).unwrap(),
        peppers: peppers.clone(),
        reader_connections: 1,
        committer_connections: 1,
        limits: limits.clone(),
    });
    let directory = Directory::open(DirectorySettings { dsn: nowhere(), peppers, cache_pins_max: 10, limits });
    let policy = Policy::parse(
        residency::presets::SHIPPED_POLICY,
        residency::presets::JURISDICTIONS,
        residency::presets::LOCATIONS,
    )
    .unwrap();
    Routing::new(routing::Parts {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        geoip: GeoIp::empty(),
        directory,
        regions: vec![store],
        homes: BTreeMap::new(),
        own_region: region,
        details: Vec::new(),
        clock: Arc::new(SystemClock),
    })
    .unwrap()
}

fn request(method: &str, path: &str, key: &str) -> http::request::Builder {
    let builder = Request::builder().method(method).uri(path);
    if key.is_empty() { builder } else { builder.header("authorization", format!("Bearer {key}")) }
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    async fn of(response: axum::response::Response) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes().to_vec() }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The problem's code; every problem is complete.
    fn code(&self) -> String {
        let problem: api::Problem = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} is no problem: {}", self.status, String::from_utf8_lossy(&self.body)));
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.kind, format!("urn:domicile:problem:{}", problem.code));
        let id = self.headers["x-request-id"].to_str().unwrap();
        assert_eq!(problem.instance.as_deref(), Some(format!("urn:domicile:request:{id}").as_str()));
        assert_eq!(problem.retry_after_s.is_some(), self.headers.contains_key("retry-after"));
        assert_eq!(self.status == 401, self.headers.contains_key("www-authenticate"));
        problem.code
    }
}

/// A body that is never sent, and tells if anybody waits for it.
fn never_sent() -> (Body, Arc<std::sync::atomic::AtomicBool>) {
    let touched = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = Arc::clone(&touched);
    let stream = futures::stream::poll_fn(move |_| {
        flag.store(true, std::sync::atomic::Ordering::SeqCst);
        std::task::Poll::<Option<Result<bytes::Bytes, std::io::Error>>>::Pending
    });
    (Body::from_stream(stream), touched)
}
