//! The relay against a broker that nobody here wrote, and that is killed.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::{Error, Keeps, forgets_within, topics};

/// A broker that nobody here wrote, started from where `cargo xtask tools` puts it.
struct Nisshi {
    child: Child,
    port: u16,
    storage: &'static str,
    folder: tempfile::TempDir,
}

impl Nisshi {
    fn start(storage: &'static str) -> Self {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            // Below the range from which systems hand out ports, so that nobody is given it while a killed broker is away.
            let port = rand::random_range(20_000..32_000);
            if std::net::TcpListener::bind(("127.0.0.1", port)).is_err() {
                continue;
            }
            // Another test may have chosen the same one: whoever is later does not get it.
            if let Some(child) = Self::spawn(storage, port, &folder) {
                return Self { child, port, storage, folder };
            }
        }
        panic!("nisshi ended by itself on 20 ports");
    }

    /// `None` when it ended by itself.
    fn spawn(storage: &str, port: u16, folder: &tempfile::TempDir) -> Option<Child> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).unwrap();
        let binary = std::env::var_os("DOMICILE_NISSHI").map(PathBuf::from);
        let binary = binary.unwrap_or_else(|| cache.join("domicile/tools/nisshi-0.8.1/bin/nisshi"));
        assert!(
            binary.is_file(),
            "the Kafka-protocol broker nisshi is not installed: run `cargo xtask tools`, or name it in DOMICILE_NISSHI"
        );
        let url = format!("tcp://127.0.0.1:{port}");
        let mut child = Command::new(binary)
            .args(["broker", "--listener-url", &url, "--advertised-listener-url", &url, "--storage-engine", storage])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(child);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("nisshi did not listen within {} s", PATIENCE.as_secs());
    }

    fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As by `kill -9`, and then again on what is on disk.
    fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(self.storage, self.port, &self.folder).expect("nisshi starts again");
    }
}

impl Drop for Nisshi {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn creating(brokers: &str) -> Settings {
    let mut settings = settings(brokers);
    settings.missing_topics =
        MissingTopics::Create { partitions: 3, replication: 1, retention: Some(Duration::from_secs(3_600)) };
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_nobody_here_wrote_gets_its_topics_and_every_entry() {
    let nisshi = Nisshi::start("memory://x/");
    let log = MemoryLog::new(&region());
    log.commit((1..=5_000).map(|seq| entry(seq, TOPIC)));
    log.commit((5_001..=5_100).map(|seq| entry(seq, "eu-central.domicile.record-changed.v1")));
    let relay = Running::start(creating(&nisshi.brokers()), &log);
    relay.caught_up(&log).await;
    relay.stop().await;
    let messages = read_back(&nisshi.brokers(), TOPIC).await;
    assert_eq!(messages.len(), 5_000);
    assert_nothing_lost_and_in_order(&messages, 1..=5_000);
    assert!(messages.iter().all(|message| (0..3).contains(&message.partition)));
    assert_eq!(read_back(&nisshi.brokers(), "eu-central.domicile.record-changed.v1").await.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_never_forgets_is_not_sent_to_until_the_operator_accepts_it_or_bounds_it() {
    let nisshi = Nisshi::start("memory://x/");
    let log = MemoryLog::new(&region());
    log.commit((1..=100).map(|seq| entry(seq, TOPIC)));
    // Somebody made the topic without a bound.
    let mut careless = creating(&nisshi.brokers());
    careless.missing_topics = MissingTopics::Create { partitions: 3, replication: 1, retention: None };
    topics::ensure(&careless, &region(), &[TOPIC.to_owned()]).await.unwrap();
    let mut careful = creating(&nisshi.brokers());
    careful.forget_max = Some(forgets_within(Duration::from_secs(3_600)));
    let relay = Running::start(careful.clone(), &log);
    let refused = relay.until("a refusal", |status| status.trouble.is_some()).await;
    assert!(refused.trouble.as_ref().is_some_and(|trouble| trouble.contains(TOPIC)), "{refused:?}");
    relay.stop().await;
    assert!(read_back(&nisshi.brokers(), TOPIC).await.is_empty());

    let accepting = Running::start(careless, &log);
    accepting.caught_up(&log).await;
    accepting.stop().await;
    assert_eq!(read_back(&nisshi.brokers(), TOPIC).await.len(), 100);

    // A topic that the relay makes itself is sent to, by the next relay, too.
    let bounded = "eu-central.shop.order-bounded.v1";
    for from in [101, 201] {
        log.commit((from..from + 100).map(|seq| entry(seq, bounded)));
        let relay = Running::start(careful.clone(), &log);
        relay.caught_up(&log).await;
        relay.stop().await;
    }
    assert_eq!(read_back(&nisshi.brokers(), bounded).await.len(), 200);
    careful.forget_max = Some(Duration::from_secs(3_600));
    assert!(matches!(
        topics::ensure(&careful, &region(), &[bounded.to_owned()]).await,
        Err(Error::TopicKeeps { keeps: Keeps::AtMost(_), .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_again_and_again_gets_every_entry_in_order() {
    let mut nisshi = Nisshi::start("sqlite://broker.db");
    let log = MemoryLog::new(&region());
    log.commit((1..=8_000).map(|seq| entry(seq, TOPIC)));
    let mut narrow = creating(&nisshi.brokers());
    narrow.limits.in_flight_rows_max = 400;
    narrow.limits.stall_max = Duration::from_secs(5);
    let relay = Running::start(narrow, &log);
    for crash in 1..=2 {
        relay.until("some progress", |status| status.seq > crash * 2_000).await;
        nisshi.kill_and_restart();
    }
    relay.caught_up(&log).await;
    relay.stop().await;
    assert_nothing_lost_and_in_order(&read_back(&nisshi.brokers(), TOPIC).await, 1..=8_000);
}
