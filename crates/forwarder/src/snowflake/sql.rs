//! The statements, each a paragraph. Every one may be repeated without changing what it came to.

use residency::Region;

use super::literal::{identifier, literal};
use crate::change::Row;
use crate::error::Error;

/// A statement, and whether its text holds data: then neither it nor what Snowflake says of it is repeated.
pub(super) struct Statement {
    text: String,
    holds_data: bool,
}

impl Statement {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn holds_data(&self) -> bool {
        self.holds_data
    }

    #[cfg(test)]
    pub(super) fn test(text: String) -> Self {
        Self::plain(text)
    }

    fn plain(text: String) -> Self {
        Self { text, holds_data: false }
    }

    fn with_data(text: String) -> Self {
        Self { text, holds_data: true }
    }
}

/// The qualified names of what the sink owns.
pub(super) struct Tables {
    database: String,
    schema: String,
    zero_party: String,
    staging: String,
    identity: String,
}

impl Tables {
    pub(super) fn new(database: &str, schema: &str) -> Result<Self, Error> {
        let database = identifier(database)?;
        let schema = format!("{database}.{}", identifier(schema)?);
        Ok(Self {
            zero_party: format!("{schema}.ZERO_PARTY"),
            staging: format!("{schema}.ZERO_PARTY_STAGING"),
            identity: format!("{schema}.REGION_IDENTITY"),
            database,
            schema,
        })
    }

    #[cfg(test)]
    pub(super) fn staging_name(&self) -> &str {
        &self.staging
    }

    /// Transient, with at most a day of Time Travel: a permanent table keeps erased data for seven days more.
    pub(super) fn setup(&self, retention_days: u8) -> Vec<Statement> {
        let Self { database, schema, zero_party, staging, identity } = self;
        let short = format!("DATA_RETENTION_TIME_IN_DAYS = {retention_days}");
        [
            format!("CREATE TRANSIENT DATABASE IF NOT EXISTS {database} {short}"),
            format!("CREATE TRANSIENT SCHEMA IF NOT EXISTS {schema} {short}"),
            format!("USE SCHEMA {schema}"),
            format!("CREATE TRANSIENT TABLE IF NOT EXISTS {identity} (REGION VARCHAR NOT NULL) {short}"),
            format!(
                "CREATE TRANSIENT TABLE IF NOT EXISTS {zero_party} (
                    SUBJECT_DIGEST VARCHAR NOT NULL,
                    ATTRIBUTE VARCHAR NOT NULL,
                    VALUE VARIANT,
                    CONSENTS VARIANT,
                    VERSION NUMBER(20, 0) NOT NULL,
                    LOG_SEQ NUMBER(20, 0) NOT NULL,
                    REGION VARCHAR NOT NULL,
                    DELETED BOOLEAN NOT NULL,
                    FORWARDED_AT TIMESTAMP_TZ NOT NULL
                ) {short}"
            ),
            format!(
                "CREATE TRANSIENT TABLE IF NOT EXISTS {staging} (
                    BATCH VARCHAR NOT NULL,
                    SUBJECT_DIGEST VARCHAR NOT NULL,
                    ATTRIBUTE VARCHAR NOT NULL,
                    VALUE VARIANT,
                    CONSENTS VARIANT,
                    VERSION NUMBER(20, 0) NOT NULL,
                    LOG_SEQ NUMBER(20, 0) NOT NULL,
                    REGION VARCHAR NOT NULL,
                    DELETED BOOLEAN NOT NULL,
                    STAGED_AT TIMESTAMP_TZ NOT NULL
                ) {short}"
            ),
        ]
        .into_iter()
        .map(Statement::plain)
        .collect()
    }

    /// The first region to claim the tables keeps them.
    pub(super) fn claim(&self, region: &Region) -> Statement {
        let (identity, region) = (&self.identity, literal(region.as_str()));
        Statement::plain(format!(
            "INSERT INTO {identity} (REGION) SELECT {region} WHERE NOT EXISTS (SELECT 1 FROM {identity})"
        ))
    }

    /// Whose tables these are. More than one row means two regions claimed at once: the order makes both see the same.
    pub(super) fn identity(&self) -> Statement {
        Statement::plain(format!("SELECT REGION::VARCHAR AS REGION FROM {} ORDER BY REGION", self.identity))
    }

    /// Stages a named batch. Repeated, it stages the rows twice, which the merge does not mind.
    pub(super) fn stage(&self, batch: &str, region: &Region, rows: &[Row]) -> Statement {
        let (batch, region, rows) = (literal(batch), literal(region.as_str()), literal(&json(rows)));
        Statement::with_data(format!(
            "INSERT INTO {staging}
                (BATCH, SUBJECT_DIGEST, ATTRIBUTE, VALUE, CONSENTS, VERSION, LOG_SEQ, REGION, DELETED, STAGED_AT)
            SELECT {batch}, f.value:d::VARCHAR, f.value:a::VARCHAR, f.value:v, f.value:c,
                f.value:n::NUMBER(20, 0), f.value:s::NUMBER(20, 0), {region}, f.value:x::BOOLEAN, CURRENT_TIMESTAMP()
            FROM TABLE(FLATTEN(INPUT => PARSE_JSON({rows}))) f",
            staging = self.staging,
        ))
    }

    /// Brings a batch into the table: a row wins only over an older log position. Tombstones are rows like any other.
    pub(super) fn merge(&self, batch: &str) -> Statement {
        let (zero_party, staging, batch) = (&self.zero_party, &self.staging, literal(batch));
        Statement::plain(format!(
            "MERGE INTO {zero_party} t
            USING (
                SELECT * FROM {staging} WHERE BATCH = {batch}
                QUALIFY ROW_NUMBER() OVER (PARTITION BY SUBJECT_DIGEST, ATTRIBUTE ORDER BY LOG_SEQ DESC) = 1
            ) s
            ON t.SUBJECT_DIGEST = s.SUBJECT_DIGEST AND t.ATTRIBUTE = s.ATTRIBUTE
            WHEN MATCHED AND s.LOG_SEQ > t.LOG_SEQ THEN UPDATE SET
                VALUE = s.VALUE, CONSENTS = s.CONSENTS, VERSION = s.VERSION, LOG_SEQ = s.LOG_SEQ,
                REGION = s.REGION, DELETED = s.DELETED, FORWARDED_AT = CURRENT_TIMESTAMP()
            WHEN NOT MATCHED THEN INSERT
                (SUBJECT_DIGEST, ATTRIBUTE, VALUE, CONSENTS, VERSION, LOG_SEQ, REGION, DELETED, FORWARDED_AT)
                VALUES (s.SUBJECT_DIGEST, s.ATTRIBUTE, s.VALUE, s.CONSENTS, s.VERSION, s.LOG_SEQ, s.REGION, s.DELETED,
                    CURRENT_TIMESTAMP())"
        ))
    }

    /// Clears a batch out of staging, and what a crash left there. Only what is older than an hour is taken
    /// for left: a younger batch may be a successor's, between its insert and its merge.
    pub(super) fn clear(&self, batch: &str, region: &Region) -> Statement {
        let (staging, batch, region) = (&self.staging, literal(batch), literal(region.as_str()));
        Statement::plain(format!(
            "DELETE FROM {staging} WHERE BATCH = {batch}
            OR (REGION = {region} AND STAGED_AT < DATEADD(hour, -1, CURRENT_TIMESTAMP()))"
        ))
    }

    /// The rows as text, in the columns' order of [`row`].
    pub(super) fn rows(&self, subject_digest: Option<&str>, limit: u32) -> Statement {
        let condition =
            subject_digest.map(|digest| format!("WHERE SUBJECT_DIGEST = {}", literal(digest))).unwrap_or_default();
        Statement::with_data(format!(
            "SELECT SUBJECT_DIGEST::VARCHAR AS SUBJECT_DIGEST, ATTRIBUTE::VARCHAR AS ATTRIBUTE,
                TO_JSON(VALUE)::VARCHAR AS VALUE_TEXT, TO_JSON(CONSENTS)::VARCHAR AS CONSENTS_TEXT,
                VERSION::VARCHAR AS VERSION_TEXT, LOG_SEQ::VARCHAR AS LOG_SEQ_TEXT, REGION::VARCHAR AS REGION,
                DELETED::VARCHAR AS DELETED_TEXT
            FROM {} {condition} ORDER BY SUBJECT_DIGEST, ATTRIBUTE LIMIT {limit}",
            self.zero_party
        ))
    }
}

