//! Work that takes long, and what must not wait for it or fail with it.

use std::time::Duration;

use futures::future::join_all;
use residency::RecordKey;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use storage::{Change, Channel, DecisionFilter, Error, Found, Lookup, Precondition, RegionStore};
use tokio::time::timeout;

use crate::scene::{
    Scene, attribute, commit, declare, denial, done, eventually, look_up, profile, put, record, subject, up,
};
use crate::support::PATIENCE;

/// What some reading waits for, in these tests.
const GATE: i64 = 4_711;

/// Lets the gateway's role read these rows of a table only once the gate is open.
async fn gated(scene: &Scene, table: &str, rows: &str) {
    let sql = format!(
        "ALTER TABLE domicile.{table} ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY written ON domicile.{table} FOR INSERT WITH CHECK (true); \
         CREATE POLICY gated ON domicile.{table} FOR SELECT \
         USING (NOT ({rows}) OR pg_advisory_xact_lock_shared({GATE}) IS NOT NULL)"
    );
    scene.outside().await.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
}

/// Shuts the gate, until the connection goes.
async fn shut(scene: &Scene) -> PgConnection {
    let mut gate = scene.outside().await;
    sqlx::query("SELECT pg_advisory_lock($1)").bind(GATE).execute(&mut gate).await.unwrap();
    gate
}

