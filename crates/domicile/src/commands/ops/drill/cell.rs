//! Drills of a cell, by its own deployer: a release is rolled back and comes again through the very pipeline of every
//! rollback; a service is killed as a crash would and started again.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ops::deploy::{Deployer, Lock, Plan, ReleaseId, Settings};
use ops::drill::{Kind, Report, Reports, Verdict};
use ops::{Exit, Failure as Failed, Trouble};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::super::cell::Opened;
use super::super::sources::clock;
use super::super::{settings, show_plan};
use super::rehearsal::{Disaster, USUAL, guard, rehearse};
use super::writer::ApiWriter;
use super::{finish, targets};
use crate::{cli, print};

/// How long a small run of the serving release's program may take.
const RUN_MAX: Duration = Duration::from_secs(120);
/// A backup that was proven longer ago than this is no safety net.
const PROVEN_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// What the probe's key may do.
const SCOPES: &str = "records:read,records:write";

/// `drill rollback`.
pub(in super::super) fn rollback(
    opened: &Opened,
    interrupted: &AtomicBool,
    args: &cli::DrillRollback,
) -> Result<Exit, Failed> {
    let deployer = opened.deployer(interrupted, "drill rollback");
    let unchanged = |trouble| deployer.unchanged(trouble);
    let lock = Lock::take(&opened.store, &deployer.holder).map_err(unchanged)?;
    let settings = settings(&args.how, &deployer, None);
    let back = deployer.plan_rollback(None, &settings).map_err(unchanged)?;
    show_plan(opened, &back);
    if args.how.dry_run {
        return Ok(Exit::Done);
    }
    let (from, to) = (name(back.from), name(back.to));
    let drill = Drill {
        kind: Kind::Rollback,
        victim: &args.victim,
        targets: &args.targets,
        broken: format!("{from} was rolled back to {to}, and came again"),
        aborts: "press Ctrl-C, and what is under way is put back; deploy.sh status tells what serves".into(),
    };
    let turn = Turn { deployer: &deployer, lock: &lock, settings, back };
    drill.run(opened, &deployer, turn)
}

/// `drill crash --service`.
pub(in super::super) fn crash(
    opened: &Opened,
    interrupted: &AtomicBool,
    args: &cli::DrillBreak,
) -> Result<Exit, Failed> {
    let deployer = opened.deployer(interrupted, "drill crash");
    let lock = Lock::take(&opened.store, &deployer.holder).map_err(|trouble| deployer.unchanged(trouble))?;
    let service = args.service.as_deref().unwrap_or("web");
    let drill = Drill {
        kind: Kind::Crash,
        victim: &args.victim,
        targets: &args.targets,
        broken: format!("what runs of {service} was killed (SIGKILL), and started again"),
        aborts: format!("start {service} again (docker-compose start {service}), then deploy.sh reconcile"),
    };
    let killed = Killed { deployer: &deployer, lock: &lock, service, broken: Duration::from_secs(args.broken_s) };
    drill.run(opened, &deployer, killed)
}

fn name(release: Option<ReleaseId>) -> String {
    release.map_or_else(|| "nothing".to_owned(), |release| release.to_string())
}

/// A drill of a cell.
struct Drill<'a> {
    kind: Kind,
    victim: &'a cli::DrillVictim,
    targets: &'a cli::DrillTargets,
    broken: String,
    aborts: String,
}

impl Drill<'_> {
    fn run(&self, opened: &Opened, deployer: &Deployer<'_>, disaster: impl Disaster) -> Result<Exit, Failed> {
        let refused = |what: String| deployer.unchanged(Trouble::of(Exit::Unchanged, what));
        let wanted = |what: &str| deployer.unchanged(Trouble::of(Exit::Usage, what));
        let region = self.victim.region.as_deref().ok_or_else(|| wanted("name the region with --region"))?;
        let residence = self.victim.residence.as_deref();
        let residence = residence.ok_or_else(|| wanted("say where the probe's subject lives with --residence"))?;
        let state = deployer.store.state().map_err(|trouble| deployer.unchanged(trouble))?;
        let serving = state.serving.ok_or_else(|| refused("nothing serves here yet".into()))?;
        let proven = deployer.proven_backup_age_s(&serving.tag, region).map_err(anyhow::Error::from);
        let cli::DrillVictim { production, confirm, .. } = self.victim;
        guard(region, *production, confirm.as_deref(), &self.aborts, proven, PROVEN_AGE_MAX)
            .map_err(|error| refused(format!("{error:#}")))?;

        let key = Key::make(deployer, &serving.tag).map_err(|trouble| deployer.unchanged(trouble))?;
        let url = self.victim.url.clone().unwrap_or_else(|| opened.url());
        let subject = format!("domicile-drill-{region}");
        let done = ApiWriter::new(&url, key.token.clone().into(), residence, &subject).and_then(|writer| {
            let targets = targets(self.targets, USUAL);
            let begun = Report::begin(self.kind, region, &self.targets.actor, &self.broken, targets, clock());
            Handle::current().block_on(rehearse(begun, writer, disaster))
        });
        // Whatever came of it, the key ends here.
        if let Err(trouble) = key.revoke(deployer, &serving.tag) {
            print::note(format!("the key {} of this drill was not revoked: {trouble}", key.id));
        }
        let report = done.map_err(|error| refused(format!("{error:#}")))?;
        keep(opened, deployer, &report).map_err(|trouble| deployer.unchanged(trouble))?;
        match opened.json {
            true => print::line(json!({ "event": "drill", "report": report }).to_string()),
            false => drop(finish(std::slice::from_ref(&report), false)),
        }
        Ok(match report.verdict {
            Verdict::Pass => Exit::Done,
            Verdict::Partial => Exit::Unproven,
            Verdict::Fail => Exit::Failed,
        })
    }
}

