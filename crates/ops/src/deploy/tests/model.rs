//! A cell in memory: images, instances, an edge, a clock. Every change of it is an effect; before or after any of them
//! the deployer can be made to die. After every effect it is looked whether a request would fail now, or reach a target
//! that was not proven.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::super::*;
use crate::edge::{Admission, Edge, Slot};
use crate::exit::{Exit, Failure, Trouble};
use crate::runtime::{Condition, Held, Image, Ran, Runtime, Service};

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

impl Pace for Model {
    fn elapsed(&self) -> Duration {
        self.inner.borrow().time
    }

    fn wall(&self) -> String {
        let time = self.inner.borrow().time;
        let now = time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000) + time;
        // Always with a fraction, so that names made of it stay in order.
        let (date, clock, millis) = (now.date(), now.time(), now.millisecond());
        format!("{date}T{:02}:{:02}:{:02}.{millis:03}Z", clock.hour(), clock.minute(), clock.second())
    }

    /// While time goes by, whoever is ready answers.
    fn sleep(&self, pause: Duration) {
        let mut inner = self.inner.borrow_mut();
        inner.time += pause;
        let Inner { slots, processes, flaws, images, .. } = &mut *inner;
        for slot in slots.iter_mut().filter(|slot| slot.admission == Admission::Ready) {
            let Some(target) = processes.iter_mut().find(|one| slot.is_of(&one.instance)) else { continue };
            let flaw = images.get(&target.instance.tag).and_then(|id| flaws.get(id)).copied();
            slot.answers += 20;
            match flaw {
                Some(Flaw::FivePercent) => slot.errors += 1,
                Some(Flaw::Dies) => (target.alive, slot.alive) = (false, false),
                _ => {}
            }
        }
    }
}

impl Edge for Model {
    fn slots(&self) -> Result<Vec<Slot>, Trouble> {
        Ok(self.inner.borrow().slots.clone())
    }

    fn assign(&self, slot: &str, instance: &Instance, weight: u32) -> Result<(), Trouble> {
        self.change(slot, |slot| {
            (slot.address, slot.port, slot.weight, slot.alive) =
                (instance.address.clone(), instance.port, weight, true);
        })
    }

    fn weigh(&self, slot: &str, weight: u32) -> Result<(), Trouble> {
        self.change(slot, |slot| slot.weight = weight)
    }

    fn admit(&self, slot: &str, admission: Admission) -> Result<(), Trouble> {
        self.change(slot, |slot| slot.admission = admission)
    }

    fn remember(&self) -> Result<(), Trouble> {
        self.effect(|_| Ok(()))
    }
}

impl Model {
    fn change(&self, name: &str, change: impl FnOnce(&mut Slot)) -> Result<(), Trouble> {
        self.effect(|inner| {
            if let Some(slot) = inner.slots.iter_mut().find(|slot| slot.name == name) {
                change(slot);
            }
        });
        Ok(())
    }
}

struct Lease(bool);

impl Held for Lease {
    fn lost(&mut self) -> Option<String> {
        self.0.then(|| "somebody else has it".to_owned())
    }

    fn token(&self) -> Option<i64> {
        Some(7)
    }

    fn is_whole(&self) -> bool {
        true
    }
}

impl Runtime for Model {
    fn name(&self) -> String {
        "model".into()
    }

    fn in_words(&self) -> String {
        "a model".into()
    }

    fn obstacles(&self) -> Result<Vec<String>, Trouble> {
        Ok(Vec::new())
    }

    fn image(&self, reference: &str) -> Result<Image, Trouble> {
        let id = self.inner.borrow().images.get(reference).cloned();
        let id = id.ok_or_else(|| Trouble::of(Exit::NotFound, format!("no image {reference}")))?;
        let mut abilities = Abilities::default();
        let level = self.inner.borrow().levels.get(&id).copied().unwrap_or(9);
        abilities.levels.insert("region".into(), level);
        Ok(Image { id, abilities })
    }

    fn pin(&self, _reference: &str, image_id: &str, tag: &str) -> Result<(), Trouble> {
        self.effect(|inner| inner.images.insert(tag.into(), image_id.into()));
        Ok(())
    }

    fn unpin(&self, tag: &str) -> Result<(), Trouble> {
        self.effect(|inner| inner.images.remove(tag));
        Ok(())
    }

    fn ensure_stores(&self, _tag: &str, _patience: Duration) -> Result<(), Trouble> {
        self.effect(|_| Ok(()))
    }

    fn instances(&self, service: Service) -> Result<Vec<Instance>, Trouble> {
        let inner = self.inner.borrow();
        Ok(inner.processes.iter().filter(|one| one.service == service).map(|one| one.instance.clone()).collect())
    }

    fn roles(&self) -> Vec<Service> {
        Service::ROLES.to_vec()
    }

