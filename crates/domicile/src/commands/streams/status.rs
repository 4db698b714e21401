//! How far a cursor is behind its region's log, and what the process that moves it says of itself.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use storage::{Log, RegionStore};
use time::OffsetDateTime;

use super::super::health::reachable;
use super::super::{FAILED, Failure, load};
use super::Kind;
use crate::{cli, print, rooms};

/// A process that does not answer within this is not asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks each served region's database first: it answers even when no process runs.
pub(super) async fn run(kind: Kind, args: &cli::StatusArgs) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let gateway = rooms::gateway_id(&config)?;
    let process = Process::ask(&config.gateway.admin_listen.to_string()).await;
    let mut rows = Vec::new();
    for region in config.served.keys() {
        let store = RegionStore::open(rooms::region(&config, region, &gateway)?);
        rows.push((region, position(&store.log(), kind.cursor()).await));
        store.shutdown().await;
    }
    let failed = rows.iter().any(|(_, row)| row.is_err());
    let counts = kind.counts();
    if args.json {
        let rows = rows.iter().map(|(region, row)| match row {
            Ok(at) => {
                let told = counts.iter().map(|(name, metric)| (*name, process.number(metric, region.as_str())));
                json!({
                    "region": region.as_str(), "newest": at.newest, "cursor": at.seq, "lag": at.lag(),
                    "lag_s": at.age.as_secs_f64(), "owner": at.owner, "seen_s_ago": at.seen_s_ago,
                    "process": told.collect::<BTreeMap<_, _>>(),
                })
            }
            Err(error) => json!({ "region": region.as_str(), "error": format!("{error:#}") }),
        });
        print::json(&rows.collect::<Vec<_>>())?;
    } else {
        let rows = rows.iter().map(|(region, row)| match row {
            Ok(at) => {
                let mut cells = vec![
                    region.to_string(),
                    at.newest.map_or_else(|| "-".into(), |newest| newest.to_string()),
                    at.seq.to_string(),
                    at.lag().to_string(),
                    format!("{:.1} s", at.age.as_secs_f64()),
                    at.owner.clone().unwrap_or_else(|| "nobody".into()),
                    at.seen_s_ago.map_or_else(|| "never".into(), |s| format!("{s} s ago")),
                ];
                let told = |metric: &str| process.number(metric, region.as_str());
                cells.extend(
                    counts.iter().map(|(_, metric)| told(metric).map_or_else(|| "-".into(), |n| n.to_string())),
                );
                cells
            }
            Err(error) => {
                print::note(format!("{region}: {error:#}"));
                vec![region.to_string(), "unknown".into()]
            }
        });
        let mut header = vec!["region", "newest entry", "carried up to", "lag", "lag age", "owner", "seen"];
        header.extend(counts.iter().map(|(name, _)| *name));
        print::line(print::table(&header, rows));
        if !process.answered() {
            print::note(format!("No process answers at {}: the last columns are unknown.", process.asked));
        }
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

impl Kind {
    /// What a process counts, in words, and the metric.
    fn counts(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Relay => &[
                ("entries/s", "domicile_relay_entries_per_second"),
                ("retries", "domicile_relay_retries_total"),
                ("dead letters", "domicile_relay_dead_letters_total"),
                ("alarm", "domicile_relay_lag_alarm"),
            ],
            Self::Forwarder => &[
                ("batches", "domicile_forwarder_batches_total"),
                ("retries", "domicile_forwarder_retries_total"),
                ("refused", "domicile_forwarder_refused_total"),
                ("alarm", "domicile_forwarder_lag_alarm"),
            ],
        }
    }
}

/// What the process on this machine says of itself: its metrics.
struct Process {
    asked: String,
    metrics: Option<String>,
}

impl Process {
    async fn ask(listen: &str) -> Self {
        let asked = reachable(listen);
        let metrics = async {
            let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().ok()?;
            let answer = client.get(format!("http://{asked}/metrics")).send().await.ok()?;
            answer.error_for_status().ok()?.text().await.ok()
        };
        let metrics = metrics.await;
        Self { asked, metrics }
    }

    fn answered(&self) -> bool {
        self.metrics.is_some()
    }

    /// A number of a region; what was never counted is 0, unless nobody answered.
    fn number(&self, metric: &str, region: &str) -> Option<u64> {
        let text = self.metrics.as_ref()?;
        let beginning = format!("{metric}{{region=\"{region}\"}} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&beginning)?.trim().parse::<f64>().ok());
        Some(found.unwrap_or(0.0) as u64)
    }
}

struct Position {
    /// Number of the newest entry; `None` while the log is empty.
    newest: Option<u64>,
    /// Number of the last entry that was carried.
    seq: u64,
    /// How old the oldest entry is that was not.
    age: Duration,
    owner: Option<String>,
    seen_s_ago: Option<i64>,
}

impl Position {
    fn lag(&self) -> u64 {
        self.newest.map_or(0, |newest| newest.saturating_sub(self.seq))
    }
}

async fn position(log: &Log, cursor: &str) -> anyhow::Result<Position> {
    // Entries are numbered from 0, so a log of size n ends with entry n - 1.
    let newest = log.head().await.context("the region's log cannot be read")?.size.checked_sub(1);
    let cursors = log.cursors().await.context("the region's cursors cannot be read")?;
    let found = cursors.into_iter().find(|state| state.name == cursor);
    let seq = found.as_ref().map_or(0, |found| found.seq);
    let age = log.age(seq + 1).await.context("the region's log cannot be read")?.unwrap_or_default();
    let Some(found) = found else {
        return Ok(Position { newest, seq, age, owner: None, seen_s_ago: None });
    };
    #[expect(clippy::disallowed_methods, reason = "a person is told how long ago something was")]
    let now_s = OffsetDateTime::now_utc().unix_timestamp();
    let seen_s_ago = Some((now_s - found.updated_at_us / 1_000_000).max(0));
    Ok(Position { newest, seq, age, owner: found.owner, seen_s_ago })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_from_the_metrics_of_its_region() {
        let metrics = "# TYPE a counter\na{region=\"eu-central\"} 3\na{region=\"us-east\"} 12\n";
        let process = Process { asked: String::new(), metrics: Some(metrics.to_owned()) };
        assert_eq!(process.number("a", "us-east"), Some(12));
        assert_eq!(process.number("a", "uk-south"), Some(0));
        assert_eq!(Process { asked: String::new(), metrics: None }.number("a", "us-east"), None);
    }
}
