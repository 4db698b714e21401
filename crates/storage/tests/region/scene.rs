//! A throw-away region, gateways that serve it, and callers with permits.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use leaf::GatewayId;
use residency::presets::{JURISDICTIONS, LOCATIONS, SHIPPED_POLICY};
use residency::{
    Access, Actor, Attribute, Collection, Decision, DecisionId, Denial, DenialReason, Epoch, EvidenceList,
    Jurisdiction, Operation, Permit, Pin, PinState, Policy, Purpose, Read, RecordKey, Region, RuleId, SubjectId,
    Unresolved, Write,
};
use secrecy::SecretString;
use serde_json::value::RawValue;
use sqlx::{Connection, PgConnection, Row};
use storage::{
    Answer, AuditReads, Change, Consent, Effect, Error, Found, Health, Lookup, OutgoingEvent, Pepper, Peppers,
    Precondition, Record, RegionSettings, RegionStore, admin,
};
use uuid::Uuid;

use crate::support::{Cluster, patient};

pub(crate) use crate::support::eventually;

pub(crate) const REGION: &str = "eu-central";
pub(crate) const ORIGIN: &str = "audit.example.com/domicile/eu-central";

static POLICY: LazyLock<Policy> =
    LazyLock::new(|| Policy::parse(SHIPPED_POLICY, JURISDICTIONS, LOCATIONS).unwrap_or_else(|p| panic!("{p:#?}")));

/// A region's cluster and database.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) database: String,
}

impl Scene {
    /// A region in a database of its own.
    pub(crate) async fn new() -> Self {
        Self::on(Cluster::shared()).await
    }

    /// A region on a server of its own, which may be stopped or given roles.
    pub(crate) async fn apart() -> Self {
        Self::on(Cluster::start_new()).await
    }

    async fn on(cluster: Cluster) -> Self {
        let database = cluster.unused("region");
        let scene = Self { cluster, database };
        scene.found(&scene.database, REGION, "eu", ORIGIN).await.unwrap();
        scene
    }

    /// Makes a database and founds a region in it.
    pub(crate) async fn found(
        &self,
        database: &str,
        region: &str,
        jurisdiction: &str,
        origin: &str,
    ) -> Result<(), String> {
        admin::create_database_if_absent(&self.cluster.dsn("postgres").into(), database).await.unwrap();
        let (region, jurisdiction) = (Region::new(region).unwrap(), Jurisdiction::new(jurisdiction).unwrap());
        let dsn = SecretString::from(self.cluster.dsn(database));
        let done = admin::migrate_region(&dsn, &region, &jurisdiction, origin, &|_| {}).await;
        done.map(drop).map_err(|error| error.to_string())
    }

    pub(crate) fn settings(&self, gateway: u32) -> RegionSettings {
        RegionSettings {
            region: region(),
            jurisdiction: Jurisdiction::new("eu").unwrap(),
            dsn: self.cluster.dsn(&self.database).into(),
            log_origin: ORIGIN.to_owned(),
            audit_reads: AuditReads::Durable,
            keeps_details: true,
            gateway: GatewayId::new("test", gateway).unwrap(),
            peppers: Peppers::new(Pepper::new(1, &[7; 32]).unwrap(), Vec::new()),
            reader_connections: 2,
            committer_connections: 2,
            limits: patient(),
        }
    }

    /// A gateway's store of this region.
    pub(crate) fn open(&self) -> RegionStore {
        RegionStore::open(self.settings(1))
    }

    /// A connection of the superuser's own, to look from outside.
    pub(crate) async fn outside(&self) -> PgConnection {
        PgConnection::connect(&self.cluster.dsn(&self.database)).await.unwrap()
    }

    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query(sql).fetch_one(&mut self.outside().await).await.unwrap().get(0)
    }

    /// How many statements wait for a lock in this region's database.
    pub(crate) async fn waiting_for_locks(&self) -> i64 {
        self.number(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .await
    }

    /// The same of a statement that is put together; there is no data of others in it.
    pub(crate) async fn strings_of(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.outside().await).await.unwrap()
    }

    pub(crate) async fn strings(&self, sql: &'static str) -> Vec<String> {
        sqlx::query_scalar(sql).fetch_all(&mut self.outside().await).await.unwrap()
    }
}

pub(crate) fn region() -> Region {
    Region::new(REGION).unwrap()
}

