//! What follows an erasure: the directory is told of it, and the log when the warehouse has forgotten. That is a leaf of its
//! own, written together with what it tells of.
//!
//! | kind | fields beside `gseq`, `gw`, `k`, `ts`, `v` |
//! | --- | --- |
//! | `subject.erased-downstream` | `by`: what did it, e.g. the id of Snowflake's query; `of`: the log position of the erasure's event; `sink`: where |

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use tlog::leaf_hash;

use super::doubts::Doubt;
use super::events::microseconds;
use super::head::{self, Place, Stop};
use super::log::{Log, ask, change};
use super::outbox::Columns;
use super::page::Page;
use super::{Shared, details, erasures};
use crate::deeds::Erasure;
use crate::error::{Cause, Error, Trouble};
use crate::link::within;

/// Erasures in one answer.
const ERASURES_MAX: i64 = 1_000;

/// A leaf about no decision: canonical JSON, its keys in order.
fn line(kind: &str, gateway: &str, gseq: u64, at: OffsetDateTime, said: &Value) -> String {
    // A map of its own: whether serde_json's keeps its keys in order depends on who else is built with it.
    let mut fields: BTreeMap<String, Value> = said.as_object().cloned().unwrap_or_default().into_iter().collect();
    let time = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond()
    );
    fields.extend([
        ("gseq".to_owned(), json!(gseq)),
        ("gw".to_owned(), json!(gateway)),
        ("k".to_owned(), json!(kind)),
        ("ts".to_owned(), json!(time)),
        ("v".to_owned(), json!(1)),
    ]);
    // Strings and whole numbers, which serde_json escapes and writes as RFC 8785 does.
    serde_json::to_string(&fields).unwrap_or_default()
}

/// Notes that a sink has forgotten subjects, by the digest that their events are keyed by and the position of the
/// erasure's event. What was noted before is not noted again. How many were new.
pub(super) async fn forwarded(
    shared: &Shared,
    connection: &mut PgConnection,
    sink: &str,
    by: &str,
    forgotten: &[([u8; 32], u64)],
) -> Result<usize, Trouble> {
    let patience = shared.address.patience();
    head::begin(shared, connection).await?;
    let rows = within(patience, async {
        Ok(sqlx::query(
            "UPDATE domicile.erasures SET forwarded_at = now(), forwarded_by = $2 \
             WHERE digest = ANY($1) AND digest = events_digest AND forwarded_at IS NULL RETURNING digest, forwarded_at",
        )
        .bind(forgotten.iter().map(|(digest, _)| *digest).collect::<Vec<_>>())
        .bind(format!("{sink} {by}"))
        .fetch_all(&mut *connection)
        .await?)
    })
    .await?;
    let mut noted: Vec<(u64, OffsetDateTime)> = Vec::with_capacity(rows.len());
    for row in &rows {
        let digest: [u8; 32] = row.try_get(0)?;
        let of = forgotten.iter().find(|(known, _)| *known == digest).map_or(0, |(_, seq)| *seq);
        noted.push((of, row.try_get(1)?));
    }
    noted.sort_unstable();
    let numbers = shared.numbers.take(noted.len());
    let lines: Vec<String> = noted
        .iter()
        .zip(&numbers)
        .map(|((of, at), gseq)| {
            let said = json!({"by": by, "of": of, "sink": sink});
            line("subject.erased-downstream", shared.gateway.as_str(), *gseq, *at, &said)
        })
        .collect();
    if lines.is_empty() {
        within(patience, async { Ok(sqlx::query("ROLLBACK").execute(&mut *connection).await?) }).await?;
        return Ok(0);
    }
    let at_us = noted.first().map_or(0, |(_, at)| microseconds(*at));
    append(shared, connection, &lines, at_us, numbers).await?;
    Ok(lines.len())
}

