//! The table `former_origins`: what the log was called before it went on under another name, after a restore. Its older
//! entries carry the tags, and their details the keys, that those names made.

use leaf::{SubjectSecret, SubjectTag, tag};
use sqlx::Row;
use sqlx::postgres::PgConnection;

/// The names that the log had before the present one, the newest first.
pub(crate) async fn former(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let origins = sqlx::query_scalar("SELECT f.origin FROM domicile.former_origins AS f ORDER BY f.size DESC");
    origins.fetch_all(connection).await
}

/// Every tag of a subject in this log, that of the present name first; none if it is not registered here. What one tag
/// marks lies behind everything that the next one marks.
pub(super) async fn tags_of(
    connection: &mut PgConnection,
    subject: &str,
    origin: &str,
) -> Result<Vec<SubjectTag>, sqlx::Error> {
    let found = sqlx::query(
        "SELECT s.secret, ARRAY(SELECT f.origin FROM domicile.former_origins AS f ORDER BY f.size DESC) \
         FROM domicile.subjects AS s WHERE s.subject = $1",
    )
    .bind(subject)
    .fetch_optional(connection)
    .await?;
    let Some(found) = found else { return Ok(Vec::new()) };
    let former: Vec<String> = found.try_get(1)?;
    Ok(tags(&SubjectSecret::new(found.try_get(0)?), origin, &former))
}

/// The tags that a secret makes: under a log's present name, and under those that it had.
pub(crate) fn tags(secret: &SubjectSecret, origin: &str, former: &[String]) -> Vec<SubjectTag> {
    std::iter::once(origin).chain(former.iter().map(String::as_str)).map(|origin| tag(secret, origin)).collect()
}
