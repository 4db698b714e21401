//! One constructor for each kind of fact: what it must say, as arguments.

use std::ops::Range;

use residency::{PolicyHashes, Region};

use crate::fact::{Crossing, Fact, FactKind, LIST_ITEMS_MAX, Value};
use crate::subject::SubjectTag;

/// In which way somebody read the log, and what of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Who: the class and name of the reader's credentials.
    pub actor: String,
    /// In which way, e.g. `search`.
    pub what: &'static str,
    /// The filter as `name=value`, without a subject; at most 24.
    pub filter: Vec<String>,
    /// The subject that was asked for.
    pub subject: Option<SubjectTag>,
    /// The entries that were asked for.
    pub at: Option<Range<u64>>,
    /// How many entries were shown, where that is known before they are.
    pub rows: Option<u64>,
}

/// What was made of a log for somebody outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Who made it.
    pub actor: String,
    /// In which format, e.g. `parquet`.
    pub format: &'static str,
    /// The entries it was made of.
    pub at: Range<u64>,
    /// How many of them it holds.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: [u8; 32],
    /// The filter as `name=value`, without a subject; at most 24.
    pub filter: Vec<String>,
    /// The subject it is about.
    pub subject: Option<SubjectTag>,
    /// To how many recipients it was encrypted; `None` when it was not.
    pub recipients: Option<u64>,
}

/// What a database says of itself, and where it is said to stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The cluster's system identifier.
    pub system_identifier: i64,
    /// The database's name.
    pub database: String,
    /// The server's version.
    pub server_version: String,
    /// Where it stands as configured, `cloud/location`.
    pub location: Option<String>,
}

/// A range of the log that is gone, and the log as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Who let it go or brought the log back.
    pub actor: String,
    /// The entries.
    pub at: Range<u64>,
    /// The size of the log when it was looked at.
    pub size: u64,
    /// Its root at that size.
    pub root: [u8; 32],
    /// Why, in a few words.
    pub why: String,
}

/// The other side of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterpart {
    /// The transfer.
    pub crossing: Crossing,
    /// Who caused it.
    pub actor: String,
    /// Rows that crossed.
    pub rows: u64,
    /// Bytes that crossed.
    pub bytes: u64,
    /// The index of the decision's leaf in the other log.
    pub seq: u64,
    /// The hash of that leaf.
    pub leaf_hash: [u8; 32],
}