/// How long ago the oldest erasure was decided that no sink has followed yet, by the database's clock.
pub(super) async fn oldest_open(connection: &mut PgConnection) -> Result<Option<f64>, Trouble> {
    Ok(sqlx::query_scalar(
        "SELECT extract(epoch FROM now() - min(erased_at))::float8 FROM domicile.erasures \
         WHERE forwarded_at IS NULL AND digest = events_digest",
    )
    .fetch_one(connection)
    .await?)
}

async fn append(
    shared: &Shared,
    connection: &mut PgConnection,
    lines: &[String],
    at_us: i64,
    numbers: Vec<u64>,
) -> Result<u64, Trouble> {
    let hashes: Vec<[u8; 32]> = lines.iter().map(|line| leaf_hash(line.as_bytes())).collect();
    let lines = lines.iter().map(String::as_str).collect();
    let page = Page {
        lines,
        hashes,
        events: Columns::default(),
        records: &[],
        details: details::Rows::default(),
        fence: None,
        at_us,
        erasing: None,
    };
    // This connection may lead to another server than that of whoever committed last, e.g. after a failover: a log of the
    // same length, and another one.
    shared.head.forget().await;
    match head::append(shared, connection, &page, true).await {
        Ok(first) => Ok(first),
        Err(Stop::Not(trouble)) => {
            shared.numbers.give_back(numbers);
            Err(trouble)
        }
        // It may be in the log. Whoever asks again finds out: what was noted is not noted again.
        Err(Stop::Unknown { cause, seq, hash }) => {
            drop(shared.doubts.add(Doubt { place: Place::At { seq, hash }, numbers, kept: Vec::new() }));
            Err(Trouble::Lost(Cause::new(format!("the commit was cut off: {cause}"))))
        }
    }
}

impl Log {
    /// Up to 1,000 of the erasures of this region since a time, in the order of time and digest, behind one of them.
    /// The region's own memory of what the directory keeps, too; either can be told by the other after a restore.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn erasures(&self, since_us: i64, after: Option<&Erasure>) -> Result<Vec<Erasure>, Error> {
        ask!(self, connection => erasures::since(connection, since_us, after, ERASURES_MAX))
    }

    /// Up to 1,000 erasures that the directory has not been told of, the oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unfiled_erasures(&self) -> Result<Vec<Erasure>, Error> {
        ask!(self, connection => erasures::unfiled(connection, ERASURES_MAX))
    }

    /// The directory has been told of these.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn erasures_filed(&self, filed: &[Erasure]) -> Result<(), Error> {
        let digests: Vec<[u8; 32]> = filed.iter().map(|erasure| erasure.digest.bytes).collect();
        ask!(self, connection => erasures::filed(connection, &digests))
    }

    /// Notes in the log that a sink has forgotten subjects: their events' digest and the position of the erasure's event;
    /// `by` names what did it. Each erasure is noted once. How many were new.
    ///
    /// # Errors
    /// When the database does not answer; asking again is harmless.
    pub async fn erased_downstream(&self, sink: &str, by: &str, forgotten: &[([u8; 32], u64)]) -> Result<usize, Error> {
        let shared = &self.0.shared;
        change!(self, connection => forwarded(shared, connection, sink, by, forgotten))
    }

    /// How long ago the oldest erasure was decided that no sink has followed yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn oldest_open_erasure(&self) -> Result<Option<Duration>, Error> {
        let seconds = ask!(self, connection => oldest_open(connection))?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_canonical_whatever_the_sink_calls_its_deeds() {
        let at = crate::region::events::instant(1_795_521_600_000_001);
        let said = json!({"by": "01b2-\"ü\"\n\u{1}", "of": 7, "sink": "snowflake"});
        let line = line("subject.erased-downstream", "gw-1.0", 3, at, &said);
        assert_eq!(leaf::check_canonical(line.as_bytes()), Ok(()));
        assert!(line.contains(r#""ts":"2026-11-24T12:00:00.000001Z""#), "{line}");
    }
}
