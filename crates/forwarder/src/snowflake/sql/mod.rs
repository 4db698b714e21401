//! The statements, each a paragraph. Every one may be repeated without changing what it came to.

mod rows;
mod setup;

use residency::Region;

use super::literal::{identifier, literal};
use crate::change::{Forgotten, Row};
use crate::error::Error;
use rows::json;
pub(super) use rows::{literal_bytes, row};
pub use setup::Step;

/// How the batches of a replay begin.
pub(super) const REPLAY: &str = "replay-";

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

    fn plain(text: String) -> Self {
        Self { text, holds_data: false }
    }

    fn with_data(text: String) -> Self {
        Self { text, holds_data: true }
    }
}

/// Whether a Snowflake region (`AWS_EU_CENTRAL_1`, or behind a region group `PUBLIC.AZURE_WESTEUROPE`) is a location
/// (`aws/eu-central-1`, `azure/westeurope`).
pub(super) fn stands_in(region: &str, location: &str) -> bool {
    let region = region.rsplit('.').next().unwrap_or_default();
    region.eq_ignore_ascii_case(&location.replace(['/', '-'], "_"))
}

/// The qualified names of what the sink owns.
pub(super) struct Tables {
    database: String,
    schema: String,
    zero_party: String,
    staging: String,
    identity: String,
    erased: String,
}

impl Tables {
    pub(super) fn new(database: &str, schema: &str) -> Result<Self, Error> {
        let database = identifier("database", database)?;
        let schema = format!("{database}.{}", identifier("schema", schema)?);
        Ok(Self {
            zero_party: format!("{schema}.ZERO_PARTY"),
            staging: format!("{schema}.ZERO_PARTY_STAGING"),
            identity: format!("{schema}.REGION_IDENTITY"),
            erased: format!("{schema}.ERASED_SUBJECTS"),
            database,
            schema,
        })
    }