pub(crate) fn subject(name: impl std::fmt::Display) -> SubjectId {
    SubjectId::new(&format!("subject-{name}")).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test is a front door")]
pub(crate) fn decision(operation: Operation) -> Decision {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Decision {
        id: DecisionId(Uuid::now_v7()),
        at_us: i64::try_from(now.as_micros()).unwrap(),
        actor: Actor::new("key:test"),
        operation,
        resource: Some("profile".into()),
        via: region(),
        evidence: EvidenceList::new(),
        winner: None,
        rule: RuleId::new("test"),
        policy_hash: POLICY.hash(),
        geoip_built_s: None,
        transfer: None,
        stated: None,
    }
}

pub(crate) fn permit<A: Access>(subject: &SubjectId, operation: Operation, epoch: u64) -> Permit<A> {
    permit_for(subject, decision(operation), epoch)
}

/// A permit by a decision that is there.
pub(crate) fn permit_for<A: Access>(subject: &SubjectId, decision: Decision, epoch: u64) -> Permit<A> {
    let pin = Pin { region: region(), epoch: Epoch(epoch), state: PinState::Active };
    POLICY.permit(subject.clone(), &pin, decision, true).unwrap()
}

pub(crate) fn denial() -> Denial {
    Denial {
        decision: Box::new(decision(Operation::RecordPut)),
        reason: DenialReason::Unresolved(Unresolved::NoEvidence),
    }
}

pub(crate) fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

pub(crate) fn put(key: &str, body: &str, when: Precondition) -> Change {
    Change::PutRecord { collection: profile(), key: RecordKey::new(key).unwrap(), body: json(body), when }
}

pub(crate) fn patch(key: &str, patch: serde_json::Value, when: Precondition) -> Change {
    Change::PatchRecord { collection: profile(), key: RecordKey::new(key).unwrap(), patch, when }
}

pub(crate) fn delete(key: &str, when: Precondition) -> Change {
    Change::DeleteRecord { collection: profile(), key: RecordKey::new(key).unwrap(), when }
}

pub(crate) fn declare(name: &str, value: &str) -> Change {
    let consents = vec![Consent {
        purpose: Purpose::new("recommendations").unwrap(),
        granted: true,
        notice_version: None,
        given_at_us: 0,
    }];
    Change::PutAttribute {
        attribute: attribute(name),
        value: json(value),
        consents,
        source: "preference-centre".to_owned(),
        when: Precondition::None,
    }
}

pub(crate) fn profile() -> Collection {
    Collection::new("profile").unwrap()
}

pub(crate) fn attribute(name: &str) -> Attribute {
    Attribute::new(name).unwrap()
}

pub(crate) fn event(id: &str) -> OutgoingEvent {
    OutgoingEvent {
        event_type: "shop.order-placed".to_owned(),
        id: id.to_owned(),
        source: "/shop".to_owned(),
        time: None,
        datacontenttype: "application/json".to_owned(),
        extensions: BTreeMap::new(),
        traceparent: None,
        data: b"{}".to_vec(),
    }
}

/// Commits a change about a subject in its first home.
pub(crate) async fn commit(store: &RegionStore, subject: &SubjectId, change: Change) -> Result<Answer<Effect>, Error> {
    let operation = match &change {
        Change::PinSubject => Operation::SubjectPin,
        Change::EraseSubject => Operation::SubjectErase,
        Change::PutRecord { .. } => Operation::RecordPut,
        Change::PatchRecord { .. } => Operation::RecordPatch,
        Change::DeleteRecord { .. } => Operation::RecordDelete,
        Change::PublishEvent { .. } => Operation::EventPublish,
        Change::PutAttribute { .. } => Operation::ZeroPartyPut,
        Change::DeleteAttribute { .. } => Operation::ZeroPartyDelete,
    };
    store.commit(permit::<Write>(subject, operation, 1).carry(change), None).await
}

/// Commits and insists on success.
pub(crate) async fn done(store: &RegionStore, subject: &SubjectId, change: Change) -> Answer<Effect> {
    commit(store, subject, change).await.unwrap()
}

/// Looks up something about a subject in its first home.
pub(crate) async fn look_up(store: &RegionStore, subject: &SubjectId, lookup: Lookup) -> Result<Answer<Found>, Error> {
    store.read(permit::<Read>(subject, Operation::RecordRead, 1).carry(lookup)).await
}

pub(crate) async fn record(store: &RegionStore, subject: &SubjectId, key: &str) -> Option<Record> {
    let lookup = Lookup::Record { collection: profile(), key: RecordKey::new(key).unwrap() };
    match look_up(store, subject, lookup).await.unwrap().value {
        Found::Record(record) => record,
        other => panic!("a record was asked for, not {other:?}"),
    }
}

pub(crate) async fn up(store: &RegionStore) {
    eventually("the store is up", async || store.health() == Health::Up).await;
}
