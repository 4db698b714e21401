//! The Parquet sink, read back by itself and by DuckDB.

use std::process::Command;

use follow::testing::region;

use super::*;
use crate::testing::{self, NOON};

const DAY_US: i64 = 86_400_000_000;

fn row(seq: u64, digest: &str, value: &str, at_us: i64) -> Row {
    Row { at_us, ..testing::row(seq, digest, value) }
}

/// Everything on disk as bytes, by path.
fn disk(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(folder, EXTENSION).unwrap().into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

async fn opened(folder: &Path) -> ParquetSink {
    let sink = ParquetSink::new(folder, region());
    sink.setup(Place::Owner).await.unwrap();
    sink
}

#[test]
fn an_instant_is_in_its_day() {
    for (at_us, expected) in [
        (NOON, "2026-11-24"),
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (951_782_400_000_000, "2000-02-29"),
        (NOON - NOON % DAY_US + DAY_US - 1, "2026-11-24"),
        (NOON - NOON % DAY_US + DAY_US, "2026-11-25"),
    ] {
        assert_eq!(day(at_us), expected);
    }
}

#[tokio::test]
async fn rows_survive_by_region_and_day_and_a_repetition_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    let rows = [row(3, "aa", "{\"a\":[1,\"ü'\\\\\"]}", NOON), row(4, "bb", "null", NOON + DAY_US)];
    assert_eq!(sink.apply(&rows).await.unwrap().changed, 2);
    let before = disk(folder.path());
    assert!(before.keys().any(|path| path.to_string_lossy().contains("region=eu-central/day=2026-11-24/")));
    assert!(before.keys().any(|path| path.to_string_lossy().contains("region=eu-central/day=2026-11-25/")));
    assert_eq!(sink.apply(&rows).await.unwrap().changed, 0);
    drop(sink);
    let again = opened(folder.path()).await;
    assert_eq!(again.apply(&rows).await.unwrap().changed, 0, "after a restart, too");
    assert_eq!(disk(folder.path()), before);
    assert_eq!(again.rows(None, 100).await.unwrap(), rows);
}

#[tokio::test]
async fn a_withdrawn_value_leaves_the_disk_at_once_and_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    // Uncommon enough to be found in the raw bytes of a small file.
    sink.apply(&[row(3, "aa", "\"secret-wish\"", NOON), row(4, "bb", "\"another-wish\"", NOON)]).await.unwrap();
    sink.apply(&[row(6, "aa", "\"secret-wish\"", NOON + DAY_US)]).await.unwrap();
    let holds = |text: &str| disk(folder.path()).values().any(|b| b.windows(text.len()).any(|w| w == text.as_bytes()));
    assert!(holds("secret-wish"));
    sink.apply(&[row(9, "aa", "1", NOON + 2 * DAY_US).tombstone()]).await.unwrap();
    assert!(!holds("secret-wish") && holds("another-wish"), "every older row of the key, and nobody else's");
    assert_eq!(sink.apply(&[row(6, "aa", "\"secret-wish\"", NOON)]).await.unwrap().changed, 0, "a late replay");
    drop(sink);
    let again = opened(folder.path()).await;
    assert_eq!(again.apply(&[row(6, "aa", "\"secret-wish\"", NOON)]).await.unwrap().changed, 0);
    let found = again.rows(Some("aa"), 10).await.unwrap();
    assert!(found.len() == 1 && found[0].deleted && found[0].seq == 9);
    assert_eq!(again.apply(&[row(12, "aa", "2", NOON + 2 * DAY_US)]).await.unwrap().changed, 1, "a new consent counts");
}

#[tokio::test]
async fn what_a_crash_left_undone_is_done_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    sink.apply(&[row(3, "aa", "\"secret-wish\"", NOON)]).await.unwrap();
    // The tombstone's file was written, and the crash came before the older file was rewritten.
    let day = of_region(folder.path(), &region()).join("day=2026-11-24");
    file::write(
        &day.join("zero-party-00000000000000000009-00000000000000000009.parquet"),
        &[row(9, "aa", "1", NOON).tombstone()],
    )
    .unwrap();
    let halves = [day.join("zero-party-half.scratch"), of_region(folder.path(), &region()).join("half.scratch")];
    for half in &halves {
        fs::write(half, b"half a file with a secret-wish").unwrap();
    }
    drop(sink);
    let again = opened(folder.path()).await;
    assert!(!disk(folder.path()).values().any(|b| b.windows(11).any(|w| w == b"secret-wish")));
    assert!(!halves.iter().any(|half| half.exists()), "half a file may hold what was withdrawn or erased since");
    assert!(again.rows(None, 10).await.unwrap()[0].deleted);
}

