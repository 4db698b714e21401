//! What a lookup finds, and that it is accountable.

use futures::future::join_all;
use residency::{Collection, PinState, RecordKey};
use storage::{AuditReads, Change, Error, Found, Lookup, Precondition, RegionStore};

use crate::scene::{Scene, attribute, declare, done, eventually, look_up, profile, put, record, subject, up};

#[tokio::test]
async fn every_lookup_of_a_crowd_gets_its_own_answer_and_its_own_leaf() {
    let scene = Scene::new().await;
    let store = scene.open();
    let subjects: Vec<_> = (0..50).map(subject).collect();
    join_all(subjects.iter().enumerate().map(|(n, s)| done(&store, s, put("k", &format!("{n}"), Precondition::None))))
        .await;
    let before = store.log().head().await.unwrap().size;
    let found = join_all((0..500).map(|n| record(&store, &subjects[n % 50], "k"))).await;
    for (n, record) in found.into_iter().enumerate() {
        assert_eq!(record.unwrap().body.get(), (n % 50).to_string());
    }
    assert_eq!(store.log().head().await.unwrap().size, before + 500);
}

#[tokio::test]
async fn a_collection_is_listed_page_by_page_in_the_byte_order_of_its_keys() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    let mut keys: Vec<String> = (0..25).map(|n| format!("k{n}")).collect();
    keys.extend(["Z", "a", "ä", "-"].map(str::to_owned));
    join_all(keys.iter().map(|key| done(&store, &anna, put(key, "1", Precondition::None)))).await;
    keys.sort_unstable();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let lookup = Lookup::Records { collection: profile(), after: after.clone(), limit: 10 };
        let Found::Records { items, more } = look_up(&store, &anna, lookup).await.unwrap().value else { panic!() };
        after = items.last().map(|record| record.key.clone());
        seen.extend(items.iter().map(|record| record.key.expose().to_owned()));
        if !more {
            break;
        }
        assert_eq!(items.len(), 10);
    }
    assert_eq!(seen, keys);
    let lookup = Lookup::Records { collection: Collection::new("other").unwrap(), after: None, limit: 10 };
    assert!(
        matches!(look_up(&store, &anna, lookup).await.unwrap().value, Found::Records { items, more: false } if items.is_empty())
    );
}

#[tokio::test]
async fn nothing_is_found_about_nobody_and_that_is_logged_too() {
    let scene = Scene::new().await;
    let (store, nobody) = (scene.open(), subject("nobody"));
    let lookup = Lookup::Record { collection: profile(), key: RecordKey::new("a").unwrap() };
    let answer = look_up(&store, &nobody, lookup).await.unwrap();
    assert!(matches!(answer.value, Found::Record(None)));
    assert!(matches!(look_up(&store, &nobody, Lookup::Subject).await.unwrap().value, Found::Subject(None)));
    assert!(
        matches!(look_up(&store, &nobody, Lookup::Attributes).await.unwrap().value, Found::Attributes(all) if all.is_empty())
    );
    let leaves = store.log().leaves(answer.position.unwrap().seq, 1).await.unwrap();
    assert!(leaves[0].line.contains("\"rows\":0"), "{}", leaves[0].line);
    assert_eq!(scene.number("SELECT count(*) FROM domicile.subjects").await, 0, "a read registers nobody");
}

#[tokio::test]
async fn who_left_through_another_gateway_is_not_read_here_although_this_one_remembers_otherwise() {
    let scene = Scene::new().await;
    let (here, there) = (scene.open(), RegionStore::open(scene.settings(2)));
    let (anna, bob) = (subject("anna"), subject("bob"));
    for subject in [&anna, &bob] {
        done(&here, subject, put("a", "{}", Precondition::None)).await;
        done(&here, subject, declare("size", "\"m\"")).await;
    }
    let single = || {
        let key = RecordKey::new("a").unwrap();
        [Lookup::Record { collection: profile(), key }, Lookup::Attribute(attribute("size"))]
    };
    for lookup in single() {
        look_up(&here, &anna, lookup).await.unwrap();
    }
    // What nobody may do, and what shows that the row is not read again while the fence stands.
    let mut outside = scene.outside().await;
    let depart = "UPDATE domicile.subjects SET state = 'departed' WHERE subject = 'subject-anna'";
    sqlx::query(depart).execute(&mut outside).await.unwrap();
    for lookup in single() {
        look_up(&here, &anna, lookup).await.unwrap();
    }
    sqlx::query("UPDATE domicile.head SET fence = fence + 1").execute(&mut outside).await.unwrap();
    for lookup in single() {
        assert_eq!(look_up(&here, &anna, lookup).await.unwrap_err(), Error::Moved);
    }
    done(&there, &bob, Change::EraseSubject).await;
    for lookup in single() {
        let error = look_up(&here, &bob, lookup).await.unwrap_err();
        assert_eq!(error, Error::NotAtHome { state: PinState::Erased });
    }
}

