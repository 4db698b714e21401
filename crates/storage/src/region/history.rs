//! The table `zero_party_history`: what attributes were, and what was agreed to when. A trigger writes it
//! (migrations 0007 and 0019); here it is read, and the values of attributes that are taken back leave it.

use residency::Purpose;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Shared;
use super::events::microseconds;
use super::lookups::{Ask, Sight, of, place, see};
use super::records::{column, version};
use super::tally::Tally;
use crate::deeds::{AttributeChange, Consent, Found};
use crate::error::{Cause, Trouble};

/// A consent as its event said it.
#[derive(Deserialize)]
struct Said {
    purpose: String,
    granted: bool,
    #[serde(default)]
    notice_version: Option<String>,
    given_at: String,
}

/// Pages of histories: attribute, the position to stay below, and how many.
pub(super) async fn pages(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'_, (&str, Option<u64>, u16)>],
    sights: &mut [Option<Sight>],
    tally: &mut Tally,
) -> Result<(), Trouble> {
    let statement = sqlx::query(
        "SELECT s.state, s.epoch, s.secret, s.digest, s.key_id, s.registered_at, k.ord, \
                h.seq, h.version, h.value::text, h.consents::text, h.source, h.deleted, h.changed_at \
         FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) WITH ORDINALITY \
              AS k(subject, attribute, before, wanted, ord) \
         LEFT JOIN domicile.subjects AS s ON s.subject = k.subject \
         LEFT JOIN LATERAL ( \
             SELECT h.* FROM domicile.zero_party_history AS h \
             WHERE h.digest = s.digest AND h.attribute = k.attribute AND h.seq < k.before \
             ORDER BY h.seq DESC LIMIT k.wanted) AS h ON true \
         ORDER BY k.ord, h.seq DESC",
    )
    .bind(asked.iter().map(Ask::subject).collect::<Vec<_>>())
    .bind(asked.iter().map(|ask| ask.what().0).collect::<Vec<_>>())
    .bind(asked.iter().map(|ask| ask.what().1.map_or(i64::MAX, column)).collect::<Vec<_>>())
    // One more than wanted tells whether there are more.
    .bind(asked.iter().map(|ask| i64::from(ask.what().2) + 1).collect::<Vec<_>>());
    let rows = tally.rows(statement, connection, 9).await?;
    for rows in rows.chunk_by(|a, b| place(a) == place(b)) {
        let ask = of(asked, &rows[0])?;
        see(shared, sights, ask, &rows[0], || {
            let mut items = rows.iter().filter_map(|row| change(row).transpose()).collect::<Result<Vec<_>, _>>()?;
            let wanted = usize::from(ask.what().2);
            let more = items.len() > wanted;
            items.truncate(wanted);
            Ok(Found::History { items, more })
        })?;
    }
    Ok(())
}

/// Takes the values of attributes out of the history, in the transaction that takes the attributes back: before the head
/// of the log is taken, so that nobody waits for a long history. Under the head's lock the trigger blanks what has come since.
pub(super) async fn blank(connection: &mut PgConnection, taken_back: &[([u8; 32], &str)]) -> Result<(), Trouble> {
    sqlx::query("SELECT domicile.blank_history($1, $2)")
        .bind(taken_back.iter().map(|(digest, _)| *digest).collect::<Vec<_>>())
        .bind(taken_back.iter().map(|(_, attribute)| *attribute).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

fn change(row: &PgRow) -> Result<Option<AttributeChange>, Trouble> {
    let Some(seq) = row.try_get::<Option<i64>, _>(7)? else { return Ok(None) };
    let value: Option<String> = row.try_get(9)?;
    let said: Vec<Said> = serde_json::from_str(row.try_get(10)?).map_err(|_| broken())?;
    Ok(Some(AttributeChange {
        seq: version(seq)?,
        version: version(row.try_get(8)?)?,
        value: value.map(RawValue::from_string).transpose().map_err(|_| broken())?,
        consents: said.into_iter().map(consent).collect::<Result<_, _>>()?,
        source: row.try_get(11)?,
        deleted: row.try_get(12)?,
        changed_at_us: microseconds(row.try_get(13)?),
    }))
}

fn consent(said: Said) -> Result<Consent, Trouble> {
    let given_at = OffsetDateTime::parse(&said.given_at, &Rfc3339).map_err(|_| broken())?;
    Ok(Consent {
        purpose: Purpose::new(&said.purpose).map_err(|_| broken())?,
        granted: said.granted,
        notice_version: said.notice_version,
        given_at_us: microseconds(given_at),
    })
}

fn broken() -> Trouble {
    Trouble::Internal(Cause::new("a row of the history holds what it cannot hold"))
}
