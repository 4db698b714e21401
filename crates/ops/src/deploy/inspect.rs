//! Looking at a cell: what serves, and whether that is what was written down.

use serde::Serialize;

use super::release::ReleaseId;
use super::{Deployer, Lock, unfinished};
use crate::edge::Admission;
use crate::exit::Trouble;
use crate::runtime::{Condition, Service};

/// What `status` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What is written down as serving.
    pub serving: Option<ReleaseId>,
    /// What is kept warm.
    pub warm: Option<ReleaseId>,
    /// What the edge leads to, as far as it is known.
    pub edge: Vec<ReleaseId>,
    /// Each instance of the gateway in a line.
    pub instances: Vec<String>,
    /// The operation that has not ended.
    pub unfinished: Option<String>,
    /// Who is at work.
    pub holder: Option<String>,
    /// How reality differs from what was written down.
    pub drift: Vec<String>,
}

impl Deployer<'_> {
    /// What serves, and whether that is what was written down.
    ///
    /// # Errors
    /// When what is written down cannot be read.
    pub fn status(&self) -> Result<Report, Trouble> {
        let state = self.store.state()?;
        let mut drift = Vec::new();
        let edge = self.serving_now().unwrap_or_else(|trouble| {
            drift.push(trouble.to_string());
            Vec::new()
        });
        let serving = state.serving.as_ref().map(|serving| serving.release);
        let unfinished = unfinished(self.store)?.map(|told| told.begun.op);
        if drift.is_empty() && unfinished.is_none() && edge != serving.into_iter().collect::<Vec<_>>() {
            let names: Vec<String> = edge.iter().map(ToString::to_string).collect();
            drift.push(format!("the edge leads to [{}]: deploy.sh reconcile", names.join(", ")));
        }
        let mut instances = Vec::new();
        let slots = self.edge.slots().unwrap_or_default();
        for instance in self.runtime.instances(Service::Web).unwrap_or_default() {
            let slot = slots.iter().find(|slot| slot.is_of(&instance));
            let admission = match slot.map(|slot| slot.admission) {
                Some(Admission::Ready) => "gets requests",
                Some(Admission::Drain) => "drains",
                _ => "gets none",
            };
            let condition = match self.runtime.condition(&instance) {
                Ok(Condition::Healthy) => "ready".to_owned(),
                Ok(Condition::Starting) => "starting".to_owned(),
                Ok(Condition::Unhealthy(why)) => format!("not ready: {why}"),
                Ok(Condition::Ended(how)) => format!("ended: {how}"),
                Err(trouble) => trouble.to_string(),
            };
            instances.push(format!("{} {} {admission}, {condition}", instance.id, instance.tag));
        }
        if let Some(line) = self.store.broken_history()? {
            drift.push(format!("line {line} of audit.jsonl was changed, or lines before it are missing"));
        }
        let warm = state.warm.map(|warm| warm.release);
        let holder = Lock::status(self.store).map(|holder| format!("{}: {}", holder.by(), holder.command));
        Ok(Report { serving, warm, edge, instances, unfinished, holder, drift })
    }
}
