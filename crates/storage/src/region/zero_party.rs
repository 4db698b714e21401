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

/// What becomes of an attribute: declared, changed or withdrawn.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) name: Name<'a>,
    /// The version it replaces; `None` creates it.
    pub(super) before: Option<u64>,
    /// What it is from now on; `None` deletes it.
    pub(super) after: Option<(u64, Declared<'a>)>,
    pub(super) updated_at: OffsetDateTime,
}

/// What was declared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'a> {
    pub(super) value: &'a str,
    pub(super) consents: &'a [Consent],
    pub(super) source: &'a str,
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

/// Creates, replaces and deletes attributes, as [`records::write`](super::records::write) does. How many were.
pub(super) async fn write(
    connection: &mut PgConnection,
    region: &Region,
    written: &[Written<'_>],
) -> Result<u64, Trouble> {
    let declared = || written.iter().map(|w| w.after.as_ref().map(|(_, declared)| declared));
    let done = sqlx::query(
        "MERGE INTO domicile.zero_party AS z \
         USING unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::timestamptz[]) \
               AS w(subject, attribute, before, version, value, consents, source, updated_at) \
         ON z.region = $1 AND z.subject = w.subject AND z.attribute = w.attribute \
         WHEN MATCHED AND z.version = w.before AND w.version IS NOT NULL THEN \
             UPDATE SET version = w.version, value = w.value::jsonb, consents = w.consents::jsonb, source = w.source, \
                        updated_at = w.updated_at \
         WHEN MATCHED AND z.version = w.before THEN DELETE \
         WHEN NOT MATCHED AND w.before IS NULL THEN \
             INSERT (region, subject, attribute, version, value, consents, source, updated_at) \
             VALUES ($1, w.subject, w.attribute, w.version, w.value::jsonb, w.consents::jsonb, w.source, w.updated_at)",
    )
    .bind(region.as_str())
    .bind(written.iter().map(|w| w.name.subject).collect::<Vec<_>>())
    .bind(written.iter().map(|w| w.name.attribute).collect::<Vec<_>>())
    .bind(written.iter().map(|w| w.before.map(column)).collect::<Vec<_>>())
    .bind(written.iter().map(|w| w.after.as_ref().map(|(version, _)| column(*version))).collect::<Vec<_>>())
    .bind(declared().map(|d| d.map(|d| d.value)).collect::<Vec<_>>())
    .bind(declared().map(|d| d.map(|d| consents_column(d.consents))).collect::<Vec<_>>())
    .bind(declared().map(|d| d.map(|d| d.source)).collect::<Vec<_>>())
    .bind(written.iter().map(|w| w.updated_at).collect::<Vec<_>>())
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
