//! What would be done, before anything is: pure, printed for people and as JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::attendants::Stale;
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
    /// The tables in use that it locks. An older release does not tell.
    #[serde(default)]
    pub locks: Option<Vec<TableLock>>,
    /// Whether it also runs what is put together only then, which may lock more.
    #[serde(default)]
    pub locks_more: bool,
}

/// A table that a migration locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLock {
    /// Its name.
    pub table: String,
    /// The mode, as PostgreSQL calls it.
    pub mode: String,
    /// Who waits meanwhile, as a clause.
    pub keeps_out: String,
}

impl Pending {
    /// What it locks, in a line.
    fn locks_in_words(&self) -> String {
        let Some(locks) = &self.locks else { return "this release does not tell what it locks".into() };
        let told = locks.iter().map(|lock| format!("{} on {} ({})", lock.mode, lock.table, lock.keeps_out));
        let more = self.locks_more.then(|| "and whatever the text locks that it puts together".to_owned());
        let told: Vec<String> = told.chain(more).collect();
        if told.is_empty() { "no table in use".into() } else { told.join(", ") }
    }
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
    /// How long a statement waits for a table's lock, and everybody behind it with it; milliseconds. 0: not told.
    #[serde(default)]
    pub lock_wait_ms_max: u64,
    /// How often a migration is tried that did not get its locks in that time.
    #[serde(default)]
    pub lock_attempts_max: u32,
}

impl DatabaseState {
    /// The set of migrations that belong in it.
    #[must_use]
    pub fn set(&self) -> &'static str {
        if self.database == "directory" { "directory" } else { "region" }
    }

    /// How long its migrations wait for locks, as the end of a clause.
    fn patience(&self) -> String {
        let (wait_s, attempts) = (self.lock_wait_ms_max as f64 / 1_000.0, self.lock_attempts_max);
        match self.pending.is_empty() || attempts == 0 {
            true => String::new(),
            false => format!(", each waits at most {wait_s} s for a lock, and is tried {attempts} times"),
        }
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
    /// What no release replaces, and lives by old settings.
    #[serde(default)]
    pub stale: Vec<Stale>,
    /// Served regions that no backup is made of, since they have no place for any.
    #[serde(default)]
    pub without_backup: Vec<String>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |release: Option<ReleaseId>, none: &str| release.map_or_else(|| none.to_owned(), |r| r.to_string());
        let (from, to) = (name(self.from, "nothing"), name(self.to, "a new release"));
        let short = self.image_id.get(..19).unwrap_or(&self.image_id);
        writeln!(f, "Plan: {} {} ({short}) in {}", self.kind.name(), self.reference, self.project)?;
        writeln!(f, "  {from} -> {to}   runtime: {}", self.runtime)?;
        if self.unchanged {
            writeln!(f, "  Nothing to do: this image serves, and no migration is pending.")?;
            return self.stale.iter().try_for_each(|one| writeln!(f, "  {}", one.in_words()));
        }
        for database in &self.databases {
            let name = &database.database;
            if let Some(error) = &database.error {
                writeln!(f, "  {name}: not known yet ({error})")?;
                continue;
            }
            let (count, held) = (database.pending.len(), database.held_back.len());
            writeln!(f, "  {name}: {count} expand migrations{}; {held} contract, not run here", database.patience())?;
            for one in &database.pending {
                writeln!(f, "    + {} {}", one.version, one.description)?;
                writeln!(f, "      locks {}", one.locks_in_words())?;
                for reason in &one.assured {
                    writeln!(f, "      vouched for: {reason}")?;
                }
            }
        }
        if let Some(reason) = &self.settings.skip_backup {
            writeln!(f, "  NO BACKUP is taken: {reason}")?;
        }
        for region in &self.without_backup {
            writeln!(f, "  NO BACKUP is taken of {region}: it has no place for any. Write [regions.{region}.backup]")?;
        }
        self.stale.iter().try_for_each(|one| writeln!(f, "  {}", one.in_words()))?;
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
                pending: vec![Pending {
                    version: 9,
                    description: "operating".into(),
                    assured: vec!["tiny".into()],
                    locks: Some(vec![TableLock {
                        table: "domicile.records".into(),
                        mode: "SHARE".into(),
                        keeps_out: "reads go on, writes wait".into(),
                    }]),
                    locks_more: false,
                }],
                held_back: Vec::new(),
                level: 8,
                floor: 3,
                lock_wait_ms_max: 3_000,
                lock_attempts_max: 10,
            }],
            no_way_back: Vec::new(),
            instant: false,
            unchanged: false,
            steps: Step::DEPLOY.to_vec(),
            settings: Settings::default(),
            stale: Vec::new(),
            without_backup: Vec::new(),
        }
    }

    #[test]
    fn a_plan_says_what_changes_and_whether_there_is_a_way_back() {
        let told = plan().to_string();
        for words in ["rel-41 -> a new release", "+ 9 operating", "vouched for: tiny", "YES, without a restore"] {
            assert!(told.contains(words), "{words} is missing in:\n{told}");
        }
        for words in [
            "at most 3 s for a lock, and is tried 10 times",
            "locks SHARE on domicile.records (reads go on, writes wait)",
        ] {
            assert!(told.contains(words), "{words} is missing in:\n{told}");
        }
        let told = Plan { no_way_back: vec!["eu-central: floor 9".into()], ..plan() }.to_string();
        assert!(told.contains("afterwards: NO (eu-central: floor 9)"), "{told}");
    }

    #[test]
    fn what_a_migration_locks_is_told_or_said_to_be_unknown() {
        let mut one = plan().databases.remove(0).pending.remove(0);
        one.locks = Some(Vec::new());
        assert_eq!(one.locks_in_words(), "no table in use");
        one.locks_more = true;
        assert!(one.locks_in_words().contains("whatever the text locks"));
        let old: Pending = serde_json::from_str(r#"{"version":1,"description":"x"}"#).expect("of an older release");
        assert!(old.locks_in_words().contains("does not tell"));
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
