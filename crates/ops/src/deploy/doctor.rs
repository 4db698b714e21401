//! What could be done with a cell if it had to be, and when each was last proven. What nobody can tell is said to be so:
//! a cell that cannot be asked is neither fit nor unfit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::contract::CONTRACT;
use super::state::State;
use super::{Deployer, LOOK_MAX};
use crate::exit::{Exit, Trouble};

/// A backup or a restore drill older than this is a finding.
const PROVEN_DAYS_MAX: i64 = 7;

/// What is known to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// Yes, as it should be.
    Yes,
    /// No; something has to be done.
    No,
    /// Whoever would know did not answer.
    CannotTell,
    /// Nothing that this program looks at would tell.
    #[serde(rename = "cannot_tell")]
    NotKnownHere,
}

impl Says {
    /// In words, for people.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "NO",
            Self::CannotTell | Self::NotKnownHere => "cannot tell",
        }
    }

    /// What it does to the exit code.
    const fn exit(self) -> Exit {
        match self {
            Self::Yes | Self::NotKnownHere => Exit::Done,
            Self::No => Exit::Findings,
            Self::CannotTell => Exit::Unreachable,
        }
    }
}

/// One answer of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was asked.
    pub question: &'static str,
    /// What is known.
    pub says: Says,
    /// The answer in words: since when, or why not, and what to type.
    pub answer: String,
}

/// The exit code that findings come to: [`Exit::Findings`] as soon as one of them is a no; [`Exit::Unreachable`] when
/// there is none, but somebody who would know did not answer.
#[must_use]
pub fn exit_of(findings: &[Finding]) -> Exit {
    let exits: Vec<Exit> = findings.iter().map(|finding| finding.says.exit()).collect();
    [Exit::Findings, Exit::Unreachable].into_iter().find(|exit| exits.contains(exit)).unwrap_or(Exit::Done)
}

#[derive(Debug, Deserialize)]
struct Backups {
    /// Every database that has a place for backups, whether it has one or not. An older program does not tell.
    #[serde(default)]
    databases: Vec<String>,
    backups: Vec<BackupRow>,
}

#[derive(Debug, Deserialize)]
struct BackupRow {
    region: String,
    verified: bool,
    #[serde(default)]
    taken_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Drills {
    drills: Vec<DrillRow>,
}

#[derive(Debug, Deserialize)]
struct DrillRow {
    kind: String,
    /// Which database. An older program may not tell.
    #[serde(default)]
    region: Option<String>,
    at: String,
    verdict: String,
}

impl Deployer<'_> {
    /// Can I deploy, roll back, back up, restore, fail over; and when was each last proven?
    ///
    /// # Errors
    /// When what is written down cannot be read.
    pub fn doctor(&self) -> Result<Vec<Finding>, Trouble> {
        let state = self.store.state()?;
        let mut findings = Vec::new();
        let mut say =
            |question: &'static str, (says, answer): (Says, String)| findings.push(Finding { question, says, answer });
        say("can I deploy?", self.can_deploy()?);
        say("can I roll back?", self.can_roll_back(&state)?);
        if let Some(serving) = &state.serving {
            let told: Result<Backups, Trouble> = self.told(&serving.tag, &["ops", "backup", "list", "--json"]);
            say("can I back up?", self.can_reach_places(&serving.tag));
            say("can I restore?", self.backups(&told));
            let databases = told.map(|told| told.databases).unwrap_or_default();
            say("was a restore rehearsed?", self.restore_drills(&serving.tag, &databases));
        }
        // Whether a standby is there, and how far it is, is known to PostgreSQL's own tools and not to a cell.
        let beyond = "standbys are not looked at; without one a region that is down answers 503 until it is restored";
        say("can I fail over?", (Says::NotKnownHere, beyond.to_owned()));
        Ok(findings)
    }

