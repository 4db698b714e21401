//! Exports, as other tools read them.

use audit::export::{Asked, Export, Format, Made, NotExported};
use sha2::{Digest as _, Sha256};
use sheet::Cell;

use crate::stage::Stage;

async fn exported(stage: &Stage, asked: Asked) -> (Vec<u8>, Made) {
    let mut export = Export::begin(stage.log(), asked).await.unwrap();
    let mut file = Vec::new();
    while let Some(piece) = export.next().await.unwrap() {
        assert!(piece.len() < 16 << 20, "a piece needs {} bytes", piece.len());
        file.extend_from_slice(&piece);
    }
    assert_eq!(export.next().await.unwrap(), None, "it ends once");
    let made = export.made();
    assert_eq!((made.bytes, made.sha256), (file.len() as u64, Sha256::digest(&file).into()));
    (file, made)
}

fn all(format: Format) -> Asked {
    Asked { range: 0..u64::MAX, kinds: Vec::new(), format }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jsonl_csv_and_parquet_hold_the_same_leaves_in_pieces() {
    // More than two steps, so that there are several groups of rows.
    let stage = Stage::with(9_000).await;
    let lines = stage.lines().await;
    let (jsonl, made) = exported(&stage, all(Format::Jsonl)).await;
    assert_eq!((made.range.clone(), made.rows, made.altered), (0..9_000, 9_000, 0));
    assert_eq!(String::from_utf8(jsonl).unwrap(), lines.iter().map(|line| format!("{line}\n")).collect::<String>());

    let (csv, _) = exported(&stage, all(Format::Csv)).await;
    let mut reader = csv::Reader::from_reader(csv.as_slice());
    let (seq, line) = (at_of(&mut reader, "seq"), at_of(&mut reader, "line"));
    for (index, record) in reader.records().enumerate() {
        let record = record.unwrap();
        assert_eq!((&record[seq], &record[line]), (index.to_string().as_str(), lines[index].as_str()));
    }

    let (parquet, _) = exported(&stage, all(Format::Parquet)).await;
    let path = stage.file("all.parquet");
    std::fs::write(&path, parquet).unwrap();
    let rows: Vec<_> = sheet::read(&path).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows.len(), 9_000);
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row[0], Cell::Number(index as i64));
        assert_eq!(*row.last().unwrap(), Cell::Text(lines[index].clone()));
        let hash = hex::encode(tlog::leaf_hash(lines[index].as_bytes()));
        assert_eq!(row[1], Cell::Text(hash));
    }
}

fn at_of(reader: &mut csv::Reader<&[u8]>, name: &str) -> usize {
    reader.headers().unwrap().iter().position(|known| known == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_by_kind_and_an_empty_part_are_whole_files() {
    let stage = Stage::with(20).await;
    let genesis = Asked { kinds: vec!["log.genesis".to_owned()], ..all(Format::Jsonl) };
    assert_eq!(exported(&stage, genesis).await.1.rows, 1);
    for format in Format::ALL {
        let (file, made) = exported(&stage, Asked { range: 15..15, ..all(format) }).await;
        assert_eq!(made.rows, 0);
        match format {
            Format::Jsonl => assert!(file.is_empty()),
            Format::Csv => assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), 1),
            Format::Parquet => {
                let path = stage.file("empty.parquet");
                std::fs::write(&path, file).unwrap();
                assert_eq!(sheet::read(&path).unwrap().count(), 0);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_an_edited_leaf_is_counted_and_a_deleted_one_ends_the_export() {
    let stage = Stage::with(300).await;
    stage.sql("UPDATE domicile.leaves SET line = replace(line, 'key:test', '=cmd|x') WHERE seq = 100").await;
    let (csv, made) = exported(&stage, all(Format::Csv)).await;
    assert_eq!(made.altered, 1);
    assert!(String::from_utf8(csv).unwrap().contains("\"'=cmd|x\""), "what was put there runs in no spreadsheet");
    stage.sql("DELETE FROM domicile.leaves WHERE seq = 200").await;
    let mut export = Export::begin(stage.log(), all(Format::Jsonl)).await.unwrap();
    match export.next().await {
        Err(NotExported::Missing(200)) => {}
        other => panic!("{other:?}"),
    }
}