/// How many stand before the gate.
async fn waiting(scene: &Scene) -> i64 {
    scene
        .number(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .await
}

fn list() -> Lookup {
    Lookup::Records { collection: profile(), after: None, limit: 10 }
}

#[tokio::test]
async fn a_list_that_is_too_slow_fails_alone() {
    let scene = Scene::new().await;
    let mut settings = scene.settings(1);
    settings.limits.statement_timeout = Duration::from_secs(2);
    let store = RegionStore::open(settings);
    let subjects: Vec<_> = ["slow", "a", "b", "c", "d"].map(subject).into();
    for subject in &subjects {
        done(&store, subject, put("k", "1", Precondition::None)).await;
    }
    up(&store).await;
    gated(&scene, "records", "subject = 'subject-slow'").await;
    let _gate = shut(&scene).await;
    let lookups = subjects.iter().flat_map(|subject| [(subject, list()), (subject, Lookup::Subject)]);
    let mut answers = join_all(lookups.map(|(subject, lookup)| look_up(&store, subject, lookup))).await;
    let slow = answers.remove(0);
    assert!(matches!(slow, Err(Error::Unavailable { .. })), "{slow:?}");
    for answer in answers {
        match answer.unwrap().value {
            Found::Records { items, more: false } => assert_eq!(items.len(), 1),
            Found::Subject(Some(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_look_at_a_record_does_not_wait_for_long_lists_nor_for_the_preview_of_an_erasure() {
    let scene = Scene::new().await;
    let (store, anna, large) = (scene.open(), subject("anna"), subject("large"));
    for subject in [&anna, &large] {
        done(&store, subject, put("k", "1", Precondition::None)).await;
    }
    up(&store).await;
    gated(&scene, "records", "subject = 'subject-large'").await;
    let gate = shut(&scene).await;
    let ask = |lookup| {
        let (store, large) = (store.clone(), large.clone());
        tokio::spawn(async move { look_up(&store, &large, lookup).await })
    };
    let mut long = vec![ask(Lookup::Extent)];
    eventually("the preview waits", async || waiting(&scene).await == 1).await;
    for _ in 0..5 {
        long.push(ask(list()));
        eventually("a list waits", async || waiting(&scene).await == 2).await;
    }
    assert!(timeout(PATIENCE / 4, record(&store, &anna, "k")).await.expect("a reader is free").is_some());
    drop(gate);
    for answer in join_all(long).await {
        match answer.unwrap().unwrap().value {
            Found::Records { items, .. } => assert_eq!(items.len(), 1),
            Found::Extent(extent) => assert_eq!(extent.records, 1),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_preview_of_an_erasure_may_take_longer_than_a_lookup() {
    let scene = Scene::new().await;
    let mut settings = scene.settings(1);
    settings.limits.statement_timeout = Duration::from_secs(2);
    let (store, large) = (RegionStore::open(settings), subject("large"));
    done(&store, &large, put("k", "1", Precondition::None)).await;
    gated(&scene, "records", "subject = 'subject-large'").await;
    let gate = shut(&scene).await;
    let counting = tokio::spawn({
        let (store, large) = (store.clone(), large.clone());
        async move { look_up(&store, &large, Lookup::Extent).await }
    });
    eventually("the preview waits", async || waiting(&scene).await == 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(gate);
    let counted = counting.await.unwrap().unwrap().value;
    assert!(matches!(counted, Found::Extent(extent) if extent.records == 1), "{counted:?}");
}

#[tokio::test]
async fn pages_of_large_records_are_cut_and_read_to_their_end() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    // One body is stored as it is, the next one in a hundredth of its size.
    let body = |n: usize| match n % 2 {
        0 => format!("\"{}\"", "0123456789".repeat(90_000)),
        _ => format!("\"{}\"", (0..45_000).map(|_| format!("{:020}", rand::random::<u64>())).collect::<String>()),
    };
    let bodies: Vec<_> = (0..14).map(body).collect();
    for (n, body) in bodies.iter().enumerate() {
        done(&store, &anna, put(&format!("k{n:02}"), body, Precondition::None)).await;
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), None::<RecordKey>, 0);
    loop {
        let lookup = Lookup::Records { collection: profile(), after: after.clone(), limit: 1_000 };
        let Found::Records { items, more } = look_up(&store, &anna, lookup).await.unwrap().value else { panic!() };
        after = items.last().map(|record| record.key.clone());
        let sizes: Vec<usize> = items.iter().map(|record| record.body.get().len()).collect();
        assert!(sizes.iter().rev().skip(1).sum::<usize>() < 4 << 20, "a page is cut: {sizes:?}");
        seen.extend(items.into_iter().map(|record| record.body.get().to_owned()));
        pages += 1;
        if !more {
            break;
        }
        assert!(!sizes.is_empty() && pages < 20, "every page leads on");
    }
    assert!(seen == bodies, "nothing is left out");
    assert!((3..=4).contains(&pages), "{pages}");
}

/// Notes, from now on, every record that a statement of the gateway's role reads.
async fn reads_counted(scene: &Scene) {
    let sql = "CREATE TABLE domicile.counted (statement xid8, key text); \
               CREATE FUNCTION domicile.counts(key text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS \
               $$ BEGIN INSERT INTO domicile.counted VALUES (pg_current_xact_id(), key); RETURN true; END $$; \
               ALTER TABLE domicile.records ENABLE ROW LEVEL SECURITY; \
               CREATE POLICY written ON domicile.records FOR INSERT WITH CHECK (true); \
               CREATE POLICY counted ON domicile.records FOR SELECT USING (domicile.counts(key))";
    scene.outside().await.execute(sqlx::raw_sql(sql)).await.unwrap();
}

#[tokio::test]
async fn many_large_records_are_looked_up_in_batches_that_can_be_held() {
    const BYTES: usize = 100_000;
    const RECORDS: usize = 64;
    let scene = Scene::new().await;
    let open = |gateway, batch_found_bytes_max| {
        let mut settings = scene.settings(gateway);
        settings.reader_connections = 1;
        settings.limits.batch_found_bytes_max = batch_found_bytes_max;
        RegionStore::open(settings)
    };
    let (roomy, narrow, anna) = (open(1, 64 << 20), open(2, 1 << 20), subject("anna"));
    let body = |n: usize| format!("\"{}{n}\"", "x".repeat(BYTES));
    for n in 0..RECORDS {
        done(&roomy, &anna, put(&format!("k{n}"), &body(n), Precondition::None)).await;
    }
    up(&narrow).await;
    reads_counted(&scene).await;
    let all = async |store: &RegionStore| {
        let anna = &anna;
        let found = join_all((0..RECORDS).map(|n| async move { record(store, anna, &format!("k{n}")).await.unwrap() }));
        for (n, found) in found.await.iter().enumerate() {
            assert!(found.body.get() == body(n), "k{n}");
        }
        let most =
            "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM domicile.counted GROUP BY statement) AS c";
        let most = scene.number(most).await;
        scene.outside().await.execute("TRUNCATE domicile.counted").await.unwrap();
        usize::try_from(most).unwrap()
    };
    assert!(all(&roomy).await > RECORDS / 2, "where there is room, they travel together");
    // The statement that was broken off is not among them: it ended with its connection.
    let most = all(&narrow).await;
    assert!((1..=(1 << 20) / BYTES + 1).contains(&most), "{most} at a time");
    assert!(all(&narrow).await <= most, "it is known now what they find");
}

#[tokio::test]
async fn old_idempotency_keys_are_forgotten_however_many_they_are() {
    let scene = Scene::new().await;
    let keys = "INSERT INTO domicile.idempotency (subject, key, request_hash, event_id, topic, created_at) \
                SELECT 'subject-anna', n::text, '', '', '', now() - CASE WHEN n <= 60000 THEN interval '25 hours' ELSE '0' END \
                FROM generate_series(1, 60010) AS n";
    scene.outside().await.execute(keys).await.unwrap();
    let _store = scene.open();
    let gone = "SELECT count(*) FROM domicile.idempotency WHERE created_at < now() - interval '24 hours'";
    eventually("old keys are gone", async || scene.number(gone).await == 0).await;
    assert_eq!(scene.number("SELECT count(*) FROM domicile.idempotency").await, 10, "younger keys are kept");
}

#[tokio::test]
async fn whoever_follows_the_log_finds_a_connection_while_many_search() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    done(&store, &anna, put("k", "1", Precondition::None)).await;
    let log = store.log();
    let filter = || DecisionFilter { limit: 10, ..DecisionFilter::default() };
    assert_eq!(log.decisions(filter()).await.unwrap().len(), 2, "the index has caught up");
    gated(&scene, "decision_index", "true").await;
    let gate = shut(&scene).await;
    let searches: Vec<_> = (0..8)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move { log.decisions(filter()).await })
        })
        .collect();
    eventually("searches wait", async || waiting(&scene).await == 2).await;
    let following = async {
        log.head().await.unwrap();
        log.outbox(Channel::Events, 0, 10).await.unwrap()
    };
    assert!(!timeout(PATIENCE / 4, following).await.expect("a connection is free").is_empty());
    assert_eq!(waiting(&scene).await, 2, "no more of them search at a time");
    drop(gate);
    for found in join_all(searches).await {
        assert_eq!(found.unwrap().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn who_did_little_and_what_went_wrong_are_found_by_an_index() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    done(&store, &anna, put("k", "1", Precondition::None)).await;
    store.note(denial()).await.unwrap();
    let log = store.log();
    let whole = || DecisionFilter { limit: 10, ..DecisionFilter::default() };
    assert_eq!(log.decisions(whole()).await.unwrap().len(), 3, "the index has caught up");
    let others = "INSERT INTO domicile.decision_index (seq, id, at_us, actor, rule, outcome, kind, operation) \
                  SELECT 1000000 + n, gen_random_uuid(), n, 'key:other', 'r', 'allow', 'decision.read', 'record.read' \
                  FROM generate_series(1, 20000) AS n";
    let mut outside = scene.outside().await;
    outside.execute(others).await.unwrap();
    outside.execute("ANALYZE domicile.decision_index").await.unwrap();
    let read = "SELECT count(*) FROM pg_stat_user_indexes WHERE idx_scan > 0 \
                AND indexrelname IN ('decision_index_actor', 'decision_index_not_allowed')";
    // What a session has read is told now and then.
    eventually("both indexes are read", async || {
        let rare = DecisionFilter { actor: Some("key:test".to_owned()), ..whole() };
        assert_eq!(log.decisions(rare).await.unwrap().len(), 3);
        let denied = DecisionFilter { outcome: Some("deny".to_owned()), ..whole() };
        assert_eq!(log.decisions(denied).await.unwrap().len(), 1);
        scene.number(read).await == 2
    })
    .await;
}

#[tokio::test]
async fn a_search_between_two_times_finds_what_is_a_little_out_of_order() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    for n in 0..60 {
        done(&store, &anna, put(&n.to_string(), "1", Precondition::None)).await;
    }
    let log = store.log();
    let whole = DecisionFilter { limit: 1_000, ..DecisionFilter::default() };
    assert_eq!(log.decisions(whole.clone()).await.unwrap().len(), 61);
    // A minute apart, and each a few minutes off.
    let times = "UPDATE domicile.decision_index SET at_us = (seq * 60 + (seq * 7919) % 240) * 1000000";
    scene.outside().await.execute(times).await.unwrap();
    for (from, to) in [(0, 9_000), (600, 660), (1_800, 2_400), (3_600, 9_000), (-9, 1), (9_000, 9_999)] {
        let (from_us, to_us) = (from * 1_000_000, to * 1_000_000);
        let expected = scene
            .strings_of(&format!(
                "SELECT i.seq::text FROM domicile.decision_index AS i \
                 WHERE i.at_us >= {from_us} AND i.at_us < {to_us} ORDER BY i.seq DESC"
            ))
            .await;
        let filter = DecisionFilter { from_us: Some(from_us), to_us: Some(to_us), ..whole.clone() };
        let found = log.decisions(filter).await.unwrap();
        assert_eq!(found.iter().map(|row| row.seq.to_string()).collect::<Vec<_>>(), expected, "{from} to {to}");
    }
}

#[tokio::test]
async fn whoever_commits_does_not_wait_until_a_history_is_blank() {
    let scene = Scene::new().await;
    let (store, other) = (scene.open(), RegionStore::open(scene.settings(2)));
    let (anna, bert) = (subject("anna"), subject("bert"));
    let withdraw = || Change::DeleteAttribute { attribute: attribute("colour"), when: Precondition::None };
    for who in [&anna, &bert] {
        for value in ["1", "2"] {
            done(&store, who, declare("colour", value)).await;
        }
    }
    up(&other).await;
    let mut holder = scene.outside().await;
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM domicile.zero_party_history WHERE version = 1 FOR UPDATE").await.unwrap();
    let withdrawing = tokio::spawn({
        let (store, anna) = (store.clone(), anna.clone());
        async move { commit(&store, &anna, withdraw()).await }
    });
    eventually("the history waits", async || scene.waiting_for_locks().await == 1).await;
    let others = done(&other, &bert, put("k", "1", Precondition::None));
    timeout(PATIENCE / 4, others).await.expect("the log is free");
    holder.execute("ROLLBACK").await.unwrap();
    withdrawing.await.unwrap().unwrap();
    let values = "SELECT count(*) FROM domicile.zero_party_history WHERE value IS NOT NULL";
    assert_eq!(scene.number(values).await, 2, "hers are gone, his are there");
    // Declared and taken back in one batch, and declared again: what lies between is not kept either.
    let changes = [declare("colour", "3"), withdraw(), declare("colour", "4"), declare("colour", "5")];
    let all = join_all(changes.into_iter().map(|change| commit(&store, &anna, change))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(scene.number(values).await, 4, "his two, and what was declared since");
}

#[tokio::test]
async fn a_release_that_does_not_blank_the_history_first_has_it_blanked_by_the_trigger() {
    let scene = Scene::new().await;
    let (store, anna, bert) = (scene.open(), subject("anna"), subject("bert"));
    for who in [&anna, &bert] {
        done(&store, who, declare("colour", "1")).await;
    }
    done(&store, &bert, Change::DeleteAttribute { attribute: attribute("colour"), when: Precondition::None }).await;
    let values = "SELECT count(*) FROM domicile.zero_party_history WHERE value IS NOT NULL";
    assert_eq!(scene.number(values).await, 1);
    // His withdrawal once more, as hers and behind everything: on a connection that had a mark before.
    let as_before = "INSERT INTO domicile.outbox (seq, channel, topic, key, key_id, event_type, event_id, source, time, \
                                                  datacontenttype, data) \
                     SELECT o.seq + 1000, o.channel, o.topic, s.digest, o.key_id, o.event_type, o.event_id, o.source, \
                            o.time, o.datacontenttype, o.data \
                     FROM domicile.outbox AS o, domicile.subjects AS s \
                     WHERE convert_from(o.data, 'UTF8')::jsonb @> '{\"deleted\": true}' AND s.subject = 'subject-anna'";
    let mut outside = scene.outside().await;
    outside.execute("BEGIN").await.unwrap();
    outside.execute("SELECT domicile.blank_history('{}', '{}')").await.unwrap();
    let mark = "SELECT (current_setting('domicile.history_blank_below')::bigint = size)::text FROM domicile.head";
    let marked: String = sqlx::query_scalar(mark).fetch_one(&mut outside).await.unwrap();
    assert_eq!(marked, "true", "the mark outlives the function that leaves it");
    outside.execute("COMMIT").await.unwrap();
    assert_eq!(outside.execute(as_before).await.unwrap().rows_affected(), 1);
    assert_eq!(scene.number(values).await, 0);
}

#[tokio::test]
async fn whoever_stands_in_line_with_an_erasure_does_not_wait_for_it() {
    let scene = Scene::new().await;
    let (store, anna, large) = (scene.open(), subject("anna"), subject("large"));
    for subject in [&anna, &large] {
        done(&store, subject, put("k", "1", Precondition::None)).await;
    }
    let mut holder = scene.outside().await;
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT FROM domicile.records WHERE subject = 'subject-large' FOR UPDATE").await.unwrap();
    // They come at once, and so one committer finds all of them.
    let erasing = async {
        let erased = commit(&store, &large, Change::EraseSubject).await;
        assert!(erased.is_ok(), "{erased:?}");
    };
    let others = async {
        let writes = ["k", "l"].map(|key| commit(&store, &anna, put(key, "2", Precondition::None)));
        let written = timeout(PATIENCE / 4, join_all(writes)).await.expect("another committer is free");
        assert!(written.iter().all(Result::is_ok), "{written:?}");
        assert_eq!(scene.waiting_for_locks().await, 1, "the erasure waits still");
        holder.execute("ROLLBACK").await.unwrap();
    };
    tokio::join!(erasing, others);
}
