//! One connection, owned by one task for ever: made when it is needed, made again when it is lost, and
//! checked each time for leading to the right database.
//!
//! A pool would ping and lock on every use (measured: a third of the rate), and an undead peer could keep
//! its permits for ever. Here every statement has a deadline of ours beside the server's own, because a
//! server may also hang; a connection that missed one is dropped.

use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use residency::{Jurisdiction, Region};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions, Connection, Executor, Row};
use tokio::time::{sleep, timeout};

use crate::admin::{SchemaLevel, Set, admit, level_of};
use crate::error::{Cause, Trouble};
use crate::health::HealthCell;
use crate::limits::Limits;

/// What a connection is for; it decides how the server plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Few statements, run over and over, each a set of index lookups: planned once.
    Lookups,
    /// The same, and commits. Here the server's statement timeout must not come before ours: it would end
    /// a COMMIT's wait for a synchronous standby with a mere warning, and call it a success.
    Commits,
    /// Whatever comes.
    Occasional,
}

/// Who a region's database must say it is.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) region: Region,
    pub(crate) jurisdiction: Jurisdiction,
    pub(crate) origin: String,
}

/// A database: where it is, who it must be, and how it is doing.
#[derive(Debug)]
pub(crate) struct Address {
    options: Result<PgConnectOptions, Cause>,
    /// The group role to act as, so that even an owner's login works with a gateway's rights.
    role: &'static str,
    expected: Option<Expected>,
    pub(crate) limits: Limits,
    pub(crate) health: HealthCell,
}

impl Address {
    /// An unreadable connection string is not an error here: it shows in the health and in every answer.
    pub(crate) fn new(dsn: &SecretString, role: &'static str, expected: Option<Expected>, limits: Limits) -> Arc<Self> {
        let options = PgConnectOptions::from_str(dsn.expose_secret())
            .map(|options| prepared(options, &limits))
            // The parser's message may quote the string, and with it the password.
            .map_err(|_| Cause::new("the connection string cannot be understood"));
        let health = HealthCell::new(expected.as_ref().map(|expected| expected.region.clone()));
        Arc::new(Self { options, role, expected, limits, health })
    }

    /// Our own deadline for one statement: the server's and a little more.
    pub(crate) fn patience(&self) -> Duration {
        self.limits.statement_timeout + Duration::from_millis(500)
    }

    async fn connect(&self, work: Work) -> Result<PgConnection, Trouble> {
        let options = self.options.clone().map_err(Trouble::Lost)?;
        // The plans these statements need are known: nested index lookups. A plan made while a table was
        // young and small would otherwise scan it whole once it has grown.
        let planned_once = [
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_material", "off"),
        ];
        let options = match work {
            Work::Lookups => options.options(planned_once),
            Work::Commits => options
                .options(planned_once)
                .options([("statement_timeout", (self.limits.statement_timeout * 10).as_millis().to_string())]),
            // These read the log from a position on, or find single rows. The index's first plan would be that of an empty log.
            Work::Occasional => options.options([("enable_seqscan", "off")]),
        };
        let mut connection = PgConnection::connect_with(&options).await?;
        if work == Work::Commits {
            // A statement that waits for a lock ends soon after its connection, rather than when the lock comes. Where the
            // server's system cannot tell, it goes on; and whoever looks for what became of it is safe from it.
            drop(connection.execute("SET client_connection_check_interval = '1s'").await);
        }
        sqlx::query(
            "SELECT set_config('role', rolname, false) FROM pg_roles \
             WHERE rolname = $1 AND pg_has_role(session_user, oid, 'MEMBER')",
        )
        .bind(self.role)
        .execute(&mut connection)
        .await?;
        if let Some(expected) = &self.expected {
            let identity = identify(&mut connection).await?;
            identity.compare(expected)?;
        }
        let set = if self.expected.is_some() { Set::Region } else { Set::Directory };
        admit(&mut connection, set).await?;
        Ok(connection)
    }
}

/// Session settings travel with the connection's start, so they cost no round trip.
fn prepared(options: PgConnectOptions, limits: &Limits) -> PgConnectOptions {
    let ms = |duration: Duration| duration.as_millis().to_string();
    options
        .application_name("domicile")
        .statement_cache_capacity(64)
        .options([
            ("synchronous_commit", "on"),
            ("search_path", "domicile"),
            ("jit", "off"),
            ("statement_timeout", &ms(limits.statement_timeout)),
            ("lock_timeout", &ms(limits.lock_timeout)),
            ("idle_in_transaction_session_timeout", &ms(limits.statement_timeout * 2)),
        ])
        .disable_statement_logging()
}

/// Who a region's database says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The region it was founded for.
    pub region: String,
    /// That region's jurisdiction.
    pub jurisdiction: String,
    /// The origin of its log.
    pub origin: String,
    /// The cluster it was founded on (`pg_control_system`).
    pub founded_on: i64,
    /// The cluster it is on now.
    pub found_on: i64,
    /// The server's version, e.g. `15.14`.
    pub server_version: String,
    /// The database's name.
    pub database: String,
    /// The backup it was restored from, while it is not open.
    pub restoring: Option<String>,
}

