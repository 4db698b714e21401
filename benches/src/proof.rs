//! What the proof costs: a log verified, against hashing the same bytes on the same cores; and a proof out of a long log.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use audit::verify::{Check, Expected, Outcome, Pace, PolicyText, Source, Unread, verify};
use leaf::{GatewayId, Kind, Leaf, Out, SubjectTag};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use residency::{
    Actor, Country, Decision, DecisionId, Evidence, EvidenceList, Finding, Jurisdiction, Operation, Origin, Policy,
    Region, presets,
};
use sqlx::{Connection as _, PgConnection};
use storage::{AuditReads, Limits, RegionSettings, RegionStore};
use tlog::{Checkpoint, Frontier, Hash, KeyKind, Note, SigningKey, TILE_WIDTH, Tile, leaf_hash, root_of};
use world::World;

use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::{Comparison, Goal, median};
use crate::scene::POSTGRES;

const ORIGIN: &str = "eu-central.log.world.test";
const WIDTH: u64 = TILE_WIDTH as u64;
/// Verifying takes at most so many times as long as hashing.
const GOAL: f64 = 3.0;
/// Proofs that are asked for one after the other, milliseconds for each, and the most that they may take.
const PROOFS: u64 = 400;
const GOAL_MS: f64 = 5.0;
/// Tiles in one INSERT.
const TILES_AT_ONCE: usize = 256;

/// Both figures.
pub(crate) async fn costs(plan: &Plan, progress: &Progress) -> Result<Vec<Comparison>> {
    let mut found = vec![against_hashing(plan, progress)?];
    found.push(out_of_a_long_log(plan, progress).await?);
    found.iter().for_each(|one| progress.found(one));
    Ok(found)
}

/// A log in memory, as a pack or a server would hand it over.
struct InMemory {
    note: String,
    bundles: Vec<Vec<u8>>,
    tiles: Vec<Vec<Vec<Hash>>>,
}

impl Source for InMemory {
    fn checkpoint(&self) -> Result<String, Unread> {
        Ok(self.note.clone())
    }

    fn tile(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        let found = self.tiles.get(usize::from(tile.level())).and_then(|level| level.get(index(tile)));
        found.map(|hashes| hashes.concat()).ok_or_else(|| Unread::Missing(tile.to_string()))
    }

    fn entries(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        self.bundles.get(index(tile)).cloned().ok_or_else(|| Unread::Missing(tile.to_string()))
    }
}

fn index(tile: Tile) -> usize {
    usize::try_from(tile.index()).unwrap_or(usize::MAX)
}

fn against_hashing(plan: &Plan, progress: &Progress) -> Result<Comparison> {
    let leaves = plan.proof_leaves;
    let threads = std::thread::available_parallelism()?;
    progress.now(format!("verifying {leaves} leaves, and hashing them alone"));
    let log = log_of(leaves)?;
    let bytes: usize = log.bundles.iter().map(Vec::len).sum();
    let mut expected = Expected::of_key(key()?.public().clone());
    expected.policies.push(PolicyText {
        said_sha256: None,
        text: presets::SHIPPED_POLICY.to_owned(),
        jurisdictions: presets::JURISDICTIONS.to_owned(),
        locations: presets::LOCATIONS.to_owned(),
    });
    let (mut ratios, mut alone_s, mut whole_s) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds.max(3) {
        let alone = hashing_alone(&log, threads);
        let began = Instant::now();
        let report = verify(&log, &expected, Pace { threads, progress: &|_, _| {} })?;
        let whole = began.elapsed();
        ensure!(report.failed().is_none() && report.leaves == leaves, "the log is not sound: {report:?}");
        ensure!(report.outcome(Check::Replayed) == Outcome::Holds, "decisions were not taken again: {report:?}");
        alone_s.push(alone.as_secs_f64());
        whole_s.push(whole.as_secs_f64());
        ratios.push(whole.as_secs_f64() / alone.as_secs_f64());
    }
    let detail = format!(
        "{leaves} leaves of {} bytes, {threads} threads: {:.2} s against {:.2} s for hashing leaves and tree alone; parsed \
         strictly, counted, decided again",
        bytes / usize::try_from(leaves)?,
        median(whole_s),
        median(alone_s),
    );
    Ok(Comparison::ratio("verifying a log, times hashing it", median(ratios), Goal::AtMost(GOAL), detail))
}

/// The measure: every leaf's hash and the tree over them, by as many threads.
fn hashing_alone(log: &InMemory, threads: NonZeroUsize) -> Duration {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                while let Some(bundle) = log.bundles.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Ok(entries) = audit::read_bundle(bundle) else { continue };
                    let hashes: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
                    black_box(root_of(&hashes));
                }
            });
        }
    });
    began.elapsed()
}

