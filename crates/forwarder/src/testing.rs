//! Zero-party changes as `storage` writes them, for tests.

use storage::OutboxRow;

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
