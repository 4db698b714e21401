//! One session with Snowflake, and the way back from everything that can end it. Every statement of this
//! crate may be repeated, so an answer that did not come or cannot be read is answered by asking again,
//! with a new session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use follow::Backoff;
use reqwest::Url;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error as MiddlewareError};
use reqwest_retry::RetryTransientMiddleware;
use reqwest_retry::policies::ExponentialBackoff;
use secrecy::ExposeSecret;
use serde_json::Value;
use snowflake_api::connection::ConnectionError;
use snowflake_api::{
    AuthArgs, AuthType, CertificateArgs, PasswordArgs, QueryResult, SnowflakeApi, SnowflakeApiBuilder,
    SnowflakeApiError,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::gate::{Gate, LastQuery, SessionLost};
use super::{Credentials, SnowflakeSettings, Statement};
use crate::error::Error;
use crate::thrift::{Meter, Usage};

const CONNECT_MAX: Duration = Duration::from_secs(10);
/// One statement with everything that its polling takes.
const STATEMENT_MAX: Duration = Duration::from_secs(120);
/// Times a statement is tried before the trouble is told.
const ATTEMPTS_MAX: u32 = 3;
/// Times one HTTP request is repeated within an attempt.
const REQUEST_RETRIES_MAX: u32 = 3;

pub(super) struct Client {
    settings: SnowflakeSettings,
    http: ClientWithMiddleware,
    meter: std::sync::Mutex<Meter>,
    last_query: LastQuery,
    session: Mutex<Option<Arc<SnowflakeApi>>>,
    /// Whether a login may name database and schema: Snowflake refuses one that names what does not exist.
    schema_exists: AtomicBool,
}

/// An answer: rows of text, SQL NULL as `None`.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Vec<Option<String>>>,
}

/// What to do about a failed attempt.
enum Failed {
    /// Ask again, with a new session.
    Again(String),
    /// Tell.
    For(Error),
}

impl Client {
    pub(super) fn new(settings: &SnowflakeSettings) -> Result<Self, Error> {
        let base = match settings.base_url.as_deref().map(Url::parse).transpose() {
            Ok(base) if base.as_ref().is_none_or(|base| base.has_host() && base.scheme().starts_with("http")) => base,
            _ => return Err(Error::Settings("base_url is no http or https URL with a host".to_owned())),
        };
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .timeout(settings.request_max)
            .referer(false)
            // A redirect would carry statements and tokens to a host that nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|_| Error::Settings("the HTTP client could not be made".to_owned()))?;
        let patience = ExponentialBackoff::builder()
            .retry_bounds(Duration::from_millis(200), Duration::from_secs(5))
            .build_with_max_retries(REQUEST_RETRIES_MAX);
        let last_query = LastQuery::default();
        let http = ClientBuilder::new(http)
            // snowflake-api's own retries are lost with its client: these take their place.
            .with(RetryTransientMiddleware::new_with_policy(patience))
            .with(Gate::new(&settings.account, base, STATEMENT_MAX, LastQuery::clone(&last_query)))
            .build();
        let schema_exists = AtomicBool::new(!settings.create);
        Ok(Self {
            settings: settings.clone(),
            http,
            meter: std::sync::Mutex::new(Meter::new(settings.price)),
            last_query,
            session: Mutex::new(None),
            schema_exists,
        })
    }

    /// From now on, sessions begin in the sink's schema.
    pub(super) fn found_schema(&self) {
        self.schema_exists.store(true, Ordering::Relaxed);
    }