impl Fact {
    fn new(kind: FactKind, at_us: i64, mut fields: Vec<(&'static str, Value)>) -> Self {
        fields.sort_unstable_by_key(|(key, _)| *key);
        Self { kind, at_us, fields }
    }

    /// A gateway has begun to serve: its heartbeat's interval in seconds, the hashes of its effective configuration
    /// and of the policy in force, the program's version, and its own region.
    #[must_use]
    pub fn gateway_start(
        at_us: i64,
        beat_s: u64,
        config: [u8; 32],
        policy: [u8; 32],
        version: &str,
        via: &Region,
    ) -> Self {
        let fields = vec![
            ("beat_s", Value::Count(beat_s)),
            ("conf", sha256(config)),
            ("pol", sha256(policy)),
            ("ver", text(version)),
            ("via", text(via.as_str())),
        ];
        Self::new(FactKind::GatewayStart, at_us, fields)
    }

    /// A gateway is still there, and will say so again within so many seconds.
    #[must_use]
    pub fn gateway_heartbeat(at_us: i64, beat_s: u64) -> Self {
        Self::new(FactKind::GatewayHeartbeat, at_us, vec![("beat_s", Value::Count(beat_s))])
    }

    /// A gateway has ended as it should.
    #[must_use]
    pub fn gateway_stop(at_us: i64) -> Self {
        Self::new(FactKind::GatewayStop, at_us, Vec::new())
    }

    /// A policy has come into force.
    #[must_use]
    pub fn policy_activate(at_us: i64, hashes: &PolicyHashes, version: &str) -> Self {
        let fields = vec![
            ("jur", sha256(hashes.jurisdictions)),
            ("loc", sha256(hashes.locations)),
            ("pol", sha256(hashes.policy)),
            ("text", sha256(hashes.text)),
            ("ver", text(version)),
        ];
        Self::new(FactKind::PolicyActivate, at_us, fields)
    }

    /// The effective configuration is another one: its hash, the one before, and the names of the keys that differ.
    #[must_use]
    pub fn config_change(at_us: i64, config: [u8; 32], was: Option<[u8; 32]>, keys: &[String]) -> Self {
        let mut fields = vec![("conf", sha256(config)), ("keys", texts(keys))];
        fields.extend(was.map(|was| ("was", sha256(was))));
        let more = keys.len().saturating_sub(LIST_ITEMS_MAX);
        fields.extend((more > 0).then_some(("more", Value::Count(more as u64))));
        Self::new(FactKind::ConfigChange, at_us, fields)
    }

    /// Another key signs the log from here on: verifier keys (C2SP signed-note).
    #[must_use]
    pub fn key_rotate(at_us: i64, key: &str, was: Option<&str>) -> Self {
        let mut fields = vec![("key", text(key))];
        fields.extend(was.map(|was| ("was", text(was))));
        Self::new(FactKind::KeyRotate, at_us, fields)
    }

    /// This log succeeds another one, which the key `was` signed last at this size, with this root: verifier keys (C2SP signed-note).
    #[must_use]
    pub fn key_succeed(at_us: i64, key: &str, was: &str, size: u64, root: [u8; 32]) -> Self {
        let fields = vec![("key", text(key)), ("root", sha256(root)), ("size", Value::Count(size)), ("was", text(was))];
        Self::new(FactKind::KeyRotate, at_us, fields)
    }

    /// A key signs the log no more: verifier keys (C2SP signed-note).
    #[must_use]
    pub fn key_retire(at_us: i64, key: &str, next: Option<&str>) -> Self {
        let mut fields = vec![("key", text(key))];
        fields.extend(next.map(|next| ("next", text(next))));
        Self::new(FactKind::KeyRetire, at_us, fields)
    }

    /// Which database holds the region.
    #[must_use]
    pub fn placement_attest(at_us: i64, attested: &Attestation) -> Self {
        let mut fields = vec![
            ("db", text(&attested.database)),
            ("pg", text(&attested.server_version)),
            ("sysid", text(&attested.system_identifier.to_string())),
        ];
        fields.extend(attested.location.as_ref().map(|location| ("loc", text(location))));
        Self::new(FactKind::PlacementAttest, at_us, fields)
    }

    /// Somebody read the log.
    #[must_use]
    pub fn audit_read(at_us: i64, reading: &Reading) -> Self {
        let mut fields = vec![("act", text(&reading.actor)), ("what", text(reading.what))];
        fields.extend(reading.rows.map(|rows| ("rows", Value::Count(rows))));
        fields.extend(reading.at.as_ref().map(|at| ("at", range(at))));
        fields.extend(filter(&reading.filter));
        fields.extend(reading.subject.map(|tag| ("sub", text(&tag.to_string()))));
        Self::new(FactKind::AuditRead, at_us, fields)
    }

    /// Something was made of the log for somebody outside.
    #[must_use]
    pub fn export_make(at_us: i64, export: &Export) -> Self {
        let mut fields = vec![
            ("act", text(&export.actor)),
            ("at", range(&export.at)),
            ("bytes", Value::Count(export.bytes)),
            ("fmt", text(export.format)),
            ("rows", Value::Count(export.rows)),
            ("sha256", sha256(export.sha256)),
        ];
        fields.extend(export.recipients.map(|count| ("age", Value::Count(count))));
        fields.extend(filter(&export.filter));
        fields.extend(export.subject.map(|tag| ("sub", text(&tag.to_string()))));
        Self::new(FactKind::ExportMake, at_us, fields)
    }

    /// Somebody answers for the violation with this number in the region's register, which broke a rule at an entry.
    #[must_use]
    pub fn violation_acknowledge(
        at_us: i64,
        actor: &str,
        number: u64,
        rule: &str,
        seq: Option<u64>,
        reason: [u8; 32],
    ) -> Self {
        let mut fields =
            vec![("act", text(actor)), ("of", Value::Count(number)), ("rule", text(rule)), ("why", sha256(reason))];
        fields.extend(seq.map(|seq| ("seq", Value::Count(seq))));
        Self::new(FactKind::ViolationAcknowledge, at_us, fields)
    }

    /// The lines of a range are gone, as the retention says.
    #[must_use]
    pub fn log_prune(at_us: i64, gone: &Gone) -> Self {
        Self::new(FactKind::LogPrune, at_us, of_gone("at", gone))
    }

    /// Acknowledged entries were lost.
    #[must_use]
    pub fn log_recover(at_us: i64, gone: &Gone) -> Self {
        Self::new(FactKind::LogRecover, at_us, of_gone("lost", gone))
    }

    /// The other side of a transfer, in the log of the region `here`, which is one of its two.
    #[must_use]
    pub fn transfer(at_us: i64, here: &Region, other: &Counterpart) -> Self {
        let kind = if other.crossing.transfer.from == *here { FactKind::TransferOut } else { FactKind::TransferIn };
        let fields = vec![
            ("act", text(&other.actor)),
            ("bytes", Value::Count(other.bytes)),
            ("of", sha256(other.leaf_hash)),
            ("rows", Value::Count(other.rows)),
            ("seq", Value::Count(other.seq)),
            ("xf", Value::Crossing(Box::new(other.crossing.clone()))),
        ];
        Self::new(kind, at_us, fields)
    }
}

fn of_gone(range_key: &'static str, gone: &Gone) -> Vec<(&'static str, Value)> {
    vec![
        ("act", text(&gone.actor)),
        (range_key, range(&gone.at)),
        ("root", sha256(gone.root)),
        ("size", Value::Count(gone.size)),
        ("why", text(&gone.why)),
    ]
}

fn text(said: &str) -> Value {
    Value::Text(said.to_owned())
}

fn texts(said: &[String]) -> Value {
    Value::Texts(said.iter().take(LIST_ITEMS_MAX).cloned().collect())
}

/// An empty filter is none.
fn filter(said: &[String]) -> Option<(&'static str, Value)> {
    (!said.is_empty()).then(|| ("flt", texts(said)))
}

fn range(range: &Range<u64>) -> Value {
    Value::Range(range.start, range.end)
}

fn sha256(bytes: [u8; 32]) -> Value {
    Value::Text(hex::encode(bytes))
}
