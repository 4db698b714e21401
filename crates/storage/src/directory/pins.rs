//! The table `pins`: finding, claiming and completing pins, always many at once.

use std::collections::{BTreeMap, HashMap, HashSet};

use residency::{Epoch, Pin, PinState, Region};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};

use super::Claim;
use crate::deeds::Erasure;
use crate::digest::SubjectDigest;
use crate::error::{Cause, Error, Trouble};
use crate::region::{instant, microseconds};

/// A pin as found, and what its rows lack.
#[derive(Debug, Clone)]
pub(super) struct Pinned {
    pub(super) pin: Pin,
    pub(super) backfill: Option<Backfill>,
}

/// Rows that a pin lacks under some peppers, to be copied from the row that it has.
#[derive(Debug, Clone)]
pub(super) struct Backfill {
    standing: SubjectDigest,
    missing: Vec<SubjectDigest>,
}

/// A wish to make a region the home of a subject, which is named by its digests under every pepper.
#[derive(Debug, Clone)]
pub(super) struct Bid {
    pub(super) digests: Vec<SubjectDigest>,
    pub(super) region: Region,
}

/// The end of a pin.
#[derive(Debug, Clone)]
pub(super) struct Tombstone {
    pub(super) region: Region,
    pub(super) erasure: Erasure,
}

/// What is entered into the table.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Bid(Bid),
    Backfill(Backfill),
    Tombstone(Tombstone),
}

/// The database holds, or our own code did, what cannot be.
pub(super) fn misunderstood(what: &'static str) -> Error {
    Error::Internal(Cause::new(what))
}

/// Finds the pins of many subjects in one statement.
pub(super) async fn find(
    connection: &mut PgConnection,
    questions: &[Vec<SubjectDigest>],
) -> Result<Vec<Result<Option<Pinned>, Error>>, Trouble> {
    let rows = rows_of(connection, questions.iter().flatten()).await?;
    Ok(questions.iter().map(|digests| pinned(digests, &rows)).collect())
}

/// Enters claims and completions, each kind in one transaction.
pub(super) async fn enter(
    connection: &mut PgConnection,
    entries: &[Entry],
) -> Result<Vec<Result<Option<Claim>, Error>>, Trouble> {
    let backfills: Vec<_> =
        entries.iter().filter_map(|e| if let Entry::Backfill(b) = e { Some(b) } else { None }).collect();
    let bids: Vec<_> = entries.iter().filter_map(|e| if let Entry::Bid(b) = e { Some(b) } else { None }).collect();
    let tombstones: Vec<_> =
        entries.iter().filter_map(|e| if let Entry::Tombstone(t) = e { Some(t) } else { None }).collect();
    if !backfills.is_empty() {
        complete(connection, &backfills).await?;
    }
    if !tombstones.is_empty() {
        bury(connection, &tombstones).await?;
    }
    let mut claims = if bids.is_empty() { Vec::new() } else { claim(connection, &bids).await? }.into_iter();
    let answers = entries.iter().map(|entry| match entry {
        Entry::Backfill(_) | Entry::Tombstone(_) => Ok(None),
        Entry::Bid(_) => claims.next().unwrap_or_else(|| Err(misunderstood("a claim went unanswered"))).map(Some),
    });
    Ok(answers.collect())
}

