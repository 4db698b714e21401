//! `domicile audit pack`.

use std::fs::OpenOptions;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use audit::pack::{Wanted, write_pack};
use audit::seq_at;
use residency::Region;
use serde_json::json;
use storage::{Log, RegionStore};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tlog::{Checkpoint, Note};

use super::{bar, read};
use crate::commands::{Failure, load};
use crate::{cli, print, rooms};

/// Makes a pack from the region's own database.
pub(super) async fn run(args: &cli::AuditPack) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let region = Region::new(&args.region).map_err(anyhow::Error::from)?;
    let store = RegionStore::open(rooms::region(&config, &region, &rooms::gateway_id(&config)?)?);
    let log = store.log();
    let since = args.since.as_deref().map(read).transpose()?.map(|text| size_of(&text)).transpose()?;
    let from = bound(&log, args.from.as_deref(), 0).await?;
    let to = bound(&log, args.to.as_deref(), u64::MAX).await?;
    let wanted = Wanted { range: from..to.max(from), since };
    let new = OpenOptions::new().write(true).create_new(true).open(&args.out);
    let file = new.with_context(|| format!("{} cannot be made", args.out.display()))?;
    let bar = bar("packed");
    let progress = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let packed = Box::pin(write_pack(&log, &wanted, std::io::BufWriter::new(file), progress)).await;
    bar.finish_and_clear();
    store.shutdown().await;
    let packed = match packed {
        Ok(packed) => packed,
        Err(error) => {
            drop(std::fs::remove_file(&args.out)); // half a pack would only mislead
            return Err(anyhow::Error::from(error).context("no pack was made").into());
        }
    };
    if args.json {
        print::json(&json!({
            "file": args.out, "origin": packed.origin, "size": packed.size,
            "from": packed.range.start, "to": packed.range.end, "denials": packed.denials,
        }))?;
    } else {
        let (from, to) = (packed.range.start, packed.range.end);
        print::line(format!(
            "{} holds the entries {from} to {} of {}, under its checkpoint of {} leaves; {} of them are denials.",
            args.out.display(),
            to.saturating_sub(1),
            packed.origin,
            packed.size,
            packed.denials,
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn size_of(checkpoint: &str) -> anyhow::Result<u64> {
    let note: Note = checkpoint.parse().context("the older checkpoint cannot be read")?;
    let checkpoint: Checkpoint = note.text().parse().context("the older checkpoint cannot be read")?;
    Ok(checkpoint.size)
}

/// An entry's number as it is, or of the first entry at or behind a time.
async fn bound(log: &Log, written: Option<&str>, otherwise: u64) -> anyhow::Result<u64> {
    let Some(written) = written else { return Ok(otherwise) };
    if let Ok(seq) = written.parse() {
        return Ok(seq);
    }
    let at = OffsetDateTime::parse(written, &Rfc3339)
        .map_err(|_| anyhow!("{written} is neither an entry's number nor a time like 2026-11-01T00:00:00Z"))?;
    let at_us = i64::try_from(at.unix_timestamp_nanos() / 1_000).context("the time is out of range")?;
    Ok(seq_at(log, at_us).await?)
}
