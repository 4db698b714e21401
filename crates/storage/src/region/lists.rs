//! Pages of collections: several in one SELECT, each cut to a size that can be held.

use residency::RecordKey;
use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::Shared;
use super::events::microseconds;
use super::lookups::{Ask, Sight, broken, json, of, place, see};
use super::records::version;
use super::tally::Tally;
use crate::deeds::{Found, Record};
use crate::error::Trouble;

/// Bytes of bodies in one page of a collection, before its last record.
const PAGE_BYTES_MAX: i64 = 4 << 20;
/// What a compressed body is taken for, in multiples of its stored size, before it is unpacked.
const UNPACKED: i32 = 4;

/// Pages of collections. A page ends before the record that would begin behind [`PAGE_BYTES_MAX`], so it holds at
/// least one, and `more` says that there is another page.
///
/// It is cut twice. First by what the bodies weigh where they are stored, which is read without reading them: a compressed
/// one counts [`UNPACKED`] times, since it will be larger. Only what is left is made into text, and cut by that.
pub(super) async fn pages(
    shared: &Shared,
    connection: &mut PgConnection,
    asked: &[Ask<'_, (&str, &str, u16)>],
    sights: &mut [Option<Sight>],
    tally: &mut Tally,
) -> Result<(), Trouble> {
    let statement = sqlx::query(
        "SELECT s.state, s.epoch, s.secret, s.digest, s.key_id, s.registered_at, k.ord, \
                r.version, r.body, r.updated_at, r.key, r.wanted \
         FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) WITH ORDINALITY \
              AS k(subject, collection, after, wanted, ord) \
         LEFT JOIN domicile.subjects AS s ON s.subject = k.subject \
         LEFT JOIN LATERAL ( \
             SELECT text.*, sum(octet_length(text.body)) OVER ( \
                        ORDER BY text.key ROWS UNBOUNDED PRECEDING) - octet_length(text.body) AS before \
             FROM ( \
                 SELECT stored.key, stored.version, stored.body::text AS body, stored.updated_at, stored.wanted \
                 FROM ( \
                     SELECT page.*, count(*) OVER () AS wanted, \
                            sum(page.weight) OVER (ORDER BY page.key ROWS UNBOUNDED PRECEDING) - page.weight AS before \
                     FROM ( \
                         SELECT r.key, r.version, r.body, r.updated_at, pg_column_size(r.body) \
                                * CASE WHEN pg_column_compression(r.body) IS NULL THEN 1 ELSE $7 END AS weight \
                         FROM domicile.records AS r \
                         WHERE r.region = $1 AND r.subject = k.subject AND r.collection = k.collection \
                           AND r.key > k.after \
                         ORDER BY r.key LIMIT k.wanted) AS page) AS stored \
                 WHERE stored.before < $6 \
                 ORDER BY stored.key OFFSET 0) AS text) AS r ON r.before < $6 \
         ORDER BY k.ord, r.key",
    )
    .bind(shared.region.as_str())
    .bind(asked.iter().map(|ask| ask.subject()).collect::<Vec<_>>())
    .bind(asked.iter().map(|ask| ask.what().0).collect::<Vec<_>>())
    .bind(asked.iter().map(|ask| ask.what().1).collect::<Vec<_>>())
    // One more than wanted tells whether there are more.
    .bind(asked.iter().map(|ask| i64::from(ask.what().2) + 1).collect::<Vec<_>>())
    .bind(PAGE_BYTES_MAX)
    .bind(UNPACKED);
    let rows = tally.rows(statement, connection, 8).await?;
    for rows in rows.chunk_by(|a, b| place(a) == place(b)) {
        let ask = of(asked, &rows[0])?;
        see(shared, sights, ask, &rows[0], || {
            let mut items = Vec::with_capacity(rows.len());
            for row in rows {
                let Some(at) = row.try_get::<Option<i64>, _>(7)? else { continue };
                items.push(Record {
                    key: RecordKey::new(row.try_get(10)?).map_err(|_| broken())?,
                    version: version(at)?,
                    body: json(row, 8)?,
                    updated_at_us: microseconds(row.try_get(9)?),
                });
            }
            items.truncate(usize::from(ask.what().2));
            let there = rows[0].try_get::<Option<i64>, _>(11)?.unwrap_or_default();
            let more = usize::try_from(there).unwrap_or_default() > items.len();
            Ok(Found::Records { items, more })
        })?;
    }
    Ok(())
}
