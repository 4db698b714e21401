//! The relay's loop against a real Kafka-protocol broker (librdkafka's mock cluster) and a log in memory.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use follow::testing::{MemoryLog, region, row as entry};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::inspect::{Message, tail, topics};
use crate::mock::MockBroker;
use crate::settings::MissingTopics;
use crate::status::RelayStatus;

mod crashes;
mod nisshi;
mod real;

/// How long a test waits for what must come about. No test may demand more speed than this of the machine.
const PATIENCE: Duration = Duration::from_secs(120);

const TOPIC: &str = "eu-central.shop.order-placed.v1";

/// Limits that make a test quick without changing what it shows, and a lease that a slow machine does not lose.
fn settings(brokers: &str) -> Settings {
    let mut settings = Settings::plain(brokers);
    settings.missing_topics = MissingTopics::LeaveToBrokers;
    settings.log_origin = Some("logs.example/eu-central".to_owned());
    settings.limits.lease = PATIENCE / 2;
    settings.limits.backoff_min = Duration::from_millis(20);
    settings.limits.backoff_max = Duration::from_millis(200);
    settings.limits.drain_max = PATIENCE / 2;
    settings.limits.cursor_interval = Duration::from_millis(10);
    settings
}

/// A relay under way.
struct Running {
    board: Board,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(settings: Settings, log: &MemoryLog) -> Self {
        let board = Board::new(&region());
        let pump = Pump::new(log.clone(), Arc::new(settings), board.clone());
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        Self { board, shutdown, task: tokio::spawn(async move { pump.run(token).await }) }
    }

    async fn until(&self, what: &str, holds: impl Fn(&RelayStatus) -> bool) -> RelayStatus {
        let mut watch = self.board.watch();
        let found = tokio::time::timeout(PATIENCE, watch.wait_for(|status| holds(status))).await;
        match found {
            Ok(status) => status.unwrap().clone(),
            Err(_) => panic!("not within {} s: {what}; the relay says {:?}", PATIENCE.as_secs(), self.board.now()),
        }
    }

