//! The SQL of lookups: each kind is one set-based SELECT that joins what is asked for to the subject's row.

use leaf::SubjectTag;
use residency::{Attribute, Epoch, PinState, RecordKey};
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::details::Sealer;
use super::events::microseconds;
use super::reader::Query;
use super::records::version;
use super::subjects::{self as registered, known};
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
    subject: &'a str,
    epoch: Epoch,
    what: What,
}

impl<What> Ask<'_, What> {
    pub(super) fn subject(&self) -> &str {
        self.subject
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
            let (subject, epoch) = (query.permit.subject().expose(), query.permit.epoch());
            match &query.lookup {
                Lookup::Record { collection, key } => {
                    asked.records.push(Ask { at, subject, epoch, what: (collection.as_str(), key) });
                }
                Lookup::Records { collection, after, limit } => {
                    let after = after.as_ref().map_or("", RecordKey::expose);
                    let what = (collection.as_str(), after, (*limit).clamp(1, 1_000));
                    asked.lists.push(Ask { at, subject, epoch, what });
                }
                Lookup::Attribute(attribute) => asked.attributes.push(Ask { at, subject, epoch, what: attribute }),
                Lookup::Attributes => asked.all_attributes.push(Ask { at, subject, epoch, what: () }),
                Lookup::Subject => asked.subjects.push(Ask { at, subject, epoch, what: () }),
                Lookup::History { attribute, before, limit } => {
                    let what = (attribute.as_str(), *before, (*limit).clamp(1, 100));
                    asked.histories.push(Ask { at, subject, epoch, what });
                }
                Lookup::Extent => asked.extents.push(Ask { at, subject, epoch, what: () }),
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
pub(super) async fn records(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'_, (&str, &RecordKey)>],
    sights: &mut [Option<Sight>],
    tally: &mut Tally,
) -> Result<(), Trouble> {
    let statement = sqlx::query(
        "SELECT s.state, s.epoch, s.secret, s.digest, s.key_id, s.registered_at, k.ord, \
                r.version, r.body::text, r.updated_at \
         FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS k(subject, collection, key, ord) \
         LEFT JOIN domicile.subjects AS s ON s.subject = k.subject \
         LEFT JOIN domicile.records AS r \
                ON r.region = $1 AND r.subject = k.subject AND r.collection = k.collection AND r.key = k.key",
    )
    .bind(shared.region.as_str())
    .bind(asked.iter().map(|ask| ask.subject).collect::<Vec<_>>())
    .bind(asked.iter().map(|ask| ask.what.0).collect::<Vec<_>>())
    .bind(asked.iter().map(|ask| ask.what.1.expose()).collect::<Vec<_>>());
    let rows = tally.rows(statement, connection, 8).await?;
    for row in &rows {
        let ask = of(asked, row)?;
        see(shared, sights, ask, row, || {
            let Some(at) = row.try_get::<Option<i64>, _>(7)? else { return Ok(Found::Record(None)) };
            let record = Record {
                key: ask.what.1.clone(),
                version: version(at)?,
                body: json(row, 8)?,
                updated_at_us: microseconds(row.try_get(9)?),
            };
            Ok(Found::Record(Some(record)))
        })?;
    }
    Ok(())
}

/// Single attributes.
pub(super) async fn attributes(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'_, &Attribute>],
    sights: &mut [Option<Sight>],
    tally: &mut Tally,
) -> Result<(), Trouble> {
    let statement = sqlx::query(
        "SELECT s.state, s.epoch, s.secret, s.digest, s.key_id, s.registered_at, k.ord, \
                z.version, z.value::text, z.updated_at, z.attribute, z.consents::text, z.source \
         FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS k(subject, attribute, ord) \
         LEFT JOIN domicile.subjects AS s ON s.subject = k.subject \
         LEFT JOIN domicile.zero_party AS z \
                ON z.region = $1 AND z.subject = k.subject AND z.attribute = k.attribute",
    )
    .bind(shared.region.as_str())
    .bind(asked.iter().map(|ask| ask.subject).collect::<Vec<_>>())
    .bind(asked.iter().map(|ask| ask.what.as_str()).collect::<Vec<_>>());
    let rows = tally.rows(statement, connection, 8).await?;
    for row in &rows {
        see(shared, sights, of(asked, row)?, row, || Ok(Found::Attribute(attribute(row)?)))?;
    }
    Ok(())
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
    .bind(asked.iter().map(|ask| ask.subject).collect::<Vec<_>>())
    .bind(ATTRIBUTES_MAX);
    let rows = tally.rows(statement, connection, 8).await?;
    for rows in rows.chunk_by(|a, b| place(a) == place(b)) {
        see(shared, sights, of(asked, &rows[0])?, &rows[0], || {
            let found = rows.iter().filter_map(|row| attribute(row).transpose());
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
    .bind(asked.iter().map(|ask| ask.subject).collect::<Vec<_>>())
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
    let names: Vec<&str> = asked.iter().map(|ask| ask.subject).collect();
    let known = registered::load(connection, &names, shared).await?;
    for ask in asked {
        let Some(known) = known.get(ask.subject) else { continue };
        let found = match known.admits_read(ask.epoch) {
            Ok(()) => Ok(Found::Extent(erasures::measure(connection, ask.subject, known, &shared.origin).await?)),
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
    let known = known(row, shared, ask.subject)?;
    let found = match known.admits_read(ask.epoch) {
        Ok(()) => Ok(found()?),
        Err(error) => Err(error),
    };
    *sights.get_mut(ask.at).ok_or_else(broken)? = Some(Sight { tag: Some(known.tag), sealer: known.sealer, found });
    Ok(())
}

fn attribute(row: &PgRow) -> Result<Option<AttributeState>, Trouble> {
    let Some(at) = row.try_get::<Option<i64>, _>(7)? else { return Ok(None) };
    Ok(Some(AttributeState {
        attribute: Attribute::new(row.try_get(10)?).map_err(|_| broken())?,
        value: json(row, 8)?,
        version: version(at)?,
        consents: consents(row.try_get(11)?)?,
        source: row.try_get(12)?,
        updated_at_us: microseconds(row.try_get(9)?),
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
    let at = usize::try_from(row.try_get::<i64, _>(6)?).unwrap_or(0).wrapping_sub(1);
    asked.get(at).ok_or_else(broken)
}

pub(super) fn broken() -> Trouble {
    Trouble::Internal(Cause::new("a row holds what it cannot hold"))
}
