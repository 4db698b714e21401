//! Data that crosses a border stands in two logs, and whoever has both can see that they agree.

use std::sync::LazyLock;

use audit::verify::{Check, Expected, Outcome, Report, balance};
use audit::{Memory, OtherSide, Reconciler, Registrar, Rule, Signer, Teller};
use leaf::{Counterpart, Crossing, Fact};
use residency::presets::{JURISDICTIONS, LOCATIONS, SHIPPED_POLICY};
use residency::{Access, Denial, Epoch, Jurisdiction, Operation, Permit, Pin, PinState, Policy, Region, SubjectId};
use storage::{FactFilter, Lookup, Precondition, RegionSettings, RegionStore, TransferFilter, ViolationFilter};
use tlog::{KeyKind, SigningKey};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::scene::{Scene, decision, denial, eventually, profile, put, region, subject};
use crate::stage::{Served, Stage, audit, caught, clean, key};

const ABROAD_ORIGIN: &str = "audit.example.com/domicile/us-east";
const TRANSFERS: &str = "\n[[transfer]]\nfrom = \"us\"\nto = \"eu\"\nbasis = \"consent:49(1)(a)\"\n";

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = SHIPPED_POLICY.to_owned() + TRANSFERS;
    Policy::parse(&text, JURISDICTIONS, LOCATIONS).unwrap_or_else(|problems| panic!("{problems:#?}"))
});

const MINUTE_US: i64 = 60_000_000;

/// A gateway that serves two regions on two sides of a border.
struct Border {
    home: Stage,
    abroad: RegionStore,
}

impl Border {
    async fn new() -> Self {
        let home = Stage::with(2).await;
        let database = home.scene.cluster.unused("abroad");
        home.scene.found(&database, "us-east", "us", ABROAD_ORIGIN).await.unwrap();
        let abroad = RegionStore::open(RegionSettings {
            region: us(),
            jurisdiction: Jurisdiction::new("us").unwrap(),
            dsn: home.scene.cluster.dsn(&database).into(),
            log_origin: ABROAD_ORIGIN.to_owned(),
            ..home.scene.settings(1)
        });
        Self { home, abroad }
    }

    /// Writes and reads a record of somebody at home here, asked for abroad: two crossings.
    async fn cross(&self, name: &str) {
        let subject = subject(name);
        let write = abroad::<residency::Write>(&subject, Operation::RecordPut);
        self.home.store.commit(write.carry(put("address", "{}", Precondition::None)), None).await.unwrap();
        let lookup = Lookup::Record { collection: profile(), key: residency::RecordKey::new("address").unwrap() };
        let read = abroad::<residency::Read>(&subject, Operation::RecordRead);
        self.home.store.read(read.carry(lookup)).await.unwrap();
    }

    fn teller(&self, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
        let teller = Teller::new(self.home.store.clone(), self.abroad.clone(), "test".into(), now_us);
        tokio::spawn(teller.run(stop.clone()))
    }

    async fn entered(&self) -> usize {
        let filter = FactFilter { crossings: true, limit: 1_000, ..FactFilter::default() };
        self.abroad.log().facts(filter).await.unwrap().len()
    }

    /// Lets ten minutes go by, in the words of both logs, and has an auditor hold them against each other.
    async fn audit(&self) -> Vec<Report> {
        for store in [&self.home.store, &self.abroad] {
            let Denial { mut decision, reason } = denial();
            decision.at_us += 600_000_000;
            store.note(Denial { decision, reason }).await.unwrap();
        }
        self.home.sign().await;
        let memory = Memory::at(self.home.file("abroad"));
        Signer::new(self.abroad.log(), abroad_key(), memory, "signer-1").step().await.unwrap();
        let served = Served { log: self.abroad.log(), runtime: Handle::current() };
        let other = audit(served, Expected::of_key(abroad_key().public().clone())).await;
        let mut reports = vec![self.home.audit().await, other];
        assert!(reports.iter().all(|report| report.outcome(Check::Balanced) == Outcome::Unchecked));
        balance(&mut reports);
        reports
    }
}

