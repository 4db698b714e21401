//! What would be done, before anything is: pure, printed for people and as JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::release::{Abilities, ReleaseId};
use super::step::Step;

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A new release.
    Deploy,
    /// A release that served before.
    Rollback,
}

impl Kind {
    /// Its name in the history.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
        }
    }
}

/// How an operation is to be done. Every wait has its bound here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How many instances of `web` are to serve.
    pub instances: u32,
    /// How long candidates may take to pass the gate, in seconds.
    pub gate_s_max: u64,
    /// How long the old ones may take to finish what they have, in seconds.
    pub drain_s_max: u64,
    /// How long the new release is watched while the old one still runs, in seconds.
    pub bake_s: u64,
    /// The shares of requests that the new release gets, in percent; the last one is 100.
    pub shares: Vec<u32>,
    /// How long each share but the last is kept, in seconds.
    pub share_s: u64,
    /// The percentage of answers with 5xx from which on a release is bad.
    pub errors_percent_max: f64,
    /// How many times slower than the old release's its 99th percentile may be; below 50 ms it is never bad.
    pub p99_ratio_max: f64,
    /// Fewer answers than this are no evidence; the smoke test then speaks instead.
    pub answers_min: u64,
    /// Why no backup is taken; `None`: it is.
    pub skip_backup: Option<String>,
    /// Whether the old release goes on running, out of the edge, for an instant rollback.
    pub keep_warm: bool,
    /// How many releases are kept, besides those that serve or are warm.
    pub releases_kept: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            instances: 1,
            gate_s_max: 120,
            drain_s_max: 30,
            bake_s: 30,
            shares: vec![5, 25, 100],
            share_s: 5,
            errors_percent_max: 1.0,
            p99_ratio_max: 3.0,
            answers_min: 50,
            skip_backup: None,
            keep_warm: false,
            releases_kept: 5,
        }
    }
}

impl Settings {
    /// What is wrong with them, if anything is.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        let grow = self.shares.windows(2).all(|pair| pair[0] < pair[1]);
        if self.instances == 0 || self.instances > 8 {
            Some("there can be 1 to 8 instances: the edge has 16 slots, and each deployment needs as many again")
        } else if self.shares.last() != Some(&100) || self.shares.contains(&0) || !grow {
            Some("the shares must grow, begin above 0 and end with 100, e.g. 5,25,100")
        } else if !(0.0..=100.0).contains(&self.errors_percent_max) {
            Some("the percentage of errors must lie between 0 and 100")
        } else {
            None
        }
    }
}

/// One migration that is pending, as the new release tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub description: String,
    /// What its author vouches for, where a statement looks worse than it is.
    #[serde(default)]
    pub assured: Vec<String>,
}

/// How one database stands: `domicile migrate --dry-run --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseState {
    /// Its name: `directory` or a region's.
    pub database: String,
    /// Whether it could be asked.
    pub ok: bool,
    /// Why not.
    #[serde(default)]
    pub error: Option<String>,
    /// What would be applied.
    #[serde(default)]
    pub pending: Vec<Pending>,
    /// What would be left for `ops migrate contract`.
    #[serde(default)]
    pub held_back: Vec<Pending>,
    /// How far its schema is.
    #[serde(default)]
    pub level: i64,
    /// The level of the oldest program that may use it.
    #[serde(default)]
    pub floor: i64,
}