#[tokio::test]
async fn who_is_remembered_is_forgotten_with_the_connection() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    done(&store, &anna, put("a", "{}", Precondition::None)).await;
    // As if another server, that missed something, had taken over: the same fence, and another state.
    let mut outside = scene.outside().await;
    let depart = "UPDATE domicile.subjects SET state = 'departed' WHERE subject = 'subject-anna'";
    sqlx::query(depart).execute(&mut outside).await.unwrap();
    record(&store, &anna, "a").await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(end).execute(&mut outside).await.unwrap();
    let lookup = Lookup::Record { collection: profile(), key: RecordKey::new("a").unwrap() };
    assert_eq!(look_up(&store, &anna, lookup).await.unwrap_err(), Error::Moved);
}

#[tokio::test]
async fn a_buffered_read_is_answered_at_once_and_its_leaf_follows() {
    let scene = Scene::new().await;
    let mut settings = scene.settings(1);
    settings.audit_reads = AuditReads::Buffered;
    // With one committer, whoever was answered knows that everybody before has been, too.
    settings.committer_connections = 1;
    let (store, anna) = (RegionStore::open(settings), subject("anna"));
    done(&store, &anna, put("a", "1", Precondition::None)).await;
    let lookup = || Lookup::Record { collection: profile(), key: RecordKey::new("a").unwrap() };
    assert!(look_up(&store, &anna, lookup()).await.unwrap().position.is_none());
    let reads = "SELECT count(*) FROM domicile.leaves WHERE line LIKE '%decision.read%'";
    eventually("the leaf of the read", async || scene.number(reads).await == 1).await;
    // Its place in the buffer is free, too: the next read begins a second of its own.
    done(&store, &anna, put("a", "1", Precondition::None)).await;
    // While the log cannot be written, reads are answered for a second and then no more.
    let mut outside = scene.outside().await;
    sqlx::query("BEGIN").execute(&mut outside).await.unwrap();
    sqlx::query("SELECT FROM domicile.head FOR UPDATE").execute(&mut outside).await.unwrap();
    look_up(&store, &anna, lookup()).await.unwrap();
    eventually("reads are refused", async || {
        matches!(look_up(&store, &anna, lookup()).await, Err(Error::Overloaded { .. }))
    })
    .await;
    sqlx::query("ROLLBACK").execute(&mut outside).await.unwrap();
    eventually("reads are answered again", async || look_up(&store, &anna, lookup()).await.is_ok()).await;
    store.shutdown().await;
    let counts = scene.strings("SELECT line::jsonb->>'gseq' FROM domicile.leaves WHERE line LIKE '%gseq%'").await;
    let mut counts: Vec<usize> = counts.iter().map(|count| count.parse().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=counts.len()).collect::<Vec<_>>(), "no leaf is missing");
}

#[tokio::test]
async fn a_read_is_not_answered_while_its_leaf_cannot_be_written() {
    let scene = Scene::new().await;
    let (store, anna) = (scene.open(), subject("anna"));
    done(&store, &anna, put("a", "1", Precondition::None)).await;
    up(&store).await;
    let mut outside = scene.outside().await;
    sqlx::query("BEGIN").execute(&mut outside).await.unwrap();
    sqlx::query("SELECT FROM domicile.head FOR UPDATE").execute(&mut outside).await.unwrap();
    let reading = record(&store, &anna, "a");
    let early = tokio::time::timeout(std::time::Duration::from_millis(500), reading).await;
    assert!(early.is_err(), "nothing is disclosed before its leaf is durable");
    sqlx::query("ROLLBACK").execute(&mut outside).await.unwrap();
    assert!(record(&store, &anna, "a").await.is_some());
}
