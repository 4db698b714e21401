//! The table `zero_party`: what people knowingly tell about themselves. Written as `records` is.

use std::borrow::Cow;

use residency::{Purpose, Region};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::records::{Current, column, version};
use crate::deeds::Consent;
use crate::error::{Cause, Trouble};

/// One attribute, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name<'a> {
    pub(super) subject: &'a str,
    pub(super) attribute: &'a str,
}

/// An attribute to be created or replaced.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) name: Name<'a>,
    /// The version it replaces.
    pub(super) before: Option<u64>,
    pub(super) version: u64,
    pub(super) value: &'a str,
    pub(super) consents: &'a [Consent],
    pub(super) source: &'a str,
    pub(super) updated_at: OffsetDateTime,
}

/// An attribute to be withdrawn.
#[derive(Debug)]
pub(super) struct Deleted<'a> {
    pub(super) name: Name<'a>,
    pub(super) before: u64,
}

/// A consent as its column holds it.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    purpose: Cow<'a, str>,
    granted: bool,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    notice_version: Option<Cow<'a, str>>,
    given_at_us: i64,
}

fn consents_column(consents: &[Consent]) -> String {
    let stored: Vec<Stored<'_>> = consents
        .iter()
        .map(|consent| Stored {
            purpose: consent.purpose.as_str().into(),
            granted: consent.granted,
            notice_version: consent.notice_version.as_deref().map(Into::into),
            given_at_us: consent.given_at_us,
        })
        .collect();
    // Strings, integers and booleans: there is nothing in it that cannot be written.
    serde_json::to_string(&stored).unwrap_or_else(|_| "[]".to_owned())
}

/// Reads consents from their column.
pub(super) fn consents(column: &str) -> Result<Vec<Consent>, Trouble> {
    let broken = || Trouble::Internal(Cause::new("an attribute's consents cannot be read"));
    let stored: Vec<Stored<'_>> = serde_json::from_str(column).map_err(|_| broken())?;
    stored
        .into_iter()
        .map(|stored| {
            Ok(Consent {
                purpose: Purpose::new(&stored.purpose).map_err(|_| broken())?,
                granted: stored.granted,
                notice_version: stored.notice_version.map(Cow::into_owned),
                given_at_us: stored.given_at_us,
            })
        })
        .collect()
}

