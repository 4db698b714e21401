//! The sink on a disk, with crashes.

use follow::testing::region;

use super::*;
use crate::testing::row;

async fn opened(folder: &Path) -> FolderSink {
    let sink = FolderSink::new(folder, region());
    sink.setup(Place::Owner).await.unwrap();
    sink
}

fn text_of(folder: &Path) -> String {
    files(folder).unwrap().iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[tokio::test]
async fn rows_survive_and_a_repetition_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    let rows = [row(3, "aa", "{\"a\":\n [1, \"ü'\\\\\"]}"), row(4, "bb", "null")];
    assert_eq!(sink.apply(&rows).await.unwrap().changed, 2);
    let before = text_of(folder.path());
    assert_eq!(sink.apply(&rows).await.unwrap().changed, 0);
    assert_eq!(text_of(folder.path()), before);
    drop(sink);
    let again = opened(folder.path()).await;
    assert_eq!(again.apply(&rows).await.unwrap().changed, 0);
    let found = again.rows(None, 100).await.unwrap();
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parse(found[0].value.as_ref().unwrap()), parse(rows[0].value.as_ref().unwrap()));
    assert_eq!(found[1], rows[1]);
}

#[tokio::test]
async fn a_withdrawn_value_leaves_the_disk_at_the_next_start_and_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    sink.apply(&[row(3, "aa", "\"secret-wish\"")]).await.unwrap();
    sink.apply(&[row(5, "aa", "\"secret-wish\"").tombstone()]).await.unwrap();
    assert_eq!(sink.apply(&[row(3, "aa", "\"secret-wish\"")]).await.unwrap().changed, 0, "a late replay");
    drop(sink);
    let again = opened(folder.path()).await;
    assert!(!text_of(folder.path()).contains("secret-wish"));
    let found = again.rows(Some("aa"), 10).await.unwrap();
    assert!(found.len() == 1 && found[0].deleted && found[0].seq == 5);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    sink.apply(&[row(3, "aa", "1"), row(4, "bb", "2")]).await.unwrap();
    let path = files(folder.path()).unwrap().pop().unwrap();
    let length = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 7).unwrap();
    let half = folder.path().join("zero-party-00000000000000000002.scratch");
    fs::write(&half, b"half a file").unwrap();
    drop(sink);
    let again = opened(folder.path()).await;
    assert!(!half.exists(), "it may hold what was withdrawn or erased since");
    assert_eq!(again.rows(None, 10).await.unwrap().len(), 1);
    assert_eq!(again.apply(&[row(3, "aa", "1"), row(4, "bb", "2")]).await.unwrap().changed, 1);
    assert_eq!(again.rows(None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_foreign_row_and_a_foreign_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    let mut foreign = row(3, "aa", "1");
    foreign.region = Region::new("us-east").unwrap();
    assert!(matches!(sink.apply(&[foreign]).await, Err(Error::Abroad { .. })));
    sink.apply(&[row(3, "aa", "1")]).await.unwrap();
    sink.leave();
    let elsewhere = FolderSink::new(folder.path(), Region::new("us-east").unwrap());
    assert!(matches!(elsewhere.setup(Place::Owner).await, Err(Error::Misplaced { .. })));
}

#[tokio::test]
async fn an_erased_subject_leaves_the_files_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let sink = opened(folder.path()).await;
    sink.apply(&[row(3, "aa", "\"secret-wish\""), row(4, "bb", "2"), row(5, "aa", "\"secret-wish\"")]).await.unwrap();
    let erased = Forgotten { subject_digest: "aa".to_owned(), digest: [0; 32], seq: 6, region: region(), at_us: 0 };
    sink.erase(&[erased]).await.unwrap();
    assert!(!text_of(folder.path()).contains("secret-wish") && !text_of(folder.path()).contains("aa"));
    assert_eq!(sink.apply(&[row(5, "aa", "1")]).await.unwrap().changed, 0, "what came before does not come back");
    assert_eq!(sink.apply(&[row(7, "cc", "3")]).await.unwrap().changed, 1);
    drop(sink);
    let again = opened(folder.path()).await;
    assert_eq!(again.rows(None, 10).await.unwrap().iter().map(|row| row.seq).collect::<Vec<_>>(), [4, 7]);
}
