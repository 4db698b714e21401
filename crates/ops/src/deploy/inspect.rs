//! Looking at a cell: what serves, whether that is what was written down, and what could be done if it had to be.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::release::ReleaseId;
use super::{Deployer, LOOK_MAX, Lock, unfinished};
use crate::edge::Admission;
use crate::exit::Trouble;
use crate::runtime::{Condition, Service};

/// A backup or a restore drill older than this is a finding.
const PROVEN_DAYS_MAX: i64 = 7;

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

/// One answer of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was asked.
    pub question: &'static str,
    /// Whether the answer is good.
    pub good: bool,
    /// The answer.
    pub answer: String,
}

#[derive(Debug, Deserialize)]
struct Backups {
    backups: Vec<BackupRow>,
}

#[derive(Debug, Deserialize)]
struct BackupRow {
    region: String,
    verified: bool,
    taken_at: String,
}

#[derive(Debug, Deserialize)]
struct Drills {
    drills: Vec<DrillRow>,
}

#[derive(Debug, Deserialize)]
struct DrillRow {
    kind: String,
    at: String,
    verdict: String,
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

    /// Can I deploy, roll back, restore, fail over; and when was each last proven?
    ///
    /// # Errors
    /// When what is written down cannot be read.
    pub fn doctor(&self) -> Result<Vec<Finding>, Trouble> {
        let mut findings = Vec::new();
        let mut say = |question: &'static str, good: bool, answer: String| {
            findings.push(Finding { question, good, answer });
        };
        let state = self.store.state()?;
        let history = self.store.history()?;
        let last = |kind: &str| {
            let done = history.iter().rev().find(|deed| deed.kind == kind && deed.outcome == "committed");
            done.map_or_else(|| "never done here".to_owned(), |deed| format!("last done {}", deed.at))
        };

        let obstacles = self.runtime.obstacles().unwrap_or_else(|trouble| vec![trouble.to_string()]);
        let report = self.status()?;
        let free = obstacles.is_empty() && report.unfinished.is_none() && report.drift.is_empty();
        let why: Vec<String> = obstacles.into_iter().chain(report.unfinished).chain(report.drift).collect();
        say("can I deploy?", free, if free { last("deploy") } else { why.join("; ") });

        let targets = self.targets(&state)?;
        let target = targets.iter().find(|one| Some(one.release) < state.serving.as_ref().map(|s| s.release));
        let answer = match target {
            Some(release) => format!("to {} ({}), {}", release.release, release.tag, last("rollback")),
            None => "there is no earlier release to come back to".to_owned(),
        };
        // The first release has nothing to come back to, and that is no fault.
        say("can I roll back?", target.is_some() || history.len() < 2, answer);

        if let Some(serving) = &state.serving {
            let (good, answer) = self.backups(&serving.tag);
            say("can I restore?", good, answer);
            let (good, answer) = self.drills(&serving.tag);
            say("when was a restore last rehearsed?", good, answer);
        }
        say("can I fail over?", true, "not by this tool yet; a region that is down answers 503".to_owned());
        Ok(findings)
    }

    fn backups(&self, tag: &str) -> (bool, String) {
        let ran = match self.runtime.run(tag, &["ops", "backup", "list", "--json"], LOOK_MAX) {
            Ok(ran) => ran,
            Err(trouble) => return (false, trouble.to_string()),
        };
        let Ok(told) = serde_json::from_str::<Backups>(&ran.stdout) else {
            return (false, format!("backups cannot be listed: {}", ran.last_words()));
        };
        let mut newest: std::collections::BTreeMap<&str, &str> = std::collections::BTreeMap::new();
        for row in told.backups.iter().filter(|row| row.verified) {
            let at = newest.entry(row.region.as_str()).or_default();
            *at = (*at).max(row.taken_at.as_str());
        }
        let stale = newest.iter().find(|(_, at)| self.days_since(at).is_none_or(|days| days > PROVEN_DAYS_MAX));
        let rows: Vec<String> = newest.iter().map(|(region, at)| format!("{region} as of {at}")).collect();
        match (rows.is_empty(), stale) {
            (true, _) => (false, "there is no backup that was restored once: deploy.sh backup create".to_owned()),
            (false, Some((region, at))) => (false, format!("the newest proven backup of {region} is of {at}")),
            (false, None) => (true, rows.join(", ")),
        }
    }

    fn drills(&self, tag: &str) -> (bool, String) {
        let ran = match self.runtime.run(tag, &["ops", "drill", "history", "--json"], LOOK_MAX) {
            Ok(ran) => ran,
            Err(trouble) => return (false, trouble.to_string()),
        };
        let Ok(told) = serde_json::from_str::<Drills>(&ran.stdout) else {
            return (false, format!("drills cannot be listed: {}", ran.last_words()));
        };
        let passed = told.drills.iter().filter(|row| row.kind == "restore" && row.verdict == "pass");
        match passed.map(|row| row.at.as_str()).max() {
            Some(at) if self.days_since(at).is_some_and(|days| days <= PROVEN_DAYS_MAX) => (true, at.to_owned()),
            Some(at) => (false, format!("{at}, which is too long ago: deploy.sh drill restore")),
            None => (false, "never: deploy.sh drill restore".to_owned()),
        }
    }

    fn days_since(&self, at: &str) -> Option<i64> {
        let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
        Some((parse(&self.pace.wall())? - parse(at)?).whole_days())
    }
}
