//! The table `details`: identifying details of decisions, sealed, each beside its leaf.

use leaf::{DetailKey, Details, Sealed, SubjectSecret};
use rand::RngCore as _;
use residency::Stated;
use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::decisions::{DecisionRow, row};
use super::records::column;
use crate::error::{Cause, Trouble};

/// Whose details are sealed, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealer {
    pub(super) subject: Box<str>,
    pub(super) key: DetailKey,
}

/// Sealed details as columns, ready to be bound; `at` counts the leaves of the batch.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) at: Vec<i64>,
    subject: Vec<String>,
    nonce: Vec<[u8; 12]>,
    sealed: Vec<Vec<u8>>,
}

impl Rows {
    /// Seals what was stated, for the batch's leaf `at`. What the leaf is to say.
    pub(super) fn seal(&mut self, at: usize, sealer: &Sealer, stated: &Stated) -> Result<[u8; 32], Trouble> {
        let mut random = rand::rng();
        let values: Vec<(&str, &str)> = stated.expose().collect();
        let details = Details::new(&values, |salt| random.fill_bytes(salt));
        let mut nonce = [0; 12];
        random.fill_bytes(&mut nonce);
        let unsealed = || Trouble::Internal(Cause::new("details could not be sealed"));
        let sealed = details.seal(&sealer.key, nonce).ok_or_else(unsealed)?;
        self.at.push(at as i64);
        self.subject.push(sealer.subject.to_string());
        self.nonce.push(sealed.nonce);
        self.sealed.push(sealed.bytes);
        Ok(details.commitment())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

/// Writes the rows of a batch whose first leaf is at `first`, under the head's lock: of a subject that was erased
/// meanwhile nothing is kept.
pub(super) async fn write(connection: &mut PgConnection, rows: &Rows, first: u64) -> Result<(), Trouble> {
    sqlx::query(
        "INSERT INTO domicile.details (seq, subject, nonce, sealed) \
         SELECT $1 + d.at, d.subject, d.nonce, d.sealed \
         FROM unnest($2::bigint[], $3::text[], $4::bytea[], $5::bytea[]) AS d(at, subject, nonce, sealed) \
         JOIN domicile.subjects AS s ON s.subject = d.subject",
    )
    .bind(column(first))
    .bind(&rows.at)
    .bind(&rows.subject)
    .bind(&rows.nonce)
    .bind(&rows.sealed)
    .execute(connection)
    .await?;
    Ok(())
}

/// A leaf with its details, opened.
#[derive(Debug, Clone)]
pub struct DetailedLeaf {
    /// The leaf.
    pub leaf: DecisionRow,
    /// Its details.
    pub details: Details,
}

/// A leaf and its details; `None` when the leaf has none, or they were erased with their subject.
pub(super) async fn open(
    connection: &mut PgConnection,
    seq: u64,
    origin: &str,
) -> Result<Option<DetailedLeaf>, Trouble> {
    let found = sqlx::query(
        "SELECT l.seq, l.hash, l.line, d.nonce, d.sealed, s.secret, \
                ARRAY(SELECT f.origin FROM domicile.former_origins AS f ORDER BY f.size DESC) \
         FROM domicile.details AS d \
         JOIN domicile.leaves AS l ON l.seq = d.seq JOIN domicile.subjects AS s ON s.subject = d.subject \
         WHERE d.seq = $1",
    )
    .bind(column(seq))
    .fetch_optional(connection)
    .await?;
    let Some(found) = found else { return Ok(None) };
    let leaf = row(&found)?;
    let sealed = Sealed { nonce: found.try_get(3)?, bytes: found.try_get(4)? };
    let (secret, former): (_, Vec<String>) = (SubjectSecret::new(found.try_get(5)?), found.try_get(6)?);
    let broken = || Trouble::Internal(Cause::new("details do not open beside their leaf"));
    let committed = leaf::parse(leaf.line.as_bytes()).ok().and_then(|parsed| parsed.details).ok_or_else(broken)?;
    // Sealed under the name that the log had then. A key of another one opens nothing.
    let details = std::iter::once(origin)
        .chain(former.iter().map(String::as_str))
        .find_map(|origin| Details::open(&DetailKey::of(&secret, origin), &sealed, &committed))
        .ok_or_else(broken)?;
    Ok(Some(DetailedLeaf { leaf, details }))
}
