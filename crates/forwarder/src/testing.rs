//! Zero-party changes as `storage` writes them, and rows as the sinks take them, for tests.

use follow::testing::region;
use storage::OutboxRow;

use crate::change::Row;

/// 2026-11-24T12:00:00Z
pub(crate) const NOON: i64 = 1_795_521_600_000_000;

/// A change of an attribute of the subject whose digest ends in `subject`.
pub(crate) fn change(seq: u64, subject: u64, attribute: &str, value: &str, consents: &[(&str, bool)]) -> OutboxRow {
    let consents: Vec<String> = consents
        .iter()
        .map(|(purpose, granted)| {
            format!(
                r#"{{"purpose":"{purpose}","granted":{granted},"notice_version":"3","given_at":"2026-11-01T00:00:00Z"}}"#
            )
        })
        .collect();
    let data = format!(
        r#"{{"attribute":"{attribute}","value":{value},"version":{seq},"consents":[{}],"deleted":false}}"#,
        consents.join(",")
    );
    let mut row = follow::testing::row(seq, "eu-central.domicile.zero-party-changed.v1");
    row.event_type = "domicile.zero-party-changed".to_owned();
    row.key.bytes = [0; 32];
    row.key.bytes[24..].copy_from_slice(&subject.to_be_bytes());
    row.data = data.into_bytes();
    row
}

/// That digest.
pub(crate) fn digest(subject: u64) -> String {
    format!("{subject:064x}")
}

/// A row of the attribute `colour`.
pub(crate) fn row(seq: u64, digest: &str, value: &str) -> Row {
    Row {
        subject_digest: digest.to_owned(),
        attribute: "colour".to_owned(),
        value: Some(value.to_owned()),
        consents: Some(r#"[{"purpose":"recommendations","granted":true}]"#.to_owned()),
        version: seq,
        seq,
        region: region(),
        deleted: false,
        at_us: NOON,
    }
}
