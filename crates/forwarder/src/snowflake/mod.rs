//! Zero-party data in Snowflake: one JSON literal -> transient staging table -> version-guarded MERGE.
//!
//! Why this way: a MERGE of a thousand VALUES takes seconds, the same rows as one JSON literal through
//! `FLATTEN` a fraction of one; the staging table makes the insert repeatable (a batch is named, and the
//! MERGE takes the newest row of each key); and the guard on the log position makes the MERGE repeatable.

mod client;
mod gate;
mod literal;
mod sql;

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use residency::Region;
use secrecy::SecretString;
use tracing::error;

use crate::change::{Forgotten, Row};
use crate::error::Error;
use crate::sink::{Applied, Place, Sink};
use crate::thrift::{Price, Usage};
use client::Client;
pub use sql::Step;
use sql::{Statement, Tables};

/// Snowflake takes a statement of 1 MB; the literal of a batch stays well below.
const LITERAL_BYTES_MAX: usize = 512 << 10;
/// Rows of one staging insert.
const STATEMENT_ROWS_MAX: usize = 2_000;

/// One region's Snowflake account, database and schema.
#[derive(Clone)]
pub struct SnowflakeSettings {
    /// The account identifier, e.g. `example-eu`.
    pub account: String,
    /// The user.
    pub user: String,
    /// How the user proves itself.
    pub credentials: Credentials,
    /// The role; the user's default when absent.
    pub role: Option<String>,
    /// The warehouse; the user's default when absent.
    pub warehouse: Option<String>,
    /// The database, an unquoted identifier.
    pub database: String,
    /// The schema, an unquoted identifier.
    pub schema: String,
    /// Another way to the account than its public host: a private link, or a stand-in on this machine.
    pub base_url: Option<String>,
    /// Where the account stands, as `cloud/location`; the account is asked whether it is so. `None` asks nothing:
    /// for a stand-in.
    pub location: Option<String>,
    /// What its warehouse costs.
    pub price: Price,
    /// Days of Time Travel on the tables, 0 or 1. Tables are transient, so that there is no Fail-safe: what is
    /// erased is gone after this.
    pub retention_days: u8,
    /// How long one HTTP request may take before it is asked again; Snowflake answers within 45 s, whether a statement
    /// is done or not.
    pub request_max: Duration,
    /// Whether [`Sink::setup`] creates database, schema and tables; otherwise it only checks whose they are.
    pub create: bool,
}

/// How a user proves itself to Snowflake.
#[derive(Clone)]
pub enum Credentials {
    /// A password.
    Password(SecretString),
    /// An unencrypted PKCS#8 private key, PEM (key-pair authentication).
    KeyPair(SecretString),
}

impl fmt::Debug for SnowflakeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnowflakeSettings")
            .field("account", &self.account)
            .field("database", &self.database)
            .field("schema", &self.schema)
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

/// Zero-party data of one region in Snowflake.
pub struct SnowflakeSink {
    region: Region,
    tables: Tables,
    client: Client,
    create: bool,
    retention_days: u8,
    location: Option<String>,
    service: Service,
    /// Whether this is a replay beside the owner of the cursor.
    beside: AtomicBool,
    /// Batches that may still be in staging.
    abandoned: Mutex<Vec<String>>,
}

/// Who the forwarder is in Snowflake, for grants.
#[derive(Clone)]
struct Service {
    user: String,
    role: Option<String>,
    warehouse: Option<String>,
}

impl SnowflakeSink {
    /// A sink; nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Settings`] when a name is no identifier, the base URL cannot be understood, or the HTTP client
    /// cannot be made.
    pub fn new(settings: &SnowflakeSettings, region: Region) -> Result<Self, Error> {
        if settings.retention_days > 1 {
            return Err(Error::Settings("retention_days is 0 or 1: transient tables keep no more".to_owned()));
        }
        Ok(Self {
            tables: Tables::new(&settings.database, &settings.schema)?,
            client: Client::new(settings)?,
            create: settings.create,
            retention_days: settings.retention_days,
            location: settings.location.clone(),
            beside: AtomicBool::new(false),
            abandoned: Mutex::default(),
            service: Service {
                user: settings.user.clone(),
                role: settings.role.clone(),
                warehouse: settings.warehouse.clone(),
            },
            region,
        })
    }