/// A row of [`Tables::rows`].
pub(super) fn row(cells: Vec<Option<String>>) -> Result<Row, Error> {
    let [Some(subject_digest), Some(attribute), value, consents, Some(version), Some(seq), Some(region), Some(deleted)] =
        <[Option<String>; 8]>::try_from(cells).map_err(|_| Error::Answer("a row has another number of columns"))?
    else {
        return Err(Error::Answer("a column that is never empty is"));
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| Error::Answer("a number is none"));
    let deleted = deleted.eq_ignore_ascii_case("true");
    Ok(Row {
        subject_digest,
        attribute,
        value,
        consents,
        version: number(&version)?,
        seq: number(&seq)?,
        region: Region::new(&region).map_err(|_| Error::Answer("a region is none"))?,
        deleted,
    })
}

/// The rows as one JSON array with short names: d(igest), a(ttribute), v(alue), c(onsents), n(umber of the
/// version), s(equence), x (deleted). A tombstone has no v and no c, which become SQL NULL.
fn json(rows: &[Row]) -> String {
    let mut text = String::from("[");
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_row(&mut text, row);
    }
    text.push(']');
    text
}

fn push_row(text: &mut String, row: &Row) {
    use std::fmt::Write as _;
    // A string is valid JSON after serde_json has written it; values and consents are JSON already.
    let quoted = |plain: &str| serde_json::Value::from(plain).to_string();
    let (digest, attribute) = (quoted(&row.subject_digest), quoted(&row.attribute));
    let _ = write!(
        text,
        "{{\"d\":{digest},\"a\":{attribute},\"n\":{},\"s\":{},\"x\":{}",
        row.version, row.seq, row.deleted
    );
    if let Some(value) = &row.value {
        let _ = write!(text, ",\"v\":{value}");
    }
    if let Some(consents) = &row.consents {
        let _ = write!(text, ",\"c\":{consents}");
    }
    text.push('}');
}

/// The bytes that a row takes in a statement.
pub(super) fn literal_bytes(row: &Row) -> usize {
    let mut text = String::new();
    push_row(&mut text, row);
    literal(&text).len()
}
