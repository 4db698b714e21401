//! The table `outbox`: every event to be streamed, at the log position of the deed that caused it.
//! It is written together with the leaves (`head`) and read by the relay and the forwarder.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::events::{Event, microseconds};
use super::records::{column, version};
use crate::digest::SubjectDigest;
use crate::error::{Cause, Trouble};

/// Which events to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Every event: what goes to the region's topics.
    Events,
    /// Changes of zero-party data only: what goes to the region's warehouse as well.
    ZeroParty,
}

impl Channel {
    fn column(self) -> i16 {
        match self {
            Self::Events => 0,
            Self::ZeroParty => 1,
        }
    }
}

/// One event as it stands in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// The log position of the deed that caused it.
    pub seq: u64,
    /// Its topic.
    pub topic: String,
    /// Its key: the subject's digest.
    pub key: SubjectDigest,
    /// CloudEvents `type`.
    pub event_type: String,
    /// CloudEvents `id`.
    pub event_id: String,
    /// CloudEvents `source`.
    pub source: String,
    /// CloudEvents `time`, microseconds since 1970-01-01 UTC.
    pub time_us: i64,
    /// CloudEvents `datacontenttype`.
    pub datacontenttype: String,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// CloudEvents extension attributes.
    pub extensions: BTreeMap<String, String>,
    /// The payload.
    pub data: Vec<u8>,
    /// Whether the subject has been erased since: then only the event's place in the log and its class are left.
    pub erased: bool,
}

/// Events as columns, ready to be bound; `at` counts the leaves of the batch.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    pub(super) at: Vec<i64>,
    pub(super) channel: Vec<i16>,
    pub(super) topic: Vec<&'a str>,
    pub(super) key: Vec<[u8; 32]>,
    pub(super) key_id: Vec<i16>,
    pub(super) event_type: Vec<&'a str>,
    pub(super) event_id: Vec<&'a str>,
    pub(super) source: Vec<&'a str>,
    pub(super) time: Vec<OffsetDateTime>,
    pub(super) datacontenttype: Vec<&'a str>,
    pub(super) traceparent: Vec<Option<&'a str>>,
    pub(super) extensions: Vec<Option<&'a str>>,
    pub(super) data: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(events: &'a [(usize, Event<'a>)]) -> Self {
        let mut columns = Self::default();
        for (leaf, event) in events {
            columns.at.push(i64::try_from(*leaf).unwrap_or(i64::MAX));
            columns.channel.push(event.channel.column());
            columns.topic.push(&event.topic);
            columns.key.push(event.key.bytes);
            columns.key_id.push(i16::try_from(event.key.key_id).unwrap_or(i16::MAX));
            columns.event_type.push(event.event_type);
            columns.event_id.push(&event.event_id);
            columns.source.push(event.source);
            columns.time.push(event.time);
            columns.datacontenttype.push(event.datacontenttype);
            columns.traceparent.push(event.traceparent);
            columns.extensions.push(event.extensions.as_deref());
            columns.data.push(&event.data);
        }
        columns
    }
}

/// The events behind a log position, in the order of the log.
pub(super) async fn read(
    connection: &mut PgConnection,
    channel: Channel,
    after_seq: u64,
    limit: u32,
) -> Result<Vec<OutboxRow>, Trouble> {
    // Two statements, so that each has its own index and neither plan is a guess.
    let query = match channel {
        Channel::Events => sqlx::query(
            "SELECT seq, topic, key, key_id, event_type, event_id, source, \"time\", datacontenttype, traceparent, \
                    extensions::text, data, erased \
             FROM domicile.outbox WHERE seq > $1 ORDER BY seq LIMIT $2",
        ),
        Channel::ZeroParty => sqlx::query(
            "SELECT seq, topic, key, key_id, event_type, event_id, source, \"time\", datacontenttype, traceparent, \
                    extensions::text, data, erased \
             FROM domicile.outbox WHERE channel = 1 AND seq > $1 ORDER BY seq LIMIT $2",
        ),
    };
    let rows = query.bind(column(after_seq)).bind(i64::from(limit)).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let broken = || Trouble::Internal(Cause::new("a row of the outbox holds what it cannot hold"));
            let key_id = u16::try_from(row.try_get::<i16, _>(3)?).map_err(|_| broken())?;
            let extensions = match row.try_get::<Option<&str>, _>(10)? {
                Some(text) => serde_json::from_str(text).map_err(|_| broken())?,
                None => BTreeMap::new(),
            };
            Ok(OutboxRow {
                seq: version(row.try_get(0)?)?,
                topic: row.try_get(1)?,
                key: SubjectDigest { key_id, bytes: row.try_get(2)? },
                event_type: row.try_get(4)?,
                event_id: row.try_get(5)?,
                source: row.try_get(6)?,
                time_us: microseconds(row.try_get(7)?),
                datacontenttype: row.try_get(8)?,
                traceparent: row.try_get(9)?,
                extensions,
                data: row.try_get(11)?,
                erased: row.try_get(12)?,
            })
        })
        .collect()
}

/// The last event up to a position.
pub(super) async fn last(connection: &mut PgConnection, seq: u64) -> Result<u64, Trouble> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM domicile.outbox WHERE seq <= $1 ORDER BY seq DESC LIMIT 1")
            .bind(column(seq))
            .fetch_optional(connection)
            .await?;
    version(found.unwrap_or(0))
}