/// Keeps the report beside the deployer's own state, and where the cell's other drills are: `doctor`, metrics and alerts
/// know those.
fn keep(opened: &Opened, deployer: &Deployer<'_>, report: &Report) -> Result<(), Trouble> {
    let path = Reports::below(opened.store.root()).keep(report)?;
    print::note(format!("The report is {}", path.display()));
    let text = serde_json::to_string(report)?;
    let Some(serving) = deployer.store.state()?.serving else { return Ok(()) };
    let ran = deployer.runtime.run(&serving.tag, &["ops", "drill", "keep", "--report", &text], RUN_MAX)?;
    if ran.code != 0 {
        print::note(format!("The cell's own state folder does not have it: {}", ran.last_words()));
    }
    Ok(())
}

/// The API key of one drill.
#[derive(Deserialize)]
struct Key {
    id: String,
    token: String,
}

impl Key {
    fn make(deployer: &Deployer<'_>, tag: &str) -> Result<Self, Trouble> {
        let name = format!("domicile-drill-{:08x}", rand::random::<u32>());
        let ran = deployer.runtime.run(tag, &["keys", "create", &name, "--scopes", SCOPES, "--json"], RUN_MAX)?;
        serde_json::from_str(&ran.stdout)
            .map_err(|_| Trouble::of(Exit::Unreachable, format!("no key for the probe was made: {}", ran.last_words())))
    }

    fn revoke(&self, deployer: &Deployer<'_>, tag: &str) -> Result<(), Trouble> {
        let ran = deployer.runtime.run(tag, &["keys", "revoke", &self.id], RUN_MAX)?;
        if ran.code == 0 { Ok(()) } else { Err(Trouble::new(ran.last_words())) }
    }
}

/// The release goes back, and comes again.
struct Turn<'a> {
    deployer: &'a Deployer<'a>,
    lock: &'a Lock,
    settings: Settings,
    back: Plan,
}

impl Disaster for Turn<'_> {
    async fn strike(&mut self) -> anyhow::Result<String> {
        let release = self.deployer.execute(self.lock, &self.back).map_err(|failure| anyhow!("{failure}"))?;
        Ok(format!("{release} serves"))
    }

    async fn mend(&mut self) -> anyhow::Result<String> {
        let forth = self.deployer.plan_rollback(self.back.from, &self.settings).context("it cannot come again")?;
        if forth.unchanged {
            return Ok(format!("{} serves still", name(self.back.from)));
        }
        let release = self.deployer.execute(self.lock, &forth).map_err(|failure| anyhow!("{failure}"))?;
        Ok(format!("{release} serves again"))
    }

    fn serves_on(&self) -> bool {
        true
    }
}

/// A service is killed, and started again.
struct Killed<'a> {
    deployer: &'a Deployer<'a>,
    lock: &'a Lock,
    service: &'a str,
    broken: Duration,
}

impl Disaster for Killed<'_> {
    async fn strike(&mut self) -> anyhow::Result<String> {
        self.deployer.runtime.crash(self.service)?;
        sleep(self.broken).await;
        Ok(format!("{} is killed", self.service))
    }

    async fn mend(&mut self) -> anyhow::Result<String> {
        self.deployer.runtime.revive(self.service)?;
        // A container may come up with another address than the edge knows.
        self.deployer.reconcile(self.lock).map_err(|failure| anyhow!("{failure}"))?;
        Ok(format!("{} runs again", self.service))
    }

    fn serves_on(&self) -> bool {
        false
    }
}
