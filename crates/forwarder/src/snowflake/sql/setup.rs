//! What has to be there before anything is forwarded: database, schema, tables, and the role's grants, each with its reason.

use residency::Region;

use super::{Statement, Tables};
use crate::error::Error;
use crate::snowflake::literal::identifier;

/// One step of a setup, and why it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The reason, as half a sentence.
    pub why: &'static str,
    /// The statement. It holds no data.
    pub sql: String,
}

impl Step {
    pub(in crate::snowflake) fn statement(&self) -> Statement {
        Statement::plain(self.sql.clone())
    }
}

impl Tables {
    /// Database, schema and tables. Transient, with at most a day of Time Travel: a permanent table keeps erased data
    /// for seven days more.
    pub(in crate::snowflake) fn setup(&self, retention_days: u8) -> Vec<Step> {
        let Self { database, schema, zero_party, staging, identity, erased } = self;
        let short = format!("DATA_RETENTION_TIME_IN_DAYS = {retention_days}");
        let columns = "SUBJECT_DIGEST VARCHAR NOT NULL,
                ATTRIBUTE VARCHAR NOT NULL,
                VALUE VARIANT,
                CONSENTS VARIANT,
                VERSION NUMBER(20, 0) NOT NULL,
                LOG_SEQ NUMBER(20, 0) NOT NULL,
                REGION VARCHAR NOT NULL,
                DELETED BOOLEAN NOT NULL,
                CHANGED_AT_US NUMBER(20, 0) NOT NULL";
        [
            (
                "transient: without Fail-safe, which keeps erased data for seven days that nobody can shorten",
                format!("CREATE TRANSIENT DATABASE IF NOT EXISTS {database} {short}"),
            ),
            ("a schema of the forwarder's own", format!("CREATE TRANSIENT SCHEMA IF NOT EXISTS {schema} {short}")),
            ("what follows is in it", format!("USE SCHEMA {schema}")),
            (
                "whose data this is: another region's forwarder finds it here and stops",
                format!("CREATE TRANSIENT TABLE IF NOT EXISTS {identity} (REGION VARCHAR NOT NULL) {short}"),
            ),
            (
                "what people declared and consented to, one row per subject digest and attribute; a withdrawn one stays \
                 as a tombstone, so that a late replay cannot bring it back",
                format!(
                    "CREATE TRANSIENT TABLE IF NOT EXISTS {zero_party} (
                {columns},
                FORWARDED_AT TIMESTAMP_TZ NOT NULL
            ) {short}"
                ),
            ),
            (
                "who was erased, by digest and log position only, so that a batch that was under way then cannot bring \
                 anything back",
                format!(
                    "CREATE TRANSIENT TABLE IF NOT EXISTS {erased} (
                SUBJECT_DIGEST VARCHAR NOT NULL,
                LOG_SEQ NUMBER(20, 0) NOT NULL,
                ERASED_AT_US NUMBER(20, 0) NOT NULL
            ) {short}"
                ),
            ),
            (
                "batches between their insert and their merge; empty in between",
                format!(
                    "CREATE TRANSIENT TABLE IF NOT EXISTS {staging} (
                BATCH VARCHAR NOT NULL,
                {columns},
                STAGED_AT TIMESTAMP_TZ NOT NULL
            ) {short}"
                ),
            ),
        ]
        .into_iter()
        .map(|(why, sql)| Step { why, sql })
        .collect()
    }

    /// The least that a role needs to forward into the tables, and nothing that reads or changes anything else.
    ///
    /// # Errors
    /// [`Error::Settings`] when a name is no identifier.
    pub(in crate::snowflake) fn grants(
        &self,
        role: &str,
        warehouse: Option<&str>,
        user: &str,
    ) -> Result<Vec<Step>, Error> {
        let Self { database, schema, zero_party, staging, identity, erased } = self;
        let (role, user) = (identifier("role", role)?, identifier("user", user)?);
        let mut steps = vec![
            Step {
                why: "the role that the forwarder works under, and nobody else",
                sql: format!("CREATE ROLE IF NOT EXISTS {role}"),
            },
            Step { why: "to see the database", sql: format!("GRANT USAGE ON DATABASE {database} TO ROLE {role}") },
            Step { why: "to see the schema", sql: format!("GRANT USAGE ON SCHEMA {schema} TO ROLE {role}") },
            Step {
                why: "to read whose tables they are; the role cannot change that",
                sql: format!("GRANT SELECT ON TABLE {identity} TO ROLE {role}"),
            },
            Step {
                why: "to merge batches; erasure updates and deletes rows",
                sql: format!("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {zero_party} TO ROLE {role}"),
            },
            Step {
                why: "to remember who was erased; the role cannot take that back",
                sql: format!("GRANT SELECT, INSERT ON TABLE {erased} TO ROLE {role}"),
            },
            Step {
                why: "to stage batches and to clear them",
                sql: format!("GRANT SELECT, INSERT, DELETE ON TABLE {staging} TO ROLE {role}"),
            },
        ];
        if let Some(warehouse) = warehouse {
            let warehouse = identifier("warehouse", warehouse)?;
            steps.push(Step {
                why: "to run the merges",
                sql: format!("GRANT USAGE ON WAREHOUSE {warehouse} TO ROLE {role}"),
            });
        }
        steps.push(Step { why: "the forwarder is this user", sql: format!("GRANT ROLE {role} TO USER {user}") });
        Ok(steps)
    }

    /// [`Tables::claim`] for an operator.
    pub(in crate::snowflake) fn claim_step(&self, region: &Region) -> Step {
        Step { why: "the tables are this region's from now on", sql: self.claim(region).text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarders_role_may_do_what_it_does_and_no_more() {
        let tables = Tables::new("domicile", "eu").unwrap();
        let grants = tables.grants("forwarder", Some("w"), "domicile").unwrap();
        let text: Vec<&str> = grants.iter().map(|step| step.sql.as_str()).collect();
        assert!(text.contains(&"GRANT SELECT ON TABLE DOMICILE.EU.REGION_IDENTITY TO ROLE FORWARDER"));
        assert!(!text.iter().any(|sql| sql.contains("OWNERSHIP") || sql.contains("ALL") || sql.contains("TRUNCATE")));
        let refused = |role: &str, user: &str| tables.grants(role, None, user).err().unwrap().to_string();
        assert!(refused("forwarder; DROP", "domicile").contains("`role`"));
        assert!(refused("forwarder", "svc@example.com").contains("`user`"));
    }
}