/// Claims homes for many subjects in one transaction, first come first served.
///
/// All rows of a subject are offered at once, in the order of their digests, so that two gateways that
/// claim the same subjects wait for each other instead of deadlocking. Wherever one row of a subject
/// stood before, that pin is the winner, and the rows of ours that went in beside it take it over
/// before anybody can see them.
async fn claim(connection: &mut PgConnection, bids: &[&Bid]) -> Result<Vec<Result<Claim, Error>>, Trouble> {
    // Of several bids for one subject in one batch, the one that arrived first stands for all.
    let mut first: HashMap<SubjectDigest, usize> = HashMap::with_capacity(bids.len());
    for (n, bid) in bids.iter().enumerate() {
        first.entry(bid.digests[0]).or_insert(n);
    }
    let offered = || first.values().flat_map(|&n| bids[n].digests.iter().map(move |digest| (digest, &bids[n].region)));

    let mut transaction = connection.begin().await?;
    let inserted = sqlx::query(
        "INSERT INTO domicile.pins (subject_digest, key_id, region, epoch, state) \
         SELECT subject_digest, key_id, region, 1, 'active' \
         FROM unnest($1::bytea[], $2::smallint[], $3::text[]) AS offered (subject_digest, key_id, region) \
         ORDER BY subject_digest \
         ON CONFLICT (subject_digest) DO NOTHING \
         RETURNING subject_digest",
    )
    .bind(offered().map(|(digest, _)| digest.bytes).collect::<Vec<_>>())
    .bind(offered().map(|(digest, _)| digest.key_id.cast_signed()).collect::<Vec<_>>())
    .bind(offered().map(|(_, region)| region.as_str()).collect::<Vec<_>>())
    .fetch_all(&mut *transaction)
    .await?;
    let ours: HashSet<[u8; 32]> = inserted.iter().map(digest_of).collect::<Result<_, _>>()?;

    let lost: Vec<&Bid> = first
        .values()
        .map(|&n| bids[n])
        .filter(|bid| !bid.digests.iter().all(|digest| ours.contains(&digest.bytes)))
        .collect();
    let mut rows = Rows::new();
    if !lost.is_empty() {
        // A new statement sees what was committed while the INSERT waited for it.
        rows = rows_of(&mut transaction, lost.iter().flat_map(|bid| &bid.digests)).await?;
        rows.retain(|digest, _| !ours.contains(digest));
        take_over(&mut transaction, &lost, &ours, &rows).await?;
    }
    transaction.commit().await?;

    Ok(bids
        .iter()
        .enumerate()
        .map(|(n, bid)| {
            let standing = first[&bid.digests[0]];
            match pinned(&bid.digests, &rows)? {
                Some(pinned) => Ok(Claim { pin: pinned.pin, fresh: false }),
                None => Ok(Claim { pin: first_home(&bids[standing].region), fresh: n == standing }),
            }
        })
        .collect())
}

