//! The SQL of lookups: each kind is one set-based SELECT that joins what is asked for to the subject's row.

use leaf::SubjectTag;
use residency::{Attribute, Epoch, PinState, RecordKey, SubjectId};
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::Query as Statement;

use super::details::Sealer;
use super::events::microseconds;
use super::reader::Query;
use super::records::version;
use super::remembered::Remembered;
use super::subjects::{self as registered, Known, known};
use super::tally::Tally;
use super::zero_party::consents;
use super::{Shared, erasures};
use crate::deeds::{AttributeState, Extent, Found, Lookup, Record};
use crate::error::{Cause, Error, Trouble};

/// Attributes of one subject in one answer.
const ATTRIBUTES_MAX: i64 = 1_000;

/// What one lookup saw.
#[derive(Debug)]
pub(super) struct Sight {
    /// Of the subject, if it is registered here.
    pub(super) tag: Option<SubjectTag>,
    pub(super) sealer: Option<Sealer>,
    pub(super) found: Result<Found, Error>,
}

/// One thing to look up: its place in the batch, whose it is, and the rest.
#[derive(Debug)]
pub(super) struct Ask<'a, What> {
    at: usize,
    who: &'a SubjectId,
    epoch: Epoch,
    what: What,
}

impl<'a, What> Ask<'a, What> {
    pub(super) fn who(&self) -> &'a SubjectId {
        self.who
    }

    pub(super) fn subject(&self) -> &'a str {
        self.who.expose()
    }

    pub(super) fn what(&self) -> &What {
        &self.what
    }
}

/// A batch sorted by kind.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    /// Collection and key.
    pub(super) records: Vec<Ask<'a, (&'a str, &'a RecordKey)>>,
    /// Collection, the key to begin behind, and how many.
    pub(super) lists: Vec<Ask<'a, (&'a str, &'a str, u16)>>,
    pub(super) attributes: Vec<Ask<'a, &'a Attribute>>,
    pub(super) all_attributes: Vec<Ask<'a, ()>>,
    pub(super) subjects: Vec<Ask<'a, ()>>,
    pub(super) extents: Vec<Ask<'a, ()>>,
    /// Attribute, the position to stay below, and how many.
    pub(super) histories: Vec<Ask<'a, (&'a str, Option<u64>, u16)>>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(queries: &'a [Query]) -> Self {
        let mut asked = Self::default();
        for (at, query) in queries.iter().enumerate() {
            let (who, epoch) = (query.permit.subject(), query.permit.epoch());
            match &query.lookup {
                Lookup::Record { collection, key } => {
                    asked.records.push(Ask { at, who, epoch, what: (collection.as_str(), key) });
                }
                Lookup::Records { collection, after, limit } => {
                    let after = after.as_ref().map_or("", RecordKey::expose);
                    let what = (collection.as_str(), after, (*limit).clamp(1, 1_000));
                    asked.lists.push(Ask { at, who, epoch, what });
                }
                Lookup::Attribute(attribute) => asked.attributes.push(Ask { at, who, epoch, what: attribute }),
                Lookup::Attributes => asked.all_attributes.push(Ask { at, who, epoch, what: () }),
                Lookup::Subject => asked.subjects.push(Ask { at, who, epoch, what: () }),
                Lookup::History { attribute, before, limit } => {
                    let what = (attribute.as_str(), *before, (*limit).clamp(1, 100));
                    asked.histories.push(Ask { at, who, epoch, what });
                }
                Lookup::Extent => asked.extents.push(Ask { at, who, epoch, what: () }),
            }
        }
        asked
    }
}

/// What a lookup finds where there is nothing.
pub(super) fn nothing(lookup: &Lookup) -> Found {
    match lookup {
        Lookup::Record { .. } => Found::Record(None),
        Lookup::Records { .. } => Found::Records { items: Vec::new(), more: false },
        Lookup::Attribute(_) => Found::Attribute(None),
        Lookup::Attributes => Found::Attributes(Vec::new()),
        Lookup::Subject => Found::Subject(None),
        Lookup::History { .. } => Found::History { items: Vec::new(), more: false },
        Lookup::Extent => Found::Extent(Extent::default()),
    }
}

