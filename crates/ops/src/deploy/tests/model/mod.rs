//! A cell in memory: images, instances, an edge, a clock. Every change of it is an effect; before or after any of them
//! the deployer can be made to die. After every effect it is looked whether a request would fail now, or reach a target
//! that was not proven.

mod edge;
mod runtime;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::super::*;
use crate::edge::{Admission, Slot};
use crate::exit::Failure;
use crate::runtime::{Attendant, Service};

/// What is wrong with a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It starts and never becomes ready.
    NeverReady,
    /// It passes its gate and answers one request of twenty with an error.
    FivePercent,
    /// It passes its gate and dies at the first requests.
    Dies,
    /// A subject is found in another region, too.
    Leaks,
    /// Its migration fails.
    BadMigration,
    /// It passes its gate, and is not ready any more from this step on.
    SickFrom(Step),
    /// Its gateway is well, and no other role of it ever becomes ready.
    RolesNeverReady,
    /// It passes its gate, and has ended from this step on, however often it is started.
    EndsFrom(Step),
}

struct Process {
    instance: Instance,
    service: Service,
    alive: bool,
}

#[derive(Default)]
struct Inner {
    /// What a name stands for.
    images: BTreeMap<String, String>,
    flaws: BTreeMap<String, Flaw>,
    processes: Vec<Process>,
    slots: Vec<Slot>,
    /// It comes up with the stores.
    edge_runs: bool,
    /// A tag that a container of somebody else runs from.
    used_elsewhere: Option<String>,
    /// The step in which what is outside does not do as it is told.
    obstructed: Option<Step>,
    /// Addresses that have passed the smoke test.
    proven: BTreeSet<String>,
    started: u32,
    time: Duration,
    effects: u32,
    crash_at: Option<u32>,
    default: Option<String>,
    floor: i64,
    held: bool,
    contracted: bool,
    levels: BTreeMap<String, i64>,
    someone_at_work: bool,
    lease_lost: bool,
    /// What the program prints, and its exit code, for a command by its first words.
    answers: BTreeMap<String, (i32, String)>,
    /// What runs beside the releases.
    attendants: Vec<Attendant>,
    restarted: Vec<String>,
    /// What a caller or an auditor would complain of.
    complaints: Vec<String>,
    watched: bool,
}

/// The cell, and the deployer's folder.
pub(super) struct Model {
    inner: RefCell<Inner>,
    pub(super) store: Store,
    pub(super) interrupted: AtomicBool,
    _folder: tempfile::TempDir,
}

struct Crash;

