//! `domicile ops backup`: what it prints. One JSON object on standard output with `--json`; progress goes to standard
//! error, as a bar on a terminal and as lines elsewhere.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use ops::DatabaseName;
use ops::backup::{
    self, Backup, BackupId, Catalog, Created, Error, Kind, Order, Source, Standing, Step, create, prune, verify,
};
use ops::drill::proofs::Proofs;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::REFUSED;
use super::sources::{clock, identities, one_source, sources};
use crate::commands::{FAILED, Failure, load};
use crate::config::Config;
use crate::{cli, print};

/// Runs one of them.
pub(super) async fn run(command: cli::Backup) -> Result<ExitCode, Failure> {
    match command {
        cli::Backup::Create(args) => create_all(&args).await,
        cli::Backup::List(args) => list(&args).await,
        cli::Backup::Check(args) => super::places::run(&args).await,
        cli::Backup::Verify(args) => verify_all(&args).await,
        cli::Backup::Restore(args) => super::restore::run(&args).await,
        cli::Backup::Prune(args) => prune_all(&args).await,
        cli::Backup::Rekey(args) => rekey(&args).await,
    }
}

/// The worst that has happened, as an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worst {
    Nothing,
    Refused,
    Failed,
}

impl Worst {
    pub(super) fn of(error: &Error) -> Self {
        if error.is_refusal() { Self::Refused } else { Self::Failed }
    }

    pub(super) fn code(self) -> ExitCode {
        match self {
            Self::Nothing => ExitCode::SUCCESS,
            Self::Refused => ExitCode::from(REFUSED),
            Self::Failed => ExitCode::from(FAILED),
        }
    }
}

fn configured(which: &cli::Which) -> Result<(Config, Vec<Source>), Failure> {
    let config = load(&which.config)?;
    let sources = sources(&config, &which.regions)?;
    Ok((config, sources))
}

async fn create_all(args: &cli::BackupCreate) -> Result<ExitCode, Failure> {
    let (config, sources) = configured(&args.which)?;
    let kind = match args.kind {
        cli::BackupKind::Manual => Kind::Manual,
        cli::BackupKind::Scheduled => Kind::Scheduled,
        cli::BackupKind::PreDeploy => Kind::PreDeploy,
        cli::BackupKind::PreContract => Kind::PreContract,
    };
    let release = args.release.clone().unwrap_or_else(|| env!("CARGO_PKG_VERSION").into());
    let order = Order { kind, release, verify_inline: !args.no_verify };
    let watch = Watch::new();
    let (mut worst, mut rows) = (Worst::Nothing, Vec::new());
    // Before anything can go wrong: a database whose backups never succeed is one that an alert has to see.
    for source in &sources {
        note_proofs(&config, source).await;
    }
    // One after the other: what a backup costs a region, it costs it alone.
    for source in &sources {
        let made = create(source, &order, &|name, step| watch.step(name, &step)).await;
        watch.clear();
        match made {
            Ok(created) => {
                note_proofs(&config, source).await;
                rows.push((source, Ok(created)));
            }
            Err(error) => {
                worst = worst.max(Worst::of(&error));
                print::note(format!("{}: {:#}", source.database, anyhow!(error)));
                rows.push((source, Err(())));
            }
        }
    }
    if args.which.json {
        print::json(
            &json!({ "backups": rows.iter().map(|(source, made)| created_json(source, made.as_ref().ok())).collect::<Vec<_>>() }),
        )?;
    } else {
        let rows = rows.iter().map(|(source, made)| created_row(source, made.as_ref().ok()));
        print::line(print::table(&["database", "backup", "rows", "encrypted", "proven", "rests in"], rows));
    }
    Ok(worst.code())
}

fn created_json(source: &Source, created: Option<&Created>) -> Value {
    let location = source.place.location();
    match created {
        None => json!({ "region": source.database.to_string(), "ok": false, "verified": false, "location": location }),
        Some(created) => json!({
            "region": source.database.to_string(),
            "ok": true,
            "id": created.id.to_string(),
            "verified": created.verdict.is_some(),
            "location": location,
            "rows": created.manifest.rows(),
            "bytes": created.manifest.cipher.bytes,
        }),
    }
}

fn created_row(source: &Source, created: Option<&Created>) -> Vec<String> {
    let name = source.database.to_string();
    let Some(created) = created else { return vec![name, "none: see above".into()] };
    let proven = if created.verdict.is_some() { "restored and compared" } else { "not yet" };
    vec![
        name,
        created.id.to_string(),
        created.manifest.rows().to_string(),
        HumanBytes(created.manifest.cipher.bytes).to_string(),
        proven.into(),
        source.place.location().to_owned(),
    ]
}