/// A log of reads by four gateways, each decided by the shipped policy.
fn log_of(leaves: u64) -> Result<InMemory> {
    let policy = Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS);
    let policy = policy.map_err(|mistakes| anyhow::anyhow!("the shipped policy is not sound: {mistakes:?}"))?;
    let region = Region::new("eu-central")?;
    let gateways: Vec<GatewayId> =
        (1..=4).map(|n| GatewayId::new(&format!("eu-gw-{n}"), 7)).collect::<Result<_, _>>()?;
    let genesis = format!(
        r#"{{"gw":"eu-gw-1/00000007","k":"log.genesis","origin":"{ORIGIN}","ts":"2026-11-18T11:06:40.000000Z","v":1}}"#
    );
    let mut decision = read_by_pin(&region, &policy)?;
    let (mut bundles, mut hashes, mut line) = (Vec::new(), Vec::new(), Vec::new());
    let mut frontier = Frontier::new();
    for first in (0..leaves).step_by(TILE_WIDTH as usize) {
        let (mut bundle, mut tile) = (Vec::new(), Vec::new());
        for seq in first..leaves.min(first + WIDTH) {
            line.clear();
            if seq == 0 {
                line.extend_from_slice(genesis.as_bytes());
            } else {
                decision.id =
                    DecisionId(uuid::Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 | u128::from(seq)));
                decision.at_us += 100;
                let leaf = Leaf {
                    decision: &decision,
                    kind: Kind::of(decision.operation),
                    gateway: &gateways[usize::try_from(seq % 4)?],
                    gseq: seq.div_ceil(4),
                    subject: Some(SubjectTag([0xc3; 32])),
                    home: Some(&region),
                    out: Out::Allow,
                    why: None,
                    rows: 1,
                    bytes: 317,
                    details: None,
                };
                leaf.encode_into(&mut line);
            }
            bundle.extend_from_slice(&u16::try_from(line.len())?.to_be_bytes());
            bundle.extend_from_slice(&line);
            tile.push(leaf_hash(&line));
        }
        frontier.extend(tile.iter().copied());
        bundles.push(bundle);
        hashes.push(tile);
    }
    let tiles = levels(hashes);
    Ok(InMemory { note: checkpoint(leaves, frontier.root())?, bundles, tiles })
}

/// All tiles: of each level, out of the level below.
fn levels(lowest: Vec<Vec<Hash>>) -> Vec<Vec<Vec<Hash>>> {
    let mut levels = vec![lowest];
    while let Some(below) = levels.last().filter(|level| level.iter().any(|tile| tile.len() == WIDTH as usize)) {
        let full = below.iter().filter(|tile| tile.len() == WIDTH as usize);
        let roots: Vec<Hash> = full.map(|tile| root_of(tile)).collect();
        levels.push(roots.chunks(WIDTH as usize).map(<[Hash]>::to_vec).collect());
    }
    levels
}

fn read_by_pin(region: &Region, policy: &Policy) -> Result<Decision> {
    let mut evidence = EvidenceList::new();
    let pin = Finding::Home(region.clone());
    evidence.push(Evidence { source: residency::Source::ExistingPin, origin: Origin::Directory, finding: pin });
    let place = Finding::Place(Country::new("DE")?.into());
    evidence.push(Evidence { source: residency::Source::GeoIp, origin: Origin::Connection, finding: place });
    let verdict = policy.classify(evidence);
    Ok(Decision {
        id: DecisionId(uuid::Uuid::nil()),
        at_us: 1_795_000_000_000_000,
        actor: Actor::new("key:checkout"),
        operation: Operation::RecordRead,
        resource: Some("profile".into()),
        via: region.clone(),
        evidence: verdict.evidence,
        winner: verdict.winner,
        rule: verdict.rule,
        policy_hash: policy.hash(),
        geoip_built_s: Some(1_780_272_000),
        transfer: None,
        stated: None,
    })
}

fn key() -> Result<SigningKey> {
    Ok(SigningKey::new(ORIGIN, KeyKind::Log, &[42; 32])?)
}

fn checkpoint(size: u64, root: Hash) -> Result<String> {
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root, extensions: Vec::new() };
    let mut note = Note::new(checkpoint.to_string())?;
    note.add(key()?.sign(note.text(), 0));
    Ok(note.to_string())
}