/// Locks what stands under these names, in the order of the names.
pub(super) async fn lock(connection: &mut PgConnection, region: &Region, names: &[Name<'_>]) -> Result<(), Trouble> {
    let mut names = names.to_vec();
    names.sort_unstable();
    sqlx::query(
        "SELECT count(*) FROM ( \
             SELECT 1 FROM unnest($2::text[], $3::text[]) AS k(subject, attribute) \
             JOIN domicile.zero_party AS z \
               ON z.region = $1 AND z.subject = k.subject AND z.attribute = k.attribute \
             FOR UPDATE OF z) AS locked",
    )
    .bind(region.as_str())
    .bind(names.iter().map(|name| name.subject).collect::<Vec<_>>())
    .bind(names.iter().map(|name| name.attribute).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// What stands under these names, in their order.
pub(super) async fn load(
    connection: &mut PgConnection,
    region: &Region,
    names: &[Name<'_>],
) -> Result<Vec<Current>, Trouble> {
    let rows = sqlx::query(
        "SELECT k.ord, z.version, \
                CASE WHEN z.version IS NULL THEN \
                    (SELECT s.version_floor FROM domicile.subjects AS s WHERE s.subject = k.subject) END AS floor \
         FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS k(subject, attribute, ord) \
         LEFT JOIN domicile.zero_party AS z \
                ON z.region = $1 AND z.subject = k.subject AND z.attribute = k.attribute",
    )
    .bind(region.as_str())
    .bind(names.iter().map(|name| name.subject).collect::<Vec<_>>())
    .bind(names.iter().map(|name| name.attribute).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut found: Vec<Current> = names.iter().map(|_| Current::default()).collect();
    for row in rows {
        let at = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0).wrapping_sub(1);
        let current = found.get_mut(at).ok_or_else(|| Trouble::Internal(Cause::new("a row nobody asked for")))?;
        current.version = row.try_get::<Option<i64>, _>(1)?.map(version).transpose()?;
        current.floor = version(row.try_get::<Option<i64>, _>(2)?.unwrap_or(0))?;
    }
    Ok(found)
}

/// Creates and replaces attributes. How many were: a missing one was changed meanwhile.
pub(super) async fn write(
    connection: &mut PgConnection,
    region: &Region,
    written: &[Written<'_>],
) -> Result<u64, Trouble> {
    let row = sqlx::query(
        "WITH w AS MATERIALIZED ( \
             SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::timestamptz[]) \
                  AS w(subject, attribute, before, version, value, consents, source, updated_at)), \
         created AS ( \
             INSERT INTO domicile.zero_party (region, subject, attribute, version, value, consents, source, updated_at) \
             SELECT $1, subject, attribute, version, value::jsonb, consents::jsonb, source, updated_at \
             FROM w WHERE before IS NULL ON CONFLICT DO NOTHING RETURNING 1), \
         replaced AS ( \
             UPDATE domicile.zero_party AS z \
             SET version = w.version, value = w.value::jsonb, consents = w.consents::jsonb, source = w.source, \
                 updated_at = w.updated_at \
             FROM w \
             WHERE w.before IS NOT NULL AND z.region = $1 AND z.subject = w.subject AND z.attribute = w.attribute \
               AND z.version = w.before RETURNING 1) \
         SELECT (SELECT count(*) FROM created) + (SELECT count(*) FROM replaced)",
    )
    .bind(region.as_str())
    .bind(written.iter().map(|w| w.name.subject).collect::<Vec<_>>())
    .bind(written.iter().map(|w| w.name.attribute).collect::<Vec<_>>())
    .bind(written.iter().map(|w| w.before.map(column)).collect::<Vec<_>>())
    .bind(written.iter().map(|w| column(w.version)).collect::<Vec<_>>())
    .bind(written.iter().map(|w| w.value).collect::<Vec<_>>())
    .bind(written.iter().map(|w| consents_column(w.consents)).collect::<Vec<_>>())
    .bind(written.iter().map(|w| w.source).collect::<Vec<_>>())
    .bind(written.iter().map(|w| w.updated_at).collect::<Vec<_>>())
    .fetch_one(connection)
    .await?;
    version(row.try_get(0)?)
}

/// Deletes attributes. How many were: a missing one was changed meanwhile.
pub(super) async fn delete(
    connection: &mut PgConnection,
    region: &Region,
    deleted: &[Deleted<'_>],
) -> Result<u64, Trouble> {
    let done = sqlx::query(
        "DELETE FROM domicile.zero_party AS z \
         USING unnest($2::text[], $3::text[], $4::bigint[]) AS d(subject, attribute, before) \
         WHERE z.region = $1 AND z.subject = d.subject AND z.attribute = d.attribute AND z.version = d.before",
    )
    .bind(region.as_str())
    .bind(deleted.iter().map(|d| d.name.subject).collect::<Vec<_>>())
    .bind(deleted.iter().map(|d| d.name.attribute).collect::<Vec<_>>())
    .bind(deleted.iter().map(|d| column(d.before)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn consents_come_back_as_they_went() {
        let said = vec![
            Consent {
                purpose: Purpose::new("recommendations").unwrap(),
                granted: true,
                notice_version: Some("2026-\"11\"".to_owned()),
                given_at_us: 1_795_392_000_000_000,
            },
            Consent { purpose: Purpose::new("ads").unwrap(), granted: false, notice_version: None, given_at_us: 0 },
        ];
        assert_eq!(consents(&consents_column(&said)).unwrap(), said);
    }
}
