//! A part of a region's log, carried once more.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use relay::Part;
use serde_json::json;
use storage::RegionStore;
use tokio_util::sync::CancellationToken;

use super::super::{FAILED, Failure, load, which};
use super::Kind;
use crate::config::Config;
use crate::{cli, print, rooms};

/// Says what would be carried, and with `--apply` carries it. Ctrl-C ends it; what was carried by then stays.
pub(super) async fn run(kind: Kind, args: &cli::Replay) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let region = which(&config, args.region.as_deref())?;
    let store = RegionStore::open(rooms::region(&config, &region, &rooms::gateway_id(&config)?)?);
    let outcome = replay(kind, args, &config, &store).await;
    store.shutdown().await;
    Ok(outcome?)
}

async fn replay(kind: Kind, args: &cli::Replay, config: &Config, store: &RegionStore) -> anyhow::Result<ExitCode> {
    let region = store.region();
    let carrier = Carrier::new(kind, config, store)?;
    let (parts, newest) = carrier.survey(args.from.max(1), args.to.unwrap_or(u64::MAX)).await?;
    let (from, to) = (args.from.max(1), args.to.unwrap_or(newest).min(newest));
    if from > to {
        return Err(anyhow!("the log of {region} ends at {newest}: there is nothing from {from} to {to}"));
    }
    let entries: u64 = parts.values().map(|part| part.entries).sum();
    if !args.json {
        let rows = parts.iter().map(|(topic, part)| {
            let numbers = [part.entries, part.bytes, part.first, part.last].map(|number| number.to_string());
            std::iter::once(topic.clone()).chain(numbers).collect()
        });
        print::line(print::table(&["topic", "entries", "bytes", "first", "last"], rows));
    }
    let mut done = None;
    if args.apply {
        print::note(format!("Carrying {entries} entries of {region}, from {from} to {to}; Ctrl-C ends it."));
        let stop = CancellationToken::new();
        let ctrl_c = stop.clone();
        let listener = tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                ctrl_c.cancel();
            }
        });
        done = Some(carrier.replay(from, to, stop).await);
        listener.abort();
    }
    let complete = done.as_ref().is_none_or(|(seq, _)| *seq >= to);
    let reached = done.as_ref().map(|(seq, _)| *seq);
    if args.json {
        print::json(&json!({
            "region": region.as_str(), "from": from, "to": to, "entries": entries, "applied": args.apply,
            "reached": reached, "complete": complete, "topics": topics(&parts),
        }))?;
    } else if let Some((seq, trouble)) = done {
        match trouble.filter(|_| !complete) {
            Some(trouble) => print::note(format!("Ended at {seq} of {to}: {trouble}")),
            None => print::line(format!("Carried up to {seq}.")),
        }
    } else {
        print::line(format!("{entries} entries from {from} to {to} would be carried; --apply does it."));
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

enum Carrier {
    Relay(relay::Relay),
    Forwarder(forwarder::Forwarder),
}

impl Carrier {
    fn new(kind: Kind, config: &Config, store: &RegionStore) -> anyhow::Result<Self> {
        let region = store.region();
        match kind {
            Kind::Relay => {
                let relay = rooms::relay(config, region, store.log());
                Ok(Self::Relay(relay.with_context(|| format!("{region} has no brokers"))?))
            }
            Kind::Forwarder => {
                let forwarder = rooms::forwarder(config, region, store.log())?;
                Ok(Self::Forwarder(forwarder.with_context(|| format!("{region} has no Snowflake"))?))
            }
        }
    }

    async fn survey(&self, from: u64, to: u64) -> anyhow::Result<(BTreeMap<String, Part>, u64)> {
        match self {
            Self::Relay(relay) => Ok(relay.survey(from, to).await?),
            Self::Forwarder(forwarder) => Ok(forwarder.survey(from, to).await?),
        }
    }

    /// How far it came, and its last trouble.
    async fn replay(&self, from: u64, to: u64, stop: CancellationToken) -> (u64, Option<String>) {
        match self {
            Self::Relay(relay) => {
                let status = relay.replay(from, to, stop).await;
                (status.seq, status.trouble)
            }
            Self::Forwarder(forwarder) => {
                let status = forwarder.replay(from, to, stop).await;
                (status.seq, status.trouble)
            }
        }
    }
}

fn topics(parts: &BTreeMap<String, Part>) -> BTreeMap<&str, serde_json::Value> {
    let told =
        |part: &Part| json!({"entries": part.entries, "bytes": part.bytes, "first": part.first, "last": part.last});
    parts.iter().map(|(topic, part)| (topic.as_str(), told(part))).collect()
}
