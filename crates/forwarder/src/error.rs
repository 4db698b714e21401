//! What can go wrong on the way out. No message repeats data: statements and values are not quoted.

use residency::Region;

/// A trouble of the forwarder. The running forwarder retries all of them; callers of a sink see them directly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be used.
    #[error("the forwarder cannot use its settings: {0}")]
    Settings(String),
    /// Snowflake could not be reached, or the connection broke; whether the statement ran is not known.
    #[error("Snowflake did not answer, and it is not known whether it did what was asked: {0}")]
    OutcomeUnknown(String),
    /// Snowflake refused the credentials.
    #[error("Snowflake refused the login ({code}): {message}")]
    Login {
        /// Snowflake's code.
        code: String,
        /// Its message, which concerns the account and user only.
        message: String,
    },
    /// Snowflake refused a statement for what it is, not for its data.
    #[error("Snowflake refused a statement ({code}): {message}")]
    Refused {
        /// Snowflake's code.
        code: String,
        /// What it means. Snowflake's own words only where the statement held no data.
        message: String,
    },
    /// Snowflake refused the data of a statement.
    #[error("Snowflake refused the data of a statement ({code})")]
    Data {
        /// Snowflake's code.
        code: String,
    },
    /// The answer has another shape than the question asked for.
    #[error("Snowflake's answer cannot be understood: {0}")]
    Answer(&'static str),
    /// The sink's tables belong to another region. They are not used.
    #[error("the sink of {region} holds data of {found}: it is not used")]
    Misplaced {
        /// The region it was configured for.
        region: Region,
        /// The region it says it is.
        found: String,
    },
    /// The account stands somewhere else than it should. Nothing is sent to it.
    #[error("the Snowflake account says that it stands in {found:?}, not in {location}: nothing is sent to it")]
    Elsewhere {
        /// Where it should stand.
        location: String,
        /// Where it says it stands.
        found: String,
    },
    /// A row of another region was handed to a sink.
    #[error("a row of {found} was handed to the sink of {region}: it is refused")]
    Abroad {
        /// The sink's region.
        region: Region,
        /// The row's.
        found: Region,
    },
    /// A file could not be read or written.
    #[error("the folder sink cannot {doing}")]
    Folder {
        /// What it was doing.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A change in the log has another shape than zero-party changes have.
    #[error("region log entry {seq} is not a zero-party change that can be understood")]
    Change {
        /// Its sequence number.
        seq: u64,
    },
    /// The region log could not be read or its cursor not be moved.
    #[error("the region log could not be read or its cursor not be moved")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
}
