//! The region log: dense, ordered, complete, and the same for whoever recomputes it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::future::join_all;
use storage::{Change, Channel, CursorLease, DecisionFilter, Effect, Error, FactFilter, Precondition, RegionStore};
use tlog::{Frontier, leaf_hash};

use crate::scene::{Scene, commit, denial, done, event, put, record, subject};
use crate::support::PATIENCE;

/// Reads the whole log and checks what must hold of any log.
async fn whole(store: &RegionStore) -> Vec<storage::DecisionRow> {
    let log = store.log();
    let head = log.head().await.unwrap();
    let (mut leaves, mut frontier) = (Vec::new(), Frontier::new());
    while (leaves.len() as u64) < head.size {
        leaves.extend(log.leaves(leaves.len() as u64, 1_000).await.unwrap());
    }
    for (n, leaf) in leaves.iter().enumerate() {
        assert_eq!(leaf.seq, n as u64, "the log is dense");
        assert_eq!(leaf.leaf_hash, leaf_hash(leaf.line.as_bytes()), "the stored bytes are what was hashed");
        leaf::check_canonical(leaf.line.as_bytes()).unwrap();
        if n > 0 {
            leaf::parse(leaf.line.as_bytes()).unwrap();
        }
        frontier.push(leaf.leaf_hash);
    }
    assert_eq!(frontier.root(), head.root, "the root is over all leaves");
    leaves
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_dense_and_ordered_whoever_commits() {
    let scene = Scene::new().await;
    let stores: Vec<_> = (0..2)
        .map(|gateway| {
            let mut settings = scene.settings(gateway);
            settings.committer_connections = 4;
            RegionStore::open(settings)
        })
        .collect();
    let subjects: Vec<_> = (0..20).map(subject).collect();
    let mut reader_sees = Vec::new();
    let writing = async {
        let mut written = BTreeMap::new();
        for _ in 0..20 {
            let deeds = subjects.iter().enumerate().flat_map(|(n, subject)| {
                let stores = &stores;
                (0..5).map(move |k| {
                    commit(&stores[(n + k) % 2], subject, put(&format!("k{k}"), "{}", Precondition::None))
                })
            });
            for answer in join_all(deeds).await {
                let answer = answer.unwrap();
                let position = answer.position.unwrap();
                assert!(written.insert(position.seq, position.leaf_hash).is_none(), "no position is given twice");
            }
        }
        written
    };
    let following = async {
        let log = stores[0].log();
        let mut after = 0;
        loop {
            for row in log.outbox(Channel::Events, after, 97).await.unwrap() {
                assert!(row.seq > after, "events come in the order of the log");
                after = row.seq;
                reader_sees.push(row.seq);
            }
            // 20 pins and 2,000 changes.
            if reader_sees.len() == 2_020 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (written, ()) = tokio::time::timeout(PATIENCE * 2, async { tokio::join!(writing, following) })
        .await
        .expect("no event is passed over");
    let leaves = whole(&stores[0]).await;
    assert_eq!(leaves.len(), 1 + 20 + 2_000, "a leaf for the log, for every pin and for every deed");
    assert!(written.iter().all(|(seq, hash)| leaves[usize::try_from(*seq).unwrap()].leaf_hash == *hash));
    // Every gateway's own count is complete.
    for gateway in ["test/00000000", "test/00000001"] {
        let counts: HashSet<u64> = leaves[1..]
            .iter()
            .map(|leaf| serde_json::from_str::<serde_json::Value>(&leaf.line).unwrap())
            .filter(|leaf| leaf["gw"] == gateway)
            .map(|leaf| leaf["gseq"].as_u64().unwrap())
            .collect();
        assert_eq!(counts, (1..=counts.len() as u64).collect());
    }
}

#[tokio::test]
async fn the_events_of_a_subject_keep_the_order_of_its_deeds() {
    let scene = Scene::new().await;
    let store = scene.open();
    let subjects: Vec<_> = (0..8).map(subject).collect();
    let publish = |id: String| Change::PublishEvent { event: event(&id), idempotency: None };
    let deeds = (0..400).map(|n| commit(&store, &subjects[n % 8], publish(format!("{n:04}"))));
    for outcome in join_all(deeds).await {
        outcome.unwrap();
    }
    let rows = store.log().outbox(Channel::Events, 0, 10_000).await.unwrap();
    let mut last: BTreeMap<_, String> = BTreeMap::new();
    for row in rows.into_iter().filter(|row| row.event_type == "shop.order-placed") {
        let before = last.insert(row.key, row.event_id.clone());
        assert!(before.is_none_or(|before| before < row.event_id));
    }
}

#[tokio::test]
async fn every_deed_leaves_a_leaf_and_a_receipt_for_it() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    let write = done(&store, &anna, put("a", "{\"n\":1}", Precondition::None)).await.position.unwrap();
    record(&store, &anna, "a").await.unwrap();
    let denied = store.note(denial()).await.unwrap();
    let leaves = whole(&store).await;
    assert_eq!(leaves.len(), 5, "log, pin, write, read, denial");
    assert_eq!(leaves[usize::try_from(write.seq).unwrap()].leaf_hash, write.leaf_hash);
    assert_eq!(leaves[4].seq, denied.seq);
    let lines: Vec<serde_json::Value> = leaves.iter().map(|leaf| serde_json::from_str(&leaf.line).unwrap()).collect();
    assert_eq!(lines[0]["origin"], crate::scene::ORIGIN);
    assert_eq!(
        (&lines[2]["out"], &lines[2]["rows"], &lines[2]["home"]),
        (&"allow".into(), &1.into(), &"eu-central".into())
    );
    assert_eq!(lines[1]["sub"], lines[2]["sub"], "the tag is the subject's");
    assert_eq!(lines[2]["sub"], lines[3]["sub"], "for readers, too");
    assert_eq!((&lines[4]["out"], &lines[4]["why"]), (&"deny".into(), &"residency_unresolved".into()));
    assert!(lines[4].get("sub").is_none() && !leaves.iter().any(|leaf| leaf.line.contains("anna")));
}

#[tokio::test]
async fn a_decision_is_found_as_soon_as_it_is_made() {
    let scene = Scene::new().await;
    let store = scene.open();
    let (anna, bob) = (subject("anna"), subject("bob"));
    for (n, subject) in [&anna, &bob, &anna].into_iter().enumerate() {
        done(&store, subject, put(&n.to_string(), "{}", Precondition::None)).await;
    }
    drop(commit(&store, &anna, put("0", "{}", Precondition::Absent)).await);
    let log = store.log();
    let find = async |filter: DecisionFilter| log.decisions(DecisionFilter { limit: 100, ..filter }).await.unwrap();
    assert_eq!(find(DecisionFilter::default()).await.len(), 6, "two pins and four writes");
    let of_anna = find(DecisionFilter { subject: Some(anna.clone()), ..Default::default() }).await;
    assert_eq!(of_anna.len(), 4);
    assert!(of_anna.windows(2).all(|pair| pair[0].seq > pair[1].seq), "newest first");
    let errors = DecisionFilter { outcome: Some("error".to_owned()), ..Default::default() };
    let failed = find(errors).await;
    assert_eq!(failed.len(), 1);
    let id = leaf::parse(failed[0].line.as_bytes()).unwrap().decision.id;
    assert_eq!(log.decision(id).await.unwrap().unwrap(), failed[0]);
    let older = DecisionFilter {
        before_seq: Some(failed[0].seq),
        operation: Some("record.put".to_owned()),
        ..Default::default()
    };
    assert_eq!(find(older).await.len(), 5);
    let nobody = DecisionFilter { subject: Some(subject("nobody")), ..Default::default() };
    assert!(find(nobody).await.is_empty());
    for (filter, found) in [
        (DecisionFilter { kind: Some("subject.register".to_owned()), ..Default::default() }, 2),
        (DecisionFilter { actor: Some("key:test".to_owned()), ..Default::default() }, 6),
        (DecisionFilter { actor: Some("key:other".to_owned()), ..Default::default() }, 0),
        (DecisionFilter { to_us: Some(0), ..Default::default() }, 0),
        (DecisionFilter { from_us: Some(0), ..Default::default() }, 6),
    ] {
        assert_eq!(find(filter).await.len(), found);
    }
}

#[tokio::test]
async fn a_cursor_belongs_to_one_owner_and_never_goes_back() {
    let scene = Scene::new().await;
    let store = scene.open();
    let log = store.log();
    let long = Duration::from_secs(3_600);
    let first = log.acquire_cursor("relay", "a", long).await.unwrap().unwrap();
    assert_eq!(first.seq, 0);
    assert_eq!(log.acquire_cursor("relay", "b", long).await.unwrap(), None);
    let renewed = log.acquire_cursor("relay", "a", long).await.unwrap().unwrap();
    assert_eq!(renewed.token, first.token, "the same owner goes on");
    log.advance_cursor(&first, 10, long).await.unwrap();
    log.advance_cursor(&first, 5, Duration::ZERO).await.unwrap();
    // The lease has run out: the next owner has it, and the slow one is fenced.
    let second = log.acquire_cursor("relay", "b", long).await.unwrap().unwrap();
    assert_eq!((second.seq, second.token), (10, first.token + 1));
    assert_eq!(log.advance_cursor(&first, 11, long).await.unwrap_err(), Error::LeaseLost);
    let forged = CursorLease { token: 99, ..second.clone() };
    assert_eq!(log.advance_cursor(&forged, 11, long).await.unwrap_err(), Error::LeaseLost);
    let states = log.cursors().await.unwrap();
    let relay = states.iter().find(|cursor| cursor.name == "relay").unwrap();
    assert_eq!((relay.seq, relay.owner.as_deref()), (10, Some("b")));
}

#[tokio::test]
async fn a_commit_wakes_whoever_follows_the_log() {
    let scene = Scene::new().await;
    let store = scene.open();
    let mut wakeups = store.log().wakeups();
    let answer = done(&store, &subject("anna"), put("a", "{}", Precondition::None)).await;
    assert_eq!(answer.value, Effect::Created { version: 1 });
    wakeups.changed().await.unwrap();
    assert_eq!(*wakeups.borrow(), answer.position.unwrap().seq + 1);
}

#[tokio::test]
async fn the_log_goes_on_in_the_next_partition() {
    let scene = Scene::new().await;
    // As if 2^24 - 2 leaves had been written: their hashes do not matter here, only where the next ones go.
    let mut frontier = Frontier::new();
    let mut bytes = ((1_u64 << 24) - 2).to_be_bytes().to_vec();
    bytes.extend([0; 32 * 23]);
    frontier.clone_from(&Frontier::from_bytes(&bytes).unwrap());
    sqlx::query("UPDATE domicile.head SET size = $1, frontier = $2")
        .bind((1_i64 << 24) - 2)
        .bind(frontier.to_bytes())
        .execute(&mut scene.outside().await)
        .await
        .unwrap();
    let (store, anna) = (scene.open(), subject("anna"));
    let mut last = 0;
    for n in 0..4 {
        last = done(&store, &anna, put("a", &n.to_string(), Precondition::None)).await.position.unwrap().seq;
    }
    assert_eq!(last, (1 << 24) + 2);
    assert_eq!(scene.number("SELECT count(*) FROM domicile.leaves_000001").await, 3);
    assert_eq!(scene.number("SELECT domicile.extend_log()").await, 3 << 24, "and the next one is ready");
}

#[tokio::test]
async fn whoever_looks_for_facts_does_not_wait_for_the_index_of_decisions() {
    let scene = Scene::new().await;
    let mut settings = scene.settings(1);
    settings.limits.index_wait_max = Duration::from_millis(100);
    let store = RegionStore::open(settings);
    done(&store, &subject("anna"), put("a", "{}", Precondition::None)).await;
    store.record(leaf::Fact::gateway_stop(0)).await.unwrap();
    // Somebody else fills the index of decisions, under its lock (the bytes of `dom index`), and never comes on.
    let mut outside = scene.outside().await;
    sqlx::query("SELECT pg_advisory_lock(7237123425798743416)").execute(&mut outside).await.unwrap();
    done(&store, &subject("bob"), put("a", "{}", Precondition::None)).await;
    store.record(leaf::Fact::gateway_stop(1)).await.unwrap();
    let log = store.log();
    let facts = log.facts(FactFilter { limit: 10, ..FactFilter::default() }).await.unwrap();
    assert_eq!(facts.len(), 2, "{facts:?}");
    let decisions = log.decisions(DecisionFilter { limit: 10, ..DecisionFilter::default() }).await;
    assert!(matches!(decisions, Err(Error::Unavailable { .. })), "{decisions:?}");
}
