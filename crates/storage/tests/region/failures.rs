//! What happens when the database is away, slow, or full of work.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake};
use std::time::{Duration, Instant};

use futures::future::join_all;
use storage::{AuditReads, Effect, Error, Health, Limits, Precondition, RegionStore};

use crate::scene::{Scene, commit, denial, done, eventually, put, record, subject, up};
use crate::support::patient;

#[tokio::test]
async fn a_stopped_region_is_refused_while_it_is_away_and_served_again_without_a_restart() {
    let scene = Scene::apart().await;
    let (store, anna) = (scene.open(), subject("anna"));
    done(&store, &anna, put("a", "1", Precondition::None)).await;
    up(&store).await;
    scene.cluster.stop();
    // The server is away until the answer is here, and the end of a caller's patience would read `OutcomeUnknown`: so
    // this is a refusal by whoever knows that nobody can be reached.
    let outcome = commit(&store, &anna, put("a", "2", Precondition::None)).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    assert!(matches!(store.health(), Health::Down { .. }));
    scene.cluster.start();
    eventually("it is served again", async || commit(&store, &anna, put("a", "3", Precondition::None)).await.is_ok())
        .await;
    assert_eq!(record(&store, &anna, "a").await.unwrap().body.get(), "3");
    up(&store).await;
}

#[tokio::test]
async fn a_denial_in_an_outage_is_told_what_became_of_its_leaf() {
    let scene = Scene::apart().await;
    let store = scene.open();
    store.note(denial()).await.unwrap();
    scene.cluster.stop();
    // A denial's leaf is one statement of its own: if its connection breaks under it, nobody can say before the server
    // is back whether it was committed.
    let noting = tokio::spawn({
        let store = store.clone();
        async move { store.note(denial()).await }
    });
    eventually("the outage shows", async || matches!(store.health(), Health::Down { .. })).await;
    scene.cluster.start();
    let noted = noting.await.unwrap();
    let found = scene.number("SELECT count(*) - 1 FROM domicile.leaves WHERE line LIKE '%decision.deny%'").await;
    match noted {
        Ok(_) => assert_eq!(found, 1),
        Err(Error::Unavailable { .. }) => assert_eq!(found, 0),
        Err(Error::OutcomeUnknown { .. }) => assert!(found <= 1),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_region_that_comes_up_after_its_gateway_is_served() {
    let scene = Scene::apart().await;
    scene.cluster.stop();
    let store = scene.open();
    eventually(
        "it is known to be down",
        async || matches!(store.health(), Health::Down { reason, .. } if !reason.contains("yet")),
    )
    .await;
    scene.cluster.start();
    eventually("it is up", async || store.health() == Health::Up).await;
    done(&store, &subject("anna"), put("a", "1", Precondition::None)).await;
}

#[tokio::test]
async fn an_outage_shows_although_nobody_asks() {
    let scene = Scene::apart().await;
    let store = scene.open();
    up(&store).await;
    scene.cluster.stop();
    eventually("the outage shows", async || matches!(store.health(), Health::Down { .. })).await;
    scene.cluster.start();
    up(&store).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_within_the_deadline() {
    let scene = Scene::apart().await;
    let mut settings = scene.settings(1);
    let deadline = Duration::from_secs(4);
    settings.limits = Limits {
        statement_timeout: Duration::from_millis(800),
        connect_timeout: Duration::from_millis(800),
        answer_timeout: deadline,
        ..Limits::default()
    };
    let (store, anna) = (RegionStore::open(settings), subject("anna"));
    // Tried again where the machine itself is too slow for limits as short as these.
    eventually("it is served", async || commit(&store, &anna, put("a", "1", Precondition::None)).await.is_ok()).await;
    scene.cluster.freeze();
    let begun = Instant::now();
    let outcome = commit(&store, &anna, put("a", "2", Precondition::None)).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. } | Error::OutcomeUnknown { .. })), "{outcome:?}");
    // The deadline is what is promised here. Ten times as long is no promise of speed: it only tells a deadline that was
    // kept late, on a machine with other work, from one that was not kept.
    assert!(begun.elapsed() < deadline * 10, "{:?}", begun.elapsed());
    scene.cluster.thaw();
    eventually("it is served again", async || commit(&store, &anna, put("a", "3", Precondition::None)).await.is_ok())
        .await;
}

