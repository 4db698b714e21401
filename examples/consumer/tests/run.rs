//! The example as a reader of the topics would run it: the binary, against a broker with a region's messages.

#![expect(clippy::expect_used, reason = "a test may panic")]

use std::process::Command;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

const TOPICS: [&str; 2] = ["eu-central.shop.order-placed.v1", "eu-central.shop.order-paid.v1"];

/// A broker inside this process with events 2 to 10 in two topics; number 6 came twice, and `lost` never did.
fn broker(lost: Option<u64>) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    for topic in TOPICS {
        cluster.create_topic(topic, 2, 1).expect("a topic");
    }
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    let send = |seq: u64| {
        let (seq_text, previous) = (seq.to_string(), (seq - 1).to_string());
        let id = format!("e-{seq}");
        let mut headers = OwnedHeaders::new();
        for (key, value) in [
            ("domicile_log", "audit.example.com/domicile/eu-central"),
            ("domicile_seq", seq_text.as_str()),
            ("domicile_prev", previous.as_str()),
            ("ce_id", id.as_str()),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let topic = TOPICS[usize::try_from(seq % 2).expect("zero or one")];
        let record = BaseRecord::to(topic).key("subject").payload("{}").headers(headers);
        producer.send(record).map_err(|(error, _)| error).expect("room in the producer");
    };
    for seq in (2..=10).filter(|seq| Some(*seq) != lost) {
        send(seq);
        if seq == 6 {
            send(seq);
        }
    }
    producer.flush(Duration::from_secs(60)).expect("everything is acknowledged");
    cluster
}

fn run(brokers: &str) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_example-consumer"))
        .args(["--brokers", brokers, "--region", "eu-central", "--idle-s", "20"])
        .output()
        .expect("the example runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_example_prints_each_event_once_and_says_that_nothing_is_missing() {
    let cluster = broker(None);
    let (held, printed, said) = run(&cluster.bootstrap_servers());
    assert!(held, "{said}");
    let mut seqs: Vec<u64> = printed
        .lines()
        .map(|line| line.split(' ').next().and_then(|seq| seq.parse().ok()).expect("a number"))
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (2..=10).collect::<Vec<_>>(), "{printed}");
    assert!(said.contains("9 events, 1 skipped as seen, 0 missing"), "{said}");
}

#[test]
fn a_second_run_does_not_take_what_the_first_one_read_for_missing() {
    let cluster = broker(None);
    for _ in 0..2 {
        let (held, _, said) = run(&cluster.bootstrap_servers());
        assert!(held && said.contains("9 events,") && said.contains("0 missing"), "{said}");
    }
}

#[test]
fn the_example_fails_when_an_event_is_missing_and_names_it() {
    let cluster = broker(Some(7));
    let (held, _, said) = run(&cluster.bootstrap_servers());
    assert!(!held && said.contains("missing: [7]"), "{said}");
}