/// Rows that were inserted beside a pin that stood before become rows of that pin.
async fn take_over(
    connection: &mut PgConnection,
    lost: &[&Bid],
    ours: &HashSet<[u8; 32]>,
    rows: &Rows,
) -> Result<(), Trouble> {
    let mut digests: Vec<[u8; 32]> = Vec::new();
    let mut pins: Vec<Pin> = Vec::new();
    for bid in lost {
        let standing = match pinned(&bid.digests, rows) {
            Ok(Some(pinned)) => pinned.pin,
            // The row was removed between our two statements: nobody holds the pin now, so bid again.
            Ok(None) => return Err(Trouble::Conflict(Cause::new("a pin vanished while it was claimed"))),
            // The rows that stood before contradict each other. The subject's claim fails; ours must not add to it.
            Err(_) => return Err(Trouble::Internal(Cause::new("the rows of a pin contradict each other"))),
        };
        for digest in bid.digests.iter().filter(|digest| ours.contains(&digest.bytes)) {
            digests.push(digest.bytes);
            pins.push(standing.clone());
        }
    }
    if digests.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE domicile.pins AS pin SET region = standing.region, epoch = standing.epoch, state = standing.state, \
                erased_at = CASE WHEN standing.state = 'erased' THEN now() END \
         FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::text[]) \
              AS standing (subject_digest, region, epoch, state) \
         WHERE pin.subject_digest = standing.subject_digest",
    )
    .bind(digests)
    .bind(pins.iter().map(|pin| pin.region.as_str()).collect::<Vec<_>>())
    .bind(pins.iter().map(|pin| pin.epoch.0.cast_signed()).collect::<Vec<_>>())
    .bind(pins.iter().map(|pin| state_name(pin.state)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Copies rows to the peppers that lack them. The copied row is locked meanwhile, so that a pin that
/// is just being changed is copied as it will be.
async fn complete(connection: &mut PgConnection, backfills: &[&Backfill]) -> Result<(), Trouble> {
    let missing = || backfills.iter().flat_map(|b| b.missing.iter().map(move |digest| (digest, &b.standing)));
    sqlx::query(
        "INSERT INTO domicile.pins (subject_digest, key_id, region, epoch, state, erased_at) \
         SELECT missing.subject_digest, missing.key_id, pin.region, pin.epoch, pin.state, pin.erased_at \
         FROM (SELECT * FROM unnest($1::bytea[], $2::smallint[], $3::bytea[]) \
                    AS missing (subject_digest, key_id, standing) ORDER BY subject_digest) AS missing \
         JOIN domicile.pins AS pin ON pin.subject_digest = missing.standing \
         ORDER BY missing.subject_digest \
         FOR SHARE OF pin \
         ON CONFLICT (subject_digest) DO NOTHING",
    )
    .bind(missing().map(|(digest, _)| digest.bytes).collect::<Vec<_>>())
    .bind(missing().map(|(digest, _)| digest.key_id.cast_signed()).collect::<Vec<_>>())
    .bind(missing().map(|(_, standing)| standing.bytes).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends pins. A pin that is not there is made to have ended, so that a directory which was restored from before the
/// pin refuses the subject all the same; one that moved on to another home is another matter, and stays.
async fn bury(connection: &mut PgConnection, tombstones: &[&Tombstone]) -> Result<(), Trouble> {
    let one = |n: usize| (tombstones[n].erasure.digest, n);
    // Of a digest that comes twice the first one stands.
    let first: BTreeMap<SubjectDigest, usize> = (0..tombstones.len()).rev().map(one).collect();
    let chosen: Vec<&Tombstone> = first.values().map(|&n| tombstones[n]).collect();
    sqlx::query(
        "INSERT INTO domicile.pins AS pin (subject_digest, key_id, region, epoch, state, erased_at) \
         SELECT t.subject_digest, t.key_id, t.region, t.epoch, 'erased', t.erased_at \
         FROM unnest($1::bytea[], $2::smallint[], $3::text[], $4::bigint[], $5::timestamptz[]) \
              AS t (subject_digest, key_id, region, epoch, erased_at) \
         ORDER BY t.subject_digest \
         ON CONFLICT (subject_digest) DO UPDATE SET state = 'erased', epoch = excluded.epoch, erased_at = excluded.erased_at \
         WHERE pin.state <> 'erased' AND pin.region = excluded.region AND pin.epoch <= excluded.epoch",
    )
    .bind(chosen.iter().map(|t| t.erasure.digest.bytes).collect::<Vec<_>>())
    .bind(chosen.iter().map(|t| t.erasure.digest.key_id.cast_signed()).collect::<Vec<_>>())
    .bind(chosen.iter().map(|t| t.region.as_str()).collect::<Vec<_>>())
    .bind(chosen.iter().map(|t| t.erasure.epoch.0.cast_signed()).collect::<Vec<_>>())
    .bind(chosen.iter().map(|t| instant(t.erasure.erased_at_us)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Tombstones of a region since a time, in the order of time and digest, behind a place in that order.
pub(super) async fn tombstones(
    connection: &mut PgConnection,
    region: &Region,
    since_us: i64,
    after: Option<&Erasure>,
    limit: i64,
) -> Result<Vec<Erasure>, Trouble> {
    let rows = sqlx::query(
        "SELECT subject_digest, key_id, epoch, erased_at FROM domicile.pins \
         WHERE region = $1 AND state = 'erased' AND erased_at >= $2 \
           AND ($3::timestamptz IS NULL OR (erased_at, subject_digest) > ($3, $4)) \
         ORDER BY erased_at, subject_digest LIMIT $5",
    )
    .bind(region.as_str())
    .bind(instant(since_us))
    .bind(after.map(|erasure| instant(erasure.erased_at_us)))
    .bind(after.map(|erasure| erasure.digest.bytes))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let unfit = |what: &'static str| Trouble::Internal(Cause::new(what));
            let epoch = u64::try_from(row.try_get::<i64, _>(2)?).map_err(|_| unfit("a pin's epoch is negative"))?;
            let key_id = u16::try_from(row.try_get::<i16, _>(1)?).map_err(|_| unfit("a pepper's id is negative"))?;
            let digest = SubjectDigest { key_id, bytes: digest_of(row)? };
            Ok(Erasure { digest, epoch: Epoch(epoch), erased_at_us: microseconds(row.try_get(3)?) })
        })
        .collect()
}

type Rows = HashMap<[u8; 32], Pin>;

async fn rows_of(
    connection: &mut PgConnection,
    digests: impl Iterator<Item = &SubjectDigest>,
) -> Result<Rows, Trouble> {
    let rows =
        sqlx::query("SELECT subject_digest, region, epoch, state FROM domicile.pins WHERE subject_digest = ANY($1)")
            .bind(digests.map(|digest| digest.bytes).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    rows.iter().map(|row| Ok((digest_of(row)?, pin_of(row)?))).collect()
}

/// The pin of a subject, from its rows under all peppers. A pepper's row may lag behind when a gateway that
/// does not know it moved the pin: the highest epoch is the pin, and of one epoch's states the strictest.
fn pinned(digests: &[SubjectDigest], rows: &Rows) -> Result<Option<Pinned>, Error> {
    let mut found: Option<(SubjectDigest, &Pin)> = None;
    for digest in digests {
        let Some(row) = rows.get(&digest.bytes) else { continue };
        found = match found {
            Some((_, best)) if best.epoch == row.epoch && best.region != row.region => {
                return Err(misunderstood("the directory holds two homes for one subject"));
            }
            Some((at, best)) if (best.epoch, strictness(best.state)) >= (row.epoch, strictness(row.state)) => {
                Some((at, best))
            }
            _ => Some((*digest, row)),
        };
    }
    Ok(found.map(|(standing, pin)| {
        let missing: Vec<_> = digests.iter().filter(|digest| !rows.contains_key(&digest.bytes)).copied().collect();
        let backfill = (!missing.is_empty()).then_some(Backfill { standing, missing });
        Pinned { pin: pin.clone(), backfill }
    }))
}

fn first_home(region: &Region) -> Pin {
    Pin { region: region.clone(), epoch: Epoch::FIRST, state: PinState::Active }
}

fn strictness(state: PinState) -> u8 {
    match state {
        PinState::Active => 0,
        PinState::Moving => 1,
        PinState::Erased => 2,
    }
}

fn state_name(state: PinState) -> &'static str {
    match state {
        PinState::Active => "active",
        PinState::Moving => "moving",
        PinState::Erased => "erased",
    }
}

fn digest_of(row: &PgRow) -> Result<[u8; 32], Trouble> {
    row.try_get::<&[u8], _>("subject_digest")?
        .try_into()
        .map_err(|_| Trouble::Internal(Cause::new("a pin's digest is not 32 bytes long")))
}

fn pin_of(row: &PgRow) -> Result<Pin, Trouble> {
    let unfit = |what: &'static str| Trouble::Internal(Cause::new(what));
    let region = Region::new(row.try_get("region")?).map_err(|_| unfit("a pin names no region"))?;
    let epoch = u64::try_from(row.try_get::<i64, _>("epoch")?).map_err(|_| unfit("a pin's epoch is negative"))?;
    let state = match row.try_get("state")? {
        "active" => PinState::Active,
        "moving" => PinState::Moving,
        "erased" => PinState::Erased,
        _ => return Err(unfit("a pin's state is unknown")),
    };
    Ok(Pin { region, epoch: Epoch(epoch), state })
}