    /// Where the account stands, e.g. `AWS_EU_CENTRAL_1`.
    pub(super) fn current_region(&self) -> Statement {
        Statement::plain("SELECT CURRENT_REGION()::VARCHAR AS REGION".to_owned())
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
                (BATCH, SUBJECT_DIGEST, ATTRIBUTE, VALUE, CONSENTS, VERSION, LOG_SEQ, REGION, DELETED, CHANGED_AT_US, STAGED_AT)
            SELECT {batch}, f.value:d::VARCHAR, f.value:a::VARCHAR, f.value:v, f.value:c,
                f.value:n::NUMBER(20, 0), f.value:s::NUMBER(20, 0), {region}, f.value:x::BOOLEAN, f.value:t::NUMBER(20, 0), CURRENT_TIMESTAMP()
            FROM TABLE(FLATTEN(INPUT => PARSE_JSON({rows}))) f",
            staging = self.staging,
        ))
    }

    /// Brings a batch into the table: a row wins only over an older log position. Tombstones are rows like any other.
    /// Nothing comes of whoever was erased.
    pub(super) fn merge(&self, batch: &str) -> Statement {
        let (zero_party, staging, erased, batch) = (&self.zero_party, &self.staging, &self.erased, literal(batch));
        Statement::plain(format!(
            "MERGE INTO {zero_party} t
            USING (
                SELECT * FROM {staging} WHERE BATCH = {batch}
                AND SUBJECT_DIGEST NOT IN (SELECT SUBJECT_DIGEST FROM {erased})
                QUALIFY ROW_NUMBER() OVER (PARTITION BY SUBJECT_DIGEST, ATTRIBUTE ORDER BY LOG_SEQ DESC) = 1
            ) s
            ON t.SUBJECT_DIGEST = s.SUBJECT_DIGEST AND t.ATTRIBUTE = s.ATTRIBUTE
            WHEN MATCHED AND s.LOG_SEQ > t.LOG_SEQ THEN UPDATE SET
                VALUE = s.VALUE, CONSENTS = s.CONSENTS, VERSION = s.VERSION, LOG_SEQ = s.LOG_SEQ,
                REGION = s.REGION, DELETED = s.DELETED, CHANGED_AT_US = s.CHANGED_AT_US, FORWARDED_AT = CURRENT_TIMESTAMP()
            WHEN NOT MATCHED THEN INSERT
                (SUBJECT_DIGEST, ATTRIBUTE, VALUE, CONSENTS, VERSION, LOG_SEQ, REGION, DELETED, CHANGED_AT_US, FORWARDED_AT)
                VALUES (s.SUBJECT_DIGEST, s.ATTRIBUTE, s.VALUE, s.CONSENTS, s.VERSION, s.LOG_SEQ, s.REGION, s.DELETED,
                    s.CHANGED_AT_US, CURRENT_TIMESTAMP())"
        ))
    }

    /// Remembers who was erased. From here on no merge takes anything of theirs.
    pub(super) fn remember(&self, forgotten: &[Forgotten]) -> Statement {
        let erased = &self.erased;
        let rows: Vec<serde_json::Value> = forgotten
            .iter()
            .map(|one| serde_json::json!({"d": one.subject_digest, "s": one.seq, "t": one.at_us}))
            .collect();
        let rows = literal(&serde_json::Value::from(rows).to_string());
        Statement::with_data(format!(
            "INSERT INTO {erased} (SUBJECT_DIGEST, LOG_SEQ, ERASED_AT_US)
            SELECT f.value:d::VARCHAR, f.value:s::NUMBER(20, 0), f.value:t::NUMBER(20, 0)
            FROM TABLE(FLATTEN(INPUT => PARSE_JSON({rows}))) f
            WHERE f.value:d::VARCHAR NOT IN (SELECT SUBJECT_DIGEST FROM {erased})"
        ))
    }

    /// Takes everything of theirs out of staging, then out of the table.
    pub(super) fn forget(&self, forgotten: &[Forgotten]) -> [Statement; 2] {
        let digests: Vec<String> = forgotten.iter().map(|one| literal(&one.subject_digest)).collect();
        let digests = digests.join(", ");
        [&self.staging, &self.zero_party]
            .map(|table| Statement::with_data(format!("DELETE FROM {table} WHERE SUBJECT_DIGEST IN ({digests})")))
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

    /// Clears everything out of staging that whoever holds the lease may have left, and old leftovers of replays.
    pub(super) fn clear_all_but_replays(&self, region: &Region) -> Statement {
        let (staging, region) = (&self.staging, literal(region.as_str()));
        Statement::plain(format!(
            "DELETE FROM {staging} WHERE REGION = {region}
            AND (NOT STARTSWITH(BATCH, '{REPLAY}') OR STAGED_AT < DATEADD(hour, -1, CURRENT_TIMESTAMP()))"
        ))
    }

    /// How many rows are in staging.
    pub(super) fn staged(&self) -> Statement {
        Statement::plain(format!("SELECT COUNT(*)::VARCHAR AS STAGED FROM {}", self.staging))
    }

    /// The rows as text, in the columns' order of [`row`].
    pub(super) fn rows(&self, subject_digest: Option<&str>, limit: u32) -> Statement {
        let condition =
            subject_digest.map(|digest| format!("WHERE SUBJECT_DIGEST = {}", literal(digest))).unwrap_or_default();
        Statement::with_data(format!(
            "SELECT SUBJECT_DIGEST::VARCHAR AS SUBJECT_DIGEST, ATTRIBUTE::VARCHAR AS ATTRIBUTE,
                TO_JSON(VALUE)::VARCHAR AS VALUE_TEXT, TO_JSON(CONSENTS)::VARCHAR AS CONSENTS_TEXT,
                VERSION::VARCHAR AS VERSION_TEXT, LOG_SEQ::VARCHAR AS LOG_SEQ_TEXT, REGION::VARCHAR AS REGION,
                DELETED::VARCHAR AS DELETED_TEXT, CHANGED_AT_US::VARCHAR AS CHANGED_AT_TEXT
            FROM {} {condition} ORDER BY SUBJECT_DIGEST, ATTRIBUTE LIMIT {limit}",
            self.zero_party
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snowflakes_names_of_regions_are_the_providers_in_another_form() {
        for (region, location) in [
            ("AWS_EU_CENTRAL_1", "aws/eu-central-1"),
            ("AZURE_WESTEUROPE", "azure/westeurope"),
            ("GCP_EUROPE_WEST3", "gcp/europe-west3"),
            ("PUBLIC.AWS_US_EAST_1", "aws/us-east-1"),
        ] {
            assert!(stands_in(region, location), "{region}");
        }
        assert!(!stands_in("AWS_US_EAST_1", "aws/eu-central-1"));
        assert!(!stands_in("", "aws/eu-central-1"));
    }
}