/// How much is disclosed: rows, and bytes of content.
pub(super) fn size(found: &Found) -> (u64, u64) {
    let records =
        |items: &[Record]| (items.len() as u64, items.iter().map(|record| record.body.get().len() as u64).sum());
    let attributes =
        |items: &[AttributeState]| (items.len() as u64, items.iter().map(|state| state.value.get().len() as u64).sum());
    match found {
        Found::Record(record) => records(record.as_slice()),
        Found::Records { items, .. } => records(items),
        Found::Attribute(attribute) => attributes(attribute.as_slice()),
        Found::Attributes(items) => attributes(items),
        Found::Subject(subject) => (u64::from(subject.is_some()), 0),
        Found::History { items, .. } => {
            let bytes = |value: &RawValue| value.get().len() as u64;
            (items.len() as u64, items.iter().filter_map(|change| change.value.as_deref()).map(bytes).sum())
        }
        // Numbers only.
        Found::Extent(_) => (0, 0),
    }
}

/// Single records. Columns 0 to 5 of every statement here are the subject's, see [`known`], or null when it
/// is not registered here; column 6 is the place in the batch. The joins are outer ones so that they always
/// begin with what is asked for, however small a table was when its statement was planned.
///
/// Of single records and attributes, which are asked for most, only the subjects that are not [remembered](Remembered) are
/// joined; column 7 is the fence.
pub(super) async fn records(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'_, (&str, &RecordKey)>],
    sights: &mut [Option<Sight>],
    tally: &mut Tally,
) -> Result<(), Trouble> {
    let collections: Vec<&str> = asked.iter().map(|ask| ask.what.0).collect();
    let keys: Vec<&str> = asked.iter().map(|ask| ask.what.1.expose()).collect();
    let subjects: Vec<&str> = asked.iter().map(Ask::subject).collect();
    let statement = |strangers| {
        sqlx::query(
            "SELECT s.state, s.epoch, s.secret, s.digest, s.key_id, s.registered_at, k.ord, \
                    (SELECT h.fence FROM domicile.head AS h WHERE h.only_row), r.version, r.body::text, r.updated_at \
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY \
                  AS k(subject, stranger, collection, key, ord) \
             LEFT JOIN domicile.subjects AS s ON s.subject = k.stranger \
             LEFT JOIN domicile.records AS r \
                    ON r.region = $1 AND r.subject = k.subject AND r.collection = k.collection AND r.key = k.key",
        )
        .bind(shared.region.as_str())
        .bind(&subjects)
        .bind(strangers)
        .bind(&collections)
        .bind(&keys)
    };
    each_of(shared, connection, asked, sights, tally, statement, |ask, row| {
        let Some(at) = row.try_get::<Option<i64>, _>(8)? else { return Ok(Found::Record(None)) };
        let record = Record {
            key: ask.what.1.clone(),
            version: version(at)?,
            body: json(row, 9)?,
            updated_at_us: microseconds(row.try_get(10)?),
        };
        Ok(Found::Record(Some(record)))
    })
    .await
}

/// Single attributes.
pub(super) async fn attributes(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'_, &Attribute>],
    sights: &mut [Option<Sight>],
    tally: &mut Tally,
) -> Result<(), Trouble> {
    let subjects: Vec<&str> = asked.iter().map(Ask::subject).collect();
    let names: Vec<&str> = asked.iter().map(|ask| ask.what.as_str()).collect();
    let statement = |strangers| {
        sqlx::query(
            "SELECT s.state, s.epoch, s.secret, s.digest, s.key_id, s.registered_at, k.ord, \
                    (SELECT h.fence FROM domicile.head AS h WHERE h.only_row), \
                    z.version, z.value::text, z.updated_at, z.attribute, z.consents::text, z.source \
             FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS k(subject, stranger, attribute, ord) \
             LEFT JOIN domicile.subjects AS s ON s.subject = k.stranger \
             LEFT JOIN domicile.zero_party AS z \
                    ON z.region = $1 AND z.subject = k.subject AND z.attribute = k.attribute",
        )
        .bind(shared.region.as_str())
        .bind(&subjects)
        .bind(strangers)
        .bind(&names)
    };
    each_of(shared, connection, asked, sights, tally, statement, |_, row| Ok(Found::Attribute(attribute(row, 8)?)))
        .await
}

