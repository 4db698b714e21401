//! A region's log with its signer, an auditor in front of it, and an attacker who is the database's superuser.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use audit::verify::{Check, Expected, Outcome, Pace, Report, Source, Unread, verify};
use audit::{Memory, NotSigned, Signer, Step, bundle};
use futures::future::join_all;
use residency::Denial;
use storage::{Log, RegionStore};
use tempfile::TempDir;
use tlog::{Frontier, Hash, KeyKind, SigningKey, TILE_WIDTH, Tile, leaf_hash, root_of};
use tokio::runtime::Handle;

use crate::scene::{ORIGIN, Scene, denial};

/// A log and everybody around it.
pub(crate) struct Stage {
    pub(crate) scene: Scene,
    pub(crate) store: RegionStore,
    folder: TempDir,
}

impl Stage {
    /// A log of this many leaves, its own first one included, signed.
    pub(crate) async fn with(leaves: usize) -> Self {
        Self::on(Scene::new().await, leaves).await
    }

    /// The same on a server of its own, which may be stopped.
    pub(crate) async fn apart(leaves: usize) -> Self {
        Self::on(Scene::apart().await, leaves).await
    }

    async fn on(scene: Scene, leaves: usize) -> Self {
        let store = scene.open();
        let stage = Self { scene, store, folder: tempfile::tempdir().unwrap() };
        stage.grow(leaves - 1).await;
        stage.sign().await;
        stage
    }

    /// The other site after a partition: a copy of the database that is written and signed on, by a gateway and a signer
    /// of its own. The gateway here has its server back when this returns.
    pub(crate) async fn fork(&self) -> Self {
        let scene = Scene { cluster: self.scene.cluster.fork(), database: self.scene.database.clone() };
        let store = RegionStore::open(scene.settings(2));
        let there = Self { scene, store, folder: tempfile::tempdir().unwrap() };
        for site in [self, &there] {
            crate::scene::up(&site.store).await;
            crate::scene::eventually("the log can be read", async || site.log().head().await.is_ok()).await;
        }
        there
    }

    /// Appends leaves.
    pub(crate) async fn grow(&self, leaves: usize) {
        for outcome in join_all((0..leaves).map(|_| self.store.note(denial()))).await {
            outcome.unwrap();
        }
    }

    /// Appends one leaf of a decision that was taken so many seconds from now.
    pub(crate) async fn note_at(&self, seconds: i64) {
        let Denial { mut decision, reason } = denial();
        decision.at_us += seconds * 1_000_000;
        self.store.note(Denial { decision, reason }).await.unwrap();
    }

    pub(crate) fn log(&self) -> Log {
        self.store.log()
    }

    pub(crate) fn memory(&self) -> PathBuf {
        self.folder.path().join("signed")
    }

    /// A path for whatever a test wants to keep.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The log's signer, with its memory.
    pub(crate) fn signer(&self) -> Signer {
        Signer::new(self.log(), key(), Memory::at(self.memory()), "signer-1")
    }

    /// Signs what is there.
    pub(crate) async fn sign(&self) -> Step {
        self.signer().step().await.unwrap()
    }

