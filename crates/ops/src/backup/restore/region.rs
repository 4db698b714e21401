//! The gate of a restored region.

use secrecy::SecretString;
use storage::Peppers;
use storage::admin::{self, LogRecovery, LoginName, Opened, Replayed, Set, Snapshot, with_database};
use time::OffsetDateTime;

use super::super::{Error, Refusal, Source};
use crate::deployment::DatabaseName;

/// Entries that gateways may have written after the last checkpoint was signed, which is at most a second before: more
/// than any measured rate. Nobody has seen a position behind this margin.
pub const UNSIGNED_MARGIN: u64 = 1 << 18;

/// What opening is told.
pub struct Opening<'a> {
    /// The restored database.
    pub database: &'a str,
    /// The directory, as its owner reaches it.
    pub directory_dsn: &'a SecretString,
    /// The keys of its digests.
    pub peppers: &'a Peppers,
    /// What the signer signed last, from its own memory: size and root.
    pub signed: Option<(u64, [u8; 32])>,
    /// The highest position that anybody has seen, as well as the operator knows.
    pub seen: Option<u64>,
    /// How far the relay had come, if the topics were asked.
    pub relayed: Option<u64>,
    /// Entries that gateways may have written and answered after the last signature: see [`UNSIGNED_MARGIN`].
    pub unsigned_margin: u64,
    /// The log's new name, in case it lost entries.
    pub log_origin: Option<&'a str>,
    /// The login that gateways use, to be let in.
    pub login: Option<&'a LoginName>,
    /// Who does it.
    pub actor: &'a str,
}

/// What opening found, and would do or did.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The backup it was restored from.
    pub backup: String,
    /// What the directory knew that the backup did not.
    pub replayed: Replayed,
    /// Entries of the restored log.
    pub restored_size: u64,
    /// The size that was signed last.
    pub signed_size: Option<u64>,
    /// The positions that were lost, if any were.
    pub lost: Option<std::ops::Range<u64>>,
    /// The log's name before and, when it changes, after.
    pub origin: String,
    /// Its new name.
    pub new_origin: Option<String>,
    /// What opening did; `None` in a plan.
    pub opened: Option<Opened>,
}

/// Opens a restored region for traffic; with `dry_run` only says what it would do.
///
/// # Errors
/// [`Refusal::NotRestored`], [`Refusal::UnknownLoss`], [`Refusal::LogLost`] and what the databases say. It stays closed;
/// what was replayed stays replayed, and doing it again does the rest.
pub async fn open(source: &Source, opening: &Opening<'_>, dry_run: bool) -> Result<Findings, Error> {
    let not_restored = || Refusal::NotRestored { database: opening.database.to_owned() };
    let DatabaseName::Region(region) = &source.database else { return Err(not_restored().into()) };
    let dsn = with_database(&source.owner_dsn, opening.database)?;
    let backup = admin::restored_from(&dsn).await?.ok_or_else(not_restored)?;
    let snapshot = Snapshot::take(&dsn, None, Set::Region).await?;
    let state = snapshot.state().clone();
    snapshot.close().await;
    source.check_identity(&state)?;
    let log = state.region.as_ref().ok_or_else(not_restored)?;
    let (size, origin) = (log.log_size, log.origin.clone());
    let lost = lost(&dsn, size, opening).await?;
    let used = admin::former_origins(&dsn).await?;
    let is_new = |name: &str| name != origin && used.iter().all(|used| used != name);
    if let Some(lost) = &lost
        && !opening.log_origin.is_some_and(is_new)
    {
        let signed = opening.signed.map_or(0, |(size, _)| size);
        if !dry_run {
            return Err(Refusal::LogLost { restored: size, seen: lost.end, signed, origin }.into());
        }
    }
    let directory = opening.directory_dsn;
    let replayed = admin::replay_departures(&dsn, directory, region, opening.peppers, dry_run).await?;
    let opened = match dry_run {
        true => None,
        false => {
            let recovery = match (&lost, opening.log_origin) {
                (Some(lost), Some(new)) => Some(LogRecovery {
                    origin: new.to_owned(),
                    signed: opening.signed,
                    behind: lost.end - 1,
                    actor: opening.actor.to_owned(),
                    at_us: microseconds((source.clock)()),
                }),
                _ => None,
            };
            // Before it opens, since an open one is no restored one any more that this could be done to again. Gateways
            // that are let in refuse it until it is.
            if let Some(login) = opening.login {
                admin::let_in(&dsn, login).await?;
            }
            Some(admin::open_restored(&dsn, recovery.as_ref(), opening.relayed).await?)
        }
    };
    let new_origin = lost.is_some().then(|| opening.log_origin.map(str::to_owned)).flatten();
    let signed_size = opening.signed.map(|(size, _)| size);
    Ok(Findings { backup, replayed, restored_size: size, signed_size, lost, origin, new_origin, opened })
}

/// The positions of the log that others have seen, or may have, and the restored database does not have.
async fn lost(dsn: &SecretString, size: u64, opening: &Opening<'_>) -> Result<Option<std::ops::Range<u64>>, Error> {
    let seen_end = opening.seen.map(|seq| seq.saturating_add(1));
    if let Some((signed, root)) = opening.signed.filter(|(signed, _)| *signed <= size)
        && admin::log_root_at(dsn, signed).await? != Some(root)
    {
        return Err(Refusal::LogRewritten { size: signed }.into());
    }
    let Some((signed, _)) = opening.signed.filter(|(signed, _)| *signed > size) else {
        // Nothing was ever signed, or no more than is here: a signer that stood still remembers nothing of what was
        // written and seen meanwhile. Nobody but the operator can say how long the log was.
        let memory = match opening.signed {
            None => "the signer's memory is not at hand".to_owned(),
            Some((signed, _)) => format!("{signed} entries were signed, and {size} are here"),
        };
        let end = seen_end.ok_or(Refusal::UnknownLoss { memory })?;
        return Ok((end > size).then_some(size..end));
    };
    // Between the last signature and the end a gateway may have answered more.
    let end = seen_end.unwrap_or(0).max(signed.saturating_add(opening.unsigned_margin));
    Ok(Some(size..end))
}

fn microseconds(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or_default()
}
