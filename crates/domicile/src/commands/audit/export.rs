//! `domicile audit export`.

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use audit::export::{Asked, Export, Format, KINDS_MAX, Made};
use leaf::{Fact, FactKind, Kind};
use serde_json::json;
use storage::RegionStore;
use tempfile::NamedTempFile;

use super::{ACTOR, bar, bound, open_region, tell};
use crate::commands::Failure;
use crate::{cli, print, rooms};

/// Makes an export from the region's own database.
pub(super) async fn run(args: &cli::AuditExport) -> Result<ExitCode, Failure> {
    for kind in &args.kinds {
        if Kind::named(kind).is_none() && FactKind::named(kind).is_none() && kind != "log.genesis" {
            return Err(anyhow!("{kind} is no kind of entry").into());
        }
    }
    if args.kinds.len() > KINDS_MAX {
        return Err(anyhow!("an export is limited to at most {KINDS_MAX} kinds").into());
    }
    let store = open_region(&args.config, &args.region)?;
    let made = Box::pin(make(args, &store)).await;
    store.shutdown().await;
    let made = made.context("no export was made")?;
    let sha256 = hex::encode(made.sha256);
    let (from, to) = (made.range.start, made.range.end);
    if args.json {
        print::json(&json!({
            "file": args.out, "from": from, "to": to, "rows": made.rows, "altered": made.altered, "bytes": made.bytes,
            "sha256": sha256,
        }))?;
    } else {
        print::line(format!(
            "{} holds {} of the entries {from} to {}; SHA-256 {sha256}.",
            args.out.display(),
            made.rows,
            to.saturating_sub(1),
        ));
        if made.altered > 0 {
            print::line(format!(
                "{} of them do not have the hash that is stored with them: the log is damaged.",
                made.altered
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn make(args: &cli::AuditExport, store: &RegionStore) -> anyhow::Result<Made> {
    let log = store.log();
    let from = bound(&log, args.from.as_deref(), 0).await?;
    let to = bound(&log, args.to.as_deref(), u64::MAX).await?;
    let format = match args.format {
        cli::ExportFormat::Jsonl => Format::Jsonl,
        cli::ExportFormat::Csv => Format::Csv,
        cli::ExportFormat::Parquet => Format::Parquet,
    };
    if args.out.exists() {
        bail!("{} is there already", args.out.display());
    }
    // The file has its name only when it is whole and the log knows of it.
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
    let mut file = NamedTempFile::new_in(folder).with_context(|| format!("{} cannot be made", args.out.display()))?;
    let asked = Asked { range: from..to.max(from), kinds: args.kinds.clone(), format };
    let mut export = Export::begin(log, asked).await?;
    let bar = bar("exported");
    bar.set_length(export.range().end - export.range().start);
    while let Some(piece) = export.next().await? {
        file.write_all(&piece).context("the file cannot be written")?;
        bar.set_position(export.done());
    }
    bar.finish_and_clear();
    File::sync_all(file.as_file()).context("the file cannot be written")?;
    let made = export.made();
    let fact = Fact::export_make(
        rooms::now_us(),
        &leaf::Export {
            actor: ACTOR.to_owned(),
            format: format.name(),
            at: made.range.clone(),
            rows: made.rows,
            bytes: made.bytes,
            sha256: made.sha256,
            filter: args.kinds.iter().map(|kind| format!("kind={kind}")).collect(),
            subject: None,
            recipients: None,
        },
    );
    tell(store, fact).await.context("the log could not be told of the export")?;
    file.persist_noclobber(&args.out).with_context(|| format!("{} cannot be made", args.out.display()))?;
    Ok(made)
}
