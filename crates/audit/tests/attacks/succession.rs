//! A new key is a new log: the whole way, as README tells it, and both logs verified with their own keys.

use audit::succession::{NotSucceeded, has_ended, retire, succeed};
use audit::verify::{Check, Expected, Outcome};
use audit::{Memory, Signer, Step};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use storage::RegionStore;
use tlog::{Checkpoint, KeyKind, Note, SigningKey, VerifierKey};
use tokio::runtime::Handle;

use crate::registers::now_us;
use crate::scene::{Scene, done, put, record, subject};
use crate::stage::{Served, Stage, audit, clean, key};

const NEXT_ORIGIN: &str = "audit.example.com/domicile/eu-central-2";

fn next_key() -> SigningKey {
    SigningKey::new(NEXT_ORIGIN, KeyKind::Log, &[9; 32]).unwrap()
}

/// What goes along into the new database: everything but the log itself.
const TAKEN_ALONG: [&str; 3] = ["subjects", "records", "zero_party"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_handed_over_to_a_new_key_and_nothing_lies_between() {
    let stage = Stage::with(400).await;
    let anna = subject("anna");
    done(&stage.store, &anna, put("address", r#"{"city":"Ghent"}"#, storage::Precondition::None)).await;
    stage.sign().await;
    let (old, new) = (key().public().clone(), next_key().public().clone());
    // The old log ends.
    let mut signer = stage.signer();
    assert!(!has_ended(&stage.store.log()).await.unwrap());
    let last = retire(&stage.store, &mut signer, &old, &new, now_us()).await.unwrap();
    let note: Note = last.parse().unwrap();
    let checkpoint: Checkpoint = note.text().parse().unwrap();
    assert!(has_ended(&stage.store.log()).await.unwrap());
    let ending = stage.lines().await.pop().unwrap();
    assert_eq!(checkpoint.size, stage.lines().await.len() as u64, "the last leaf is under the last checkpoint");
    let ending = leaf::parse_fact(ending.as_bytes()).unwrap().fact;
    assert_eq!((ending.kind(), ending.text("next")), (leaf::FactKind::KeyRetire, Some(new.to_string().as_str())));
    stage.store.shutdown().await;
    // A new database with a new origin; subjects and their data come along.
    let successor = successor(&stage.scene).await;
    let position = succeed(&successor, &new, &old, &last, now_us()).await.unwrap();
    assert_eq!(position.seq, 1, "behind the first leaf of the log itself");
    assert!(!has_ended(&successor.log()).await.unwrap());
    assert_eq!(record(&successor, &anna, "address").await.map(|record| record.version), Some(1));
    done(&successor, &anna, put("address", r#"{"city":"Bruges"}"#, storage::Precondition::None)).await;
    let memory = Memory::at(stage.file("signed-2"));
    let signed = Signer::new(successor.log(), next_key(), memory, "signer-2").step().await.unwrap();
    assert!(matches!(signed, Step::Signed(4..)));
    // Both verify, each with its key; the new one says where the old one ended.
    let of = |key: &VerifierKey, since: Option<&str>| Expected {
        since: since.map(str::to_owned),
        ..Expected::of_key(key.clone())
    };
    let old_store = RegionStore::open(stage.scene.settings(3));
    let report = audit(served(&old_store), of(&old, Some(&last))).await;
    clean(&report);
    assert_eq!(report.outcome(Check::AppendOnly), Outcome::Holds);
    let report = audit(served(&successor), of(&new, None)).await;
    clean(&report);
    let beginning = successor.log().leaves(1, 1).await.unwrap().remove(0);
    let beginning = leaf::parse_fact(beginning.line.as_bytes()).unwrap().fact;
    assert_eq!(beginning.text("was"), Some(old.to_string().as_str()));
    assert_eq!(beginning.count("size"), Some(checkpoint.size));
    assert_eq!(beginning.text("root").map(str::to_owned), Some(hex::encode(checkpoint.root)));
    // Neither key does for the other log.
    let report = audit(served(&successor), of(&old, None)).await;
    assert_eq!(report.failed(), Some(Check::Signed));
    // A predecessor stands at the beginning or nowhere.
    let late = succeed(&successor, &new, &old, &last, now_us()).await;
    assert!(matches!(late, Err(NotSucceeded::Begun(4..))), "{late:?}");
    successor.shutdown().await;
    old_store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_new_key_for_the_old_origin_and_a_made_up_predecessor_are_refused() {
    let stage = Stage::with(10).await;
    let old = key().public().clone();
    let again = SigningKey::new(old.name(), KeyKind::Log, &[9; 32]).unwrap();
    let witness = SigningKey::new("witness.example.com/w", KeyKind::Witness, &[9; 32]).unwrap();
    let before = stage.lines().await.len();
    let mut signer = stage.signer();
    let refused = retire(&stage.store, &mut signer, &old, again.public(), now_us()).await;
    assert!(matches!(refused, Err(NotSucceeded::SameOrigin(_))), "{refused:?}");
    let refused = retire(&stage.store, &mut signer, &old, witness.public(), now_us()).await;
    assert!(matches!(refused, Err(NotSucceeded::NotALogKey(_))), "{refused:?}");
    assert_eq!(stage.lines().await.len(), before, "nothing was written");
    let last = stage.checkpoint().await;
    let stranger = next_key();
    let refused = succeed(&stage.store, &old, stranger.public(), &last, now_us()).await;
    assert!(matches!(refused, Err(NotSucceeded::NotSigned(_))), "{refused:?}");
}

/// A store of the new database.
async fn successor(scene: &Scene) -> RegionStore {
    let database = scene.cluster.unused("successor");
    scene.found(&database, crate::scene::REGION, "eu", NEXT_ORIGIN).await.unwrap();
    for table in TAKEN_ALONG {
        copy(scene, table, &database).await;
    }
    let settings = storage::RegionSettings {
        dsn: scene.cluster.dsn(&database).into(),
        log_origin: NEXT_ORIGIN.to_owned(),
        ..scene.settings(2)
    };
    RegionStore::open(settings)
}

fn served(store: &RegionStore) -> Served {
    Served { log: store.log(), runtime: Handle::current() }
}

/// What an operator does with `pg_dump --data-only --table`.
async fn copy(scene: &Scene, table: &str, database: &str) {
    let all = format!("SELECT coalesce(json_agg(t), '[]')::text FROM domicile.{table} AS t");
    let rows: String = sqlx::query_scalar(AssertSqlSafe(all)).fetch_one(&mut scene.outside().await).await.unwrap();
    let insert =
        format!("INSERT INTO domicile.{table} SELECT * FROM json_populate_recordset(NULL::domicile.{table}, $1::json)");
    let mut there = PgConnection::connect(&scene.cluster.dsn(database)).await.unwrap();
    sqlx::query(AssertSqlSafe(insert)).bind(rows).execute(&mut there).await.unwrap();
}
