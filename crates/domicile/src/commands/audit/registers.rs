//! `domicile audit violations` and `domicile audit transfers`.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use audit::OtherSide;
use audit::registers::{self, Acknowledged, REASON_CHARS_MAX};
use residency::Region;
use serde_json::json;
use storage::{RegionStore, TransferFilter, TransferRow, Violation, ViolationFilter};

use super::{ACTOR, open_region, open_served};
use crate::commands::{FAILED, Failure, load};
use crate::{cli, print, rooms};

/// Lists violations.
pub(super) async fn list(args: &cli::AuditViolationsList) -> Result<ExitCode, Failure> {
    if let Some(rule) = args.rule.as_deref().filter(|rule| audit::Rule::named(rule).is_none()) {
        let known = audit::Rule::ALL.map(audit::Rule::name).join(", ");
        return Err(anyhow!("{rule} is no rule; known: {known}").into());
    }
    let store = open_region(&args.config, &args.region)?;
    let filter = ViolationFilter {
        rule: args.rule.clone(),
        acknowledged: args.open.then_some(false),
        before_id: args.before,
        limit: args.limit,
        ..ViolationFilter::default()
    };
    let found = async { Ok::<_, storage::Error>((store.log().violations(&filter).await?, behind(&store).await?)) };
    let found = found.await;
    store.shutdown().await;
    let (violations, behind) = found.context("the register could not be read")?;
    if args.json {
        let items: Vec<_> = violations.iter().map(as_json).collect();
        print::json(&json!({ "violations": items, "behind": behind }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = violations.iter().map(|one| {
        let answered =
            one.acknowledged.as_ref().map_or_else(String::new, |said| format!("{}: {}", said.by, said.reason));
        let seq = one.seq.map_or_else(String::new, |seq| seq.to_string());
        vec![one.id.to_string(), audit::at_utc(one.at_us), one.rule.clone(), seq, one.says.clone(), answered]
    });
    print::line(print::table(&["number", "when", "rule", "entry", "what", "answered for"], rows));
    tell_behind(behind);
    Ok(ExitCode::SUCCESS)
}

/// Answers for one.
pub(super) async fn acknowledge(args: &cli::AuditViolationsAcknowledge) -> Result<ExitCode, Failure> {
    let reason = args.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        return Err(anyhow!("a reason has 1 to {REASON_CHARS_MAX} characters").into());
    }
    let store = open_region(&args.config, &args.region)?;
    let done = registers::acknowledge(&store, args.number, ACTOR, reason, rand::random(), rooms::now_us()).await;
    store.shutdown().await;
    let (sentence, code) = match done.context("the violation was not acknowledged")? {
        Acknowledged::Now(_) => (format!("Violation {} is acknowledged.", args.number), ExitCode::SUCCESS),
        Acknowledged::Before(stands) => {
            let by = stands.acknowledged.map_or_else(String::new, |said| format!(" by {}", said.by));
            (format!("Violation {} was acknowledged before{by}; that stays.", args.number), ExitCode::SUCCESS)
        }
        Acknowledged::Unknown => {
            (format!("There is no violation {} in {}.", args.number, args.region), ExitCode::from(FAILED))
        }
    };
    print::line(sentence);
    Ok(code)
}

/// Lists transfers.
pub(super) async fn transfers(args: &cli::AuditTransfers) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let store = open_served(&config, &args.region)?;
    let served: Vec<Region> = config.served.keys().cloned().collect();
    let other_side = |one: &TransferRow| OtherSide::of(one, store.region(), &served, rooms::now_us());
    let filter = TransferFilter {
        matched: args.unmatched.then_some(false),
        before_seq: args.before,
        limit: args.limit,
        ..TransferFilter::default()
    };
    let found = async { Ok::<_, storage::Error>((store.log().transfers(&filter).await?, behind(&store).await?)) };
    let found = found.await;
    store.shutdown().await;
    let (transfers, behind) = found.context("the register could not be read")?;
    if args.json {
        let items: Vec<_> = transfers
            .iter()
            .map(|one| {
                json!({
                    "seq": one.seq, "id": one.id.to_string(), "counterpart": one.counterpart, "from": one.from, "to": one.to,
                    "basis": one.basis, "instrument": one.instrument, "actor": one.actor, "rows": one.rows, "bytes": one.bytes,
                    "at": audit::at_utc(one.at_us), "leaf": hex::encode(one.leaf_hash), "matched": one.matched_us.is_some(),
                    "other_side": other_side(one).name(),
                })
            })
            .collect();
        print::json(&json!({ "transfers": items, "behind": behind }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = transfers.iter().map(|one| {
        let side = if one.counterpart { "counterpart" } else { "decision" };
        let other = match other_side(one) {
            OtherSide::Seen => "seen",
            OtherSide::Awaited => "awaited",
            OtherSide::Missing => "MISSING",
            OtherSide::NotServedHere => "not served here",
        };
        let route = format!("{} to {}", one.from, one.to);
        vec![one.seq.to_string(), audit::at_utc(one.at_us), route, one.basis.clone(), side.into(), other.into()]
    });
    print::line(print::table(&["entry", "when", "from and to", "basis", "side", "other side"], rows));
    tell_behind(behind);
    Ok(ExitCode::SUCCESS)
}

async fn behind(store: &RegionStore) -> Result<u64, storage::Error> {
    registers::behind(&store.log()).await
}

fn tell_behind(behind: u64) {
    if behind > 0 {
        print::note(format!(
            "{behind} entries of the log are not in the registers yet; a gateway that serves keeps them."
        ));
    }
}

fn as_json(violation: &Violation) -> serde_json::Value {
    let acknowledged = violation
        .acknowledged
        .as_ref()
        .map(|said| json!({ "by": said.by, "at": audit::at_utc(said.at_us), "reason": said.reason }));
    json!({
        "number": violation.id, "rule": violation.rule, "seq": violation.seq, "says": violation.says,
        "at": audit::at_utc(violation.at_us), "acknowledged": acknowledged,
    })
}
