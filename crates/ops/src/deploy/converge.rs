//! One deed that leads from wherever a crash or a failure left things to exactly one serving release.

use std::time::Duration;

use super::plan::Settings;
use super::release::{Instance, ReleaseId, Serving};
use super::{Deployer, Look};
use crate::edge::{Admission, Slot};
use crate::exit::Trouble;
use crate::runtime::{Condition, Service};

/// The weight of a slot that shares requests evenly with its like.
pub(super) const FULL: u32 = 100;

impl Deployer<'_> {
    /// Has the edge lead to `target` and to nothing else, and ends every other instance but those of `keep`, which go
    /// on running out of the edge. In an order that lets no request fail: first the target is in, then the others
    /// finish what they have, then they end.
    pub(super) fn converge(
        &self,
        target: Option<&Serving>,
        keep: Option<&Serving>,
        settings: &Settings,
    ) -> Result<(), Trouble> {
        let mine = match target {
            Some(target) => self.running(target, settings)?,
            None => Vec::new(),
        };
        for instance in &mine {
            let slot = self.slot_for(instance)?;
            self.edge.weigh(&slot.name, FULL)?;
            self.edge.admit(&slot.name, Admission::Ready)?;
        }
        self.drain_all_but(&mine, settings)?;
        self.edge.remember()?;

        let grace = Duration::from_secs(settings.drain_s_max);
        // What somebody started by hand before the first release is not ours to end when that release fails.
        let releases = self.store.releases()?;
        let ours = |tag: &str| releases.iter().any(|release| release.tag == tag);
        for role in self.runtime.roles() {
            match target {
                Some(target) => self.replace_role(role, &target.tag, settings)?,
                None => {
                    for instance in self.runtime.instances(role)?.iter().filter(|one| ours(&one.tag)) {
                        self.runtime.stop(instance, grace)?;
                    }
                }
            }
        }
        let stays = |tag: &str| match target {
            Some(target) => target.tag == tag || keep.is_some_and(|keep| keep.tag == tag),
            None => !ours(tag),
        };
        for instance in self.runtime.instances(Service::Web)? {
            if !stays(&instance.tag) {
                self.runtime.stop(&instance, grace)?;
            }
        }
        self.prove(&mine)
    }

    /// The instances of a release, as many as there should be. What is missing is started. Whoever has no slot of the edge
    /// passes the gate like any candidate: nothing else tells whether they ever did.
    pub(super) fn running(&self, serving: &Serving, settings: &Settings) -> Result<Vec<Instance>, Trouble> {
        let wanted = serving.instances.len().max(1);
        let (ended, mut alive): (Vec<_>, Vec<_>) =
            self.instances_of(&serving.tag)?.into_iter().partition(|instance| self.has_ended(instance));
        if alive.len() < wanted {
            self.close_stale_slots()?;
            for instance in &ended {
                self.runtime.stop(instance, Duration::ZERO)?;
            }
            let missing = u32::try_from(wanted - alive.len()).unwrap_or(1);
            self.note(format!("{} of {} do not run and are started again", missing, serving.release));
            self.runtime.start(Service::Web, &serving.tag, missing)?;
            alive = self.instances_of(&serving.tag)?;
            self.wait_healthy("converge", &alive, settings)?;
        }
        let slots = self.edge.slots()?;
        for instance in alive.iter().filter(|instance| !slots.iter().any(|slot| slot.is_of(instance))) {
            self.wait_healthy("converge", std::slice::from_ref(instance), settings)?;
            self.prove_fit("converge", &serving.tag, instance, settings)?;
        }
        Ok(alive)
    }

    fn has_ended(&self, instance: &Instance) -> bool {
        matches!(self.runtime.condition(instance), Ok(Condition::Ended(_)))
    }

    /// The instances of `web` from a tag.
    pub(super) fn instances_of(&self, tag: &str) -> Result<Vec<Instance>, Trouble> {
        let mut instances = self.runtime.instances(Service::Web)?;
        instances.retain(|instance| instance.tag == tag);
        Ok(instances)
    }

    /// The slot of an instance: the one it has, or a free one that it is given.
    pub(super) fn slot_for(&self, instance: &Instance) -> Result<Slot, Trouble> {
        let slots = self.edge.slots()?;
        if let Some(slot) = slots.iter().find(|slot| slot.is_of(instance)) {
            return Ok(slot.clone());
        }
        let free = slots.into_iter().find(|slot| slot.admission == Admission::Maintenance);
        let free =
            free.ok_or_else(|| Trouble::new("the edge has no free slot; deploy.sh status shows who has them"))?;
        self.edge.assign(&free.name, instance, FULL)?;
        Ok(free)
    }

    /// Takes out every slot that leads to nobody. An engine gives an address that has become free to whoever is started
    /// next, and that one would get requests before its gate.
    pub(super) fn close_stale_slots(&self) -> Result<(), Trouble> {
        let mut alive = self.runtime.instances(Service::Web)?;
        alive.retain(|instance| !self.has_ended(instance));
        for slot in self.edge.slots()? {
            if slot.admission != Admission::Maintenance && !alive.iter().any(|instance| slot.is_of(instance)) {
                self.note(format!("{} led to {}:{}, where nobody is", slot.name, slot.address, slot.port));
                self.edge.admit(&slot.name, Admission::Maintenance)?;
            }
        }
        self.edge.remember()
    }

    /// Lets every other slot finish what it has, and takes it out.
    fn drain_all_but(&self, mine: &[Instance], settings: &Settings) -> Result<(), Trouble> {
        let others = |slots: Vec<Slot>| -> Vec<Slot> {
            let other = |slot: &Slot| {
                slot.admission != Admission::Maintenance && !mine.iter().any(|instance| slot.is_of(instance))
            };
            slots.into_iter().filter(other).collect()
        };
        let leaving = others(self.edge.slots()?);
        for slot in &leaving {
            self.edge.admit(&slot.name, Admission::Drain)?;
        }
        let drained = self.wait("drain", Duration::from_secs(settings.drain_s_max), || {
            let in_flight: u64 = others(self.edge.slots()?).iter().map(|slot| slot.in_flight).sum();
            Ok(if in_flight == 0 { Look::Come } else { Look::NotYet(format!("{in_flight} requests are under way")) })
        });
        if let Err(late) = drained {
            self.note(format!("{late}; they are cut off now"));
        }
        for slot in &leaving {
            self.edge.admit(&slot.name, Admission::Maintenance)?;
        }
        Ok(())
    }

    /// Has a role played by this release, and by no other one. They hand over by lease. One that is there may have been
    /// started by a deployer that died before it had seen it ready: it is asked before another one ends.
    pub(super) fn replace_role(&self, role: Service, tag: &str, settings: &Settings) -> Result<(), Trouble> {
        let (mine, others): (Vec<_>, Vec<_>) =
            self.runtime.instances(role)?.into_iter().partition(|instance| instance.tag == tag);
        let (ended, mut mine): (Vec<_>, Vec<_>) = mine.into_iter().partition(|instance| self.has_ended(instance));
        for instance in &ended {
            self.runtime.stop(instance, Duration::ZERO)?;
        }
        let missing = mine.is_empty();
        if missing {
            self.runtime.start(role, tag, 1)?;
            mine = self.runtime.instances(role)?;
            mine.retain(|instance| instance.tag == tag);
        }
        if missing || !others.is_empty() {
            self.wait_healthy(role.name(), &mine, settings)?;
        }
        for instance in others {
            self.runtime.stop(&instance, Duration::from_secs(settings.drain_s_max))?;
        }
        Ok(())
    }

    /// Waits until all of these say that they are ready.
    pub(super) fn wait_healthy(
        &self,
        step: &'static str,
        instances: &[Instance],
        settings: &Settings,
    ) -> Result<(), Trouble> {
        if instances.is_empty() {
            return Err(Trouble::new(format!("{step}: what was started is not there")));
        }
        for instance in instances {
            let healthy = self.wait(step, Duration::from_secs(settings.gate_s_max), || {
                Ok(match self.runtime.condition(instance)? {
                    Condition::Healthy => Look::Come,
                    Condition::Starting => Look::NotYet(format!("{} has not said yet how it is", instance.id)),
                    Condition::Unhealthy(why) => Look::NotYet(format!("{} is not ready: {why}", instance.id)),
                    Condition::Ended(how) => return Err(Trouble::new(format!("{} has ended: {how}", instance.id))),
                })
            });
            healthy.map_err(|trouble| self.with_last_lines(trouble, instance))?;
        }
        Ok(())
    }

    /// The same trouble with the end of an instance's log.
    pub(super) fn with_last_lines(&self, trouble: Trouble, instance: &Instance) -> Trouble {
        let lines = self.runtime.last_lines(instance);
        let what = match lines.trim() {
            "" => trouble.what,
            lines => format!("{}\nThe end of its log:\n{lines}", trouble.what),
        };
        Trouble { what, ..trouble }
    }

    /// Looks again: exactly these get requests.
    fn prove(&self, mine: &[Instance]) -> Result<(), Trouble> {
        let ready: Vec<Slot> =
            self.edge.slots()?.into_iter().filter(|slot| slot.admission == Admission::Ready).collect();
        let stray = ready.iter().find(|slot| !mine.iter().any(|instance| slot.is_of(instance)));
        if let Some(slot) = stray {
            return Err(Trouble::new(format!("the edge still leads to {}:{}", slot.address, slot.port)));
        }
        match mine.iter().find(|instance| !ready.iter().any(|slot| slot.is_of(instance))) {
            Some(instance) => Err(Trouble::new(format!("the edge does not lead to {}", instance.id))),
            None => Ok(()),
        }
    }

    /// The releases that the edge leads requests to, now.
    ///
    /// # Errors
    /// When edge or runtime do not answer.
    pub fn serving_now(&self) -> Result<Vec<ReleaseId>, Trouble> {
        let instances = self.runtime.instances(Service::Web)?;
        let releases = self.store.releases()?;
        let mut serving: Vec<ReleaseId> = Vec::new();
        for slot in self.edge.slots()?.iter().filter(|slot| slot.admission == Admission::Ready) {
            let instance = instances.iter().find(|instance| slot.is_of(instance));
            let release = instance.and_then(|one| releases.iter().find(|release| release.tag == one.tag));
            serving.extend(release.map(|release| release.release));
        }
        serving.sort_unstable();
        serving.dedup();
        Ok(serving)
    }
}
