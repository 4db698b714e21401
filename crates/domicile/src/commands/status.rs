//! `domicile relay status`, `domicile forwarder status`: how far a cursor is behind its region's log.

use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use storage::{Log, RegionStore};
use time::OffsetDateTime;

use super::{FAILED, Failure, load};
use crate::{cli, print, rooms};

/// Asks each served region's database, not the process: it answers even when no process runs.
pub(crate) async fn run(cursor: &str, command: &cli::Status) -> Result<ExitCode, Failure> {
    let cli::Status::Status(args) = command;
    let config = load(&args.config)?;
    let gateway = rooms::gateway_id(&config)?;
    let mut rows = Vec::new();
    for region in config.served.keys() {
        let store = RegionStore::open(rooms::region(&config, region, &gateway)?);
        rows.push((region, position(&store.log(), cursor).await));
        store.shutdown().await;
    }
    let failed = rows.iter().any(|(_, row)| row.is_err());
    if args.json {
        let rows = rows.iter().map(|(region, row)| match row {
            Ok(at) => json!({
                "region": region.as_str(), "newest": at.newest, "cursor": at.seq, "lag": at.lag(),
                "owner": at.owner, "seen_s_ago": at.seen_s_ago,
            }),
            Err(error) => json!({ "region": region.as_str(), "error": format!("{error:#}") }),
        });
        print::json(&rows.collect::<Vec<_>>())?;
    } else {
        let rows = rows.iter().map(|(region, row)| match row {
            Ok(at) => vec![
                region.to_string(),
                at.newest.map_or_else(|| "-".into(), |newest| newest.to_string()),
                at.seq.to_string(),
                at.lag().to_string(),
                at.owner.clone().unwrap_or_else(|| "nobody".into()),
                at.seen_s_ago.map_or_else(|| "never".into(), |s| format!("{s} s ago")),
            ],
            Err(error) => {
                print::note(format!("{region}: {error:#}"));
                vec![region.to_string(), "unknown".into()]
            }
        });
        print::line(print::table(&["region", "newest entry", "carried up to", "lag", "owner", "seen"], rows));
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

struct Position {
    /// Number of the newest entry; `None` while the log is empty.
    newest: Option<u64>,
    /// Number of the last entry that was carried.
    seq: u64,
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
    let Some(found) = cursors.into_iter().find(|state| state.name == cursor) else {
        return Ok(Position { newest, seq: 0, owner: None, seen_s_ago: None });
    };
    #[expect(clippy::disallowed_methods, reason = "a person is told how long ago something was")]
    let now_s = OffsetDateTime::now_utc().unix_timestamp();
    let seen_s_ago = Some((now_s - found.updated_at_us / 1_000_000).max(0));
    Ok(Position { newest, seq: found.seq, owner: found.owner, seen_s_ago })
}