    /// How long ago the newest proven backup of a database was taken, seconds; `None` when there is none.
    ///
    /// # Errors
    /// When the backups cannot be listed.
    pub fn proven_backup_age_s(&self, tag: &str, database: &str) -> Result<Option<i64>, Trouble> {
        let told: Backups = self.told(tag, &["ops", "backup", "list", "--json"])?;
        let proven = told.backups.iter().filter(|row| row.verified && row.region == database);
        Ok(proven.filter_map(|row| self.seconds_since(row.taken_at.as_deref()?)).min())
    }

    fn can_deploy(&self) -> Result<(Says, String), Trouble> {
        let obstacles = self.runtime.obstacles().unwrap_or_else(|trouble| vec![trouble.to_string()]);
        let report = self.status()?;
        let why: Vec<String> = obstacles.into_iter().chain(report.unfinished).chain(report.drift).collect();
        Ok(match why.is_empty() {
            true => (Says::Yes, self.last("deploy")?),
            false => (Says::No, why.join("; ")),
        })
    }

    /// To the release that `rollback` would choose, if the databases still bear it.
    fn can_roll_back(&self, state: &State) -> Result<(Says, String), Trouble> {
        let Some(serving) = &state.serving else {
            return Ok((Says::Yes, "nothing serves yet, so there is nothing to come back to".into()));
        };
        let (target, gone) = match self.default_target(state) {
            Ok(found) => found,
            Err(trouble) => return Ok((Says::CannotTell, trouble.to_string())),
        };
        let Some(target) = target else {
            if !gone.is_empty() {
                return Ok((Says::No, gone.join("; ")));
            }
            // The first release has nothing to come back to, and that is no fault.
            let first = self.store.history()?.iter().filter(|deed| deed.kind != CONTRACT).count() < 2;
            let says = if first { Says::Yes } else { Says::No };
            return Ok((says, "there is no earlier release to come back to".into()));
        };
        let databases = match self.databases(&serving.tag, true) {
            Ok(databases) => databases,
            Err(trouble) => return Ok((Says::CannotTell, format!("to {}: {trouble}", target.release))),
        };
        let refusals: Vec<String> = databases.iter().filter_map(|one| one.refuses(&target.abilities)).collect();
        Ok(match refusals.is_empty() {
            true => {
                let to = format!("to {} ({}), {}", target.release, target.tag, self.last("rollback")?);
                (Says::Yes, [to].into_iter().chain(gone).collect::<Vec<_>>().join("; "))
            }
            false => (Says::No, format!("{} cannot serve any more: {}", target.release, refusals.join("; "))),
        })
    }

    /// Whether every served region has a place for backups, and each was just written to, read and tidied.
    fn can_reach_places(&self, tag: &str) -> (Says, String) {
        let places = match self.backup_places(tag) {
            Ok(Some(places)) => places,
            Ok(None) => return (Says::NotKnownHere, "the release that serves does not try the places yet".into()),
            Err(trouble) => return (Says::CannotTell, trouble.to_string()),
        };
        let without = places.without.iter().map(|region| {
            format!("{region} has no place for backups, so none is made: write [regions.{region}.backup]")
        });
        let bad: Vec<String> = places.in_the_way().into_iter().chain(without).collect();
        if !bad.is_empty() {
            return (Says::No, bad.join("; "));
        }
        let rows = places.places.iter().map(|row| format!("{} in {}", row.region, row.place));
        (Says::Yes, rows.collect::<Vec<_>>().join(", "))
    }

    /// When a deed of this kind last went well.
    fn last(&self, kind: &str) -> Result<String, Trouble> {
        let history = self.store.history()?;
        let done = history.iter().rev().find(|deed| deed.kind == kind && deed.outcome == "committed");
        Ok(done.map_or_else(|| "never done here".to_owned(), |deed| format!("last done {}", deed.at)))
    }

