//! Zero-party changes as `storage` writes them, rows as the sinks take them, and forwarders under way, for tests.

use std::sync::Arc;
use std::time::Duration;

use follow::testing::{MemoryLog, region};
use storage::OutboxRow;
use tokio_util::sync::CancellationToken;

use crate::change::Row;
use crate::pump::Pump;
use crate::settings::Settings;
use crate::sink::Sink;
use crate::status::{Board, ForwarderStatus};

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

/// A forwarder under way.
pub(crate) struct Running {
    pub(crate) board: Board,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(sink: Arc<dyn Sink>, log: &MemoryLog, settings: Settings) -> Self {
        let board = Board::new(&region(), sink.name());
        let pump = Pump::new(log.clone(), Arc::new(settings), sink, board.clone());
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        Self { board, shutdown, task: tokio::spawn(async move { pump.run(token).await }) }
    }

    pub(crate) async fn caught_up(&self, log: &MemoryLog) -> ForwarderStatus {
        let head = log.end();
        let mut watch = self.board.watch();
        let done = watch.wait_for(|status| status.seq >= head && status.lag.entries == 0);
        match tokio::time::timeout(Duration::from_secs(300), done).await {
            Ok(status) => status.unwrap().clone(),
            Err(_) => panic!("the forwarder did not catch up: {:?}", self.board.now()),
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// Settings of somebody in a hurry.
pub(crate) fn quick() -> Settings {
    let mut settings = Settings::default();
    settings.limits.batch_age_max = Duration::from_millis(20);
    settings.limits.backoff_min = Duration::from_millis(20);
    settings.limits.backoff_max = Duration::from_millis(200);
    settings
}