impl DatabaseState {
    /// The set of migrations that belong in it.
    #[must_use]
    pub fn set(&self) -> &'static str {
        if self.database == "directory" { "directory" } else { "region" }
    }

    /// Why a program of these abilities may not use it, if it may not.
    #[must_use]
    pub fn refuses(&self, abilities: &Abilities) -> Option<String> {
        let level = abilities.levels.get(self.set()).copied().unwrap_or(0);
        (self.ok && level < self.floor).then(|| {
            format!("{}: its schema's floor is {} and the release has level {level}", self.database, self.floor)
        })
    }
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// A deployment or a rollback.
    pub kind: Kind,
    /// The cell.
    pub project: String,
    /// What serves.
    pub from: Option<ReleaseId>,
    /// What is to serve; a new release has no number yet.
    pub to: Option<ReleaseId>,
    /// The image, as it was named.
    pub reference: String,
    /// Its identity.
    pub image_id: String,
    /// What its program can do.
    pub abilities: Abilities,
    /// The runtime, in words.
    pub runtime: String,
    /// The databases, as they stand now.
    pub databases: Vec<DatabaseState>,
    /// Why the old release could not come back afterwards; empty when it could.
    pub no_way_back: Vec<String>,
    /// Whether the old release runs still and only the edge is turned.
    pub instant: bool,
    /// Whether there is nothing to do.
    pub unchanged: bool,
    /// The steps.
    pub steps: Vec<Step>,
    /// How each is to be done.
    pub settings: Settings,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |release: Option<ReleaseId>, none: &str| release.map_or_else(|| none.to_owned(), |r| r.to_string());
        let (from, to) = (name(self.from, "nothing"), name(self.to, "a new release"));
        let short = self.image_id.get(..19).unwrap_or(&self.image_id);
        writeln!(f, "Plan: {} {} ({short}) in {}", self.kind.name(), self.reference, self.project)?;
        writeln!(f, "  {from} -> {to}   runtime: {}", self.runtime)?;
        if self.unchanged {
            return writeln!(f, "  Nothing to do: this image serves, and no migration is pending.");
        }
        for database in &self.databases {
            let name = &database.database;
            if let Some(error) = &database.error {
                writeln!(f, "  {name}: not known yet ({error})")?;
                continue;
            }
            let count = database.pending.len();
            let waits = if count > 0 { ", each waits at most 3 s for a lock" } else { "" };
            writeln!(
                f,
                "  {name}: {count} expand migrations{waits}; {} contract, not run here",
                database.held_back.len()
            )?;
            for one in &database.pending {
                writeln!(f, "    + {} {}", one.version, one.description)?;
                for reason in &one.assured {
                    writeln!(f, "      vouched for: {reason}")?;
                }
            }
        }
        if let Some(reason) = &self.settings.skip_backup {
            writeln!(f, "  NO BACKUP is taken: {reason}")?;
        }
        let steps = self.steps.iter().enumerate();
        for (number, step) in steps {
            let warm = if *step == Step::Start && self.instant { " (it runs already)" } else { "" };
            writeln!(f, "  {:>2}. {step}: {}{warm}", number + 1, step.in_words())?;
        }
        match (&self.from, &self.no_way_back[..]) {
            (None, _) => writeln!(f, "  Rollback afterwards: no, this is the first release.")?,
            (Some(from), []) => writeln!(f, "  Rollback to {from} afterwards: YES, without a restore.")?,
            (Some(from), reasons) => {
                writeln!(f, "  Rollback to {from} afterwards: NO ({})", reasons.join("; "))?;
            }
        }
        writeln!(f, "  Not reversible: nothing; migrations stay and only add. Expected failed requests: 0.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            kind: Kind::Deploy,
            project: "domicile".into(),
            from: Some(ReleaseId(41)),
            to: None,
            reference: "myapp:prod".into(),
            image_id: "sha256:3e9d61c4aabbccdd".into(),
            abilities: Abilities::default(),
            runtime: "docker-compose 1.29.2".into(),
            databases: vec![DatabaseState {
                database: "eu-central".into(),
                ok: true,
                error: None,
                pending: vec![Pending { version: 9, description: "operating".into(), assured: vec!["tiny".into()] }],
                held_back: Vec::new(),
                level: 8,
                floor: 3,
            }],
            no_way_back: Vec::new(),
            instant: false,
            unchanged: false,
            steps: Step::DEPLOY.to_vec(),
            settings: Settings::default(),
        }
    }

    #[test]
    fn a_plan_says_what_changes_and_whether_there_is_a_way_back() {
        let told = plan().to_string();
        for words in ["rel-41 -> a new release", "+ 9 operating", "vouched for: tiny", "YES, without a restore"] {
            assert!(told.contains(words), "{words} is missing in:\n{told}");
        }
        let told = Plan { no_way_back: vec!["eu-central: floor 9".into()], ..plan() }.to_string();
        assert!(told.contains("afterwards: NO (eu-central: floor 9)"), "{told}");
    }

    #[test]
    fn a_release_older_than_the_floor_is_refused() {
        let mut abilities = Abilities::default();
        abilities.levels.insert("region".into(), 2);
        assert!(plan().databases[0].refuses(&abilities).is_some());
        abilities.levels.insert("region".into(), 3);
        assert_eq!(plan().databases[0].refuses(&abilities), None);
    }

    #[test]
    fn shares_that_do_not_end_with_everything_are_a_mistake() {
        let with = |shares: &[u32]| Settings { shares: shares.to_vec(), ..Settings::default() }.mistake();
        assert_eq!(with(&[100]), None);
        assert_eq!(with(&[5, 50, 100]), None);
        for shares in [&[][..], &[50], &[50, 25, 100], &[0, 100], &[100, 100]] {
            assert!(with(shares).is_some(), "{shares:?}");
        }
    }
}