/// Proofs out of a database that holds the tiles of a long log. The leaves themselves are not there: no proof reads one, since
/// the log ends with a full tile.
async fn out_of_a_long_log(plan: &Plan, progress: &Progress) -> Result<Comparison> {
    let size = plan.proof_tree.next_multiple_of(WIDTH);
    progress.now(format!("a tree of {size} leaves, tile by tile"));
    let mut builder = World::with_regions(["eu-central"]).without_brokers().without_snowflakes().gateways_not_started();
    for (name, value) in POSTGRES {
        builder = builder.postgres_setting(name, value);
    }
    let world = builder.start().await?;
    let root = plant(&world, size).await?;
    let store = RegionStore::open(RegionSettings {
        region: Region::new("eu-central")?,
        jurisdiction: Jurisdiction::new("eu")?,
        dsn: world.region("eu-central").cluster.dsn("gateway", "domicile").into(),
        log_origin: ORIGIN.into(),
        audit_reads: AuditReads::Durable,
        keeps_details: false,
        gateway: GatewayId::new("bench", 2).context("a gateway's name")?,
        peppers: world.peppers()?,
        reader_connections: 1,
        committer_connections: 1,
        limits: Limits::default(),
    });
    let log = store.log();
    log.publish_checkpoint(size, &root, &checkpoint(size, root)?).await?;
    progress.now(format!("proofs out of {size} leaves"));
    let mut chance = StdRng::seed_from_u64(1);
    let mut took = Vec::new();
    for _ in 0..PROOFS {
        let seq = chance.random_range(0..size);
        let began = Instant::now();
        let proof = audit::entry_proof(&log, seq).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        let verified = tlog::verify_inclusion(seq, size, &of_leaf(seq), &proof.hashes, &root);
        ensure!(verified.is_ok(), "the proof of leaf {seq} does not hold: the figure is void");
    }
    store.shutdown().await;
    world.shutdown().await;
    took.sort_by(f64::total_cmp);
    let at = |part: usize| took[took.len() * part / 1_000];
    let detail = format!(
        "{size} leaves, {PROOFS} proofs at random through the store; median {:.2} ms, p99 {:.2} ms",
        at(500),
        at(990)
    );
    Ok(Comparison::value("a proof out of ten million leaves, p99", at(990), "ms", Goal::AtMost(GOAL_MS), detail))
}

/// A leaf's hash that can be computed again.
fn of_leaf(seq: u64) -> Hash {
    leaf_hash(&seq.to_be_bytes())
}

/// Writes every full tile of a tree of this size, and a head that fits. Returns the root.
async fn plant(world: &World, size: u64) -> Result<Hash> {
    let dsn = world.region("eu-central").superuser_dsn();
    let mut connection = PgConnection::connect(&dsn).await?;
    let mut frontier = Frontier::new();
    let mut level: u8 = 0;
    let mut below: Arc<[Hash]> = Arc::from([]);
    let mut count = size / WIDTH;
    while count > 0 {
        let mut roots = Vec::new();
        for first in (0..count).step_by(TILES_AT_ONCE) {
            let (mut numbers, mut hashes, mut tops) = (Vec::new(), Vec::new(), Vec::new());
            for n in first..count.min(first + TILES_AT_ONCE as u64) {
                let tile: Vec<Hash> = match level {
                    0 => (n * WIDTH..(n + 1) * WIDTH).map(of_leaf).collect(),
                    _ => below.iter().skip(usize::try_from(n * WIDTH)?).take(WIDTH as usize).copied().collect(),
                };
                if level == 0 {
                    frontier.extend(tile.iter().copied());
                }
                let root = root_of(&tile);
                numbers.push(i64::try_from(n)?);
                hashes.push(tile.concat());
                tops.push(root);
                roots.push(root);
            }
            sqlx::query(
                "INSERT INTO domicile.tiles (level, n, hashes, root) \
                 SELECT $1, n, h, r FROM unnest($2::bigint[], $3::bytea[], $4::bytea[]) AS x (n, h, r)",
            )
            .bind(i16::from(level))
            .bind(numbers)
            .bind(hashes)
            .bind(tops)
            .execute(&mut connection)
            .await?;
        }
        count = roots.len() as u64 / WIDTH;
        below = roots.into();
        level += 1;
    }
    let moved = sqlx::query("UPDATE domicile.head SET size = $1, frontier = $2, epoch = epoch + 1")
        .bind(i64::try_from(size)?)
        .bind(frontier.to_bytes())
        .execute(&mut connection)
        .await?;
    sqlx::query("ANALYZE domicile.tiles").execute(&mut connection).await?;
    if moved.rows_affected() != 1 {
        bail!("the log has no head");
    }
    Ok(frontier.root())
}