    /// Runs a statement, again if need be, and returns its rows.
    pub(super) async fn execute(&self, statement: &Statement) -> Result<Answer, Error> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        loop {
            let session = self.session().await?;
            let began = Instant::now();
            let outcome = match tokio::time::timeout(STATEMENT_MAX, session.exec(statement.text())).await {
                Ok(outcome) => outcome.map_err(|error| self.failed(statement, error)),
                Err(_) => Err(Failed::Again(format!("no answer in {} s", STATEMENT_MAX.as_secs()))),
            };
            if let Ok(mut meter) = self.meter.lock() {
                meter.note(began, Instant::now(), statement.text().len());
            }
            match outcome {
                Ok(result) => return answer(result),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Again(reason)) => {
                    self.forget(&session).await;
                    let wait = backoff.wait();
                    if backoff.attempts() >= ATTEMPTS_MAX {
                        return Err(Error::OutcomeUnknown(reason));
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Snowflake's name for the statement that was answered last; empty when it gave none.
    pub(super) fn last_query(&self) -> String {
        self.last_query.lock().map(|last| last.clone()).unwrap_or_default()
    }

    /// What was used so far.
    pub(super) fn usage(&self) -> Usage {
        self.meter.lock().map(|meter| meter.usage()).unwrap_or_default()
    }

    async fn session(&self) -> Result<Arc<SnowflakeApi>, Error> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let settings = &self.settings;
        let auth_type = match &settings.credentials {
            Credentials::Password(password) => {
                AuthType::Password(PasswordArgs { password: password.expose_secret().to_owned() })
            }
            Credentials::KeyPair(key) => {
                AuthType::Certificate(CertificateArgs { private_key_pem: key.expose_secret().to_owned() })
            }
        };
        let schema_exists = self.schema_exists.load(Ordering::Relaxed);
        let auth = AuthArgs {
            account_identifier: settings.account.clone(),
            warehouse: settings.warehouse.clone(),
            database: schema_exists.then(|| settings.database.clone()),
            schema: schema_exists.then(|| settings.schema.clone()),
            username: settings.user.clone(),
            role: settings.role.clone(),
            auth_type,
        };
        let made = SnowflakeApiBuilder::new(auth).with_client(self.http.clone()).build();
        let made = made.map_err(|_| Error::Settings("a Snowflake client could not be made".to_owned()))?;
        Ok(Arc::clone(session.insert(Arc::new(made))))
    }

    /// Lets go of a session, unless somebody has put a new one in its place.
    async fn forget(&self, old: &Arc<SnowflakeApi>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|current| Arc::ptr_eq(current, old)) {
            *session = None;
        }
    }

    fn failed(&self, statement: &Statement, error: SnowflakeApiError) -> Failed {
        use snowflake_api::SnowflakeApiError as Api;
        match error {
            Api::ApiError(code, message) => {
                // Codes of class 100 are about data; Snowflake quotes it in the message.
                if code.starts_with("100") && statement.holds_data() {
                    Failed::For(Error::Data { code })
                } else {
                    let message = if statement.holds_data() { meaning(&code).to_owned() } else { message };
                    Failed::For(Error::Refused { code, message })
                }
            }
            Api::RequestError(error) => connection(&error),
            Api::AuthError(error) => Failed::from_login(error),
            Api::EmptyResponse | Api::BrokenResponse | Api::UnexpectedResponse => {
                Failed::Again("an answer without a result".to_owned())
            }
            _ => Failed::Again("an answer that could not be read".to_owned()),
        }
    }
}

impl Failed {
    /// A login that was refused is told; one that did not get through is tried again. The error's type is
    /// private to `snowflake-api`, so that its text and its source have to tell.
    fn from_login(error: impl std::error::Error + 'static) -> Self {
        let text = error.to_string();
        match text.strip_prefix("Failed to authenticate. Error code: ") {
            Some(refusal) => {
                let (code, message) = refusal.split_once(". Message: ").unwrap_or((refusal, ""));
                Self::For(Error::Login { code: code.to_owned(), message: message.to_owned() })
            }
            None => Self::Again("the login got no usable answer".to_owned()),
        }
    }
}

/// Transport errors name hosts and URLs with request ids, never bodies; still only their kind is repeated.
fn connection(error: &ConnectionError) -> Failed {
    let reason = match error {
        ConnectionError::RequestMiddlewareError(MiddlewareError::Middleware(error)) => {
            if error.downcast_ref::<SessionLost>().is_some() {
                "the session was lost".to_owned()
            } else {
                error.to_string()
            }
        }
        ConnectionError::RequestMiddlewareError(MiddlewareError::Reqwest(error))
        | ConnectionError::RequestError(error) => kind(error).to_owned(),
        ConnectionError::Deserialization(_) => "an answer that could not be read".to_owned(),
        _ => "a request that could not be made".to_owned(),
    };
    Failed::Again(reason)
}

fn kind(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else if error.is_decode() {
        "an answer that could not be read"
    } else if error.is_status() {
        "an answer that is an error of HTTP"
    } else {
        "the connection broke"
    }
}

/// What the refusals mean that an operator meets; Snowflake's own words may quote data.
fn meaning(code: &str) -> &'static str {
    match code {
        "000606" => "no active warehouse is selected",
        "000904" => "a column does not exist: the tables are of another version",
        "002003" => "a table, schema or database does not exist, or the role may not see it",
        "003001" => "the role lacks a privilege",
        "001003" => "the statement cannot be parsed",
        "000630" => "the statement ran into the account's time limit",
        _ => "see Snowflake's query history for the reason",
    }
}

fn answer(result: QueryResult) -> Result<Answer, Error> {
    match result {
        QueryResult::Empty => Ok(Answer::default()),
        QueryResult::Json(json) => {
            let Value::Array(rows) = json.value else { return Err(Error::Answer("a result is no list of rows")) };
            let cell = |value: Value| match value {
                Value::Null => None,
                Value::String(text) => Some(text),
                other => Some(other.to_string()),
            };
            let row = |row: Value| match row {
                Value::Array(cells) => Ok(cells.into_iter().map(cell).collect()),
                _ => Err(Error::Answer("a row is no list of cells")),
            };
            Ok(Answer { rows: rows.into_iter().map(row).collect::<Result<_, _>>()? })
        }
        QueryResult::Arrow(batches) => {
            let mut answer = Answer::default();
            for batch in &batches {
                append(&mut answer, batch)?;
            }
            Ok(answer)
        }
    }
}

/// Text columns as they are; whole numbers (which statements other than SELECT answer) as text.
fn append(answer: &mut Answer, batch: &RecordBatch) -> Result<(), Error> {
    use arrow_array::types::{Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type};
    for index in 0..batch.num_rows() {
        let mut row = Vec::with_capacity(batch.num_columns());
        for column in batch.columns() {
            let cell = if column.is_null(index) {
                None
            } else if let Some(text) = column.as_string_opt::<i32>() {
                Some(text.value(index).to_owned())
            } else if let Some(text) = column.as_string_opt::<i64>() {
                Some(text.value(index).to_owned())
            } else if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
                Some(numbers.value(index).to_string())
            } else if let Some(numbers) = column.as_primitive_opt::<Int32Type>() {
                Some(numbers.value(index).to_string())
            } else if let Some(numbers) = column.as_primitive_opt::<Int16Type>() {
                Some(numbers.value(index).to_string())
            } else if let Some(numbers) = column.as_primitive_opt::<Int8Type>() {
                Some(numbers.value(index).to_string())
            } else if let Some(numbers) = column.as_primitive_opt::<Decimal128Type>() {
                Some(numbers.value_as_string(index))
            } else {
                return Err(Error::Answer("a column is neither text nor a whole number"));
            };
            row.push(cell);
        }
        answer.rows.push(row);
    }
    Ok(())
}
