//! The pages over real regions: PostgreSQL databases, written to by permits, looked at like a visitor.

#[path = "../../storage/tests/support/mod.rs"]
mod support;

use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Extension;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::IntoResponse as _;
use console::{Accounts, Asked, Console, Unlogged, Visitor, router};
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use leaf::GatewayId;
use residency::{
    Actor, Collection, Decision, DecisionId, Denial, DenialReason, Epoch, Evidence, EvidenceList, Finding, Nothing,
    Operation, Origin, Pin, PinState, Place, Policy, RecordKey, Region, Source, SubjectId, Unresolved, Write, presets,
};
use secrecy::SecretString;
use storage::{
    Answer, AuditReads, Change, Effect, Health, Pepper, Peppers, Precondition, RegionSettings, RegionStore, admin,
};
use support::{Cluster, eventually, patient};
use tower::ServiceExt as _;
use uuid::Uuid;

/// A person whose name must be on no page that was not asked for it.
const ANNA: &str = "anna.schmidt@example.com";
const JOHN: &str = "john.miller@example.com";

struct House {
    cluster: Cluster,
    policy: Arc<Policy>,
    stores: Vec<RegionStore>,
    book: Book,
}

/// What was entered of looks at the logs: region, what was asked, rows.
#[derive(Clone, Default)]
struct Book {
    entered: Arc<Mutex<Vec<(String, Asked, u64)>>>,
    /// Whether nothing can be entered.
    closed: Arc<Mutex<bool>>,
}

impl Accounts for Book {
    fn account<'a>(
        &'a self,
        store: &'a RegionStore,
        asked: &'a Asked,
        rows: u64,
    ) -> BoxFuture<'a, Result<(), Unlogged>> {
        Box::pin(async move {
            if *self.closed.lock().expect("a book") {
                return Err(Unlogged::answered_with(StatusCode::SERVICE_UNAVAILABLE.into_response()));
            }
            self.entered.lock().expect("a book").push((store.region().to_string(), asked.clone(), rows));
            Ok(())
        })
    }
}

impl Book {
    /// What was entered since somebody last looked.
    fn taken(&self) -> Vec<(String, Asked, u64)> {
        std::mem::take(&mut *self.entered.lock().expect("a book"))
    }
}

