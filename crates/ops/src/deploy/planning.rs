//! Looking before anything is done: what stands in the way, what would be done, and whether there is a way back.

use serde::Deserialize;

use super::plan::{DatabaseState, Kind, Plan, Settings};
use super::release::{Release, ReleaseId};
use super::state::{State, ancestors};
use super::step::Step;
use super::{Deployer, LOOK_MAX, unfinished};
use crate::exit::{Exit, Trouble};

/// What `domicile migrate --dry-run --json` prints.
#[derive(Debug, Deserialize)]
struct Told {
    databases: Vec<DatabaseState>,
}

impl Deployer<'_> {
    /// What a deployment of an image would do. Changes nothing.
    ///
    /// # Errors
    /// [`Exit::Unchanged`] when something stands in the way; the sentence names all of it. [`Exit::Unproven`] when the backup
    /// before the migrations would be refused.
    pub fn plan_deploy(&self, reference: &str, settings: &Settings) -> Result<Plan, Trouble> {
        let state = self.look_around(settings)?;
        let image = self.runtime.image(reference)?;
        let databases = self.databases(reference, state.serving.is_some())?;
        let refusals: Vec<String> = databases.iter().filter_map(|one| one.refuses(&image.abilities)).collect();
        if !refusals.is_empty() {
            let what = format!("{reference} is too old for what the databases have become:\n{}", refusals.join("\n"));
            return Err(Trouble::of(Exit::Unchanged, what));
        }
        let serving = self.kept(&state)?;
        let same = serving.as_ref().is_some_and(|release| release.image_id == image.id);
        let unchanged = same && databases.iter().all(|one| one.pending.is_empty());
        let backs_up = serving.is_some() && !unchanged && settings.skip_backup.is_none();
        let without_backup = if backs_up { self.can_back_up(reference)? } else { Vec::new() };
        Ok(Plan {
            kind: Kind::Deploy,
            project: self.project.to_owned(),
            from: state.serving.as_ref().map(|serving| serving.release),
            to: None,
            reference: reference.to_owned(),
            image_id: image.id,
            abilities: image.abilities,
            runtime: self.runtime.in_words(),
            no_way_back: way_back(serving.as_ref(), &databases),
            databases,
            instant: false,
            unchanged,
            steps: Step::DEPLOY.to_vec(),
            settings: settings.clone(),
            stale: self.stale_settings(&state)?,
            without_backup,
        })
    }

    /// What a rollback would do: to `to`, or to the last release that served before this one. Changes nothing.
    ///
    /// # Errors
    /// [`Exit::NotFound`] when there is no such release or its image is gone, [`Exit::Unchanged`] when it cannot use the
    /// databases any more.
    pub fn plan_rollback(&self, to: Option<ReleaseId>, settings: &Settings) -> Result<Plan, Trouble> {
        let state = self.look_around(settings)?;
        let Some(serving) = &state.serving else {
            return Err(Trouble::of(Exit::NotFound, "nothing serves here yet, so there is nothing to come back to"));
        };
        let target = self.target(&state, to)?;
        let databases = self.databases(&serving.tag, true)?;
        let refusals: Vec<String> = databases.iter().filter_map(|one| one.refuses(&target.abilities)).collect();
        if !refusals.is_empty() {
            let what = format!("{} cannot serve any more:\n{}", target.release, refusals.join("\n"));
            return Err(Trouble::of(Exit::Unchanged, what));
        }
        let instant = state.warm.as_ref().is_some_and(|warm| warm.release == target.release);
        let current = self.kept(&state)?;
        Ok(Plan {
            kind: Kind::Rollback,
            project: self.project.to_owned(),
            from: Some(serving.release),
            to: Some(target.release),
            reference: target.reference.clone(),
            image_id: target.image_id.clone(),
            abilities: target.abilities.clone(),
            runtime: self.runtime.in_words(),
            no_way_back: way_back(current.as_ref(), &databases),
            databases,
            instant,
            unchanged: target.release == serving.release,
            steps: Step::ROLLBACK.to_vec(),
            // One jump: the release has served before.
            settings: Settings { shares: vec![100], ..settings.clone() },
            stale: Vec::new(),
            without_backup: Vec::new(),
        })
    }

    fn look_around(&self, settings: &Settings) -> Result<State, Trouble> {
        if let Some(mistake) = settings.mistake() {
            return Err(Trouble::of(Exit::Usage, mistake));
        }
        let state = self.store.state()?;
        let mut obstacles = self.runtime.obstacles()?;
        if let Some(made_by) = state.runtime.as_ref().filter(|made_by| **made_by != self.runtime.name()) {
            let name = self.runtime.name();
            obstacles.push(format!("what runs was made by {made_by}, and this is {name}, which would recreate it"));
        }
        if let Some(told) = unfinished(self.store)? {
            obstacles.push(format!("{} has not ended: deploy.sh resume, or deploy.sh abort", told.begun.op));
        }
        match obstacles.is_empty() {
            true => Ok(state),
            false => Err(Trouble::of(Exit::Unchanged, obstacles.join("\n"))),
        }
    }

    /// The databases as the program of `tag` sees them. Before the first release they need not be there.
    pub(super) fn databases(&self, tag: &str, must_be_there: bool) -> Result<Vec<DatabaseState>, Trouble> {
        let ran = self.runtime.run(tag, &["migrate", "--dry-run", "--json"], LOOK_MAX);
        let told = ran.and_then(|ran| match serde_json::from_str::<Told>(&ran.stdout) {
            Ok(told) => Ok(told.databases),
            Err(_) => Err(Trouble::of(Exit::Unreachable, ran.last_words())),
        });
        match told {
            Ok(databases) => match databases.iter().find(|one| !one.ok).filter(|_| must_be_there) {
                Some(one) => {
                    let why = one.error.as_deref().unwrap_or("no answer");
                    Err(Trouble::of(Exit::Unreachable, format!("the database {}: {why}", one.database)))
                }
                None => Ok(databases),
            },
            Err(trouble) if must_be_there => Err(trouble.while_doing("the databases cannot be asked")),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Whether the program of an image finds its way to what backups need: their keys and programs, and every place, where
    /// it writes, reads and removes a small object. Gives the served regions that have no place for backups.
    fn can_back_up(&self, reference: &str) -> Result<Vec<String>, Trouble> {
        let refuse = |why: String| Trouble::of(Exit::Unproven, format!("no backup could be taken:\n{why}"));
        match self.backup_places(reference)? {
            Some(places) => match places.in_the_way() {
                Some(why) => Err(refuse(why)),
                None => Ok(places.without),
            },
            // An older program: whoever lists backups has at least been there.
            None => {
                let ran = self.runtime.run(reference, &["ops", "backup", "list", "--json"], LOOK_MAX)?;
                if ran.code == 0 { Ok(Vec::new()) } else { Err(refuse(ran.last_words())) }
            }
        }
    }

    fn kept(&self, state: &State) -> Result<Option<Release>, Trouble> {
        match &state.serving {
            Some(serving) => self.store.release(serving.release),
            None => Ok(None),
        }
    }

    /// The releases that served before and are still kept, the newest first.
    ///
    /// # Errors
    /// When what is remembered cannot be read.
    pub fn targets(&self, state: &State) -> Result<Vec<Release>, Trouble> {
        let history = self.store.history()?;
        let served = |release: ReleaseId| history.iter().any(|d| d.release == release && d.outcome == "committed");
        let serving = state.serving.as_ref().map(|serving| serving.release);
        let mut targets = self.store.releases()?;
        targets.retain(|release| served(release.release) && Some(release.release) != serving);
        targets.reverse();
        Ok(targets)
    }

    fn target(&self, state: &State, to: Option<ReleaseId>) -> Result<Release, Trouble> {
        let serving = state.serving.as_ref().map(|serving| serving.release);
        let not_found = |what: String| Trouble::of(Exit::NotFound, what);
        let Some(wanted) = to else {
            let (chosen, gone) = self.default_target(state)?;
            let Some(chosen) = chosen else {
                let why = gone.into_iter().chain(["no release that served before this one can come back".to_owned()]);
                return Err(not_found(why.collect::<Vec<_>>().join("\n")));
            };
            gone.into_iter().for_each(|why| self.note(why));
            return Ok(chosen);
        };
        if Some(wanted) == serving {
            return self.kept(state)?.ok_or_else(|| not_found(format!("{wanted} is no longer kept")));
        }
        let found = self.targets(state)?.into_iter().find(|release| release.release == wanted);
        let found = found.ok_or_else(|| not_found(format!("{wanted} has never served here, or is no longer kept")))?;
        match self.lacks_image(&found)? {
            Some(why) => Err(not_found(why)),
            None => Ok(found),
        }
    }

    /// The release that a rollback leads to when none is named, whose image is there: the one that served when this one was
    /// deployed, the one before that, and so on, so that one that was rolled back from is passed by; then by number, never
    /// by time, those below what serves. With it, why each one before it cannot come back.
    pub(super) fn default_target(&self, state: &State) -> Result<(Option<Release>, Vec<String>), Trouble> {
        let Some(serving) = state.serving.as_ref().map(|serving| serving.release) else {
            return Ok((None, Vec::new()));
        };
        let line: Vec<ReleaseId> = ancestors(&self.store.history()?, serving).collect();
        let mut targets = self.targets(state)?;
        targets.retain(|release| release.release < serving);
        // The sort is stable: whoever is not in the line stays in the order of numbers, behind it.
        targets.sort_by_key(|target| line.iter().position(|one| *one == target.release).unwrap_or(usize::MAX));
        let mut gone = Vec::new();
        for release in targets {
            match self.lacks_image(&release)? {
                Some(why) => gone.push(why),
                None => return Ok((Some(release), gone)),
            }
        }
        Ok((None, gone))
    }

    /// Why a release that is kept cannot be started again, if so: its image is gone, or its tag names another one.
    ///
    /// # Errors
    /// When the runtime cannot tell.
    pub fn lacks_image(&self, release: &Release) -> Result<Option<String>, Trouble> {
        let Release { release: name, tag, image_id, .. } = release;
        match self.runtime.image(tag) {
            Ok(image) if image.id == *image_id => Ok(None),
            Ok(_) => Ok(Some(format!("{name} cannot serve again: {tag} is another image than the one that served"))),
            Err(trouble) if trouble.exit == Exit::NotFound => {
                Ok(Some(format!("{name} cannot serve again: its image {tag} is gone")))
            }
            Err(trouble) => Err(trouble.while_doing(&format!("the image of {name} cannot be looked at"))),
        }
    }
}

/// Why what serves could not come back after the migrations: only files that take something away raise the floor, and a
/// deployment runs none, so the floor stays as it is.
fn way_back(serving: Option<&Release>, databases: &[DatabaseState]) -> Vec<String> {
    let Some(serving) = serving else { return Vec::new() };
    databases.iter().filter_map(|database| database.refuses(&serving.abilities)).collect()
}
