//! The last step of a pepper's rotation: removing the rows of the old one.
//!
//! The whole way, none of which stops a gateway:
//! 1. give every gateway the new pepper beside the old one (any two gateways that run at once must
//!    share a pepper, or they could not see each other's claims);
//! 2. let each region name its subjects to [`Directory::rekey`](crate::Directory::rekey): every pin gets its row
//!    under the new pepper. Subjects that are looked up meanwhile get theirs by the way;
//! 3. take the old pepper from every gateway;
//! 4. let each region name its subjects to [`retire_key`]: the rows of the old pepper go, each only
//!    where its successor stands.
//!
//! The directory alone cannot do this: it does not know a single subject, and two rows of one subject
//! under two peppers look unrelated. The regions know all of theirs.

use residency::SubjectId;
use secrecy::SecretString;
use sqlx::Connection;

use super::{Error, connect, refused};
use crate::digest::Peppers;

/// Subjects in one statement.
const BATCH_SUBJECTS_MAX: usize = 4_096;

/// What came of [`retire_key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// Rows removed just now.
    pub removed: u64,
    /// Rows of that pepper that are still there. Once every region has named all its subjects, these are
    /// claims that no region ever took up.
    pub remaining: u64,
}

/// Removes these subjects' rows under an old pepper, each only if the same pin stands under the current
/// one. Name all subjects of all regions, some at a time; doing so twice does no harm.
///
/// # Errors
/// [`Error::Key`] when `key_id` is the current pepper or none of `peppers`; otherwise when the database
/// cannot be reached or refuses.
pub async fn retire_key(
    dsn: &SecretString,
    peppers: &Peppers,
    key_id: u16,
    subjects: &[SubjectId],
) -> Result<Retired, Error> {
    let database_id = i16::try_from(key_id).map_err(|_| Error::Key { key_id, reason: "there is no such pepper" })?;
    let mut connection = connect(dsn).await?;
    let mut removed = 0;
    for batch in subjects.chunks(BATCH_SUBJECTS_MAX) {
        let mut old = Vec::with_capacity(batch.len());
        let mut current = Vec::with_capacity(batch.len());
        for subject in batch {
            let successor = peppers.digest(subject);
            if successor.key_id == key_id {
                return Err(Error::Key { key_id, reason: "it is the current one" });
            }
            let Some(digest) = peppers.digests(subject).find(|digest| digest.key_id == key_id) else {
                return Err(Error::Key { key_id, reason: "there is no such pepper" });
            };
            old.push(digest.bytes.to_vec());
            current.push(successor.bytes.to_vec());
        }
        removed += sqlx::query(
            "DELETE FROM domicile.pins AS old \
             USING unnest($1::bytea[], $2::bytea[]) AS subject (old_digest, new_digest), domicile.pins AS new \
             WHERE old.subject_digest = subject.old_digest AND old.key_id = $3 \
               AND new.subject_digest = subject.new_digest \
               AND (new.region, new.epoch, new.state) = (old.region, old.epoch, old.state)",
        )
        .bind(old)
        .bind(current)
        .bind(database_id)
        .execute(&mut connection)
        .await
        .map_err(refused("remove the rows of a pepper"))?
        .rows_affected();
    }
    let remaining: i64 = sqlx::query_scalar("SELECT count(*) FROM domicile.pins WHERE key_id = $1")
        .bind(database_id)
        .fetch_one(&mut connection)
        .await
        .map_err(refused("count the rows of a pepper"))?;
    drop(connection.close().await);
    Ok(Retired { removed, remaining: remaining.unsigned_abs() })
}