    /// Everything that has to be there, each with its reason, in order: database, schema and tables, and the least
    /// that the configured role needs to forward into them. For an operator to read first, and then to run here or
    /// elsewhere. Each may be repeated.
    ///
    /// # Errors
    /// [`Error::Settings`] when a name is no identifier.
    pub fn setup_steps(&self) -> Result<Vec<Step>, Error> {
        let mut steps = self.tables.setup(self.retention_days);
        steps.push(self.tables.claim_step(&self.region));
        if let Some(role) = &self.service.role {
            steps.extend(self.tables.grants(role, self.service.warehouse.as_deref(), &self.service.user)?);
        }
        Ok(steps)
    }

    /// Runs one of those steps as whoever `admin` logs in as.
    ///
    /// # Errors
    /// Why Snowflake did not do it.
    pub async fn run_step(&self, step: &Step) -> Result<(), Error> {
        self.client.execute(&step.statement()).await.map(drop)
    }

    /// Rows between their insert and their merge: 0 while nothing is on its way.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub async fn staged(&self) -> Result<u64, Error> {
        let answer = self.client.execute(&self.tables.staged()).await?;
        let count = answer.rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok());
        count.ok_or(Error::Answer("a count is none"))
    }

    /// Asks the account where it stands.
    ///
    /// # Errors
    /// [`Error::Elsewhere`] when that is not where it should; otherwise why it cannot be asked.
    pub async fn check_location(&self) -> Result<(), Error> {
        let Some(location) = &self.location else { return Ok(()) };
        let answer = self.client.execute(&self.tables.current_region()).await?;
        let found = answer.rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default();
        if sql::stands_in(&found, location) {
            Ok(())
        } else {
            Err(Error::Elsewhere { location: location.clone(), found })
        }
    }

    /// Takes rows that fit into one statement. Data that Snowflake refuses is found by halving; the row in
    /// question is replaced by a tombstone, so that no older value stays and nobody else waits.
    async fn apply_some(&self, rows: &[Row]) -> Result<Applied, Error> {
        let mut applied = Applied::default();
        let mut pending: Vec<Vec<Row>> = vec![rows.to_vec()];
        while let Some(rows) = pending.pop() {
            match self.merge(&rows).await {
                Ok(changed) => applied.changed += changed,
                Err(Error::Data { .. }) if rows.len() > 1 => {
                    let (left, right) = rows.split_at(rows.len() / 2);
                    pending.push(right.to_vec());
                    pending.push(left.to_vec());
                }
                Err(Error::Data { code }) if rows.iter().all(|row| !row.deleted) => {
                    let region = &self.region;
                    let seq = rows.first().map_or(0, |row| row.seq);
                    error!(%region, seq, code, "Snowflake refused the value of region log entry {seq}; a tombstone takes its place");
                    applied.refused += 1;
                    pending.push(rows.iter().map(Row::tombstone).collect());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(applied)
    }

    async fn merge(&self, rows: &[Row]) -> Result<u64, Error> {
        let kind = if self.beside.load(Ordering::Relaxed) { sql::REPLAY } else { "" };
        let batch = format!("{kind}{:032x}", rand::random::<u128>());
        // From here on the batch may be in staging, whatever becomes of this call.
        self.note_abandoned(&batch);
        let staged = self.client.execute(&self.tables.stage(&batch, &self.region, rows)).await;
        if let Err(error @ (Error::Data { .. } | Error::Refused { .. })) = staged {
            // A refused insert inserts nothing.
            self.forget_abandoned(&batch);
            return Err(error);
        }
        staged?;
        let merged = self.client.execute(&self.tables.merge(&batch)).await;
        if merged.is_ok() || matches!(merged, Err(Error::Data { .. })) {
            self.clear(&batch).await?;
        }
        let merged = merged?;
        // Rows inserted and rows updated, in one row of numbers.
        let counts = merged.rows.first().into_iter().flatten().flatten();
        Ok(counts.filter_map(|count| count.parse::<f64>().ok()).map(|count| count as u64).sum())
    }

    /// Clears what failed calls left in staging: their rows are staged again under another name.
    async fn clear_abandoned(&self) -> Result<(), Error> {
        let abandoned: Vec<String> = self.abandoned.lock().map(|batches| batches.clone()).unwrap_or_default();
        for batch in abandoned {
            self.clear(&batch).await?;
        }
        Ok(())
    }

    async fn clear(&self, batch: &str) -> Result<(), Error> {
        self.client.execute(&self.tables.clear(batch, &self.region)).await?;
        self.forget_abandoned(batch);
        Ok(())
    }

    fn forget_abandoned(&self, batch: &str) {
        if let Ok(mut batches) = self.abandoned.lock() {
            batches.retain(|known| known != batch);
        }
    }

    /// Bounded by the retries: every call clears what is noted before it adds a batch of its own.
    fn note_abandoned(&self, batch: &str) {
        if let Ok(mut batches) = self.abandoned.lock() {
            batches.push(batch.to_owned());
        }
    }

    fn too_large(&self, row: &Row) -> Row {
        let (region, seq) = (&self.region, row.seq);
        error!(%region, seq, "The value of region log entry {seq} is too large for Snowflake; a tombstone takes its place");
        row.tombstone()
    }
}

#[async_trait]
impl Sink for SnowflakeSink {
    fn region(&self) -> &Region {
        &self.region
    }

    fn name(&self) -> &'static str {
        "snowflake"
    }

    async fn setup(&self, place: Place) -> Result<(), Error> {
        self.beside.store(place == Place::Beside, Ordering::Relaxed);
        self.check_location().await?;
        if self.create {
            for step in self.tables.setup(self.retention_days) {
                self.client.execute(&step.statement()).await?;
            }
            self.client.execute(&self.tables.claim(&self.region)).await?;
            self.client.found_schema();
        }
        let identity = self.client.execute(&self.tables.identity()).await?;
        let mut found = identity.rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
        match found.next() {
            Some(region) if region == self.region.as_str() => {}
            other => {
                let found = other.unwrap_or_else(|| "no region".to_owned());
                return Err(Error::Misplaced { region: self.region.clone(), found });
            }
        }
        // What a crash left in staging is personal data that nobody will merge any more. A slow predecessor whose
        // batch goes with it cannot move the cursor past it: its lease is gone.
        let left = match place {
            Place::Owner => self.tables.clear_all_but_replays(&self.region),
            Place::Beside => self.tables.clear("", &self.region),
        };
        self.client.execute(&left).await?;
        Ok(())
    }

    async fn apply(&self, rows: &[Row]) -> Result<Applied, Error> {
        if let Some(foreign) = rows.iter().find(|row| row.region != self.region) {
            return Err(Error::Abroad { region: self.region.clone(), found: foreign.region.clone() });
        }
        self.clear_abandoned().await?;
        let mut total = Applied::default();
        let mut some: Vec<Row> = Vec::new();
        let mut bytes = 0;
        for row in rows {
            let mut row = row.clone();
            let mut row_bytes = sql::literal_bytes(&row);
            if row_bytes > LITERAL_BYTES_MAX {
                row = self.too_large(&row);
                row_bytes = sql::literal_bytes(&row);
                total.refused += 1;
            }
            if !some.is_empty() && (bytes + row_bytes > LITERAL_BYTES_MAX || some.len() >= STATEMENT_ROWS_MAX) {
                add(&mut total, self.apply_some(&some).await?);
                some.clear();
                bytes = 0;
            }
            bytes += row_bytes;
            some.push(row);
        }
        if !some.is_empty() {
            add(&mut total, self.apply_some(&some).await?);
        }
        Ok(total)
    }

    async fn erase(&self, erased: &[Forgotten]) -> Result<String, Error> {
        if let Some(foreign) = erased.iter().find(|one| one.region != self.region) {
            return Err(Error::Abroad { region: self.region.clone(), found: foreign.region.clone() });
        }
        for some in erased.chunks(STATEMENT_ROWS_MAX) {
            self.client.execute(&self.tables.remember(some)).await?;
            for statement in self.tables.forget(some) {
                self.client.execute(&statement).await?;
            }
        }
        // Of the last DELETE from the table: an operator finds it in the query history.
        Ok(self.client.last_query())
    }

    fn usage(&self) -> Usage {
        self.client.usage()
    }

    async fn rows(&self, subject_digest: Option<&str>, limit: u32) -> Result<Vec<Row>, Error> {
        let table = self.client.execute(&self.tables.rows(subject_digest, limit)).await?;
        table.rows.into_iter().map(sql::row).collect()
    }
}

fn add(total: &mut Applied, more: Applied) {
    total.changed += more.changed;
    total.refused += more.refused;
}

#[cfg(test)]
pub(crate) use tests::stand_in::python;
#[cfg(test)]
mod tests;