impl Identity {
    fn compare(&self, expected: &Expected) -> Result<(), Trouble> {
        let differs = |what: &str, is: &str, should: &str| {
            Err(Trouble::Misplaced(format!("its {what} is {is:?} and should be {should:?}")))
        };
        if self.region != expected.region.as_str() {
            differs("region", &self.region, expected.region.as_str())
        } else if self.jurisdiction != expected.jurisdiction.as_str() {
            differs("jurisdiction", &self.jurisdiction, expected.jurisdiction.as_str())
        } else if let Some(backup) = &self.restoring {
            // Not another database than it should be, but one that will be it: by another name of its log, perhaps.
            Err(Trouble::Lost(Cause::new(format!(
                "it was restored from the backup {backup} and is not open yet: `domicile ops backup restore --open` \
                 replays what was erased since, and opens it"
            ))))
        } else if self.origin != expected.origin {
            differs("log's origin", &self.origin, &expected.origin)
        } else if self.founded_on != self.found_on {
            Err(Trouble::Misplaced(format!(
                "it was founded on the cluster {} and is now on the cluster {}: a copy",
                self.founded_on, self.found_on
            )))
        } else {
            Ok(())
        }
    }
}

/// Asks a region's database who it is.
pub(crate) async fn identify(connection: &mut PgConnection) -> Result<Identity, Trouble> {
    let row: Option<PgRow> = sqlx::query(
        "SELECT i.region, i.jurisdiction, i.origin, i.system_identifier, c.system_identifier AS here, \
                current_setting('server_version') AS server_version, to_jsonb(i) ->> 'restoring', \
                current_database()::text AS database \
         FROM domicile.region_identity AS i, pg_control_system() AS c",
    )
    .fetch_optional(connection)
    .await?;
    let row = row.ok_or_else(|| Trouble::Lost(Cause::new("the database has not been founded as a region")))?;
    Ok(Identity {
        region: row.try_get(0)?,
        jurisdiction: row.try_get(1)?,
        origin: row.try_get(2)?,
        founded_on: row.try_get(3)?,
        found_on: row.try_get(4)?,
        server_version: row.try_get(5)?,
        restoring: row.try_get(6)?,
        database: row.try_get(7)?,
    })
}

/// Asks a database now, on a connection of its own: who it is, whether this program may use it, how far its schema is.
pub(crate) async fn ask(address: &Arc<Address>, set: Set) -> Result<SchemaLevel, Trouble> {
    let mut link = Link::new(Arc::clone(address), Work::Occasional);
    let connection = link.connection().await?;
    within(address.patience(), async { Ok(level_of(connection, set).await?) }).await
}

/// A connection, or the wish for one.
#[derive(Debug)]
pub(crate) struct Link {
    address: Arc<Address>,
    work: Work,
    connection: Option<PgConnection>,
    /// Whether there was a connection before.
    had: bool,
    /// Whether the connection took the place of one that was lost, and nobody has asked yet.
    replaced: bool,
    /// Failed attempts in a row.
    failures: u32,
}

impl Link {
    pub(crate) fn new(address: Arc<Address>, work: Work) -> Self {
        Self { address, work, connection: None, had: false, replaced: false, failures: 0 }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether, since the last such question, a connection was lost and another one made: it may lead to another server.
    pub(crate) fn was_replaced(&mut self) -> bool {
        std::mem::take(&mut self.replaced)
    }

    /// The connection; it is made if there is none. Bounded by `connect_timeout`.
    pub(crate) async fn connection(&mut self) -> Result<&mut PgConnection, Trouble> {
        if self.connection.is_none() {
            match within(self.address.limits.connect_timeout, self.address.connect(self.work)).await {
                Ok(connection) => {
                    self.failures = 0;
                    self.replaced |= std::mem::replace(&mut self.had, true);
                    self.connection = Some(connection);
                }
                Err(trouble) => {
                    self.failures = self.failures.saturating_add(1);
                    match &trouble {
                        Trouble::Misplaced(reason) => self.address.health.misplaced(reason),
                        other => self.address.health.fails(&other.cause()),
                    }
                    // Whatever went wrong, there is no connection: the next attempt may fare better.
                    return Err(match trouble {
                        Trouble::Misplaced(reason) => Trouble::Misplaced(reason),
                        other => Trouble::Lost(other.cause()),
                    });
                }
            }
            self.address.health.works();
        }
        self.connection.as_mut().ok_or_else(|| Trouble::Lost(Cause::new("there is no connection")))
    }

    /// Looks at what came of using the connection, and drops it if it is of no further use.
    pub(crate) fn settle<T>(&mut self, outcome: Result<T, Trouble>) -> Result<T, Trouble> {
        match &outcome {
            Ok(_) | Err(Trouble::Conflict(_) | Trouble::Refused { .. }) => self.address.health.works(),
            Err(Trouble::Lost(_) | Trouble::Misplaced(_) | Trouble::Internal(_)) => self.connection = None,
        }
        outcome
    }

    /// Drops the connection, whatever state it is in.
    pub(crate) fn cut(&mut self) {
        self.connection = None;
    }

    /// Whether the server is still there.
    pub(crate) async fn ping(&mut self) -> Result<(), Trouble> {
        let patience = self.address.patience();
        let connection = self.connection().await?;
        let outcome = within(patience, async { Ok(connection.ping().await?) }).await;
        self.settle(outcome)
    }

    /// The pause before the next attempt: doubling, jittered so that a thousand gateways do not knock at once, bounded.
    pub(crate) async fn pause(&self) {
        let Limits { reconnect_pause_min, reconnect_pause_max, .. } = self.address.limits;
        let doubled = reconnect_pause_min.saturating_mul(1 << self.failures.min(10)).min(reconnect_pause_max);
        sleep(doubled.mul_f64(rand::random_range(0.5..1.0))).await;
    }
}

/// Waits for a statement at most so long. What missed its deadline has a connection in an unknown state.
pub(crate) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    match timeout(patience, work).await {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(Trouble::Lost(Cause::new(format!("the server did not answer within {} ms", patience.as_millis()))))
        }
    }
}