async fn list(args: &cli::BackupList) -> Result<ExitCode, Failure> {
    let (config, sources) = configured(&args.which)?;
    let now = clock();
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for source in &sources {
        let catalog = Catalog::read(source).await.map_err(anyhow::Error::from)?;
        for one in catalog.backups.iter().rev() {
            rows.push(listed_row(source, one, now));
            objects.push(listed_json(source, one));
        }
        let age = catalog.verified_at().map(|at| now - at);
        let old = age.is_none_or(|age| age > config.backup.verified_age_max);
        if old {
            let since = age.map_or_else(|| "never".to_owned(), |age| format!("{} ago", words(age)));
            print::note(format!(
                "{}: last proven {since}; `domicile ops backup create` makes a proven one",
                source.database
            ));
        }
    }
    if args.which.json {
        // Those without a backup, too: `doctor` asks for each.
        let databases: Vec<String> = sources.iter().map(|source| source.database.to_string()).collect();
        print::json(&json!({ "databases": databases, "backups": objects }))?;
    } else {
        print::line(print::table(&["database", "backup", "age", "encrypted", "kind", "standing", "proven"], rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn listed_json(source: &Source, one: &Backup) -> Value {
    let rfc = |at: Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
    let manifest = one.manifest.as_ref().ok();
    json!({
        "region": source.database.to_string(),
        "id": one.id.to_string(),
        "verified": one.standing() == Standing::Verified,
        "standing": one.standing().name(),
        "location": source.place.location(),
        "taken_at": rfc(one.taken_at().or_else(|| one.id.taken_at())),
        "verified_at": rfc(one.verified_at()),
        "kind": manifest.map(|manifest| manifest.kind.as_str()),
        "release": manifest.map(|manifest| manifest.release.as_str()),
        "rows": manifest.map(backup::Manifest::rows),
        "bytes": manifest.map(|manifest| manifest.cipher.bytes),
        "log_size": manifest.and_then(|manifest| manifest.log.as_ref()).map(|log| log.size),
        "reason": reason(one),
    })
}

/// Why it is not believed.
fn reason(one: &Backup) -> Option<String> {
    let manifest = match &one.manifest {
        Err(refusal) => return Some(refusal.to_string()),
        Ok(manifest) => manifest,
    };
    if one.cipher_bytes != Some(manifest.cipher.bytes) {
        return Some("its encrypted file is missing or of another size".into());
    }
    match one.verdicts.last().map(|verdict| &verdict.outcome) {
        Some(backup::Outcome::Refused { sentence, .. }) => Some(sentence.clone()),
        _ if one.standing() == Standing::Ahead => Some(
            "its time is later than now: a clock was wrong then, or is now; it is restored by its --id only".into(),
        ),
        _ => None,
    }
}

fn listed_row(source: &Source, one: &Backup, now: OffsetDateTime) -> Vec<String> {
    let ago = |at: Option<OffsetDateTime>| at.map_or_else(|| "–".into(), |at| words(now - at));
    let manifest = one.manifest.as_ref().ok();
    let standing = match reason(one) {
        Some(reason) => format!("{}: {reason}", one.standing().name()),
        None => one.standing().name().to_owned(),
    };
    vec![
        source.database.to_string(),
        one.id.to_string(),
        ago(one.taken_at().or_else(|| one.id.taken_at())),
        manifest.map_or_else(|| "–".into(), |manifest| HumanBytes(manifest.cipher.bytes).to_string()),
        manifest.map_or_else(|| "–".into(), |manifest| manifest.kind.clone()),
        standing,
        ago(one.verified_at()),
    ]
}

async fn verify_all(args: &cli::BackupVerify) -> Result<ExitCode, Failure> {
    if !args.from_cipher {
        print::note("Inline verification happens while a backup is made; a stored one is verified --from-cipher.");
        return Ok(ExitCode::from(crate::commands::MISUSED));
    }
    let (config, sources) = configured(&args.which)?;
    let identities = identities(&args.identity)?;
    let id = args.id.as_ref().map(|id| id.parse::<BackupId>()).transpose().context("--id names no backup")?;
    let watch = Watch::new();
    let (mut worst, mut rows, mut objects) = (Worst::Nothing, Vec::new(), Vec::new());
    for source in &sources {
        let done = verify(source, id.as_ref(), &identities, &|name, step| watch.step(name, &step)).await;
        watch.clear();
        note_proofs(&config, source).await;
        let name = source.database.to_string();
        match done {
            Ok(done) => {
                let verdict = match &done.refusal {
                    None => "verified".to_owned(),
                    Some(refusal) => {
                        worst = worst.max(Worst::Refused);
                        format!("refused: {refusal}")
                    }
                };
                let took = format!("{} ms", done.verdict.took_ms);
                objects.push(json!({ "region": name, "id": done.id.to_string(), "verified": done.refusal.is_none(),
                    "check": done.refusal.as_ref().map(backup::Refusal::name), "rows": done.verdict.rows, "took_ms": done.verdict.took_ms }));
                rows.push(vec![name, done.id.to_string(), done.verdict.rows.to_string(), took, verdict]);
            }
            Err(error) => {
                worst = worst.max(Worst::of(&error));
                let sentence = format!("{:#}", anyhow!(error));
                print::note(format!("{name}: {sentence}"));
                objects.push(json!({ "region": name, "verified": false, "error": sentence }));
            }
        }
    }
    if args.which.json {
        print::json(&json!({ "verified": objects }))?;
    } else {
        print::line(print::table(&["database", "backup", "rows compared", "took", "verdict"], rows));
    }
    Ok(worst.code())
}

async fn prune_all(args: &cli::BackupPrune) -> Result<ExitCode, Failure> {
    let (config, sources) = configured(&args.which)?;
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for source in &sources {
        let done = prune(source, &config.backup.retention, clock(), args.dry_run).await.map_err(anyhow::Error::from)?;
        for (id, fate) in &done.fates {
            objects.push(json!({ "region": source.database.to_string(), "id": id.to_string(), "stays": fate.stays(),
                "why": fate.in_words() }));
            rows.push(vec![source.database.to_string(), id.to_string(), fate.in_words().to_owned()]);
        }
    }
    if args.which.json {
        print::json(&json!({ "dry_run": args.dry_run, "backups": objects }))?;
    } else {
        print::line(print::table(&["database", "backup", if args.dry_run { "would be" } else { "fate" }], rows));
    }
    Ok(ExitCode::SUCCESS)
}

async fn rekey(args: &cli::BackupRekey) -> Result<ExitCode, Failure> {
    let config = load(&args.which.config)?;
    let source = one_source(&config, args.which.region.as_ref())?;
    let identities = identities(&args.identity)?;
    let ids: Vec<BackupId> = match &args.id {
        Some(id) => vec![id.parse().context("--id names no backup")?],
        None => {
            let catalog = Catalog::read(&source).await.map_err(anyhow::Error::from)?;
            let wanted = source.recipients.as_texts();
            let lacks = |one: &&Backup| one.manifest.as_ref().is_ok_and(|manifest| manifest.recipients != wanted);
            catalog.backups.iter().filter(lacks).map(|one| one.id.clone()).collect()
        }
    };
    let watch = Watch::new();
    let (mut worst, mut objects) = (Worst::Nothing, Vec::new());
    for id in &ids {
        let done = backup::rekey(&source, id, &identities, &|name, step| watch.step(name, &step)).await;
        watch.clear();
        match done {
            Ok(manifest) => {
                objects.push(json!({ "id": id.to_string(), "ok": true, "recipients": manifest.recipients }));
                if !args.which.json {
                    print::line(format!(
                        "{id}: encrypted to {} recipients; verify it again",
                        manifest.recipients.len()
                    ));
                }
            }
            Err(error) => {
                worst = worst.max(Worst::of(&error));
                print::note(format!("{id}: {:#}", anyhow!(error)));
                objects.push(json!({ "id": id.to_string(), "ok": false }));
            }
        }
    }
    if args.which.json {
        print::json(&json!({ "rekeyed": objects }))?;
    } else if ids.is_empty() {
        print::line("Every backup is encrypted to the recipients of the configuration.");
    }
    Ok(worst.code())
}

/// Notes what is proven now, for the metrics. Best effort: the backups themselves say it, too.
async fn note_proofs(config: &Config, source: &Source) {
    let state = &super::drill::state_folder(config);
    let seconds = |at: Option<OffsetDateTime>| at.map(OffsetDateTime::unix_timestamp);
    // A place that cannot be read shows nothing, and what was noted before stays.
    let catalog = Catalog::read(source).await.ok();
    let shown = catalog.map(|catalog| (seconds(catalog.taken_at()), seconds(catalog.verified_at())));
    let (taken, verified) = shown.unwrap_or_default();
    let noted = Proofs::change(state, |proofs| proofs.note_backups(&source.database.to_string(), taken, verified));
    match noted {
        Ok(damage) => damage.into_iter().for_each(print::note),
        Err(error) => {
            print::note(format!(
                "{}: what was proven cannot be noted in {}: {error}",
                source.database,
                state.display()
            ));
        }
    }
}

/// A bar on a terminal, lines elsewhere.
pub(super) struct Watch {
    bar: ProgressBar,
}

impl Watch {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{spinner} {msg} {bytes} {bytes_per_sec} {elapsed}");
        Self { bar: style.map(|style| bar.clone().with_style(style)).unwrap_or(bar) }
    }

    pub(super) fn step(&self, database: &DatabaseName, step: &Step) {
        match step {
            Step::Passed { plain_bytes, of } => {
                if let Some(of) = of {
                    self.bar.set_length(*of);
                }
                self.bar.set_position(*plain_bytes);
            }
            _ => {
                self.bar.set_message(format!("{database}: {step}"));
                // Off a terminal the bar shows nothing; what takes long is said, each table is not.
                if self.bar.is_hidden() && !matches!(step, Step::Counted { .. }) {
                    print::note(format!("{database}: {step}"));
                }
            }
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
        self.bar.reset();
    }
}

/// A span in words.
pub(super) fn words(span: time::Duration) -> String {
    HumanDuration(span.unsigned_abs()).to_string()
}
