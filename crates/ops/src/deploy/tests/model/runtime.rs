//! Where the model's releases run, and what their program answers.

use std::time::Duration;

use super::{Flaw, Model, Process};
use crate::deploy::{Abilities, Instance, Step};
use crate::exit::{Exit, Trouble};
use crate::runtime::{Attendant, Condition, Held, Image, Ran, Runtime, Service};

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

impl Model {
    fn obeys(&self, step: Step) -> Result<(), Trouble> {
        match self.inner.borrow().obstructed {
            Some(obstructed) if obstructed == step => Err(Trouble::new("port 8080 is taken")),
            _ => Ok(()),
        }
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
        self.obeys(Step::Pin)?;
        self.effect(|inner| inner.images.insert(tag.into(), image_id.into()));
        Ok(())
    }

    fn unpin(&self, tag: &str) -> Result<(), Trouble> {
        if self.inner.borrow().used_elsewhere.as_deref() == Some(tag) {
            return Err(Trouble::new("conflict: the image is being used"));
        }
        self.effect(|inner| inner.images.remove(tag));
        Ok(())
    }

    fn ensure_stores(&self, _tag: &str, _patience: Duration) -> Result<(), Trouble> {
        self.obeys(Step::Stores)?;
        self.effect(|inner| inner.edge_runs = true);
        Ok(())
    }

    fn attendants(&self) -> Result<Vec<Attendant>, Trouble> {
        Ok(self.inner.borrow().attendants.clone())
    }

    fn restart(&self, attendant: &str, _patience: Duration) -> Result<(), Trouble> {
        self.effect(|inner| {
            inner.restarted.push(attendant.into());
            let made = inner.attendants.iter_mut().filter(|one| one.service == attendant);
            made.for_each(|one| (one.read_last, one.made_last) = (true, true));
        });
        Ok(())
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
            (true, Some(Flaw::RolesNeverReady)) if !instance.id.starts_with("web") => Condition::Starting,
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
            ["ops", "backup", "check", ..] => said(
                0,
                r#"{"places":[{"region":"eu","place":"the folder /b in aws/eu-central-1"}],"without":[]}"#.into(),
            ),
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