    fn backups(&self, told: &Result<Backups, Trouble>) -> (Says, String) {
        let told = match told {
            Ok(told) => told,
            Err(trouble) => return (Says::CannotTell, format!("the backups cannot be listed: {trouble}")),
        };
        // Of each database the newest one that was restored once; a database without any must not hide behind the others.
        let mut newest: BTreeMap<&str, Option<&str>> =
            told.databases.iter().map(|database| (database.as_str(), None)).collect();
        for row in &told.backups {
            let at = newest.entry(row.region.as_str()).or_default();
            *at = (*at).max(row.taken_at.as_deref().filter(|_| row.verified));
        }
        let stale = newest.iter().find(|(_, at)| at.and_then(|at| self.days_since(at)).is_none_or(too_long));
        match (newest.is_empty(), stale) {
            (true, _) => (Says::No, "there is no backup that was restored once: deploy.sh backup create".into()),
            (_, Some((region, None))) => {
                (Says::No, format!("no backup of {region} was restored once: deploy.sh backup create"))
            }
            (_, Some((region, Some(at)))) => (Says::No, format!("the newest proven backup of {region} is of {at}")),
            (_, None) => {
                let rows = newest.iter().map(|(region, at)| format!("{region} as of {}", at.unwrap_or_default()));
                (Says::Yes, rows.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Of each database, as far as the program tells of which one a drill was; else of any.
    fn restore_drills(&self, tag: &str, databases: &[String]) -> (Says, String) {
        let told: Drills = match self.told(tag, &["ops", "drill", "history", "--json"]) {
            Ok(told) => told,
            Err(trouble) => return (Says::CannotTell, format!("the drills cannot be listed: {trouble}")),
        };
        let passed: Vec<&DrillRow> =
            told.drills.iter().filter(|row| row.kind == "restore" && row.verdict == "pass").collect();
        let told_apart = !databases.is_empty() && told.drills.iter().all(|row| row.region.is_some());
        if !told_apart {
            return self.rehearsed(&passed, None);
        }
        let each: Vec<(&String, (Says, String))> =
            databases.iter().map(|name| (name, self.rehearsed(&passed, Some(name)))).collect();
        let in_words = |says: Option<Says>| {
            let rows = each.iter().filter(|(_, (said, _))| says.is_none_or(|says| says == *said));
            rows.map(|(name, (_, answer))| format!("{name}: {answer}")).collect::<Vec<_>>().join("; ")
        };
        match each.iter().any(|(_, (said, _))| *said == Says::No) {
            true => (Says::No, in_words(Some(Says::No))),
            false => (Says::Yes, in_words(None)),
        }
    }

    /// When a restore was last rehearsed, of one database or of any.
    fn rehearsed(&self, passed: &[&DrillRow], database: Option<&str>) -> (Says, String) {
        let wanted = |row: &&&DrillRow| database.is_none_or(|name| row.region.as_deref() == Some(name));
        match passed.iter().filter(wanted).map(|row| row.at.as_str()).max() {
            Some(at) if self.days_since(at).is_some_and(|days| !too_long(days)) => (Says::Yes, at.to_owned()),
            Some(at) => (Says::No, format!("{at}, which is too long ago: deploy.sh drill restore")),
            None => (Says::No, "never: deploy.sh drill restore".into()),
        }
    }

    /// What a run of the program prints as JSON.
    fn told<T: serde::de::DeserializeOwned>(&self, tag: &str, args: &[&str]) -> Result<T, Trouble> {
        let ran = self.runtime.run(tag, args, LOOK_MAX)?;
        serde_json::from_str(&ran.stdout).map_err(|_| Trouble::new(ran.last_words()))
    }

    fn days_since(&self, at: &str) -> Option<i64> {
        self.seconds_since(at).map(|seconds| seconds / (24 * 3_600))
    }

    fn seconds_since(&self, at: &str) -> Option<i64> {
        let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
        Some((parse(&self.pace.wall())? - parse(at)?).whole_seconds())
    }
}

const fn too_long(days: i64) -> bool {
    days > PROVEN_DAYS_MAX
}
