//! The model's edge, and its clock: while time goes by, whoever is ready answers.

use std::time::Duration;

use super::{Flaw, Inner, Model};
use crate::deploy::{Instance, Pace};
use crate::edge::{Admission, Edge, Slot};
use crate::exit::{Exit, Trouble};

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
        let inner = self.inner.borrow();
        if inner.edge_runs { Ok(inner.slots.clone()) } else { Err(absent()) }
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
        self.effect(|inner| if inner.edge_runs { Ok(()) } else { Err(absent()) })
    }
}

fn absent() -> Trouble {
    Trouble::of(Exit::Unreachable, "the edge does not answer on its socket")
}

impl Model {
    fn change(&self, name: &str, change: impl FnOnce(&mut Slot)) -> Result<(), Trouble> {
        self.effect(|inner| {
            if !inner.edge_runs {
                return Err(absent());
            }
            if let Some(slot) = inner.slots.iter_mut().find(|slot| slot.name == name) {
                change(slot);
            }
            Ok(())
        })
    }
}