    fn start(&self, service: Service, tag: &str, count: u32) -> Result<(), Trouble> {
        for _ in 0..count {
            self.effect(|inner| {
                inner.started += 1;
                let id = format!("{}-{}", service.name(), inner.started);
                let address = format!("10.0.0.{}", inner.started);
                let instance = Instance { id, tag: tag.into(), address, port: 8080, admin_port: 9090 };
                inner.processes.push(Process { instance, service, alive: true });
            });
        }
        Ok(())
    }

    fn stop(&self, instance: &Instance, _grace: Duration) -> Result<(), Trouble> {
        self.effect(|inner| inner.processes.retain(|one| one.instance.id != instance.id));
        Ok(())
    }

    fn condition(&self, instance: &Instance) -> Result<Condition, Trouble> {
        let alive = self.inner.borrow().processes.iter().any(|one| one.instance.id == instance.id && one.alive);
        Ok(match (alive, self.flaw(&instance.tag)) {
            (false, _) => Condition::Ended("it is gone".into()),
            (true, Some(Flaw::NeverReady)) => Condition::Starting,
            (true, Some(Flaw::SickFrom(step))) if self.has_come_to(step) => Condition::Unhealthy("it is sick".into()),
            (true, Some(Flaw::EndsFrom(step))) if self.has_come_to(step) => {
                Condition::Ended("it has had enough".into())
            }
            (true, _) => Condition::Healthy,
        })
    }

    fn last_lines(&self, _instance: &Instance) -> String {
        "its last words".into()
    }

    fn ask(&self, _instance: &Instance, _path: &str) -> Result<(u16, String), Trouble> {
        Ok((200, String::new()))
    }

    fn run(&self, tag: &str, args: &[&str], _patience: Duration) -> Result<Ran, Trouble> {
        let said = |code: i32, stdout: String| Ok(Ran { code, stdout, stderr: "it said why".into() });
        let words = args.join(" ");
        let told =
            self.inner.borrow().answers.iter().find(|(first, _)| words.starts_with(*first)).map(|(_, a)| a.clone());
        if let Some((code, stdout)) = told {
            return said(code, stdout);
        }
        match args {
            ["migrate", "--dry-run", ..] => {
                let (floor, held) = (self.inner.borrow().floor, self.inner.borrow().held);
                let held = if held { r#"{"version":9,"description":"old column"}"# } else { "" };
                said(
                    0,
                    format!(
                        r#"{{"databases":[{{"database":"eu","ok":true,"level":9,"floor":{floor},"held_back":[{held}]}}]}}"#
                    ),
                )
            }
            ["migrate", "--json", "--contract", ..] => {
                self.effect(|inner| (inner.contracted, inner.held) = (true, false));
                said(0, String::new())
            }
            ["migrate", ..] => {
                self.effect(|_| ());
                said(i32::from(self.flaw(tag) == Some(Flaw::BadMigration)), String::new())
            }
            ["ops", "backup", "list", ..] => said(0, r#"{"backups":[]}"#.into()),
            ["ops", "backup", ..] => {
                self.effect(|_| ());
                said(0, r#"{"backups":[{"region":"eu","id":"b","verified":true}]}"#.into())
            }
            ["smoke", "--target", url, ..] => {
                let address = url.trim_start_matches("http://").split(':').next().unwrap_or_default().to_owned();
                // The smoke test is the new release's program, whatever it looks at.
                let instances = self.instances(Service::Web)?;
                let target = instances.iter().find(|one| one.address == address).map(|one| one.tag.clone());
                if target.and_then(|tag| self.flaw(&tag)) == Some(Flaw::Leaks) {
                    return said(9, String::new());
                }
                self.effect(|inner| inner.proven.insert(address));
                said(0, String::new())
            }
            _ => said(0, String::new()),
        }
    }

    fn hold_lease(&self, _tag: &str, _holder: &str) -> Result<Box<dyn Held>, Trouble> {
        let inner = self.inner.borrow();
        if inner.someone_at_work {
            return Err(Trouble::of(Exit::Locked, "anna is at work"));
        }
        Ok(Box::new(Lease(inner.lease_lost)))
    }

    fn crash(&self, service: &str) -> Result<(), Trouble> {
        self.effect(|inner| {
            inner.processes.iter_mut().filter(|one| one.service.name() == service).for_each(|one| one.alive = false);
        });
        Ok(())
    }

    fn revive(&self, service: &str) -> Result<(), Trouble> {
        self.effect(|inner| {
            inner.processes.iter_mut().filter(|one| one.service.name() == service).for_each(|one| one.alive = true);
        });
        Ok(())
    }

    fn make_default(&self, tag: &str) -> Result<(), Trouble> {
        self.effect(|inner| inner.default = Some(tag.into()));
        Ok(())
    }
}
