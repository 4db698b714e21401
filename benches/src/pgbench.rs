//! The measure: `pgbench` on the same cluster, with as many clients.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use world::Cluster;

/// More connections than this are refused by a cluster of the default size.
const CLIENTS_MAX: u32 = 90;

/// One lookup by primary key, as the gateway does it.
pub(crate) const READ: &str = "\\set s random(1, :subjects)\n\\set k random(0, :keys - 1)\n\
    SELECT version, body::text FROM domicile.records WHERE region = 'eu-central' \
    AND subject = 'bench-' || :s AND collection = 'profile' AND key = 'k' || :k;\n";

/// The three inserts of one write, and their commit.
pub(crate) const WRITE: &str = "\\set s random(1, :subjects)\n\\set k random(0, 1000000000)\nBEGIN;\n\
    INSERT INTO bench.records VALUES ('eu-central', 'bench-' || :s, 'profile', 'w' || :k, 1, '{\"n\": 1, \"note\": \"about a hundred bytes of somebody''s data, as records are in practice\"}', now()) \
    ON CONFLICT (region, subject, collection, key) DO UPDATE SET version = bench.records.version + 1, body = EXCLUDED.body;\n\
    INSERT INTO bench.outbox (topic, key, data) VALUES ('eu-central.domicile.record-changed.v1', '\\x00', '{\"n\": 1, \"note\": \"about a hundred bytes of somebody''s data, as records are in practice\"}');\n\
    INSERT INTO bench.leaves (hash, line) VALUES ('\\x00', repeat('x', 430));\nCOMMIT;\n";

/// Transactions per second of `script` with `clients` (at most 90).
pub(crate) async fn rate(
    cluster: &Cluster,
    script: &str,
    clients: u32,
    load: Duration,
    variables: &[(&str, u64)],
) -> Result<f64> {
    let file = std::env::temp_dir().join(format!("domicile-pgbench-{}-{clients}.sql", std::process::id()));
    std::fs::write(&file, script)?;
    let clients = clients.min(CLIENTS_MAX);
    let mut command = Command::new(tool("pgbench")?);
    command.args(["--no-vacuum", "--protocol", "prepared", "--jobs", "2", "--client", &clients.to_string()]);
    command.args(["--time", &load.as_secs().to_string(), "--file"]).arg(&file);
    for (name, value) in variables {
        command.args(["--define", &format!("{name}={value}")]);
    }
    let output = command.arg(cluster.superuser_dsn("domicile")).output().await.context("pgbench does not run")?;
    let _ = std::fs::remove_file(&file);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("tps = "));
    let Some(line) = line else { bail!("pgbench said: {}", String::from_utf8_lossy(&output.stderr)) };
    line.split_whitespace().nth(2).context("no rate")?.parse().context("no number")
}

/// A PostgreSQL program: from PATH, or beside the server.
pub(crate) fn tool(name: &str) -> Result<PathBuf> {
    let server = world::tools::Postgres::find()?;
    Ok(server.program(name))
}