    /// The same of an attacker who has the key and an empty memory.
    pub(crate) async fn refusal_of_a_stolen_key(&self) -> &'static str {
        self.sql("DELETE FROM domicile.checkpoints").await;
        match Signer::new(self.log(), key(), Memory::at(self.file("stolen")), "signer-1").step().await {
            Err(NotSigned::Refused(refusal)) => refusal.name(),
            other => panic!("signed, or not readable: {other:?}"),
        }
    }

    /// Why the signer does not sign what is there, as its stable word.
    pub(crate) async fn refusal(&self) -> &'static str {
        match self.signer().step().await {
            Err(NotSigned::Refused(refusal)) => refusal.name(),
            other => panic!("signed, or not readable: {other:?}"),
        }
    }

    /// The attacker has the log's key and makes the database forget: the signer's own memory is not asked, and
    /// every published checkpoint is gone.
    pub(crate) async fn sign_with_a_stolen_key(&self) {
        self.sql("DELETE FROM domicile.checkpoints").await;
        let memory = Memory::at(self.folder.path().join(format!("forged-{}", rand::random::<u64>())));
        let step = Signer::new(self.log(), key(), memory, "signer-1").step().await.unwrap();
        assert!(matches!(step, Step::Signed(_)));
    }

    /// The newest checkpoint, as an auditor keeps it.
    pub(crate) async fn checkpoint(&self) -> String {
        self.log().checkpoint(false).await.unwrap().unwrap().note
    }

    /// Runs SQL as the superuser.
    pub(crate) async fn sql(&self, sql: &'static str) {
        sqlx::query(sql).execute(&mut self.scene.outside().await).await.unwrap();
    }

    /// Every line of the log.
    pub(crate) async fn lines(&self) -> Vec<String> {
        self.scene.strings("SELECT line FROM domicile.leaves ORDER BY seq").await
    }

    /// Rewrites the whole log so that it fits itself: lines, hashes, tree and head.
    pub(crate) async fn rewrite(&self, lines: &[String]) {
        let hashes: Vec<Hash> = lines.iter().map(|line| leaf_hash(line.as_bytes())).collect();
        let mut frontier = Frontier::new();
        frontier.extend(hashes.iter().copied());
        let mut outside = self.scene.outside().await;
        for sql in ["DELETE FROM domicile.leaves", "DELETE FROM domicile.tiles"] {
            sqlx::query(sql).execute(&mut outside).await.unwrap();
        }
        sqlx::query(
            "INSERT INTO domicile.leaves (seq, hash, line) \
             SELECT o - 1, h, l FROM unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS x(h, l, o)",
        )
        .bind(&hashes)
        .bind(lines)
        .execute(&mut outside)
        .await
        .unwrap();
        let tiles = || hashes.chunks_exact(usize::from(TILE_WIDTH));
        sqlx::query(
            "INSERT INTO domicile.tiles (level, n, hashes, root) \
             SELECT 0, o - 1, h, r FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS x(h, r, o)",
        )
        .bind(tiles().map(|tile| tile.concat()).collect::<Vec<_>>())
        .bind(tiles().map(root_of).collect::<Vec<Hash>>())
        .execute(&mut outside)
        .await
        .unwrap();
        // Under a new epoch, so that the running gateway looks at the head anew, as after a failover.
        sqlx::query("UPDATE domicile.head SET size = $1, frontier = $2, epoch = epoch + 1")
            .bind(i64::try_from(lines.len()).unwrap())
            .bind(frontier.to_bytes())
            .execute(&mut outside)
            .await
            .unwrap();
    }

    /// An auditor who has the key, and nothing else.
    pub(crate) async fn audit(&self) -> Report {
        self.audit_with(|_| {}).await
    }

    /// An auditor who kept a checkpoint.
    pub(crate) async fn audit_since(&self, checkpoint: &str) -> Report {
        self.audit_with(|expected| expected.since = Some(checkpoint.to_owned())).await
    }

    pub(crate) async fn audit_with(&self, change: impl FnOnce(&mut Expected)) -> Report {
        let mut expected = Expected::of_key(key().public().clone());
        change(&mut expected);
        audit(Served { log: self.log(), runtime: Handle::current() }, expected).await
    }
}

/// The key that the log is signed with.
pub(crate) fn key() -> SigningKey {
    SigningKey::new(ORIGIN, KeyKind::Log, &[42; 32]).unwrap()
}

/// Verifies a source.
pub(crate) async fn audit(source: impl Source + Send + 'static, expected: Expected) -> Report {
    let verified = tokio::task::spawn_blocking(move || {
        verify(&source, &expected, Pace { threads: NonZeroUsize::new(3).unwrap(), progress: &|_, _| {} })
    });
    verified.await.unwrap().unwrap()
}

/// Insists that a report fails by this check first, and because of this rule; where the leaf is known, at it.
pub(crate) fn caught(report: &Report, check: Check, rule: &str, seq: Option<u64>) {
    assert_eq!(report.failed(), Some(check), "{report:#?}");
    let by = report.findings.iter().find(|finding| finding.check == check && finding.rule == rule);
    let by = by.unwrap_or_else(|| panic!("caught by {rule}: {report:#?}"));
    assert!(seq.is_none_or(|seq| by.seq == Some(seq)), "at {seq:?}: {by:?}");
}

/// Insists that nothing speaks against a log.
pub(crate) fn clean(report: &Report) {
    assert_eq!(report.failed(), None, "{report:#?}");
    assert_eq!(report.outcome(Check::Signed), Outcome::Holds);
    assert_eq!(report.outcome(Check::WellFormed), Outcome::Holds);
    assert_eq!(report.leaves, report.range.end - report.range.start);
}

/// A log as the gateway serves it, straight from the database.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) log: Log,
    pub(crate) runtime: Handle,
}

impl Source for Served {
    fn checkpoint(&self) -> Result<String, Unread> {
        let found = self.runtime.block_on(self.log.checkpoint(false)).unwrap();
        found.map(|found| found.note).ok_or_else(|| Unread::Missing("checkpoint".to_owned()))
    }

    fn tile(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        let found = self.runtime.block_on(self.log.tile(tile)).unwrap();
        found.map(|hashes| hashes.concat()).ok_or_else(|| Unread::Missing(tile.to_string()))
    }

    fn entries(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        let first = tile.index() * u64::from(TILE_WIDTH);
        let rows = self.runtime.block_on(self.log.leaves(first, tile.width().into())).unwrap();
        // What was let go is not there; that one entry is gone is for the verifier to see.
        if rows.first().is_none_or(|row| row.seq >= first + u64::from(tile.width())) {
            return Err(Unread::Missing(format!("entries of {tile}")));
        }
        let end = first + u64::from(tile.width());
        Ok(bundle(rows.iter().take_while(|row| row.seq < end).map(|row| row.line.as_bytes())))
    }
}