impl Model {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path().join("cell")).expect("a store");
        let slots = (1..=16).map(|n| Slot {
            name: format!("web{n}"),
            address: "127.0.0.1".into(),
            port: 8080,
            admission: Admission::Maintenance,
            weight: 100,
            alive: false,
            in_flight: 0,
            answers: 0,
            errors: 0,
            broken: 0,
        });
        let inner = Inner { slots: slots.collect(), ..Inner::default() };
        Self { inner: RefCell::new(inner), store, interrupted: AtomicBool::new(false), _folder: folder }
    }

    /// Builds an image of this content under a name.
    pub(super) fn build(&self, reference: &str, content: &str, flaw: Option<Flaw>) {
        let mut inner = self.inner.borrow_mut();
        let id = format!("sha256:{content:0<16}");
        inner.images.insert(reference.into(), id.clone());
        inner.flaws.extend(flaw.map(|flaw| (id, flaw)));
    }

    pub(super) fn deployer(&self) -> Deployer<'_> {
        Deployer {
            project: "domicile",
            runtime: self,
            edge: self,
            store: &self.store,
            teller: &Silent,
            pace: self,
            interrupted: &self.interrupted,
            holder: Holder::this_process("test", self.wall()),
        }
    }

    pub(super) fn deploy(&self, settings: &Settings) -> Result<ReleaseId, Failure> {
        let deployer = self.deployer();
        let lock = Lock::take(&self.store, &deployer.holder).map_err(|trouble| deployer.unchanged(trouble))?;
        let plan = deployer.plan_deploy("myapp:prod", settings).map_err(|trouble| deployer.unchanged(trouble))?;
        deployer.execute(&lock, &plan)
    }

    pub(super) fn rollback(&self, to: Option<ReleaseId>, settings: &Settings) -> Result<ReleaseId, Failure> {
        let deployer = self.deployer();
        let lock = Lock::take(&self.store, &deployer.holder).map_err(|trouble| deployer.unchanged(trouble))?;
        let plan = deployer.plan_rollback(to, settings).map_err(|trouble| deployer.unchanged(trouble))?;
        deployer.execute(&lock, &plan)
    }

    pub(super) fn recover(&self, forward: bool) -> Result<Recovered, Failure> {
        let deployer = self.deployer();
        let lock = Lock::take(&self.store, &deployer.holder).expect("nobody is at work");
        if forward { deployer.resume(&lock) } else { deployer.abort(&lock) }
    }

    /// Does something that dies at this effect. `None`: it died.
    pub(super) fn dying_at<T>(&self, effect: u32, deed: impl FnOnce() -> T) -> Option<T> {
        {
            let mut inner = self.inner.borrow_mut();
            (inner.effects, inner.crash_at) = (0, Some(effect));
        }
        let outcome = catch_unwind(AssertUnwindSafe(deed));
        self.inner.borrow_mut().crash_at = None;
        match outcome {
            Ok(value) => Some(value),
            Err(panic) if panic.is::<Crash>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// From now on what is outside does not do as it is told in this step: a registry, an engine, a port that is taken.
    pub(super) fn obstruct(&self, step: Option<Step>) {
        self.inner.borrow_mut().obstructed = step;
    }

    /// From now on a gap in service is a complaint.
    pub(super) fn watch(&self) {
        self.inner.borrow_mut().watched = true;
    }

    pub(super) fn stop_watching(&self) {
        self.inner.borrow_mut().watched = false;
    }

    pub(super) fn raise_floor(&self, floor: i64) {
        self.inner.borrow_mut().floor = floor;
    }

    /// The images of this content know the schema up to this level; others up to 9.
    pub(super) fn knows(&self, content: &str, level: i64) {
        self.inner.borrow_mut().levels.insert(format!("sha256:{content:0<16}"), level);
    }

    /// A migration waits that takes something away.
    pub(super) fn hold_a_migration_back(&self) {
        self.inner.borrow_mut().held = true;
    }

    pub(super) fn is_contracted(&self) -> bool {
        self.inner.borrow().contracted
    }

    pub(super) fn days_go_by(&self, days: u64) {
        self.inner.borrow_mut().time += Duration::from_secs(days * 24 * 3600);
    }

    /// Every container comes up again, with another address.
    pub(super) fn restart_the_machine(&self) {
        let mut inner = self.inner.borrow_mut();
        for process in &mut inner.processes {
            process.instance.address = format!("10.1.{}", process.instance.address.trim_start_matches("10.0."));
        }
        inner.proven = inner.processes.iter().map(|process| process.instance.address.clone()).collect();
    }

    /// A slot is still open for an address that nobody has, and that the next one to be started will be given.
    pub(super) fn leave_a_slot_open(&self) {
        let mut inner = self.inner.borrow_mut();
        let address = format!("10.0.0.{}", inner.started + 1);
        if let Some(slot) = inner.slots.last_mut() {
            (slot.address, slot.alive, slot.admission) = (address, true, Admission::Ready);
        }
    }

    /// Somebody else runs a container from a release's tag.
    pub(super) fn use_elsewhere(&self, release: ReleaseId) {
        let tag = self.store.release(release).expect("read").expect("it is kept").tag;
        self.inner.borrow_mut().used_elsewhere = Some(tag);
    }

    /// Somebody removes an image by hand.
    pub(super) fn lose(&self, release: ReleaseId) {
        let tag = self.store.release(release).expect("read").expect("it is kept").tag;
        self.inner.borrow_mut().images.remove(&tag);
    }

    /// Somebody gives a release's tag to another image.
    pub(super) fn retag(&self, release: ReleaseId) {
        let tag = self.store.release(release).expect("read").expect("it is kept").tag;
        self.inner.borrow_mut().images.insert(tag, "sha256:another".into());
    }

    pub(super) fn somebody_is_at_work(&self) {
        self.inner.borrow_mut().someone_at_work = true;
    }

    pub(super) fn lose_the_lease(&self) {
        self.inner.borrow_mut().lease_lost = true;
    }

    /// From now on this is what the program prints when it is run with these words first.
    pub(super) fn answers(&self, words: &str, code: i32, stdout: impl Into<String>) {
        self.inner.borrow_mut().answers.insert(words.into(), (code, stdout.into()));
    }

    /// From now on this runs beside the releases, in the place of an earlier one of the name.
    pub(super) fn attended_by(&self, attendant: Attendant) {
        let mut inner = self.inner.borrow_mut();
        inner.attendants.retain(|one| one.service != attendant.service);
        inner.attendants.push(attendant);
    }

    /// Who was restarted for its settings, in order.
    pub(super) fn restarted(&self) -> Vec<String> {
        self.inner.borrow().restarted.clone()
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        self.inner.borrow().complaints.clone()
    }

    pub(super) fn running(&self, service: Service) -> Vec<String> {
        let inner = self.inner.borrow();
        inner
            .processes
            .iter()
            .filter(|one| one.service == service && one.alive)
            .map(|one| one.instance.tag.clone())
            .collect()
    }

    pub(super) fn default_image(&self) -> Option<String> {
        self.inner.borrow().default.clone()
    }

    /// One release serves, it is the one that is written down, and nothing else is left over.
    pub(super) fn assert_exactly_one_serves(&self, context: &str) -> ReleaseId {
        let deployer = self.deployer();
        let serving = deployer.serving_now().expect("the edge answers");
        let state = self.store.state().expect("a state");
        let written = state.serving.as_ref().expect("something serves").clone();
        assert_eq!(serving, [written.release], "{context}");
        assert!(unfinished(&self.store).expect("journals").is_none(), "{context}");
        let kept: Vec<&str> = state.serving.iter().chain(&state.warm).map(|one| one.tag.as_str()).collect();
        for tag in self.running(Service::Web) {
            assert!(kept.contains(&tag.as_str()), "{context}: {tag} is left over");
        }
        for role in Service::ROLES {
            assert_eq!(self.running(role), std::slice::from_ref(&written.tag), "{context}: {}", role.name());
        }
        assert_eq!(self.default_image(), Some(written.tag.clone()), "{context}: what is started by hand");
        assert_eq!(self.store.broken_history().expect("a history"), None, "{context}");
        written.release
    }

    /// Something changes in the cell.
    fn effect<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        self.step();
        let value = change(&mut self.inner.borrow_mut());
        self.complain();
        self.step();
        value
    }

    fn step(&self) {
        let dies = {
            let mut inner = self.inner.borrow_mut();
            inner.effects += 1;
            inner.crash_at == Some(inner.effects)
        };
        if dies {
            resume_unwind(Box::new(Crash));
        }
    }

    fn complain(&self) {
        let mut inner = self.inner.borrow_mut();
        let mut complaints = Vec::new();
        let mut served = false;
        for slot in inner.slots.iter().filter(|slot| slot.admission == Admission::Ready) {
            // One that leads to nobody proves nothing, and harms nobody yet.
            let Some(target) = inner.processes.iter().find(|one| slot.is_of(&one.instance)) else { continue };
            served |= target.alive;
            if !inner.proven.contains(&slot.address) {
                complaints.push(format!("{} gets requests and has not passed its gate", slot.address));
            }
        }
        if inner.watched && !served {
            complaints.push("nobody serves".into());
        }
        inner.complaints.extend(complaints);
    }

    /// Whether the operation under way has come to a step.
    fn has_come_to(&self, step: Step) -> bool {
        let told = unfinished(&self.store).expect("journals");
        told.is_some_and(|told| told.done.iter().chain(&told.under_way).any(|one| *one == step))
    }

    fn flaw(&self, name: &str) -> Option<Flaw> {
        let inner = self.inner.borrow();
        inner.images.get(name).and_then(|id| inner.flaws.get(id)).copied()
    }
}
