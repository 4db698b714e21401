//! What a dead relay leaves behind, and what an operator sends again.

use follow::Range;
use storage::OutboxRow;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_sends_nothing_again_that_is_in_its_topic_already() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=6_000).map(|seq| entry(seq, if seq % 3 == 0 { TOPIC } else { "eu-central.shop.paid.v1" })));
    let mut forgetful = settings(broker.brokers());
    // The cursor is hardly ever stored: the worst that a crash can find.
    forgetful.limits.cursor_interval = Duration::from_secs(3_600);
    // Nor by a renewal of the lease, which stores it, too.
    forgetful.limits.lease = Duration::from_secs(3_600);
    let first = Running::start(forgetful.clone(), &log);
    first.until("some progress", |status| status.seq > 3_000).await;
    first.task.abort();
    let _ = first.task.await;
    assert!(log.cursor_position() < 3_000, "the cursor lags behind the topic");
    log.let_lease_lapse();

    let second = Running::start(forgetful, &log);
    let status = second.caught_up(&log).await;
    second.stop().await;
    assert!(status.already_there > 1_000, "{status:?}");
    for (topic, of_it) in [(TOPIC, true), ("eu-central.shop.paid.v1", false)] {
        let messages = read_back(broker.brokers(), topic).await;
        let expected: Vec<u64> = (1..=6_000).filter(|seq| (seq % 3 == 0) == of_it).collect();
        assert_eq!(messages.len(), expected.len(), "nothing lost and nothing twice");
        assert_nothing_lost_and_in_order(&messages, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_emptied_is_filled_again_from_where_the_cursor_stands() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=100).map(|seq| entry(seq, TOPIC)));
    let relay = Running::start(settings(broker.brokers()), &log);
    relay.caught_up(&log).await;
    relay.stop().await;
    let empty = MockBroker::start().unwrap();
    log.commit((101..=200).map(|seq| entry(seq, TOPIC)));
    let relay = Running::start(settings(empty.brokers()), &log);
    relay.caught_up(&log).await;
    relay.stop().await;
    assert_nothing_lost_and_in_order(&read_back(empty.brokers(), TOPIC).await, 101..=200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_its_part_again_marked_and_moves_no_cursor() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=300).map(|seq| entry(seq, TOPIC)));
    let relay = Running::start(settings(broker.brokers()), &log);
    relay.caught_up(&log).await;

    let mut replaying = settings(broker.brokers());
    replaying.replay = true;
    let board = Board::new(&region());
    let pump = Pump::new(Range::new(log.clone(), 100, 149), Arc::new(replaying), board.clone());
    let stop = CancellationToken::new();
    let token = stop.clone();
    let task = tokio::spawn(async move { pump.run(token).await });
    let mut watch = board.watch();
    let done = tokio::time::timeout(Duration::from_secs(30), watch.wait_for(|status| status.seq >= 149)).await.is_ok();
    assert!(done, "{:?}", board.now());
    stop.cancel();
    task.await.unwrap();

    // The region's own relay goes on, undisturbed by old messages at the end of its topic.
    log.commit((301..=310).map(|seq| entry(seq, TOPIC)));
    relay.caught_up(&log).await;
    relay.stop().await;
    assert_eq!(log.cursor_position(), 310);
    let messages = read_back(broker.brokers(), TOPIC).await;
    let mut again: Vec<u64> =
        messages.iter().filter(|m| m.header("domicile_replay").is_some()).filter_map(Message::seq).collect();
    again.sort_unstable();
    assert_eq!(again, (100..=149).collect::<Vec<_>>());
    assert_eq!(messages.len(), 360);
    assert_nothing_lost_and_in_order(&messages, 1..=310);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_long_is_read_anew_so_that_nobody_is_sent_who_was_erased_meanwhile() {
    let broker = MockBroker::start().unwrap();
    let log = MemoryLog::new(&region());
    log.commit((1..=100).map(|seq| entry(seq, TOPIC)));
    broker.slow(Duration::from_millis(100)).unwrap();
    let mut slow = settings(broker.brokers());
    // Everything is read at once, and sent little by little.
    slow.limits.in_flight_rows_max = 4;
    slow.limits.read_age_max = Duration::from_millis(200);
    let relay = Running::start(slow, &log);
    let sent = relay.until("some progress", |status| status.seq >= 8).await.seq;
    assert!(sent < 50, "most of it waits");
    log.commit((60..=100).map(|seq| OutboxRow { erased: true, data: Vec::new(), ..entry(seq, TOPIC) }));
    relay.until("half of it", |status| status.seq >= 50).await;
    broker.slow(Duration::ZERO).unwrap();
    relay.caught_up(&log).await;
    relay.stop().await;
    let messages = read_back(broker.brokers(), TOPIC).await;
    assert_eq!(messages.len(), 100, "nothing is lost and nothing comes twice for that");
    assert_nothing_lost_and_in_order(&messages, 1..=100);
    let with_content = |message: &&Message| message.seq().unwrap() >= 60 && !message.payload.is_empty();
    assert_eq!(messages.iter().filter(with_content).count(), 0, "none has what was read before the erasure");
    let previous = |message: &Message| message.header("domicile_prev").unwrap().parse::<u64>().unwrap();
    assert!(messages.iter().all(|message| previous(message) == message.seq().unwrap() - 1), "the chain has no gap");
}
