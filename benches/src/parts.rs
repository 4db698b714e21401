//! The parts that a read through HTTP cannot do without, each alone: one lookup of many that share a SELECT, and one
//! leaf of many that share a commit, by a held connection and with nothing around them. With an empty HTTP server and
//! the load generator they add up to what no router in front of this PostgreSQL can pass on this machine.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

use crate::plan::Plan;
use crate::population::subject;
use crate::process::{cpu_of, cpu_of_cluster};
use crate::scene::Scene;

/// Connections that look up; half of the callers share a SELECT.
const READERS: u32 = 2;
/// A leaf of a read is about so long.
const LEAF_BYTES: usize = 430;

/// CPU of one lookup of a record when `callers` are waiting at a time: of client and PostgreSQL, microseconds.
pub(crate) async fn lookup(plan: &Plan, scene: &Scene, callers: u32) -> Result<f64> {
    let at_once = usize::try_from((callers / READERS).max(1))?;
    let connections = futures::future::try_join_all(
        (0..READERS).map(|_| async { anyhow::Ok(PgConnection::connect(&scene.region().superuser_dsn()).await?) }),
    )
    .await?;
    let until = Instant::now() + plan.load;
    measured(scene, async {
        let readers = connections.into_iter().map(|mut connection| async move {
            let mut found = 0;
            while Instant::now() < until {
                let subjects: Vec<String> = (0..at_once).map(|_| subject(random(scene.subjects) + 1)).collect();
                let keys: Vec<String> = (0..at_once).map(|_| format!("k{}", random(scene.keys))).collect();
                let rows = sqlx::query(
                    "SELECT k.ord, r.version, r.body::text, r.updated_at \
                     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(subject, key, ord) \
                     LEFT JOIN domicile.records AS r ON r.region = 'eu-central' AND r.subject = k.subject \
                           AND r.collection = 'profile' AND r.key = k.key",
                )
                .bind(subjects)
                .bind(keys)
                .fetch_all(&mut connection)
                .await?;
                found += rows.len();
            }
            connection.close().await?;
            anyhow::Ok(found)
        });
        Ok(futures::future::try_join_all(readers).await?.into_iter().sum())
    })
    .await
}

/// CPU of one leaf when `callers` share a commit: of client and PostgreSQL, microseconds.
pub(crate) async fn leaf(plan: &Plan, scene: &Scene, callers: u32) -> Result<f64> {
    let at_once = usize::try_from(callers)?;
    let mut connection = PgConnection::connect(&scene.region().superuser_dsn()).await?;
    connection.execute("DROP TABLE IF EXISTS bench_leaves").await?;
    connection.execute("CREATE TABLE bench_leaves (LIKE domicile.leaves INCLUDING ALL)").await?;
    let (hashes, lines) = (vec![[7_u8; 32]; at_once], vec!["x".repeat(LEAF_BYTES); at_once]);
    let until = Instant::now() + plan.load;
    let part = measured(scene, async {
        let mut size: usize = 0;
        while Instant::now() < until {
            sqlx::query(
                "INSERT INTO bench_leaves (seq, hash, line) SELECT $1 + l.ord, l.hash, l.line \
                 FROM unnest($2::bytea[], $3::text[]) WITH ORDINALITY AS l(hash, line, ord)",
            )
            .bind(i64::try_from(size)?)
            .bind(&hashes)
            .bind(&lines)
            .execute(&mut connection)
            .await?;
            size += at_once;
        }
        Ok(size)
    })
    .await?;
    connection.execute("DROP TABLE bench_leaves").await?;
    connection.close().await?;
    Ok(part)
}

async fn measured(scene: &Scene, work: impl Future<Output = Result<usize>>) -> Result<f64> {
    let cpu = async || anyhow::Ok(cpu_of(std::process::id())? + cpu_of_cluster(scene.cluster()).await?);
    let before = cpu().await?;
    let done = work.await?;
    let spent: Duration = cpu().await? - before;
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    Ok(spent.as_secs_f64() * 1e6 / done.max(1) as f64)
}

fn random(below: u64) -> u64 {
    rand::random::<u64>() % below.max(1)
}