#[tokio::test]
async fn a_write_that_was_given_up_is_not_done_later_besides() {
    let scene = Scene::new().await;
    let mut settings = scene.settings(1);
    // Its statement is given up long before the server gives up the lock that it waits for.
    settings.limits = Limits { statement_timeout: Duration::from_millis(700), ..patient() };
    let (store, anna) = (RegionStore::open(settings), subject("anna"));
    done(&store, &anna, put("a", "1", Precondition::None)).await;
    let leaves = scene.number("SELECT count(*) FROM domicile.leaves").await;
    let mut holder = scene.outside().await;
    sqlx::raw_sql("BEGIN; SELECT FROM domicile.records FOR UPDATE").execute(&mut holder).await.unwrap();
    let writing = tokio::spawn({
        let (store, anna) = (store.clone(), anna.clone());
        async move { commit(&store, &anna, put("a", "2", Precondition::None)).await }
    });
    // Both the one that was given up and the one that followed it wait for the record.
    eventually("it is tried again", async || scene.waiting_for_locks().await >= 2).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    assert_eq!(writing.await.unwrap().unwrap().value, Effect::Replaced { version: 2 });
    done(&store, &anna, put("b", "1", Precondition::None)).await;
    assert_eq!(record(&store, &anna, "a").await.unwrap().version, 2);
    let events = "SELECT count(*) FROM domicile.outbox WHERE event_type = 'domicile.record-changed'";
    assert_eq!(scene.number(events).await, 3);
    // The two writes and the one look.
    assert_eq!(scene.number("SELECT count(*) FROM domicile.leaves").await, leaves + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_write_the_same_records_do_not_wait_for_each_other_in_a_circle() {
    const LOCK_TIMEOUT: Duration = Duration::from_secs(45);
    let scene = Scene::new().await;
    let stores = [1, 2].map(|gateway| {
        let mut settings = scene.settings(gateway);
        // Both kinds of commit: of a few records in one statement, and of more in a transaction.
        settings.limits = Limits { page_records_max: 2, lock_timeout: LOCK_TIMEOUT, attempts_max: 1_000, ..patient() };
        settings.committer_connections = 3;
        RegionStore::open(settings)
    });
    let writers = (0..48).map(|n| {
        let (store, subject) = (stores[n % 2].clone(), subject(n / 2 % 8));
        tokio::spawn(async move {
            for round in 0..20 {
                let begun = Instant::now();
                commit(&store, &subject, put("hot", &round.to_string(), Precondition::None)).await.unwrap();
                // Only the end of the lock's timeout would have taken so long.
                assert!(begun.elapsed() < LOCK_TIMEOUT, "{:?}", begun.elapsed());
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    assert_eq!(scene.number("SELECT sum(version)::bigint FROM domicile.records").await, 48 * 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_when_the_server_crashes_under_load() {
    let scene = Scene::apart().await;
    let store = scene.open();
    up(&store).await;
    let running = Arc::new(AtomicBool::new(true));
    let written = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..32)
        .map(|n| {
            let (store, running, written) = (store.clone(), Arc::clone(&running), Arc::clone(&written));
            tokio::spawn(async move {
                let subject = subject(n);
                let mut acknowledged = BTreeMap::new();
                let (mut attempts, mut unknown) = (0_u64, 0_u64);
                while running.load(Ordering::Relaxed) {
                    let key = format!("k{attempts}");
                    attempts += 1;
                    match commit(&store, &subject, put(&key, &attempts.to_string(), Precondition::Absent)).await {
                        Ok(answer) => {
                            assert_eq!(answer.value, Effect::Created { version: 1 });
                            acknowledged.insert(key, answer.position.unwrap());
                            written.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Error::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                        Err(Error::OutcomeUnknown { .. }) => unknown += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
                (subject, acknowledged, unknown)
            })
        })
        .collect();
    let some_more_writes = async || {
        let before = written.load(Ordering::Relaxed);
        eventually("writes are acknowledged", async || written.load(Ordering::Relaxed) >= before + 100).await;
    };
    for _ in 0..3 {
        some_more_writes().await;
        scene.cluster.kill();
        scene.cluster.start();
    }
    some_more_writes().await;
    running.store(false, Ordering::Relaxed);
    let (mut total, mut unknowns) = (0, 0);
    let mut outside = scene.outside().await;
    for writer in writers {
        let (subject, acknowledged, unknown) = writer.await.unwrap();
        unknowns += unknown;
        total += acknowledged.len();
        for (key, position) in acknowledged {
            let leaf: Vec<u8> = sqlx::query_scalar(
                "SELECT l.hash FROM domicile.records AS r, domicile.leaves AS l, domicile.outbox AS o \
                 WHERE r.subject = $1 AND r.key = $2 AND r.version = 1 AND l.seq = $3 AND o.seq = $3",
            )
            .bind(subject.expose())
            .bind(&key)
            .bind(i64::try_from(position.seq).unwrap())
            .fetch_one(&mut outside)
            .await
            .expect("an acknowledged write is there, with its leaf and its event");
            assert_eq!(leaf, position.leaf_hash);
        }
    }
    assert!(total >= 400, "{total} writes");
    let records = scene.number("SELECT count(*) FROM domicile.records").await;
    let leaves =
        "SELECT count(*) FROM domicile.leaves WHERE line LIKE '%decision.write%' AND line LIKE '%\"out\":\"allow\"%'";
    assert_eq!(scene.number(leaves).await, records, "no leaf is without its write and no write without its leaf");
    let events = "SELECT count(*) FROM domicile.outbox WHERE event_type = 'domicile.record-changed'";
    assert_eq!(scene.number(events).await, records);
    let extra = records - i64::try_from(total).unwrap();
    assert!(extra <= i64::try_from(unknowns).unwrap(), "{extra} writes were not acknowledged, {unknowns} are unknown");
    assert_eq!(scene.number("SELECT max(seq) + 1 - count(*) FROM domicile.leaves").await, 0, "dense");
}

#[tokio::test]
async fn a_full_queue_refuses_before_anything_is_executed() {
    let scene = Scene::new().await;
    let mut settings = scene.settings(1);
    settings.limits = Limits { queue_deeds_max: 10, batch_bytes_max: 100_000, ..patient() };
    let (store, anna) = (RegionStore::open(settings), subject("anna"));
    let outcomes =
        join_all((0..50).map(|n| commit(&store, &anna, put(&format!("k{n}"), "1", Precondition::None)))).await;
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(Error::Overloaded { .. }))).count();
    assert_eq!((done, refused), (10, 40));
    assert_eq!(scene.number("SELECT count(*) FROM domicile.records").await, 10);
    let large = format!("\"{}\"", "x".repeat(200_000));
    let outcome = commit(&store, &anna, put("large", &large, Precondition::None)).await;
    assert_eq!(outcome.unwrap_err(), Error::TooLarge { max_bytes: 100_000 });
}

#[tokio::test]
async fn a_closing_store_finishes_what_it_took() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    let deeds = join_all((0..200).map(|n| {
        let (store, anna) = (store.clone(), anna.clone());
        tokio::spawn(async move { commit(&store, &anna, put(&format!("k{n}"), "1", Precondition::None)).await })
    }));
    let closing = async {
        tokio::task::yield_now().await;
        store.shutdown().await;
    };
    let (outcomes, ()) = tokio::join!(deeds, closing);
    let done = outcomes.into_iter().filter(|outcome| outcome.as_ref().unwrap().is_ok()).count();
    assert_eq!(scene.number("SELECT count(*) FROM domicile.records").await, i64::try_from(done).unwrap());
    let late = commit(&store, &anna, put("late", "1", Precondition::None)).await;
    assert!(matches!(late, Err(Error::Unavailable { .. })));
}

/// Wakes nobody, and says so loudly.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("whoever is woken here panics, on purpose");
    }
}

/// Lets something begin to wait, by the one who panics when it is woken.
fn wait_to_panic<T>(waiting: Pin<&mut impl Future<Output = T>>) {
    assert!(waiting.poll(&mut Context::from_waker(&Arc::new(Panics).into())).is_pending());
}

/// The counts of the gateway's leaves that are missing below its highest, and those that are there twice.
async fn miscounted(scene: &Scene) -> (i64, i64) {
    let counts = "FROM (SELECT (line::jsonb ->> 'gseq')::bigint AS n FROM domicile.leaves) AS c WHERE n IS NOT NULL";
    let missing = scene.strings_of(&format!("SELECT (max(n) - count(DISTINCT n))::text {counts}")).await;
    let repeated = scene.strings_of(&format!("SELECT (count(*) - count(DISTINCT n))::text {counts}")).await;
    (missing[0].parse().unwrap(), repeated[0].parse().unwrap())
}

#[tokio::test]
async fn a_panic_of_whoever_is_answered_costs_nobody_else_the_answer() {
    let scene = Scene::new().await;
    let mut settings = scene.settings(1);
    (settings.reader_connections, settings.committer_connections) = (1, 1);
    let durable = RegionStore::open(settings.clone());
    let buffered = RegionStore::open(storage::RegionSettings {
        audit_reads: AuditReads::Buffered,
        gateway: leaf::GatewayId::new("test", 2).unwrap(),
        ..settings
    });
    let subjects: Vec<_> = (0..4).map(subject).collect();
    for subject in &subjects {
        done(&durable, subject, put("a", "1", Precondition::None)).await;
    }
    up(&buffered).await;
    let mut first = pin!(commit(&durable, &subjects[0], put("a", "2", Precondition::None)));
    wait_to_panic(first.as_mut());
    let others = subjects[1..].iter().map(|subject| commit(&durable, subject, put("a", "2", Precondition::None)));
    for outcome in join_all(others).await {
        assert_eq!(outcome.unwrap().value, Effect::Replaced { version: 2 });
    }
    // A reader answers by itself where its leaf follows; it must still be there afterwards.
    for store in [&durable, &buffered] {
        let mut first = pin!(record(store, &subjects[0], "a"));
        wait_to_panic(first.as_mut());
        for found in join_all(subjects[1..].iter().map(|subject| record(store, subject, "a"))).await {
            assert_eq!(found.unwrap().version, 2);
        }
    }
    assert_eq!(record(&buffered, &subjects[0], "a").await.unwrap().version, 2);
}

#[tokio::test]
async fn a_panic_behind_a_commit_is_cleared_up_and_leaves_no_count_missing_or_twice() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    done(&store, &anna, put("a", "1", Precondition::None)).await;
    let mut follower = store.log().wakeups();
    follower.mark_unchanged();
    let mut following = Box::pin(follower.changed());
    wait_to_panic(following.as_mut());
    let outcome = commit(&store, &anna, put("a", "2", Precondition::None)).await;
    assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })), "{outcome:?}");
    drop(following);
    assert_eq!(done(&store, &anna, put("a", "3", Precondition::None)).await.value, Effect::Replaced { version: 3 });
    assert_eq!(miscounted(&scene).await, (0, 0));
}

#[tokio::test]
async fn a_commit_that_nobody_could_look_for_in_time_is_looked_for_later_and_no_count_is_missing() {
    let scene = Scene::apart().await;
    let mut settings = scene.settings(1);
    settings.limits = Limits { answer_timeout: Duration::from_secs(4), ..patient() };
    let (store, anna) = (RegionStore::open(settings), subject("anna"));
    eventually("it is served", async || commit(&store, &anna, put("a", "1", Precondition::None)).await.is_ok()).await;
    // Its one statement waits for the record when the server dies, and nobody can ask before it is back.
    let mut holder = scene.outside().await;
    sqlx::raw_sql("BEGIN; SELECT FROM domicile.records FOR UPDATE").execute(&mut holder).await.unwrap();
    let writing = tokio::spawn({
        let (store, anna) = (store.clone(), anna.clone());
        async move { commit(&store, &anna, put("a", "2", Precondition::None)).await }
    });
    eventually("it waits", async || scene.waiting_for_locks().await == 1).await;
    scene.cluster.kill();
    let outcome = writing.await.unwrap();
    assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })), "{outcome:?}");
    // The committer has given up by then, too, and says so to those who still come.
    let refused = async || {
        matches!(commit(&store, &anna, put("a", "2", Precondition::None)).await, Err(Error::Unavailable { .. }))
    };
    eventually("nobody is at it any more", refused).await;
    scene.cluster.start();
    eventually("it is served again", async || commit(&store, &anna, put("a", "3", Precondition::None)).await.is_ok())
        .await;
    eventually("every count is there", async || miscounted(&scene).await == (0, 0)).await;
}
