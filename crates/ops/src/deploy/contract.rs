//! Migrations that take something away. Never part of a deployment: afterwards releases below the new floor cannot
//! serve, so it is looked first whether anybody could still want one back.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::release::{Release, ReleaseId, Serving};
use super::state::Deed;
use super::{Deployer, Lock, unfinished};
use crate::exit::{Exit, Failure, Trouble};

/// The kind of such a deed in the history.
pub(super) const CONTRACT: &str = "contract";

/// How long the backup before it, and the migrations, may take.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// What would be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// The release that serves, and whose program does it.
    pub serving: Serving,
    /// How many migrations wait, over all databases.
    pub held: usize,
}

impl Deployer<'_> {
    /// What `migrate contract` would do; `None` when nothing waits. Changes nothing.
    ///
    /// # Errors
    /// [`Exit::Unchanged`] when the serving release has not served for `soak_days`, or a release that could come back
    /// would be lost and is not among `abandoned`.
    pub fn plan_contract(&self, soak_days: u32, abandoned: &[ReleaseId]) -> Result<Option<Contract>, Trouble> {
        let refuse = |what: String| Trouble::of(Exit::Unchanged, what);
        if let Some(told) = unfinished(self.store)? {
            return Err(refuse(format!("{} has not ended: deploy.sh resume, or deploy.sh abort", told.begun.op)));
        }
        let state = self.store.state()?;
        let Some(serving) = state.serving.clone() else { return Err(refuse("nothing serves here yet".into())) };
        let held = self.databases(&serving.tag, true)?.iter().map(|database| database.held_back.len()).sum();
        if held == 0 {
            return Ok(None);
        }
        let days = self.days_served(serving.release)?;
        if days < i64::from(soak_days) {
            return Err(refuse(format!(
                "{} has served for {days} days and is to have served for {soak_days}: nobody knows yet whether it stays",
                serving.release
            )));
        }
        let own = self.store.release(serving.release)?;
        // What the serving release does without, one of a lower level may need.
        let loses = |release: &Release| {
            let levels = &release.abilities.levels;
            own.as_ref().is_none_or(|own| own.abilities.levels.iter().any(|(set, level)| levels.get(set) < Some(level)))
        };
        let targets = self.targets(&state)?;
        let lost = targets.iter().filter(|release| loses(release) && !abandoned.contains(&release.release));
        let lost: Vec<String> = lost.map(|release| release.release.to_string()).collect();
        if !lost.is_empty() {
            let flags: Vec<String> = lost.iter().map(|name| format!("--abandon-rollback-to {name}")).collect();
            let (lost, flags) = (lost.join(", "), flags.join(" "));
            return Err(refuse(format!(
                "{lost} could not serve afterwards. If that is meant: deploy.sh migrate contract {flags}"
            )));
        }
        Ok(Some(Contract { serving, held }))
    }

    /// Does it, after a proven backup and under the lease, and adds it to the history.
    ///
    /// # Errors
    /// [`Exit::Unproven`] without a backup, [`Exit::NeedsHuman`] when a migration fails: those before it stay.
    pub fn contract(&self, _lock: &Lock, contract: &Contract) -> Result<(), Failure> {
        let done = self.take_away(contract);
        let (outcome, why) = match &done {
            Ok(()) => ("applied", None),
            Err(trouble) => ("failed", Some(trouble.to_string())),
        };
        let (at, release) = (self.pace.wall(), contract.serving.release);
        let digits: String = at.chars().filter(char::is_ascii_alphanumeric).collect();
        let noted = self.store.add_deed(Deed {
            at,
            op: format!("{digits}-{CONTRACT}-{release}"),
            kind: CONTRACT.into(),
            release,
            from: Some(release),
            outcome: outcome.into(),
            by: self.holder.by(),
            why,
            previous: String::new(),
        });
        if let Err(trouble) = noted {
            self.note(format!("it could not be added to the history: {trouble}"));
        }
        done.map_err(|trouble| match trouble.exit {
            Exit::NeedsHuman => Failure {
                exit: Exit::NeedsHuman,
                what: trouble.what,
                serving: self.serving_in_words(),
                data: "some contract migrations may have been applied; releases below the new floor cannot serve"
                    .into(),
                next: "mend the cause, then deploy.sh migrate contract (it goes on)".into(),
            },
            _ => self.unchanged(trouble),
        })
    }

    fn take_away(&self, contract: &Contract) -> Result<(), Trouble> {
        let Serving { release, tag, .. } = &contract.serving;
        let name = release.to_string();
        let backup = ["ops", "backup", "create", "--kind", "pre-contract", "--release", &name, "--json"];
        let ran = self.runtime.run(tag, &backup, PATIENCE)?;
        if ran.code != 0 {
            return Err(Trouble::of(Exit::Unproven, format!("no proven backup:\n{}", ran.last_words())));
        }
        let lease = self.runtime.hold_lease(tag, &format!("{} migrate contract", self.holder.by()))?;
        let token = lease.token().map(|token| token.to_string());
        let mut migrate = vec!["migrate", "--json", "--contract"];
        if let Some(token) = &token {
            migrate.extend(["--lease-token", token]);
        }
        // However it ends from here on, nobody knows by that alone how far it came.
        let failed = |why: String| Trouble::of(Exit::NeedsHuman, why);
        let ran = self.runtime.run(tag, &migrate, PATIENCE).map_err(|trouble| failed(trouble.what))?;
        match ran.code {
            0 => Ok(()),
            _ => Err(failed(format!("a migration failed:\n{}", ran.last_words()))),
        }
    }

    /// For how many whole days a release has served by now, since it last began to.
    fn days_served(&self, release: ReleaseId) -> Result<i64, Trouble> {
        let history = self.store.history()?;
        let since = history.iter().rev().find(|deed| deed.outcome == "committed" && deed.release == release);
        let parse = |at: &str| OffsetDateTime::parse(at, &Rfc3339).ok();
        let since = since.and_then(|deed| parse(&deed.at));
        Ok(parse(&self.pace.wall()).zip(since).map_or(0, |(now, since)| (now - since).whole_days()))
    }
}