#[tokio::test]
async fn many_small_batches_of_a_day_become_few_files() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    for seq in 1..=200 {
        sink.apply(&[row(seq, &format!("{:02}", seq % 40), &seq.to_string(), NOON)]).await.unwrap();
    }
    assert!(disk(folder.path()).len() <= FILES_OF_DAY_MAX + 1);
    let found = sink.rows(None, 100).await.unwrap();
    assert_eq!(found.len(), 40);
    assert!(found.iter().all(|row| row.seq > 160), "the newest of each");
}

#[tokio::test]
async fn a_foreign_row_a_foreign_folder_and_a_replay_beside_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    let mut abroad = row(3, "aa", "1", NOON);
    abroad.region = Region::new("us-east").unwrap();
    assert!(matches!(sink.apply(&[abroad]).await, Err(Error::Abroad { .. })));
    sink.apply(&[row(3, "aa", "1", NOON)]).await.unwrap();
    sink.leave();
    let elsewhere = ParquetSink::new(folder.path(), Region::new("us-east").unwrap());
    assert!(matches!(elsewhere.setup(Place::Owner).await, Err(Error::Misplaced { .. })));
    assert!(matches!(sink.setup(Place::Beside).await, Err(Error::Settings(_))));
}

/// Somebody else's reader comes to the same, by the query of this module's documentation.
#[tokio::test]
async fn duckdb_reads_the_same_current_state() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    for batch in 0..6_u64 {
        let rows: Vec<Row> = (1..=50)
            .map(|n| {
                let seq = batch * 50 + n;
                let row = row(
                    seq,
                    &format!("{:02}", seq * 7 % 31),
                    &format!("{{\"n\":{seq}}}"),
                    NOON + (seq / 70) as i64 * DAY_US,
                );
                if seq % 9 == 0 { row.tombstone() } else { row }
            })
            .collect();
        sink.apply(&rows).await.unwrap();
    }
    let script = r#"
import duckdb, json, sys
rows = duckdb.sql(f"""SELECT subject_digest, value, log_seq, deleted, region, CAST(day AS VARCHAR), CAST(changed_at AT TIME ZONE 'UTC' AS DATE)::VARCHAR
    FROM read_parquet('{sys.argv[1]}/**/*.parquet', hive_partitioning = true)
    QUALIFY row_number() OVER (PARTITION BY subject_digest, attribute ORDER BY log_seq DESC) = 1
    ORDER BY subject_digest""").fetchall()
assert all(row[4] == "eu-central" and row[5] == row[6] for row in rows), rows
print(json.dumps([[row[0], row[1], row[2], row[3]] for row in rows]))
"#;
    let output = Command::new(crate::snowflake::python()).args(["-c", script]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ours: Vec<_> = sink
        .rows(None, 1_000)
        .await
        .unwrap()
        .into_iter()
        .map(|row| serde_json::json!([row.subject_digest, row.value, row.seq, row.deleted]))
        .collect();
    assert_eq!(ours.len(), 31);
    assert_eq!(read, serde_json::Value::from(ours));
}

#[tokio::test]
async fn an_erased_subject_leaves_the_disk_whole_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    sink.apply(&[row(3, "aa", "\"secret-wish\"", NOON), row(4, "bb", "\"another-wish\"", NOON)]).await.unwrap();
    sink.apply(&[row(5, "aa", "\"secret-wish\"", NOON + DAY_US)]).await.unwrap();
    let erased = Forgotten { subject_digest: "aa".to_owned(), digest: [0; 32], seq: 6, region: region(), at_us: NOON };
    sink.erase(std::slice::from_ref(&erased)).await.unwrap();
    sink.erase(&[erased]).await.unwrap();
    let holds = |text: &str| disk(folder.path()).values().any(|b| b.windows(text.len()).any(|w| w == text.as_bytes()));
    assert!(!holds("secret-wish") && holds("another-wish"));
    drop(sink);
    let again = opened(folder.path()).await;
    let rows = again.rows(None, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [4]);
}
