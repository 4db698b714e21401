//! A log that lost its end: what is left of it goes on under another name, behind every position that others know. At
//! the place of each entry that was lost stands an entry that says so, so that positions keep their meaning for the
//! cursors, the topics and the warehouse.

use leaf::{Fact, GatewayId, Gone};
use sqlx::postgres::PgConnection;
use tlog::{TileSet, empty_root, leaf_hash, tiles_for_root};

use super::head;
use super::records::column;
use super::tiles::{self, Edge};
use crate::admin::LogRecovery;
use crate::error::{Cause, Trouble};

/// Entries in one statement.
const BATCH_MAX: u64 = 4_096;
/// The most entries that may have been lost: a longer gap is a matter for a person.
pub(crate) const LOST_MAX: u64 = 1 << 24;

/// How many entries the log has, with its head held.
pub(crate) async fn head_size(connection: &mut PgConnection) -> Result<u64, Trouble> {
    Ok(head::lock(connection).await?.size())
}

/// Appends the entries that stand for what was lost, up to and with `behind`, in the caller's transaction. Returns
/// the new size.
pub(crate) async fn go_on(connection: &mut PgConnection, recovery: &LogRecovery) -> Result<u64, Trouble> {
    let tip = head::lock(connection).await?;
    let (from, to) = (tip.size(), recovery.behind.saturating_add(1).max(tip.size() + 1));
    if to - from > LOST_MAX {
        return Err(Trouble::Internal(Cause::new("more of the log was lost than can be stood for")));
    }
    let mut frontier = tip.frontier.clone();
    let mut edge = Edge::default();
    let mut at = from;
    while at < to {
        let upto = to.min(at + BATCH_MAX);
        let lines = (at..upto).map(|seq| line(recovery, seq - from, from..to)).collect::<Result<Vec<_>, _>>()?;
        let hashes: Vec<[u8; 32]> = lines.iter().map(|line| leaf_hash(line.as_bytes())).collect();
        let (filled, next) = tiles::grow(connection, at, &edge, &hashes).await?;
        edge = next;
        for hash in &hashes {
            frontier.push(*hash);
        }
        sqlx::query(
            "INSERT INTO domicile.leaves (seq, hash, line) \
             SELECT $1 + l.ord - 1, l.hash, l.line FROM unnest($2::bytea[], $3::text[]) WITH ORDINALITY AS l(hash, line, ord)",
        )
        .bind(column(at))
        .bind(&hashes)
        .bind(&lines)
        .execute(&mut *connection)
        .await?;
        if !filled.is_empty() {
            tiles::write(connection, &filled).await?;
        }
        at = upto;
    }
    sqlx::query("UPDATE domicile.head SET size = $1, frontier = $2 WHERE only_row")
        .bind(column(frontier.size()))
        .bind(frontier.to_bytes())
        .execute(connection)
        .await?;
    Ok(frontier.size())
}

/// The root at a size that the log has passed, from its tiles, which stay when lines are let go; `None` when the log is
/// shorter, or does not hold them.
pub(crate) async fn root_at(connection: &mut PgConnection, size: u64) -> Result<Option<[u8; 32]>, Trouble> {
    if size == 0 {
        return Ok(Some(empty_root()));
    }
    let Ok(needed) = tiles_for_root(size) else { return Ok(None) };
    let mut set = TileSet::new(size);
    for tile in needed {
        let Some(hashes) = tiles::read(connection, tile).await? else { return Ok(None) };
        if !set.insert(tile, hashes) {
            return Ok(None);
        }
    }
    Ok(set.root().ok())
}

/// `log.recover`: the entries that are gone, and the log as it was signed.
fn line(recovery: &LogRecovery, nth: u64, lost: std::ops::Range<u64>) -> Result<String, Trouble> {
    let broken = || Trouble::Internal(Cause::new("an entry that stands for a lost one cannot be written"));
    let boot = u32::try_from(recovery.at_us / 1_000_000).unwrap_or(u32::MAX);
    let gateway = GatewayId::new("recovery", boot).map_err(|_| broken())?;
    let (size, root) = recovery.signed.unwrap_or((lost.start, [0; 32]));
    let why = "restored from a backup".to_owned();
    let fact = Fact::log_recover(recovery.at_us, &Gone { actor: recovery.actor.clone(), at: lost, size, root, why });
    let mut line = Vec::with_capacity(320);
    fact.encode_into(&gateway, nth + 1, &mut line);
    String::from_utf8(line).map_err(|_| broken())
}
