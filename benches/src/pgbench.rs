//! The measure: `pgbench` on the same cluster, with as many clients, doing the same to tables of the same shape.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use world::Cluster;

use crate::process::{cpu_of_cluster, cpu_of_ended_children};

/// One lookup by primary key in the very table that the gateway reads, as the gateway does it.
pub(crate) const READ: &str = "\\set s random(1, :subjects)\n\\set k random(0, :keys - 1)\n\
    SELECT version, body::text FROM domicile.records WHERE region = 'eu-central' \
    AND subject = 'bench-' || :s AND collection = 'profile' AND key = 'k' || :k;\n";

/// The three inserts of one write, and their commit: a record, its event, and a leaf as long as ours.
pub(crate) const WRITE: &str = "\\set s random(1, :subjects)\n\\set k random(0, 1000000000)\nBEGIN;\n\
    INSERT INTO bench.records (region, subject, collection, key, version, body, updated_at) \
    VALUES ('eu-central', 'bench-' || :s, 'profile', 'w' || :k, 1, '{\"n\": 1, \"note\": \"about a hundred bytes of somebody''s data, as records are in practice\"}', now()) \
    ON CONFLICT (subject, collection, key, region) DO UPDATE SET version = bench.records.version + 1, body = EXCLUDED.body;\n\
    INSERT INTO bench.outbox (channel, topic, key, key_id, event_type, event_id, source, \"time\", datacontenttype, data) \
    VALUES (0, 'eu-central.domicile.record-changed.v1', decode(repeat('00', 32), 'hex'), 1, 'domicile.record-changed.v1', \
    'eu-central.log.world.test/' || :k, '/domicile/eu-central', now(), 'application/json', \
    convert_to('{\"n\": 1, \"note\": \"about a hundred bytes of somebody''s data, as records are in practice\"}', 'UTF8') || decode(repeat('20', 120), 'hex'));\n\
    INSERT INTO bench.leaves (hash, line) VALUES (decode(repeat('00', 32), 'hex'), repeat('x', 440));\nCOMMIT;\n";

/// The tables that [`WRITE`] fills: as many rows beforehand, and the same indexes.
pub(crate) const TABLES: [&str; 8] = [
    "CREATE SCHEMA bench",
    "CREATE TABLE bench.records (LIKE domicile.records INCLUDING ALL) WITH (fillfactor = 85)",
    "INSERT INTO bench.records SELECT * FROM domicile.records",
    "CREATE SEQUENCE bench.log CACHE 1",
    "CREATE TABLE bench.outbox (LIKE domicile.outbox INCLUDING ALL)",
    "ALTER TABLE bench.outbox ALTER seq SET DEFAULT nextval('bench.log')",
    "CREATE TABLE bench.leaves (LIKE domicile.leaves INCLUDING ALL)",
    "ALTER TABLE bench.leaves ALTER seq SET DEFAULT nextval('bench.log')",
];

/// What one load came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Base {
    /// Transactions per second.
    pub(crate) rate: f64,
    /// CPU of PostgreSQL per transaction, microseconds.
    pub(crate) postgres_us: f64,
    /// CPU of pgbench itself per transaction, microseconds.
    pub(crate) client_us: f64,
}

/// Runs `script` with `clients`.
pub(crate) async fn run(
    cluster: &Cluster,
    script: &str,
    clients: u32,
    load: Duration,
    variables: &[(&str, u64)],
) -> Result<Base> {
    let file = tempfile::Builder::new().prefix("domicile-").suffix(".sql").tempfile()?;
    std::fs::write(file.path(), script)?;
    let mut command = Command::new(tool("pgbench")?);
    command.args(["--no-vacuum", "--protocol", "prepared", "--jobs", "2", "--client", &clients.to_string()]);
    command.args(["--time", &load.as_secs().to_string(), "--file"]).arg(file.path());
    for (name, value) in variables {
        command.args(["--define", &format!("{name}={value}")]);
    }
    let (postgres, client) = (cpu_of_cluster(cluster).await?, cpu_of_ended_children()?);
    let output = command.arg(cluster.superuser_dsn("domicile")).output().await.context("pgbench does not run")?;
    let (postgres, client) = (cpu_of_cluster(cluster).await? - postgres, cpu_of_ended_children()? - client);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = |what: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(what))?;
        line.split_whitespace().next()?.split('/').next()?.parse::<f64>().ok()
    };
    let complaint = || format!("pgbench said: {text}{}", String::from_utf8_lossy(&output.stderr));
    let transactions = said("number of transactions actually processed: ").with_context(complaint)?;
    let failed = said("number of failed transactions: ").with_context(complaint)?;
    if !output.status.success() || failed > 0.0 || transactions < 1.0 {
        bail!("{}", complaint());
    }
    Ok(Base {
        rate: said("tps = ").with_context(complaint)?,
        postgres_us: postgres.as_secs_f64() * 1e6 / transactions,
        client_us: client.as_secs_f64() * 1e6 / transactions,
    })
}

/// A PostgreSQL program: from PATH, or beside the server.
pub(crate) fn tool(name: &str) -> Result<PathBuf> {
    let server = world::tools::Postgres::find()?;
    Ok(server.program(name))
}