/// Single things, each in a row of its own: `statement` is made for the subjects whose rows are to be read, `found` takes a
/// row apart. Column 9 is what may be large.
async fn each_of<'a, 's, What>(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'a, What>],
    sights: &mut [Option<Sight>],
    tally: &mut Tally,
    statement: impl Fn(Vec<Option<&'a str>>) -> Statement<'s, Postgres, PgArguments>,
    found: impl Fn(&Ask<'a, What>, &PgRow) -> Result<Found, Trouble>,
) -> Result<(), Trouble> {
    let before = tally.clone();
    let mut remembered = Remembered::of(shared, asked);
    loop {
        let rows = tally.rows(statement(remembered.strangers(asked)), connection, 9).await?;
        let Some(first) = rows.first() else { return Ok(()) };
        let fence = version(first.try_get(7)?)?;
        shared.head.saw_fence(fence);
        if !remembered.holds_under(fence) {
            remembered = Remembered::nobody(asked.len());
            *tally = before.clone();
            continue;
        }
        for row in &rows {
            let ask = of(asked, row)?;
            if let Some(known) = remembered.subject(shared, place_of(row)?, ask, row, fence)? {
                note(sights, ask, &known, || found(ask, row))?;
            }
        }
        return Ok(());
    }
}

/// All attributes of subjects.
pub(super) async fn all_attributes(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'_, ()>],
    sights: &mut [Option<Sight>],
    tally: &mut Tally,
) -> Result<(), Trouble> {
    let statement = sqlx::query(
        "SELECT s.state, s.epoch, s.secret, s.digest, s.key_id, s.registered_at, k.ord, \
                z.version, z.value::text, z.updated_at, z.attribute, z.consents::text, z.source \
         FROM unnest($2::text[]) WITH ORDINALITY AS k(subject, ord) \
         LEFT JOIN domicile.subjects AS s ON s.subject = k.subject \
         LEFT JOIN LATERAL ( \
             SELECT z.attribute, z.version, z.value, z.updated_at, z.consents, z.source FROM domicile.zero_party AS z \
             WHERE z.region = $1 AND z.subject = k.subject ORDER BY z.attribute LIMIT $3) AS z ON true \
         ORDER BY k.ord, z.attribute",
    )
    .bind(shared.region.as_str())
    .bind(asked.iter().map(Ask::subject).collect::<Vec<_>>())
    .bind(ATTRIBUTES_MAX);
    let rows = tally.rows(statement, connection, 8).await?;
    for rows in rows.chunk_by(|a, b| place(a) == place(b)) {
        see(shared, sights, of(asked, &rows[0])?, &rows[0], || {
            let found = rows.iter().filter_map(|row| attribute(row, 7).transpose());
            Ok(Found::Attributes(found.collect::<Result<_, _>>()?))
        })?;
    }
    Ok(())
}

/// The subjects themselves.
pub(super) async fn subjects(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'_, ()>],
    sights: &mut [Option<Sight>],
) -> Result<(), Trouble> {
    let rows = sqlx::query(
        "SELECT s.state, s.epoch, s.secret, s.digest, s.key_id, s.registered_at, k.ord \
         FROM unnest($1::text[]) WITH ORDINALITY AS k(subject, ord) \
         LEFT JOIN domicile.subjects AS s ON s.subject = k.subject",
    )
    .bind(asked.iter().map(Ask::subject).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    for row in &rows {
        see(shared, sights, of(asked, row)?, row, || Ok(Found::Subject(Some(known(row, shared, "")?.state))))?;
    }
    Ok(())
}

/// What erasures would take away, one after the other: they are rare.
pub(super) async fn extents(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'_, ()>],
    sights: &mut [Option<Sight>],
) -> Result<(), Trouble> {
    let names: Vec<&str> = asked.iter().map(Ask::subject).collect();
    let known = registered::load(connection, &names, shared).await?;
    for ask in asked {
        let Some(known) = known.get(ask.subject()) else { continue };
        let found = match known.admits_read(ask.epoch) {
            Ok(()) => Ok(Found::Extent(erasures::measure(connection, ask.subject(), known, &shared.origin).await?)),
            Err(error) => Err(error),
        };
        *sights.get_mut(ask.at).ok_or_else(broken)? = Some(Sight { tag: Some(known.tag), sealer: None, found });
    }
    Ok(())
}

/// Of those whom no lookup has found registered: who was erased here.
pub(super) async fn erased(
    shared: &Shared,
    connection: &mut PgConnection,
    queries: &[Query],
    sights: &mut [Option<Sight>],
) -> Result<(), Trouble> {
    let digests = |query: &Query| -> Vec<[u8; 32]> {
        shared.peppers.digests(query.permit.subject()).map(|digest| digest.bytes).collect()
    };
    let unseen: Vec<[u8; 32]> = queries
        .iter()
        .zip(&*sights)
        .filter(|(_, sight)| sight.is_none())
        .flat_map(|(query, _)| digests(query))
        .collect();
    let known = erasures::known(connection, &unseen).await?;
    for (query, sight) in queries.iter().zip(sights).filter(|(_, sight)| sight.is_none()) {
        if digests(query).iter().any(|digest| known.contains(digest)) {
            *sight = Some(Sight { tag: None, sealer: None, found: Err(Error::NotAtHome { state: PinState::Erased }) });
        }
    }
    Ok(())
}

/// Notes what a lookup saw, unless the subject is not at home here.
pub(super) fn see<What>(
    shared: &Shared,
    sights: &mut [Option<Sight>],
    ask: &Ask<'_, What>,
    row: &PgRow,
    found: impl FnOnce() -> Result<Found, Trouble>,
) -> Result<(), Trouble> {
    if row.try_get::<Option<&str>, _>(0)?.is_none() {
        return Ok(());
    }
    note(sights, ask, &known(row, shared, ask.subject())?, found)
}

/// Notes what a lookup saw of this subject, unless it is not at home here.
fn note<What>(
    sights: &mut [Option<Sight>],
    ask: &Ask<'_, What>,
    known: &Known,
    found: impl FnOnce() -> Result<Found, Trouble>,
) -> Result<(), Trouble> {
    let found = match known.admits_read(ask.epoch) {
        Ok(()) => Ok(found()?),
        Err(error) => Err(error),
    };
    let sight = Sight { tag: Some(known.tag), sealer: known.sealer.clone(), found };
    *sights.get_mut(ask.at).ok_or_else(broken)? = Some(sight);
    Ok(())
}

/// An attribute, from column `at` on.
fn attribute(row: &PgRow, at: usize) -> Result<Option<AttributeState>, Trouble> {
    let Some(number) = row.try_get::<Option<i64>, _>(at)? else { return Ok(None) };
    Ok(Some(AttributeState {
        version: version(number)?,
        value: json(row, at + 1)?,
        updated_at_us: microseconds(row.try_get(at + 2)?),
        attribute: Attribute::new(row.try_get(at + 3)?).map_err(|_| broken())?,
        consents: consents(row.try_get(at + 4)?)?,
        source: row.try_get(at + 5)?,
    }))
}

/// JSON as the database writes it. It was parsed by the database, so it is only checked here, not read.
pub(super) fn json(row: &PgRow, column: usize) -> Result<Box<RawValue>, Trouble> {
    RawValue::from_string(row.try_get(column)?).map_err(|_| broken())
}

pub(super) fn place(row: &PgRow) -> Option<i64> {
    row.try_get(6).ok()
}

pub(super) fn of<'a, 'b, What>(asked: &'a [Ask<'b, What>], row: &PgRow) -> Result<&'a Ask<'b, What>, Trouble> {
    asked.get(place_of(row)?).ok_or_else(broken)
}

/// Which of those that are asked for a row is about, from 0.
fn place_of(row: &PgRow) -> Result<usize, Trouble> {
    Ok(usize::try_from(row.try_get::<i64, _>(6)?).unwrap_or(0).wrapping_sub(1))
}

pub(super) fn broken() -> Trouble {
    Trouble::Internal(Cause::new("a row holds what it cannot hold"))
}