/// Takes everything in a log into its registers.
async fn register(store: &RegionStore) {
    assert!(Registrar::new(store.log(), "registrar-1", now_us).catch_up(now_us()).await.unwrap());
}

fn us() -> Region {
    Region::new("us-east").unwrap()
}

fn abroad_key() -> SigningKey {
    SigningKey::new(ABROAD_ORIGIN, KeyKind::Log, &[43; 32]).unwrap()
}

fn now_us() -> i64 {
    decision(Operation::RecordRead).at_us
}

/// A permit for somebody at home in eu-central, asked for in us-east.
fn abroad<A: Access>(subject: &SubjectId, operation: Operation) -> Permit<A> {
    let pin = Pin { region: region(), epoch: Epoch(1), state: PinState::Active };
    let mut decision = decision(operation);
    decision.via = us();
    POLICY.permit(subject.clone(), &pin, decision, true).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_stands_in_both_logs_with_its_legal_basis() {
    let border = Border::new().await;
    border.cross("anna").await;
    let stop = CancellationToken::new();
    let first = border.teller(&stop);
    eventually("both crossings are entered", async || border.entered().await == 2).await;
    // Another teller comes after the first one and enters nothing twice, even if the cursor was not moved.
    stop.cancel();
    first.await.unwrap();
    border.home.sql("UPDATE domicile.cursors SET seq = 0, lease_until = NULL WHERE name = 'transfers/us-east'").await;
    let stop = CancellationToken::new();
    let second = border.teller(&stop);
    border.cross("berta").await;
    eventually("the next two are entered", async || border.entered().await == 4).await;
    stop.cancel();
    second.await.unwrap();

    let reports = border.audit().await;
    for report in &reports {
        clean(report);
        assert_eq!(report.outcome(Check::Balanced), Outcome::Holds, "{report:#?}");
        assert_eq!(report.transfers.len(), 4);
    }
    let bases: Vec<(&str, &str)> = reports[1]
        .transfers
        .iter()
        .map(|crossed| (crossed.crossing.transfer.from.as_str(), &*crossed.crossing.transfer.basis))
        .collect();
    assert_eq!(bases[..2], [("us-east", "consent:49(1)(a)"), ("eu-central", "none-stated")]);
    let lines = border.home.lines().await;
    assert!(!lines.iter().any(|line| line.contains("anna")), "a transfer names nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_transfer_in_left_out_of_the_other_log() {
    let border = Border::new().await;
    border.cross("anna").await;
    let reports = border.audit().await;
    caught(&reports[0], Check::Balanced, "transfer_unmatched", None);
    assert_eq!(reports[0].findings.len(), 2, "the write and the read: {reports:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_transfer_out_kept_quiet_at_home() {
    let border = Border::new().await;
    let transfer = POLICY.crossing(&us(), &region(), false).unwrap();
    let crossing = Crossing { id: uuid::Uuid::from_u128(7), transfer };
    let invented = Counterpart { crossing, actor: "key:x".into(), rows: 1, bytes: 9, seq: 1, leaf_hash: [1; 32] };
    border.abroad.record(Fact::transfer(now_us(), &us(), &invented)).await.unwrap();
    let reports = border.audit().await;
    clean(&reports[0]);
    caught(&reports[1], Check::Balanced, "transfer_unmatched", Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_the_amount_of_a_transfer_changed_on_one_side() {
    let border = Border::new().await;
    border.cross("anna").await;
    let filter = FactFilter { crossings: true, after_seq: Some(0), limit: 10, ..FactFilter::default() };
    for row in border.home.log().facts(filter).await.unwrap() {
        let parsed = leaf::parse(row.line.as_bytes()).unwrap();
        let crossing = Crossing { id: parsed.decision.id.0, transfer: parsed.decision.transfer.unwrap() };
        let rows = parsed.rows;
        let (actor, seq, leaf_hash) = ("key:test".into(), row.seq, row.leaf_hash);
        let less = Counterpart { crossing, actor, rows, bytes: parsed.bytes / 2, seq, leaf_hash };
        border.abroad.record(Fact::transfer(now_us(), &us(), &less)).await.unwrap();
    }
    let reports = border.audit().await;
    caught(&reports[0], Check::Balanced, "transfer_differs", None);
    caught(&reports[1], Check::Balanced, "transfer_differs", None);
    assert!(reports[0].findings[0].sentence.contains("another amount"), "{reports:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_transfer_entered_twice() {
    let border = Border::new().await;
    border.cross("anna").await;
    let stop = CancellationToken::new();
    let teller = border.teller(&stop);
    eventually("both crossings are entered", async || border.entered().await == 2).await;
    stop.cancel();
    teller.await.unwrap();
    let filter = FactFilter { crossings: true, limit: 1, ..FactFilter::default() };
    let line = border.abroad.log().facts(filter).await.unwrap().remove(0).line;
    let again = leaf::parse_fact(line.as_bytes()).unwrap().fact;
    border.abroad.record(again).await.unwrap();
    let reports = border.audit().await;
    caught(&reports[1], Check::Balanced, "transfer_doubled", None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_transfer_whose_other_side_no_process_can_look_for_is_a_violation_after_an_hour() {
    let border = Border::new().await;
    border.cross("anna").await;
    register(&border.home.store).await;
    let here = border.home.log();
    // A process that serves this region alone, like the one whose cell it is.
    let alone = Reconciler::new(here.clone(), Vec::new(), now_us);
    let known = async |served: &[Region], at_us: i64| {
        let rows = here.transfers(&TransferFilter { limit: 10, ..TransferFilter::default() }).await.unwrap();
        let sides: Vec<OtherSide> = rows.iter().map(|row| OtherSide::of(row, &region(), served, at_us)).collect();
        assert_eq!(sides.len(), 2, "the write and the read");
        assert_eq!(sides[0], sides[1]);
        sides[0]
    };
    let violations = async || {
        let rule = Some(Rule::TransferUnmatched.name().to_owned());
        here.violations(&ViolationFilter { rule, limit: 10, ..ViolationFilter::default() }).await.unwrap()
    };
    alone.look(now_us()).await.unwrap();
    assert_eq!(known(&[region()], now_us()).await, OtherSide::Awaited);
    alone.look(now_us() + 50 * MINUTE_US).await.unwrap();
    assert_eq!(violations().await, [], "whoever serves both may still look");
    assert_eq!(known(&[region()], now_us() + 50 * MINUTE_US).await, OtherSide::NotServedHere);
    assert_eq!(known(&[region(), us()], now_us() + 50 * MINUTE_US).await, OtherSide::Missing);
    alone.look(now_us() + 61 * MINUTE_US).await.unwrap();
    alone.look(now_us() + 62 * MINUTE_US).await.unwrap();
    let found = violations().await;
    assert_eq!(found.len(), 2, "one for each, once: {found:#?}");
    assert!(found[0].says.contains("no process that keeps this register serves us-east"), "{found:#?}");
    // A verdict says no more than it knows, either.
    border.home.sign().await;
    let mut reports = [border.home.audit().await];
    balance(&mut reports);
    assert_eq!(reports[0].outcome(Check::Balanced), Outcome::Unchecked);
    let balanced = reports[0].verdicts.iter().find(|verdict| verdict.check == Check::Balanced).unwrap();
    assert!(balanced.sentence.contains("2 with regions whose log was not given"), "{}", balanced.sentence);
    // Whoever serves both sees it in the end; that it was late stays for somebody to answer for.
    let stop = CancellationToken::new();
    let teller = border.teller(&stop);
    eventually("both crossings are entered", async || border.entered().await == 2).await;
    stop.cancel();
    teller.await.unwrap();
    Reconciler::new(here.clone(), vec![border.abroad.log()], now_us).look(now_us() + 89 * MINUTE_US).await.unwrap();
    alone.look(now_us() + 90 * MINUTE_US).await.unwrap();
    assert_eq!(known(&[region()], now_us() + 90 * MINUTE_US).await, OtherSide::Seen);
    assert_eq!(violations().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_is_matched_by_whoever_serves_both_regions_whoever_keeps_the_registers() {
    let border = Border::new().await;
    border.cross("anna").await;
    let stop = CancellationToken::new();
    let teller = border.teller(&stop);
    eventually("both crossings are entered", async || border.entered().await == 2).await;
    // Another process keeps the register here and serves this region alone; nobody keeps the register there.
    let alone = Registrar::new(border.home.log(), "alone", now_us);
    let keeper = tokio::spawn(alone.run(stop.clone()));
    let both = Reconciler::new(border.home.log(), vec![border.abroad.log()], now_us);
    let matched = || TransferFilter { matched: Some(true), limit: 10, ..TransferFilter::default() };
    eventually("both are matched", async || {
        both.look(now_us() + 5 * MINUTE_US).await.unwrap();
        border.home.log().transfers(&matched()).await.unwrap().len() == 2
    })
    .await;
    let rule = Some(Rule::TransferUnmatched.name().to_owned());
    let violations = ViolationFilter { rule, limit: 10, ..ViolationFilter::default() };
    assert_eq!(
        border.home.log().violations(&violations).await.unwrap(),
        [],
        "a register that is behind accuses nobody"
    );
    stop.cancel();
    keeper.await.unwrap();
    teller.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_the_other_logs_key_taken_for_this_one() {
    let border = Border::new().await;
    border.home.sign().await;
    let report = border.home.audit_with(|expected| expected.key = abroad_key().public().clone()).await;
    caught(&report, Check::Signed, "not_signed_by_this_key", None);
    assert_ne!(key().public().name(), abroad_key().public().name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_and_never_comes_back_is_named() {
    let scene = Scene::new().await;
    let store = scene.open();
    drop(store);
    let stage = Stage::with(2).await;
    let beat = |seconds: i64| Fact::gateway_heartbeat(now_us() + seconds * 1_000_000, 10);
    stage.store.record(beat(0)).await.unwrap();
    stage.note_at(25).await;
    stage.sign().await;
    assert_eq!(stage.audit().await.silent, [], "it was heard of lately");
    // Another gateway goes on; of the first one nothing is heard any more.
    let other = RegionStore::open(stage.scene.settings(2));
    other.record(beat(90)).await.unwrap();
    stage.sign().await;
    let report = stage.audit().await;
    clean(&report);
    let silent: Vec<(&str, bool)> = report.silent.iter().map(|gone| (gone.gateway.as_str(), gone.came_back)).collect();
    assert_eq!(silent, [("test/00000001", true)], "another boot of the instance has written since");
    let mut elsewhere = stage.scene.settings(3);
    elsewhere.gateway = leaf::GatewayId::new("elsewhere", 3).unwrap();
    let elsewhere = RegionStore::open(elsewhere);
    other.record(Fact::gateway_stop(now_us() + 95_000_000)).await.unwrap();
    elsewhere.record(beat(100)).await.unwrap();
    other.shutdown().await;
    stage.note_at(300).await;
    stage.sign().await;
    let report = stage.audit().await;
    let silent: Vec<&str> =
        report.silent.iter().filter(|gone| !gone.came_back).map(|gone| gone.gateway.as_str()).collect();
    assert_eq!(silent, ["elsewhere/00000003"], "who said that it ends is not missed: {report:#?}");
    let said = report.verdicts.iter().find(|verdict| verdict.check == Check::Gapless).unwrap();
    assert!(said.sentence.contains("have not come back: elsewhere/00000003"), "{}", said.sentence);
}