impl House {
    async fn open() -> Self {
        let cluster = Cluster::start_new();
        let policy =
            Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS).expect("a policy");
        let mut stores = Vec::new();
        for (name, rule) in policy.regions().filter(|(name, _)| name.as_str() != "uk-south") {
            let (database, origin) = (name.as_str().replace('-', "_"), format!("audit.example.com/domicile/{name}"));
            admin::create_database_if_absent(&cluster.dsn("postgres").into(), &database).await.expect("a database");
            let dsn = SecretString::from(cluster.dsn(&database));
            admin::migrate_region(&dsn, name, &rule.jurisdiction, &origin, &|_| {}).await.expect("a region");
            stores.push(RegionStore::open(RegionSettings {
                region: name.clone(),
                jurisdiction: rule.jurisdiction.clone(),
                dsn,
                log_origin: origin,
                audit_reads: AuditReads::Durable,
                keeps_details: false,
                gateway: GatewayId::new("test-gw", 7).expect("a gateway"),
                peppers: Peppers::new(Pepper::new(1, &[7; 32]).expect("a pepper"), Vec::new()),
                reader_connections: 1,
                committer_connections: 1,
                limits: patient(),
            }));
        }
        for store in &stores {
            eventually("the region is up", async || store.health() == Health::Up).await;
        }
        Self { cluster, policy: Arc::new(policy), stores, book: Book::default() }
    }

    /// Writes a record of somebody who declared where they live, and returns the decision's id.
    async fn put(&self, id: u128, who: &str, residence: &str) -> DecisionId {
        let decision =
            self.decision(id, Source::DeclaredResidence, Finding::Place(Place::new(residence).expect("a place")));
        let home = match self.policy.classify(decision.evidence.clone()).outcome {
            residency::Outcome::Home { region, .. } => region,
            other => panic!("{residence} has no home: {other:?}"),
        };
        let id = decision.id;
        let pin = Pin { region: home.clone(), epoch: Epoch::FIRST, state: PinState::Active };
        let subject = SubjectId::new(who).expect("a subject");
        let permit = self.policy.permit::<Write>(subject, &pin, decision, true).expect("a permit");
        let change = Change::PutRecord {
            collection: Collection::new("profile").expect("a collection"),
            key: RecordKey::new("main").expect("a key"),
            body: serde_json::value::RawValue::from_string(r#"{"city":"Köln"}"#.to_owned()).expect("JSON"),
            when: Precondition::None,
        };
        let store = self.stores.iter().find(|store| *store.region() == home).expect("a store");
        let answer: Answer<Effect> = store.commit(permit.carry(change), None).await.expect("a commit");
        assert!(answer.position.is_some());
        id
    }

    fn decision(&self, id: u128, source: Source, finding: Finding) -> Decision {
        let evidence = EvidenceList::from_iter([Evidence { source, origin: Origin::Header, finding }]);
        let decision = Decision {
            id: DecisionId(Uuid::from_u128(id)),
            at_us: 1_795_380_156_000_000 + i64::try_from(id).expect("a small id") * 1_000_000,
            actor: Actor::new("key:checkout"),
            operation: Operation::RecordPut,
            resource: Some("profile".into()),
            via: Region::new("eu-central").expect("a region"),
            evidence: EvidenceList::new(),
            winner: None,
            rule: residency::RuleId::new("none"),
            policy_hash: self.policy.hash(),
            geoip_built_s: None,
            transfer: None,
            stated: None,
        };
        decision.with_verdict(self.policy.classify(evidence))
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, String) {
        let policy = Arc::clone(&self.policy);
        let console = Console::new(self.stores.clone(), move || Arc::clone(&policy));
        let pages = router(console).layer(Extension(Visitor::new(self.book.clone())));
        let answer = pages.oneshot(request).await.expect("infallible");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    async fn get(&self, address: &str) -> String {
        let (status, html) = self.ask(Request::get(address).body(Body::empty()).expect("a request")).await;
        assert_eq!(status, StatusCode::OK, "{address}");
        assert!(!html.contains("anna") && !html.contains("john") && !html.contains("Köln"), "{address} names somebody");
        html
    }

    async fn about(&self, who: &str) -> String {
        let request =
            Request::post("/console/decisions").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = format!("subject={}", who.replace('@', "%40"));
        self.ask(request.body(Body::from(body)).expect("a request")).await.1
    }

    async fn close(self) {
        for store in &self.stores {
            store.shutdown().await;
        }
    }
}

fn links(html: &str) -> usize {
    html.matches("href=\"/console/decisions/").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_regions_did_is_shown_searched_explained_and_never_named() {
    let house = House::open().await;
    let annas = house.put(1, ANNA, "DE").await;
    house.put(2, JOHN, "US").await;
    house.put(3, ANNA, "DE").await;
    let denied = house.decision(4, Source::GeoIp, Finding::Nothing(Nothing::SpecialAddress));
    let denial = Denial { decision: Box::new(denied), reason: DenialReason::Unresolved(Unresolved::NoEvidence) };
    let eu = house.stores.iter().find(|store| store.region().as_str() == "eu-central").expect("a store");
    eu.note(denial).await.expect("a leaf");

    let html = house.get("/console").await;
    assert!(html.contains("Every region is up."), "{html}");

    let html = house.get("/console/decisions").await;
    assert_eq!(links(&html), 6, "three writes, a denial, and the homes of two people: {html}");
    assert_eq!(html.matches("give a subject its home").count(), 2);
    let newest_first: Vec<_> = (1..=4).map(|id| html.find(&Uuid::from_u128(id).to_string()).expect("a row")).collect();
    assert!(newest_first.is_sorted_by(|a, b| a > b), "{newest_first:?}");

    assert_eq!(links(&house.get("/console/decisions?region=us-east").await), 2);
    assert_eq!(links(&house.get("/console/decisions?outcome=deny").await), 1);
    assert_eq!(links(&house.get("/console/decisions?kind=decision.write&operation=record.put&outcome=allow").await), 3);
    assert_eq!(links(&house.get("/console/decisions?actor=key%3Anobody").await), 0);
    assert_eq!(links(&house.get("/console/decisions?to=2026-11-21").await), 0);
    assert_eq!(links(&house.get("/console/decisions?from=2026-11-22&to=2026-11-22").await), 6);
    assert_eq!(links(&house.about(ANNA).await), 3);
    assert_eq!(links(&house.about("nobody@example.com").await), 0);

    let html = house.get(&format!("/console/decisions/{annas}")).await;
    assert!(html.contains("because the declared residence is DE."), "{html}");
    assert!(html.contains("Replayed from the recorded evidence, the same policy decides the same."), "{html}");
    assert!(html.contains("have the leaf hash that the log holds"), "{html}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_look_is_entered_for_each_region_that_answered_before_anything_is_shown() {
    let house = House::open().await;
    let id = house.put(1, ANNA, "DE").await;
    assert_eq!(links(&house.about(ANNA).await), 2);
    let anna = SubjectId::new(ANNA).expect("a subject");
    let looks = house.book.taken();
    let of = |region: &str| looks.iter().find(|(there, ..)| there == region).map(|(_, asked, rows)| (asked, *rows));
    let about_anna = Asked { page: "decisions".to_owned(), filter: Vec::new(), subject: Some(anna) };
    assert_eq!((looks.len(), of("eu-central"), of("us-east")), (2, Some((&about_anna, 2)), Some((&about_anna, 0))));

    // An address cannot name anybody, and so nobody is entered who was not asked for.
    house.get("/console/decisions?subject=x&outcome=allow&region=eu-central").await;
    let looks = house.book.taken();
    let [(_, asked, 2)] = &looks[..] else { panic!("one region was asked") };
    assert_eq!(asked.subject, None);
    assert_eq!(asked.filter, [("outcome", "allow".to_owned()), ("region", "eu-central".to_owned())]);

    house.get(&format!("/console/decisions/{id}")).await;
    let looks = house.book.taken();
    let [(region, asked, 1)] = &looks[..] else { panic!("one entry was shown") };
    assert_eq!((region.as_str(), asked.page.clone()), ("eu-central", format!("decisions/{id}")));

    // What shows nothing is not entered, and what cannot be entered shows nothing.
    house.get("/console/decisions?region=Nowhere").await;
    assert_eq!(house.book.taken(), []);
    *house.book.closed.lock().expect("a book") = true;
    for address in ["/console/decisions", &format!("/console/decisions/{id}")] {
        let (status, html) = house.ask(Request::get(address).body(Body::empty()).expect("a request")).await;
        assert_eq!((status, html.as_str()), (StatusCode::SERVICE_UNAVAILABLE, ""), "{address}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_that_somebody_edited_in_the_database_is_called_edited() {
    let house = House::open().await;
    let id = house.put(1, ANNA, "DE").await;
    assert!(!house.get("/console/decisions").await.contains(">edited<"));

    let forge = "ALTER TABLE domicile.leaves DISABLE TRIGGER ALL; \
                 UPDATE domicile.leaves SET line = replace(line, '\"DE\"', '\"FR\"')";
    let dsn = house.cluster.dsn("eu_central");
    let forged = Command::new("psql").args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", &dsn, "-c", forge]).output();
    let forged = forged.expect("psql runs");
    assert!(forged.status.success(), "{}", String::from_utf8_lossy(&forged.stderr));

    assert!(house.get("/console/decisions").await.contains(">edited<"));
    assert!(house.get(&format!("/console/decisions/{id}")).await.contains("one of them was edited"));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_away_is_named_and_the_pages_still_open() {
    let house = House::open().await;
    let id = house.put(1, ANNA, "DE").await;
    house.cluster.stop();
    eventually("the loss is noticed", async || house.stores.iter().all(|store| store.health() != Health::Up)).await;

    let html = house.get("/console").await;
    assert!(html.contains("No region can be reached."), "{html}");
    let html = house.get("/console/decisions").await;
    assert!(html.contains("<strong>eu-central</strong> did not answer"), "{html}");
    assert_eq!(house.book.taken(), [], "nothing was seen of any log");
    let address = format!("/console/decisions/{id}");
    let (status, html) = house.ask(Request::get(&address).body(Body::empty()).expect("a request")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(html.contains("No answer from: eu-central, us-east."), "{html}");

    house.cluster.start();
    eventually("the regions come back", async || house.stores.iter().all(|store| store.health() == Health::Up)).await;
    assert_eq!(links(&house.get("/console/decisions").await), 2);
    house.close().await;
}