    async fn caught_up(&self, log: &MemoryLog) -> RelayStatus {
        let head = log.end();
        self.until("the relay caught up", |status| status.seq >= head).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

async fn read_back(brokers: &str, topic: &str) -> Vec<Message> {
    tail(brokers, &[topic.to_owned()], true, PATIENCE).await.unwrap()
}

/// What a consumer keeps that skips what is not above the last sequence number of its key; panics if that
/// is not exactly `expected`, in order.
fn assert_nothing_lost_and_in_order(messages: &[Message], expected: impl IntoIterator<Item = u64>) {
    let mut last: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut kept = Vec::new();
    for message in messages {
        let (key, seq) = (message.key.clone().unwrap(), message.seq().unwrap());
        if last.get(&key).is_none_or(|known| seq > *known) {
            last.insert(key, seq);
            kept.push(seq);
        }
    }
    kept.sort_unstable();
    let expected: Vec<u64> = expected.into_iter().collect();
    let lost: Vec<_> = expected.iter().filter(|seq| kept.binary_search(seq).is_err()).take(10).collect();
    assert!(lost.is_empty(), "lost or overtaken entries: {lost:?} …");
    assert_eq!(kept.len(), expected.len(), "entries that nobody committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_reaches_its_topic_in_order_of_its_key_with_its_headers() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=3_000).map(|seq| entry(seq, TOPIC)));
    let relay = Running::start(settings(broker.brokers()), &log);
    relay.caught_up(&log).await;
    relay.stop().await;

    let messages = read_back(broker.brokers(), TOPIC).await;
    assert_eq!(messages.len(), 3_000, "nothing twice without a fault");
    assert_nothing_lost_and_in_order(&messages, 1..=3_000);
    let mut partitions: HashMap<&[u8], i32> = HashMap::new();
    for message in &messages {
        let key = message.key.as_deref().unwrap();
        assert_eq!(*partitions.entry(key).or_insert(message.partition), message.partition, "one key, one partition");
        assert_eq!(message.header("ce_specversion"), Some("1.0"));
        assert_eq!(message.header("ce_domicileregion"), Some("eu-central"));
        let seq = message.seq().unwrap();
        assert_eq!(message.header("ce_id").unwrap(), format!("event-{seq}"));
        assert_eq!(message.payload, format!("{{\"n\":{seq}}}").into_bytes());
    }
    assert!(partitions.values().collect::<std::collections::HashSet<_>>().len() > 1, "keys spread over partitions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_goes_on_where_its_predecessor_stopped() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=500).map(|seq| entry(seq, TOPIC)));
    let first = Running::start(settings(broker.brokers()), &log);
    first.caught_up(&log).await;
    first.stop().await;
    assert_eq!(log.cursor_position(), 500, "a shutdown stores the cursor");

    log.commit((501..=900).map(|seq| entry(seq, TOPIC)));
    let second = Running::start(settings(broker.brokers()), &log);
    second.caught_up(&log).await;
    second.stop().await;
    let messages = read_back(broker.brokers(), TOPIC).await;
    assert_eq!(messages.len(), 900, "nothing lost and nothing twice over an orderly restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_again_and_again_loses_nothing() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    let mut limits = settings(broker.brokers());
    limits.limits.in_flight_rows_max = 500;
    // The next one takes over when the lease of the killed one lapses. One that loses it by slowness repeats itself.
    limits.limits.lease = Duration::from_millis(500);
    for round in 0..3 {
        // However far the last one came before it was killed, there is something left to do.
        log.commit((round * 5_000 + 1..=(round + 1) * 5_000).map(|seq| entry(seq, TOPIC)));
        let relay = Running::start(limits.clone(), &log);
        let sent = log.cursor_position();
        relay.until("some progress", |status| status.seq > sent + 1_000).await;
        relay.task.abort();
        let _ = relay.task.await;
    }
    log.commit((15_001..=20_000).map(|seq| entry(seq, TOPIC)));
    let relay = Running::start(limits, &log);
    relay.caught_up(&log).await;
    relay.stop().await;
    let messages = read_back(broker.brokers(), TOPIC).await;
    assert_nothing_lost_and_in_order(&messages, 1..=20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_are_no_events_are_passed_over_and_a_commit_wakes_the_relay() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit([entry(3, TOPIC)]);
    log.commit_leaves(40);
    let mut patient = settings(broker.brokers());
    patient.limits.poll_min = Duration::from_secs(60);
    patient.limits.poll_max = Duration::from_secs(60);
    let relay = Running::start(patient, &log);
    assert_eq!(relay.caught_up(&log).await.lag.entries, 0);
    log.commit([entry(50, TOPIC)]);
    relay.until("the woken relay to send", |status| status.seq == 50).await;
    relay.stop().await;
    assert_eq!(log.cursor_position(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_costs_time_and_nothing_else() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=200).map(|seq| entry(seq, TOPIC)));
    let mut impatient = settings(broker.brokers());
    impatient.limits.stall_max = Duration::from_secs(2);
    impatient.limits.lag_alarm = Duration::from_millis(900);
    let relay = Running::start(impatient, &log);
    relay.caught_up(&log).await;
    broker.down().unwrap();
    log.commit((201..=1_200).map(|seq| entry(seq, TOPIC)));
    // The retry may be counted before the log's head is looked at again.
    let noticed = |status: &RelayStatus| status.retries > 0 && status.lag.entries == 1_000;
    let stalled = relay.until("the stall to be noticed", noticed).await;
    assert_eq!(stalled.seq, 200, "the cursor waits for acknowledgements");
    let alarmed = relay.until("the alarm to be raised", |status| status.alarm).await;
    assert!(alarmed.lag.age >= Duration::from_millis(900), "{alarmed:?}");
    broker.up().unwrap();
    relay.caught_up(&log).await;
    relay.until("the alarm to be cleared", |status| !status.alarm).await;
    relay.stop().await;
    assert_nothing_lost_and_in_order(&read_back(broker.brokers(), TOPIC).await, 1..=1_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_producer_error_is_answered_with_a_new_producer() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=100).map(|seq| entry(seq, TOPIC)));
    let relay = Running::start(settings(broker.brokers()), &log);
    relay.caught_up(&log).await;
    let errors = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER];
    broker.fail_next(RDKafkaApiKey::Produce, errors).unwrap();
    log.commit((101..=600).map(|seq| entry(seq, TOPIC)));
    let status = relay.caught_up(&log).await;
    relay.stop().await;
    assert!(status.retries > 0, "the fault was felt: {status:?}");
    assert_eq!(status.dead_letters, 0);
    assert_nothing_lost_and_in_order(&read_back(broker.brokers(), TOPIC).await, 1..=600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_authorization_is_waited_for_and_nothing_is_dropped() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    let errors = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 2];
    broker.fail_next(RDKafkaApiKey::Produce, errors).unwrap();
    log.commit((1..=400).map(|seq| entry(seq, TOPIC)));
    let relay = Running::start(settings(broker.brokers()), &log);
    let status = relay.caught_up(&log).await;
    relay.stop().await;
    assert!(status.retries > 0 && status.dead_letters == 0, "{status:?}");
    assert_nothing_lost_and_in_order(&read_back(broker.brokers(), TOPIC).await, 1..=400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_full_is_waited_for_and_nothing_is_dropped() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=100).map(|seq| entry(seq, TOPIC)));
    let relay = Running::start(settings(broker.brokers()), &log);
    relay.caught_up(&log).await;
    for error in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED,
    ] {
        broker.fail_next(RDKafkaApiKey::Produce, vec![error; 3]).unwrap();
        let head = log.end();
        log.commit((head + 1..=head + 200).map(|seq| entry(seq, TOPIC)));
        let status = relay.caught_up(&log).await;
        assert_eq!(status.dead_letters, 0, "{error:?}");
    }
    relay.stop().await;
    assert_nothing_lost_and_in_order(&read_back(broker.brokers(), TOPIC).await, 1..=700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_moves_is_followed() {
    let broker = MockBroker::of(3).unwrap();
    broker.create_topic(TOPIC, 2).unwrap();
    let log = MemoryLog::new(&region());
    let mut narrow = settings(broker.brokers());
    narrow.limits.in_flight_rows_max = 50;
    let relay = Running::start(narrow, &log);
    for round in 0..6_u64 {
        log.commit((round * 500 + 1..=(round + 1) * 500).map(|seq| entry(seq, TOPIC)));
        for partition in 0..2 {
            broker.move_leader(TOPIC, partition, i32::try_from(round % 3).unwrap() + 1).unwrap();
        }
        relay.until("some progress", |status| status.seq > round * 500 + 100).await;
    }
    relay.caught_up(&log).await;
    relay.stop().await;
    assert_nothing_lost_and_in_order(&read_back(broker.brokers(), TOPIC).await, 1..=3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_too_large_goes_to_the_dead_letters_and_blocks_nobody() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    let mut large = entry(50, TOPIC);
    large.data = vec![b'x'; 40_000];
    log.commit((1..50).map(|seq| entry(seq, TOPIC)));
    log.commit([large]);
    log.commit((51..=100).map(|seq| entry(seq, TOPIC)));
    let mut small = settings(broker.brokers());
    small.limits.message_bytes_max = 20_000;
    let relay = Running::start(small, &log);
    let status = relay.caught_up(&log).await;
    relay.stop().await;
    assert_eq!(status.dead_letters, 1);
    let dead = read_back(broker.brokers(), "eu-central.domicile.dead-letter.v1").await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].seq(), Some(50));
    assert_eq!(dead[0].header("domicile_topic"), Some(TOPIC));
    assert!(dead[0].header("domicile_reason").unwrap().contains("larger"));
    let expected = (1..=100).filter(|seq| *seq != 50);
    assert_nothing_lost_and_in_order(&read_back(broker.brokers(), TOPIC).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_the_broker_refuses_is_found_among_its_neighbours() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    broker.create_topic(TOPIC, 1).unwrap();
    let relay = Running::start(settings(broker.brokers()), &log);
    let mut status = relay.board.now();
    // The batch is refused once, and the entry that is then sent alone once more: that one is it. A machine that is slow
    // enough to make two requests of the batch has both of them refused and none that is alone: then once more.
    for round in 0..20 {
        let errors = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD; 2];
        broker.fail_next(RDKafkaApiKey::Produce, errors).unwrap();
        log.commit((round * 20 + 1..=(round + 1) * 20).map(|seq| entry(seq, TOPIC)));
        status = relay.caught_up(&log).await;
        if status.dead_letters > 0 {
            break;
        }
    }
    relay.stop().await;
    assert_eq!(status.dead_letters, 1, "{status:?}");
    let dead = read_back(broker.brokers(), "eu-central.domicile.dead-letter.v1").await;
    let poison = dead[0].seq().unwrap();
    let expected = (1..=log.end()).filter(|seq| *seq != poison);
    assert_nothing_lost_and_in_order(&read_back(broker.brokers(), TOPIC).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_another_region_is_not_sent_abroad_and_not_sent_here() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit([
        entry(1, "us-east.shop.order-placed.v1"),
        entry(2, "eu-central-2.shop.order-placed.v1"),
        entry(3, TOPIC),
    ]);
    let relay = Running::start(settings(broker.brokers()), &log);
    let status = relay.caught_up(&log).await;
    relay.stop().await;
    assert_eq!(status.dead_letters, 2);
    let names = topics(broker.brokers()).await.unwrap();
    assert_eq!(names, ["eu-central.domicile.dead-letter.v1", TOPIC]);
    let dead = read_back(broker.brokers(), "eu-central.domicile.dead-letter.v1").await;
    assert!(dead.iter().all(|message| message.payload.is_empty()), "a foreign payload stays where it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_do_not_relay_at_once_and_the_second_takes_over() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=10).map(|seq| entry(seq, TOPIC)));
    let mut quick = settings(broker.brokers());
    // Long enough not to be lost by slowness; who stands by looks again after a part of it.
    quick.limits.lease = Duration::from_secs(15);
    let first = Running::start(quick.clone(), &log);
    first.caught_up(&log).await;
    let second = Running::start(quick, &log);
    second.until("the second to stand by", |status| status.state == RelayState::Standby).await;
    first.stop().await;
    log.commit((11..=20).map(|seq| entry(seq, TOPIC)));
    second.caught_up(&log).await;
    second.stop().await;
    assert_eq!(read_back(broker.brokers(), TOPIC).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_lost_its_lease_moves_no_cursor() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=10).map(|seq| entry(seq, TOPIC)));
    let relay = Running::start(settings(broker.brokers()), &log);
    relay.caught_up(&log).await;
    let begun = Instant::now();
    while log.cursor_position() < 10 {
        assert!(begun.elapsed() < PATIENCE, "the cursor is stored");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    log.steal_lease("somebody else", PATIENCE * 10);
    log.commit((11..=20).map(|seq| entry(seq, TOPIC)));
    relay.until("the relay to stand by", |status| status.state == RelayState::Standby).await;
    assert_eq!(log.cursor_position(), 10, "the fencing token holds");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_broker_fills_the_window_and_no_more() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=5_000).map(|seq| entry(seq, TOPIC)));
    broker.slow(Duration::from_millis(150)).unwrap();
    let mut narrow = settings(broker.brokers());
    narrow.limits.in_flight_rows_max = 100;
    let relay = Running::start(narrow, &log);
    let status = relay.until("entries in flight", |status| status.seq > 300).await;
    assert!(status.in_flight <= 100, "{status:?}");
    broker.slow(Duration::ZERO).unwrap();
    relay.caught_up(&log).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_that_may_not_be_created_is_asked_for_and_waited_for() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit([entry(1, TOPIC)]);
    let mut checking = settings(broker.brokers());
    checking.missing_topics = MissingTopics::Refuse;
    let relay = Running::start(checking, &log);
    let status = relay.until("the trouble to be told", |status| status.trouble.is_some()).await;
    assert!(status.trouble.unwrap().contains(TOPIC));
    broker.create_topic(TOPIC, 1).unwrap();
    relay.caught_up(&log).await;
    relay.stop().await;
}
