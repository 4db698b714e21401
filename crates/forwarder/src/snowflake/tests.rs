//! The sink and the whole forwarder against fakesnow: real SQL, run by DuckDB, behind Snowflake's protocol,
//! and behind a proxy that makes the network as bad as a test wants it.

pub(crate) mod stand_in;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use follow::testing::{MemoryLog, region};
use secrecy::SecretString;

use super::*;
use crate::sink::Place;
use crate::testing::{Running, change, digest, quick, row};
use stand_in::{Fakesnow, Fault, Proxy};

/// A database of one's own in the shared stand-in.
fn settings(base_url: &str) -> SnowflakeSettings {
    SnowflakeSettings {
        account: "stand-in".to_owned(),
        user: "domicile".to_owned(),
        credentials: Credentials::Password(SecretString::from("stand-in")),
        role: None,
        warehouse: None,
        database: format!("D{:016X}", rand::random::<u64>()),
        schema: "DOMICILE".to_owned(),
        base_url: Some(base_url.to_owned()),
        location: None,
        price: crate::Price::default(),
        retention_days: 0,
        request_max: Duration::from_secs(60),
        create: true,
    }
}

fn json(text: Option<&String>) -> serde_json::Value {
    serde_json::from_str(text.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_taken_once_and_its_repetition_changes_nothing() {
    let fakesnow = Fakesnow::shared().await;
    let sink = SnowflakeSink::new(&settings(&fakesnow.url), region()).unwrap();
    sink.setup(Place::Owner).await.unwrap();
    sink.setup(Place::Owner).await.unwrap();
    let rows = [row(3, "aa", "\"blue\""), row(4, "bb", "{\"a\":[1,2.5,null,true]}"), row(5, "cc", "null")];
    assert_eq!(sink.apply(&rows).await.unwrap(), Applied { changed: 3, refused: 0 });
    assert_eq!(sink.apply(&rows).await.unwrap(), Applied { changed: 0, refused: 0 });
    let found = sink.rows(None, 100).await.unwrap();
    assert_eq!(found.len(), 3);
    for (found, row) in found.iter().zip(&rows) {
        assert_eq!(json(found.value.as_ref()), json(row.value.as_ref()));
        assert_eq!(json(found.consents.as_ref()), json(row.consents.as_ref()));
        assert_eq!((found.seq, found.version, found.deleted), (row.seq, row.version, false));
        assert_eq!(found.region, region());
    }
    assert_eq!(sink.staged().await.unwrap(), 0, "nothing personal stays in staging");
    assert_eq!(sink.rows(Some("bb"), 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_leaves_a_tombstone_that_a_late_replay_cannot_undo() {
    let fakesnow = Fakesnow::shared().await;
    let sink = SnowflakeSink::new(&settings(&fakesnow.url), region()).unwrap();
    sink.setup(Place::Owner).await.unwrap();
    sink.apply(&[row(3, "aa", "\"blue\"")]).await.unwrap();
    assert_eq!(sink.apply(&[row(9, "aa", "1").tombstone()]).await.unwrap().changed, 1);
    assert_eq!(sink.apply(&[row(3, "aa", "\"blue\"")]).await.unwrap().changed, 0);
    let found = sink.rows(None, 10).await.unwrap();
    assert_eq!(found, [row(9, "aa", "1").tombstone()]);
    sink.apply(&[row(12, "aa", "\"green\"")]).await.unwrap();
    assert_eq!(json(sink.rows(None, 10).await.unwrap()[0].value.as_ref()), "green", "a new consent counts again");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_text_survives_the_way_through_a_literal() {
    let fakesnow = Fakesnow::shared().await;
    let sink = SnowflakeSink::new(&settings(&fakesnow.url), region()).unwrap();
    sink.setup(Place::Owner).await.unwrap();
    let texts = [
        "it's",
        "back\\slash \\' \\\\' end\\",
        "\"quoted\"",
        "line\nbreak\r\n\ttab",
        "Köln 東京 😀 \u{2028}",
        "'); DROP TABLE ZERO_PARTY; --",
        "$$ $1 ? :a %s {x} /* */",
        "",
        "\u{1}\u{7f}",
    ];
    let rows: Vec<Row> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let mut row = row(index as u64 + 1, &format!("{index:02}"), &serde_json::Value::from(*text).to_string());
            row.attribute = "it's.an-attribute".to_owned();
            row
        })
        .collect();
    sink.apply(&rows).await.unwrap();
    let found = sink.rows(None, 100).await.unwrap();
    for (found, text) in found.iter().zip(texts) {
        assert_eq!(json(found.value.as_ref()), text);
        assert_eq!(found.attribute, "it's.an-attribute");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_row_and_an_account_of_another_region_are_refused() {
    let fakesnow = Fakesnow::shared().await;
    let settings = settings(&fakesnow.url);
    let sink = SnowflakeSink::new(&settings, region()).unwrap();
    sink.setup(Place::Owner).await.unwrap();
    let mut foreign = row(3, "aa", "1");
    foreign.region = Region::new("us-east").unwrap();
    assert!(matches!(sink.apply(&[foreign]).await, Err(Error::Abroad { .. })));
    let elsewhere = SnowflakeSink::new(&settings, Region::new("us-east").unwrap()).unwrap();
    let refused = elsewhere.setup(Place::Owner).await;
    assert!(matches!(&refused, Err(Error::Misplaced { found, .. }) if found == "eu-central"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_too_large_becomes_a_tombstone_and_blocks_nobody() {
    let fakesnow = Fakesnow::shared().await;
    let sink = SnowflakeSink::new(&settings(&fakesnow.url), region()).unwrap();
    sink.setup(Place::Owner).await.unwrap();
    let large = format!("\"{}\"", "x".repeat(LITERAL_BYTES_MAX + 1));
    let applied = sink.apply(&[row(3, "aa", "1"), row(4, "bb", &large), row(5, "cc", "2")]).await.unwrap();
    assert_eq!(applied, Applied { changed: 3, refused: 1 });
    let found = sink.rows(None, 10).await.unwrap();
    assert_eq!(found.iter().map(|row| row.deleted).collect::<Vec<_>>(), [false, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_network_costs_time_and_nothing_else() {
    let fakesnow = Fakesnow::shared().await;
    let proxy = Proxy::start(&fakesnow.url).await;
    let sink = SnowflakeSink::new(&settings(&proxy.url), region()).unwrap();
    sink.setup(Place::Owner).await.unwrap();
    for (index, fault) in
        [Fault::Unavailable, Fault::SessionLost, Fault::Garbled, Fault::DoneButUnanswered, Fault::InProgress]
            .into_iter()
            .enumerate()
    {
        let seq = index as u64 + 10;
        // Once for each statement of a batch: insert, merge, clear.
        for place in 0..3 {
            proxy.after(place, fault);
            let digest = format!("{seq}-{place}");
            let applied = sink.apply(&[row(seq, &digest, "\"blue\"")]).await;
            assert!(applied.is_ok(), "{fault:?} at statement {place}: {applied:?}");
            assert_eq!(proxy.pending(), 0, "{fault:?} at statement {place} was not met");
            assert_eq!(sink.rows(Some(&digest), 10).await.unwrap().len(), 1, "{fault:?} at statement {place}");
        }
    }
    assert_eq!(sink.rows(None, 100).await.unwrap().len(), 15);
    assert_eq!(sink.staged().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_equals_the_model_after_the_whole_log_and_after_its_replay() {
    let fakesnow = Fakesnow::shared().await;
    let proxy = Proxy::start(&fakesnow.url).await;
    let sink = Arc::new(SnowflakeSink::new(&settings(&proxy.url), region()).unwrap());
    let log = MemoryLog::new(&region());
    let mut model: BTreeMap<(String, String), Option<u64>> = BTreeMap::new();
    let entries: Vec<_> = (1..=3_000u64)
        .map(|seq| {
            let (subject, attribute) = (seq * 7 % 83, format!("a{}", seq * 11 % 5));
            let granted = seq % 4 != 0;
            model.insert((digest(subject), attribute.clone()), granted.then_some(seq));
            change(seq, subject, &attribute, &format!("{{\"n\":{seq}}}"), &[("recommendations", granted)])
        })
        .collect();
    let mut settings = quick();
    settings.limits.read_rows_max = 300;
    settings.limits.batch_rows_max = 150;
    proxy.after(9, Fault::DoneButUnanswered);
    proxy.after(2, Fault::SessionLost);
    let forwarder = Running::start(sink.clone(), &log, settings.clone());
    for some in entries.chunks(700) {
        log.commit(some.to_vec());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let status = forwarder.caught_up(&log).await;
    assert!(status.batches > 3, "{status:?}");
    forwarder.stop().await;
    assert_eq!(log.cursor_position(), 3_000);

    let table = async || -> BTreeMap<(String, String), Option<u64>> {
        let rows = sink.rows(None, 10_000).await.unwrap();
        let value = |row: &Row| row.value.as_ref().map(|text| json(Some(text))["n"].as_u64().unwrap());
        rows.into_iter()
            .map(|row| {
                assert_eq!(row.deleted, row.value.is_none());
                (row.key(), value(&row))
            })
            .collect()
    };
    assert_eq!(table().await, model);

    log.rewind();
    let again = Running::start(sink.clone(), &log, settings);
    let status = again.caught_up(&log).await;
    again.stop().await;
    assert_eq!(status.rows, 0, "the whole log once more changes nothing");
    assert_eq!(table().await, model);
    assert_eq!(sink.staged().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarder_refuses_what_is_not_its_regions_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Arc::new(crate::FolderSink::new(folder.path(), region()));
    let log = MemoryLog::new(&region());
    let mut foreign = change(2, 0xbb, "colour", "1", &[("recommendations", true)]);
    foreign.topic = "us-east.domicile.zero-party-changed.v1".to_owned();
    let mut nonsense = change(3, 0xcc, "colour", "1", &[]);
    nonsense.data = b"nonsense".to_vec();
    log.commit([change(1, 0xaa, "colour", "1", &[("recommendations", true)]), foreign, nonsense]);
    log.commit([change(4, 0xdd, "colour", "2", &[("recommendations", true)])]);
    let forwarder = Running::start(sink.clone(), &log, quick());
    let status = forwarder.caught_up(&log).await;
    forwarder.stop().await;
    assert_eq!(status.refused, 2);
    let digests: Vec<String> = sink.rows(None, 10).await.unwrap().into_iter().map(|row| row.subject_digest).collect();
    assert_eq!(digests, [digest(0xaa), digest(0xdd)]);
}

/// Against a real account, when there is one: `DOMICILE_IT_SNOWFLAKE` holds `account,user,database,cloud/location`
/// and `DOMICILE_IT_SNOWFLAKE_KEY` the path of the private key. Without them this says that it was not run.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_account_takes_a_batch_once_and_forgets_it() {
    let Ok(names) = std::env::var("DOMICILE_IT_SNOWFLAKE") else {
        eprintln!(
            "\nNOT RUN: no Snowflake account was named in DOMICILE_IT_SNOWFLAKE; the real service was not tried.\n"
        );
        return;
    };
    let key = std::fs::read_to_string(std::env::var("DOMICILE_IT_SNOWFLAKE_KEY").unwrap()).unwrap();
    let [account, user, database, location] = names.split(',').collect::<Vec<_>>()[..] else {
        panic!("DOMICILE_IT_SNOWFLAKE is account,user,database,cloud/location")
    };
    let mut settings = settings("https://unused");
    settings.base_url = None;
    (settings.account, settings.user) = (account.to_owned(), user.to_owned());
    (settings.database, settings.location) = (database.to_owned(), Some(location.to_owned()));
    settings.credentials = Credentials::KeyPair(SecretString::from(key));
    let sink = SnowflakeSink::new(&settings, region()).unwrap();
    sink.setup(Place::Owner).await.unwrap();
    let seq = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    // Somebody of this run alone: who was forgotten is never taken again.
    let smoke = digest(rand::random());
    let value = "\"it's \\\\ ü\"";
    assert_eq!(sink.apply(&[row(seq, &smoke, value)]).await.unwrap().changed, 1);
    assert_eq!(sink.apply(&[row(seq, &smoke, value)]).await.unwrap().changed, 0);
    assert_eq!(json(sink.rows(Some(&smoke), 1).await.unwrap()[0].value.as_ref()), "it's \\ ü");
    assert_eq!(sink.apply(&[row(seq + 1, &smoke, "1").tombstone()]).await.unwrap().changed, 1);
    assert!(sink.rows(Some(&smoke), 1).await.unwrap()[0].deleted);
    assert_eq!(sink.apply(&[row(seq + 2, &smoke, value)]).await.unwrap().changed, 1);
    assert!(!sink.erase(&[forgotten(seq + 3, &smoke)]).await.unwrap().is_empty(), "the query has a name");
    assert!(sink.rows(Some(&smoke), 1).await.unwrap().is_empty(), "nothing of theirs is left");
    assert_eq!(sink.apply(&[row(seq + 2, &smoke, value)]).await.unwrap().changed, 0, "nor taken again");
    assert_eq!(sink.staged().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_forwarder_left_in_staging_goes_at_the_next_start_and_a_replays_batch_stays() {
    let fakesnow = Fakesnow::shared().await;
    let sink = SnowflakeSink::new(&settings(&fakesnow.url), region()).unwrap();
    sink.setup(Place::Owner).await.unwrap();
    for batch in ["00ff", "replay-00ff"] {
        sink.client.execute(&sink.tables.stage(batch, &region(), &[row(3, "aa", "\"blue\"")])).await.unwrap();
    }
    sink.setup(Place::Beside).await.unwrap();
    assert_eq!(sink.staged().await.unwrap(), 2, "a replay does not take from the forwarder what is on its way");
    sink.setup(Place::Owner).await.unwrap();
    assert_eq!(sink.staged().await.unwrap(), 1, "nor the other way round");
}

fn forgotten(seq: u64, digest: &str) -> Forgotten {
    Forgotten {
        subject_digest: digest.to_owned(),
        digest: [0; 32],
        seq,
        region: region(),
        at_us: 1_795_521_600_000_000,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_subject_is_in_neither_table_and_no_late_batch_brings_it_back() {
    let fakesnow = Fakesnow::shared().await;
    let proxy = Proxy::start(&fakesnow.url).await;
    let sink = SnowflakeSink::new(&settings(&proxy.url), region()).unwrap();
    sink.setup(Place::Owner).await.unwrap();
    sink.apply(&[row(3, "aa", "\"blue\""), row(4, "bb", "\"red\"")]).await.unwrap();
    // A batch of a slow predecessor, between its insert and its merge.
    sink.client.execute(&sink.tables.stage("00ff", &region(), &[row(5, "aa", "\"late\"")])).await.unwrap();
    proxy.after(1, Fault::DoneButUnanswered);
    sink.erase(&[forgotten(9, "aa")]).await.unwrap();
    assert_eq!(sink.staged().await.unwrap(), 0, "staging holds nothing of theirs");
    sink.erase(&[forgotten(9, "aa")]).await.unwrap();
    for digest in ["aa", "bb"] {
        sink.client.execute(&sink.tables.stage(digest, &region(), &[row(6, digest, "\"late\"")])).await.unwrap();
        sink.client.execute(&sink.tables.merge(digest)).await.unwrap();
    }
    sink.setup(Place::Owner).await.unwrap();
    let found = sink.rows(None, 10).await.unwrap();
    assert_eq!(found.iter().map(|row| (row.subject_digest.as_str(), row.seq)).collect::<Vec<_>>(), [("bb", 6)]);
    let mut foreign = forgotten(9, "bb");
    foreign.region = Region::new("us-east").unwrap();
    assert!(matches!(sink.erase(&[foreign]).await, Err(Error::Abroad { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarder_lets_its_sink_forget_behind_what_came_before() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Arc::new(crate::ParquetSink::new(folder.path(), region()));
    let log = MemoryLog::new(&region());
    let consents = [("recommendations", true)];
    log.commit([change(1, 0xaa, "colour", "1", &consents), change(2, 0xbb, "colour", "2", &consents)]);
    let forwarder = Running::start(sink.clone(), &log, quick());
    forwarder.caught_up(&log).await;
    let mut erasure = change(4, 0xaa, "", "null", &[]);
    erasure.event_type = "domicile.subject-erased".to_owned();
    log.commit([change(3, 0xaa, "size", "3", &consents), erasure]);
    let status = forwarder.caught_up(&log).await;
    assert_eq!((status.erased, status.refused), (1, 0));
    forwarder.stop().await;
    let digests: Vec<String> = sink.rows(None, 10).await.unwrap().into_iter().map(|row| row.subject_digest).collect();
    assert_eq!(digests, [digest(0xbb)]);
}
