//! `domicile audit prune`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use audit::{KindSpan, Plan, Retention, plan};
use leaf::{Fact, Gone};
use residency::Region;
use routing::{Clock as _, SystemClock};
use serde_json::json;
use storage::{RegionStore, admin};
use tokio::time::{Instant, sleep};

use crate::commands::{Failure, load};
use crate::{cli, print, rooms};

/// How long the leaf that says what goes may take to be signed.
const SIGNED_WITHIN: Duration = Duration::from_secs(120);

/// Says what may go, and with `--apply` lets it go.
pub(super) async fn run(args: &cli::AuditPrune) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let region = Region::new(&args.region).map_err(anyhow::Error::from)?;
    let served = config.served.get(&region).with_context(|| format!("region {region} is not served here"))?;
    let owner = &served.postgres.owner_dsn;
    let store = RegionStore::open(rooms::region(&config, &region, &rooms::gateway_id(&config)?)?);
    let outcome = async {
        let log = store.log();
        let signed = log.checkpoint(false).await?.context("the log is not signed, so nothing of it may go")?;
        let partitions = admin::full_partitions(owner).await.context("the partitions cannot be read")?;
        let partitions: Vec<_> = partitions.into_iter().map(spans).collect();
        let planned = plan(&partitions, signed.size, &served.retention, SystemClock.now_us());
        let hindered = match planned.gone.is_empty() {
            true => Vec::new(),
            false => admin::hindrances(owner, planned.gone.end).await.context("the cursors cannot be read")?,
        };
        if args.apply && !planned.gone.is_empty() {
            if let Some(why) = hindered.first() {
                bail!("{why}: nothing has gone");
            }
            let gone = Gone {
                actor: "op:audit-prune".into(),
                at: planned.gone.clone(),
                size: signed.size,
                root: signed.root,
                why: "retention".into(),
            };
            let position = store.record(Fact::log_prune(SystemClock.now_us(), &gone)).await?;
            until_signed(&store, position.seq).await?;
            admin::prune(owner, planned.gone.end).await.context("the partitions could not be dropped")?;
        }
        Ok((planned, hindered))
    }
    .await;
    store.shutdown().await;
    let (planned, hindered) = outcome?;
    tell(args, &planned, &hindered, &served.retention)?;
    Ok(ExitCode::SUCCESS)
}

fn spans(partition: admin::LogPartition) -> (std::ops::Range<u64>, Vec<KindSpan>) {
    let span = |(kind, leaves, oldest, newest)| KindSpan { kind, leaves, span_us: (oldest, newest) };
    (partition.range, partition.kinds.into_iter().map(span).collect())
}

/// Waits until whoever holds a checkpoint can see that the range was let go on purpose.
async fn until_signed(store: &RegionStore, seq: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < SIGNED_WITHIN {
        if store.log().checkpoint(false).await?.is_some_and(|signed| signed.size > seq) {
            return Ok(());
        }
        sleep(Duration::from_millis(500)).await;
    }
    Err(anyhow!("the leaf {seq} that says what goes was not signed in time: does the signer run? Nothing has gone"))
}

fn tell(args: &cli::AuditPrune, planned: &Plan, hindered: &[String], retention: &Retention) -> anyhow::Result<()> {
    let (from, to) = (planned.gone.start, planned.gone.end);
    if args.json {
        let rules: BTreeMap<_, _> =
            retention.0.iter().map(|(kind, keep)| (kind, json!([keep.min_days, keep.max_days]))).collect();
        return print::json(&json!({
            "from": from, "to": to, "applied": args.apply && from < to, "blocked": planned.blocked,
            "hindered": hindered, "overdue": planned.overdue, "days_min_max": rules,
        }));
    }
    print::line(match (from < to, args.apply) {
        (true, true) => format!("The lines of the entries {from} to {} are gone; their hashes stay.", to - 1),
        (true, false) => format!("The lines of the entries {from} to {} may go.", to - 1),
        (false, _) => "No lines may go.".to_owned(),
    });
    for why in hindered {
        print::line(format!("But {why}."));
    }
    if let Some(why) = &planned.blocked {
        print::line(format!("The next partition stays: {why}."));
    }
    for kind in &planned.overdue {
        print::line(format!("Overdue: {kind}."));
    }
    Ok(())
}
