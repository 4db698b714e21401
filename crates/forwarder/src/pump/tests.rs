//! The loop across leases: what its sink knows, and what it remembers.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use follow::Lag;
use follow::testing::{MemoryLog, region};
use metrics_exporter_prometheus::PrometheusBuilder;
use residency::Region;

use super::*;
use crate::change::Row;
use crate::testing::{Running, change, digest, quick, row};
use crate::thrift::Usage;
use crate::{FolderSink, ParquetSink};

const CONSENTS: [(&str, bool); 1] = [("recommendations", true)];

/// A folder sink of another process.
type Other = fn(&Path) -> Arc<dyn Sink>;

fn parquet(folder: &Path) -> Arc<dyn Sink> {
    Arc::new(ParquetSink::new(folder, region()))
}

fn ndjson(folder: &Path) -> Arc<dyn Sink> {
    Arc::new(FolderSink::new(folder, region()))
}

async fn standing(forwarder: &Running, state: ForwarderState) {
    let mut watch = forwarder.board.watch();
    drop(watch.wait_for(|status| status.state == state).await.unwrap());
}

/// Whether a text stands in any file; files of few rows hold it as it is.
fn on_disk(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|item| {
        let path = item.unwrap().path();
        if path.is_dir() {
            return on_disk(&path, text);
        }
        fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarder_that_takes_its_cursor_again_knows_what_another_one_did_meanwhile() {
    for sink in [parquet as Other, ndjson as Other] {
        let folder = tempfile::tempdir().unwrap();
        let log = MemoryLog::new(&region());
        let forwarder = Running::start(sink(folder.path()), &log, quick());
        log.commit([change(1, 0xaa, "colour", "\"blue\"", &CONSENTS)]);
        forwarder.caught_up(&log).await;

        log.steal_lease("another", Duration::from_secs(3600));
        standing(&forwarder, ForwarderState::Standby).await;
        let other = sink(folder.path());
        other.setup(Place::Owner).await.unwrap();
        other.apply(&[row(2, &digest(0xbb), "\"secret-wish\"")]).await.unwrap();
        other.leave();
        log.let_lease_lapse();
        standing(&forwarder, ForwarderState::Running).await;

        let mut erasure = change(4, 0xbb, "", "null", &[]);
        erasure.event_type = "domicile.subject-erased".to_owned();
        log.commit([change(3, 0xcc, "colour", "\"red\"", &CONSENTS), erasure]);
        forwarder.caught_up(&log).await;
        forwarder.stop().await;
        assert!(!on_disk(folder.path(), "secret-wish"), "what another one wrote is forgotten, too");
        let found = other.rows(None, 10).await.unwrap();
        assert_eq!(
            found.iter().map(|row| row.seq).collect::<Vec<_>>(),
            [1, 3],
            "and nothing went to a file that is gone"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_forwarders_of_one_folder_do_not_write_at_once_whatever_their_leases_say() {
    let folder = tempfile::tempdir().unwrap();
    let holder = ndjson(folder.path());
    holder.setup(Place::Owner).await.unwrap();
    let log = MemoryLog::new(&region());
    let forwarder = Running::start(ndjson(folder.path()), &log, quick());
    log.commit([change(1, 0xaa, "colour", "1", &CONSENTS)]);
    standing(&forwarder, ForwarderState::Waiting).await;
    assert!(forwarder.board.now().trouble.unwrap().contains("another one still holds its folder"));
    holder.leave();
    assert_eq!(forwarder.caught_up(&log).await.rows, 1);
    forwarder.stop().await;
}

/// A sink that keeps nothing, has cost a lot after its first batch, and fails when it is told to.
struct Moody {
    region: Region,
    failing: AtomicBool,
    used: AtomicBool,
}

impl Moody {
    fn new(failing: bool) -> Arc<Self> {
        Arc::new(Self { region: region(), failing: AtomicBool::new(failing), used: AtomicBool::new(false) })
    }

    fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }
}

#[async_trait]
impl Sink for Moody {
    fn region(&self) -> &Region {
        &self.region
    }

    fn name(&self) -> &'static str {
        "moody"
    }

    async fn setup(&self, _place: Place) -> Result<(), Error> {
        Ok(())
    }

    async fn apply(&self, rows: &[Row]) -> Result<Applied, Error> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(Error::OutcomeUnknown("it is in no mood".to_owned()));
        }
        self.used.store(true, Ordering::Relaxed);
        Ok(Applied { changed: rows.len() as u64, refused: 0 })
    }

    async fn erase(&self, _erased: &[Forgotten]) -> Result<String, Error> {
        Ok("nothing".to_owned())
    }

    fn usage(&self) -> Usage {
        Usage { credits: if self.used.load(Ordering::Relaxed) { 100.0 } else { 0.0 }, ..Usage::default() }
    }

    async fn rows(&self, _subject_digest: Option<&str>, _limit: u32) -> Result<Vec<Row>, Error> {
        Ok(Vec::new())
    }
}

/// A region that was promised an hour ago that somebody is forgotten.
struct Promised;

#[async_trait]
impl Ledger for Promised {
    async fn forgotten(&self, _sink: &'static str, _by: &str, _erased: &[Forgotten]) -> Result<(), Error> {
        Ok(())
    }

    async fn oldest_open(&self) -> Result<Option<Duration>, Error> {
        Ok(Some(Duration::from_secs(3600)))
    }
}

#[tokio::test(start_paused = true)]
async fn who_forwards_no_longer_takes_its_alarms_back_and_its_counters_are_there_from_the_start() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let shown = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let shows = |gauges: [&str; 4]| {
        let text = shown.render();
        let names = ["forwarder_lag_alarm", "forwarder_lag_seconds", "erasure_alarm", "erasure_open_seconds"];
        for (name, value) in names.iter().zip(gauges) {
            let begin = format!("domicile_{name}{{region=\"eu-central\"}} {value}");
            assert!(text.lines().any(|line| line.starts_with(&begin)), "{begin}: {text}");
        }
    };
    let log = MemoryLog::new(&region());
    let mut settings = quick();
    settings.limits.lag_alarm = Duration::from_secs(2);
    let board = Board::new(&region(), "moody");
    let pump = Pump::new(log.clone(), Arc::new(settings), Moody::new(true), board.clone()).telling(Arc::new(Promised));
    let task = tokio::spawn(async move { pump.run(CancellationToken::new()).await });
    log.commit([change(1, 0xaa, "colour", "1", &CONSENTS)]);
    tokio::time::sleep(Duration::from_secs(8)).await;
    shows(["1", "", "1", "3600"]);
    assert!(shown.render().contains("domicile_forwarder_refused_total{region=\"eu-central\"} 0"));
    assert!(board.now().alarm);

    log.steal_lease("another", Duration::from_secs(3600));
    tokio::time::sleep(Duration::from_secs(8)).await;
    shows(["0", "0", "0", "0"]);
    let status = board.now();
    assert_eq!((status.state, status.alarm, status.lag), (ForwarderState::Standby, false, Lag::default()));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn who_never_held_the_cursor_knows_nothing_of_a_lag_whatever_trouble_it_has() {
    let log = MemoryLog::new(&region());
    log.commit([change(1, 0xaa, "colour", "1", &CONSENTS)]);
    log.steal_lease("another", Duration::from_secs(3600));
    log.fail(true);
    let mut settings = quick();
    settings.limits.lag_alarm = Duration::from_secs(2);
    (settings.limits.backoff_min, settings.limits.backoff_max) = (Duration::from_secs(60), Duration::from_secs(60));
    let forwarder = Running::start(Moody::new(false), &log, settings);
    standing(&forwarder, ForwarderState::Waiting).await;
    log.fail(false);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let status = forwarder.board.now();
    assert_eq!((status.state, status.alarm), (ForwarderState::Waiting, false));
    forwarder.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_trouble_neither_forgets_what_was_spent_nor_makes_a_batch_wait_twice() {
    let log = MemoryLog::new(&region());
    let mut settings = quick();
    settings.limits.batch_age_max = Duration::from_secs(1);
    settings.budget.credits_per_day_max = Some(1.0);
    let sink = Moody::new(false);
    let forwarder = Running::start(sink.clone(), &log, settings);
    let waits = |seconds: u64| Duration::from_secs(seconds);
    for (seq, wait) in [(1, 2), (2, 4), (3, 8)] {
        log.commit([change(seq, 0xaa, "colour", "1", &CONSENTS)]);
        assert_eq!(forwarder.caught_up(&log).await.batch_age, waits(wait));
    }
    sink.fail(true);
    let begun = Instant::now();
    log.commit([change(4, 0xaa, "colour", "2", &CONSENTS)]);
    standing(&forwarder, ForwarderState::Waiting).await;
    sink.fail(false);
    assert_eq!(forwarder.caught_up(&log).await.batch_age, waits(16));
    assert!(begun.elapsed() < waits(12), "it had waited for eight seconds already: {:?}", begun.elapsed());
    forwarder.stop().await;
}
