//! What is done in each step.

use std::time::Duration;

use serde::Deserialize;

use super::converge::FULL;
use super::events::Event;
use super::journal::Begun;
use super::plan::Settings;
use super::prune::prunable;
use super::release::{Instance, Release, Serving};
use super::state::State;
use super::step::Step;
use super::{Deployer, LOOK_MAX, Look};
use crate::edge::Admission;
use crate::exit::{Exit, Trouble};
use crate::runtime::{Condition, Service};

/// How long databases, broker and edge may take to come up.
const STORES_MAX: Duration = Duration::from_secs(180);
/// How long backups of all regions may take.
const BACKUP_MAX: Duration = Duration::from_secs(6 * 3600);
/// How long migrations may take: they wait for each other and for locks, a bounded number of times.
const MIGRATE_MAX: Duration = Duration::from_secs(3600);
/// The highest weight that HAProxy knows.
const WEIGHT_MAX: u32 = 256;

/// What `ops backup create --json` prints.
#[derive(Debug, Deserialize)]
struct BackedUp {
    backups: Vec<BackupRow>,
}

#[derive(Debug, Deserialize)]
struct BackupRow {
    region: String,
    id: String,
    verified: bool,
}

impl Deployer<'_> {
    /// Does one step. Doing it again after a crash in its midst comes to the same.
    pub(super) fn perform(&self, step: Step, begun: &Begun, token: Option<i64>) -> Result<(), Trouble> {
        match step {
            Step::Pin => self.pin(begun),
            Step::Stores => self.runtime.ensure_stores(&begun.tag, STORES_MAX),
            Step::Backup => self.back_up(begun),
            Step::Expand => self.expand(begun, token),
            Step::OldSmoke => self.smoke_the_old(begun),
            Step::Start => self.start(begun),
            Step::Gate => self.gate(begun),
            Step::Switch => self.switch(begun),
            Step::Bake => self.watch("bake", begun, Duration::from_secs(begun.settings.bake_s), true),
            Step::Roles => self.roles(begun),
            Step::Drain => self.drain(begun),
            Step::Commit => self.commit(begun),
            Step::Settings => {
                // Best effort: the release serves, whatever becomes of who looks on.
                if let Err(trouble) = self.take_up_settings() {
                    self.note(format!("changed settings were not looked at: {trouble}"));
                }
                Ok(())
            }
            Step::Prune => {
                self.prune(begun);
                Ok(())
            }
        }
    }

    fn pin(&self, begun: &Begun) -> Result<(), Trouble> {
        self.runtime.pin(&begun.reference, &begun.image_id, &begun.tag)?;
        self.store.keep_release(&Release {
            release: begun.release,
            image_id: begun.image_id.clone(),
            reference: begun.reference.clone(),
            tag: begun.tag.clone(),
            abilities: begun.abilities.clone(),
            pinned_at: begun.at.clone(),
        })
    }

    fn back_up(&self, begun: &Begun) -> Result<(), Trouble> {
        if let Some(reason) = &begun.settings.skip_backup {
            self.note(format!("no backup, as you wished: {reason}"));
            return Ok(());
        }
        if begun.from.is_none() {
            self.note("nothing to back up before the first release");
            return Ok(());
        }
        let release = begun.release.to_string();
        let args = ["ops", "backup", "create", "--kind", "pre-deploy", "--release", &release, "--json"];
        let ran = self.runtime.run(&begun.tag, &args, BACKUP_MAX)?;
        if ran.code != 0 {
            return Err(Trouble::of(Exit::Unproven, format!("no proven backup:\n{}", ran.last_words())));
        }
        let told: BackedUp = serde_json::from_str(&ran.stdout)?;
        if let Some(row) = told.backups.iter().find(|row| !row.verified) {
            return Err(Trouble::of(Exit::Unproven, format!("the backup {} of {} is not proven", row.id, row.region)));
        }
        for row in &told.backups {
            self.note(format!("{}: backup {} is restored once and equal", row.region, row.id));
        }
        Ok(())
    }

    fn expand(&self, begun: &Begun, token: Option<i64>) -> Result<(), Trouble> {
        let token = token.map(|token| token.to_string());
        let mut args = vec!["migrate", "--json"];
        if begun.from.is_none() {
            args.push("--create");
        }
        if let Some(token) = &token {
            args.extend(["--lease-token", token]);
        }
        let ran = self.runtime.run(&begun.tag, &args, MIGRATE_MAX)?;
        match ran.code {
            0 => Ok(()),
            _ => Err(Trouble::new(format!("a migration failed; those before it stay:\n{}", ran.last_words()))),
        }
    }

    /// Proves that the release before still works, before anybody depends on coming back to it.
    fn smoke_the_old(&self, begun: &Begun) -> Result<(), Trouble> {
        let Some(from) = &begun.from else { return Ok(()) };
        match self.instances_of(&from.tag)?.first() {
            Some(instance) => self
                .smoke(&begun.tag, instance)
                .map_err(|trouble| trouble.while_doing("the old release does not work on the new schema")),
            None => Ok(()),
        }
    }

    /// A synthetic subject of each region is written and read through an instance by the program of a tag, and is in its
    /// region only.
    pub(super) fn smoke(&self, tag: &str, instance: &Instance) -> Result<(), Trouble> {
        let url = format!("http://{}:{}", instance.address, instance.port);
        let ran = self.runtime.run(tag, &["smoke", "--target", &url, "--json"], LOOK_MAX * 2)?;
        match ran.code {
            0 => Ok(()),
            9 => Err(Trouble::of(Exit::Unproven, format!("the residency smoke test failed:\n{}", ran.last_words()))),
            _ => Err(Trouble::new(format!("the smoke test failed:\n{}", ran.last_words()))),
        }
    }

    /// Instances that run already (of a warm release, or from before a crash) count.
    fn start(&self, begun: &Begun) -> Result<(), Trouble> {
        self.close_stale_slots()?;
        let mut running = 0;
        for instance in self.instances_of(&begun.tag)? {
            match self.runtime.condition(&instance)? {
                Condition::Ended(_) => self.runtime.stop(&instance, Duration::ZERO)?,
                _ => running += 1,
            }
        }
        let missing = begun.instances.saturating_sub(running);
        if missing > 0 {
            self.runtime.start(Service::Web, &begun.tag, missing)?;
        }
        Ok(())
    }

    fn gate(&self, begun: &Begun) -> Result<(), Trouble> {
        let candidates = self.instances_of(&begun.tag)?;
        self.wait_healthy("gate", &candidates, &begun.settings)?;
        for instance in &candidates {
            self.prove_fit("gate", &begun.tag, instance, &begun.settings)?;
        }
        Ok(())
    }

    /// What a healthy instance still has to show before it gets its first request: that it reaches every store, and that
    /// a subject written through it is where it belongs.
    pub(super) fn prove_fit(
        &self,
        step: &'static str,
        tag: &str,
        instance: &Instance,
        settings: &Settings,
    ) -> Result<(), Trouble> {
        let deep = self.wait(step, Duration::from_secs(settings.gate_s_max), || {
            Ok(match self.runtime.ask(instance, "/readyz?deep=1") {
                Ok((200, _)) => Look::Come,
                Ok((status, body)) => Look::NotYet(format!("deep readiness is {status}: {}", body.trim())),
                Err(trouble) => Look::NotYet(trouble.to_string()),
            })
        });
        let passed = deep.and_then(|()| self.smoke(tag, instance));
        passed.map_err(|trouble| self.with_last_lines(trouble, instance))
    }

    /// Gives the candidates a growing share, looking after each one.
    fn switch(&self, begun: &Begun) -> Result<(), Trouble> {
        let new = self.instances_of(&begun.tag)?;
        let old: Vec<Instance> = match &begun.from {
            Some(from) => self.instances_of(&from.tag)?,
            None => Vec::new(),
        };
        for share in &begun.settings.shares {
            let whole = *share == 100 || old.is_empty();
            let (new_weight, old_weight) = if whole { (FULL, FULL) } else { weights(*share, new.len(), old.len()) };
            for instance in &new {
                let slot = self.slot_for(instance)?;
                self.edge.weigh(&slot.name, new_weight)?;
                self.edge.admit(&slot.name, Admission::Ready)?;
            }
            for instance in &old {
                let slot = self.slot_for(instance)?;
                self.edge.weigh(&slot.name, old_weight)?;
                self.edge.admit(&slot.name, if whole { Admission::Drain } else { Admission::Ready })?;
            }
            self.edge.remember()?;
            if whole {
                break;
            }
            self.note(format!("{share} % of the requests go to {}", begun.release));
            self.watch("switch", begun, Duration::from_secs(begun.settings.share_s), false)?;
        }
        Ok(())
    }

    fn roles(&self, begun: &Begun) -> Result<(), Trouble> {
        for role in self.runtime.roles() {
            self.replace_role(role, &begun.tag, &begun.settings)?;
            let mut playing = self.runtime.instances(role)?;
            playing.retain(|instance| instance.tag == begun.tag);
            self.wait_healthy(role.name(), &playing, &begun.settings)?;
        }
        // Meanwhile nobody has looked at the gateways, and after this the old ones go.
        self.wait_healthy("roles", &self.instances_of(&begun.tag)?, &begun.settings)
    }

    fn serving(&self, begun: &Begun) -> Result<Serving, Trouble> {
        let instances = self.instances_of(&begun.tag)?;
        Ok(Serving { release: begun.release, tag: begun.tag.clone(), instances })
    }

    /// What stays warm after the operation.
    fn warm(begun: &Begun) -> Option<&Serving> {
        begun.from.as_ref().filter(|from| begun.settings.keep_warm && from.tag != begun.tag)
    }

    fn drain(&self, begun: &Begun) -> Result<(), Trouble> {
        let serving = self.serving(begun)?;
        // As long as the new ones are not ready, the old ones run on. What has ended is started again here.
        let new = self.running(&serving, &begun.settings)?;
        self.wait_healthy("drain", &new, &begun.settings)?;
        self.converge(Some(&serving), Self::warm(begun), &begun.settings)
    }

    fn commit(&self, begun: &Begun) -> Result<(), Trouble> {
        let before = self.store.state()?;
        // Before .env is written: whoever was made since its last change has what stands in it.
        let settings = self.settings_in_force(&before);
        self.runtime.make_default(&begun.tag)?;
        let serving = Some(self.serving(begun)?);
        let warm = Self::warm(begun).cloned();
        let runtime = Some(self.runtime.name());
        if (&before.serving, &before.warm, &before.settings) != (&serving, &warm, &settings) {
            self.store.replace_state(State { serving, warm, runtime, settings, ..before })?;
        }
        self.store.add_deed(self.deed(begun, "committed", None))?;
        let (release, kind) = (begun.release.to_string(), begun.kind.name());
        let from = begun.from.as_ref().map(|from| from.release.to_string());
        self.mark(begun, &release, from.as_deref());
        self.teller.tell(Event::Serving { release, from, kind });
        Ok(())
    }

    /// The marker of a deployment, for whoever looks at graphs. Nobody waits for it.
    fn mark(&self, begun: &Begun, release: &str, from: Option<&str>) {
        let from = from.unwrap_or("none");
        let args = ["ops", "mark", "--release", release, "--from", from, "--kind", begun.kind.name()];
        match self.runtime.run(&begun.tag, &args, Duration::from_secs(30)) {
            Ok(ran) if ran.code == 0 => {}
            Ok(ran) => self.note(format!("the deployment marker was not sent: {}", ran.last_words())),
            Err(trouble) => self.note(format!("the deployment marker was not sent: {trouble}")),
        }
    }

    fn prune(&self, begun: &Begun) {
        let gone = || -> Result<Vec<Release>, Trouble> {
            let (releases, history, state) = (self.store.releases()?, self.store.history()?, self.store.state()?);
            let names = prunable(&releases, &history, &state, begun.settings.releases_kept);
            Ok(releases.into_iter().filter(|release| names.contains(&release.release)).collect())
        };
        let gone = gone().unwrap_or_else(|trouble| {
            self.note(format!("old releases were not removed: {trouble}"));
            Vec::new()
        });
        // Each for itself: an image that somebody still uses keeps no other one.
        for release in gone {
            let removed = self.runtime.unpin(&release.tag).and_then(|()| self.store.forget_release(release.release));
            if let Err(trouble) = removed {
                self.note(format!("{} was not removed: {trouble}", release.release));
            }
        }
    }
}

/// The weights of each new and each old slot for a share in percent.
fn weights(share: u32, new: usize, old: usize) -> (u32, u32) {
    let count = |n: usize| u32::try_from(n.max(1)).unwrap_or(1);
    let (new_part, old_part) = (share * count(old), (100 - share) * count(new));
    let scale = |part: u32| (part * WEIGHT_MAX / new_part.max(old_part)).max(1);
    (scale(new_part), scale(old_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_give_the_share_however_many_there_are() {
        for (share, new, old) in [(5, 1, 1), (25, 2, 2), (50, 3, 1), (5, 1, 8), (90, 8, 2)] {
            let (new_weight, old_weight) = weights(share, new, old);
            assert!(new_weight <= WEIGHT_MAX && old_weight <= WEIGHT_MAX);
            let (news, olds) = (f64::from(new_weight) * new as f64, f64::from(old_weight) * old as f64);
            let got = 100.0 * news / (news + olds);
            assert!((got - f64::from(share)).abs() < 3.0, "{share} % of {new}+{old} became {got:.1} %");
        }
    }
}
