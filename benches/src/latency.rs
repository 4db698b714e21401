//! One connection, one request at a time: what the way through the gateway adds to the statement itself.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::plan::Plan;
use crate::population::subject;
use crate::progress::Progress;
use crate::report::{Comparison, Goal};
use crate::scene::{Deeds, Reads, Scene};
use crate::wire::Line;
use crate::wrk::Shape;

/// How many in a row: the three ways take turns, so that all of them see the same machine.
const TURN: u32 = 100;

/// GET through the gateway, its leaf buffered and durable, against the same SELECT on a held connection.
pub(crate) async fn one_at_a_time(plan: &Plan, scene: &Scene, progress: &Progress) -> Result<Vec<Comparison>> {
    let mut found = Vec::new();
    for reads in [Reads::Buffered, Reads::Durable] {
        progress.now(format!("one connection, one GET at a time, {} leaf", reads.name()));
        let one = added(plan, scene, reads).await?;
        progress.found(&one);
        found.push(one);
    }
    Ok(found)
}

async fn added(plan: &Plan, scene: &Scene, reads: Reads) -> Result<Comparison> {
    let gateway = scene.gateway(reads);
    let before = scene.ledger().await?;
    gateway.start_again().await?;
    let (url, token) = (gateway.url().to_owned(), scene.token().to_owned());
    let shape = Shape::get(&url, &token, scene.subjects, scene.keys);
    let mut line = Line::open(&url)?;
    let mut held = PgConnection::connect(&scene.region().superuser_dsn()).await?;
    let (mut through, mut alone, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    let mut asked = 0_u64;
    for turn in 0..=plan.turns_alone {
        for n in 0..TURN {
            let (s, k) = drawn(turn * TURN + n, scene);
            let request = shape.request.replace("{s}", &s.to_string()).replace("{k}", &k.to_string());
            let began = Instant::now();
            tokio::task::block_in_place(|| line.ask(request.as_bytes()))?;
            through.push(began.elapsed());
            asked += 1;
        }
        for n in 0..TURN {
            let (s, k) = drawn(turn * TURN + n, scene);
            alone.push(lookup(&mut held, &subject(s), &format!("k{k}")).await?);
        }
        for _ in 0..TURN {
            commits.push(commit(&mut held).await?);
        }
        if turn == 0 {
            // The first turn filled caches and prepared statements.
            [&mut through, &mut alone, &mut commits].into_iter().for_each(Vec::clear);
        }
    }
    gateway.terminate().await?;
    scene.must_tell(&before, Deeds { reads: asked, writes: 0, unread_max: 0 }).await?;
    let [through, alone, commit] = [through, alone, commits].map(|times| us(median(times)));
    // A durable leaf costs a commit, whoever makes it.
    let allowed = if reads == Reads::Durable { 250.0 + commit } else { 250.0 };
    let detail = format!(
        "p50 {through:.0} us through the gateway, {alone:.0} us by the held connection; one small commit {commit:.0} us"
    );
    let name = format!("GET, {} leaf, one at a time: added p50", reads.name());
    Ok(Comparison::value(name, through - alone, "us", Goal::AtMost(allowed.round()), detail))
}

/// The same subjects and keys for all three, far apart.
fn drawn(n: u32, scene: &Scene) -> (u64, u64) {
    let far = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    (far % scene.subjects + 1, far / scene.subjects % scene.keys)
}

async fn lookup(held: &mut PgConnection, subject: &str, key: &str) -> Result<Duration> {
    let began = Instant::now();
    sqlx::query(
        "SELECT version, body::text FROM domicile.records \
         WHERE region = 'eu-central' AND subject = $1 AND collection = 'profile' AND key = $2",
    )
    .bind(subject)
    .bind(key)
    .fetch_one(held)
    .await?;
    Ok(began.elapsed())
}

/// A row as long as a leaf, by itself.
async fn commit(held: &mut PgConnection) -> Result<Duration> {
    let began = Instant::now();
    sqlx::query("INSERT INTO bench.leaves (hash, line) VALUES (decode(repeat('00', 32), 'hex'), repeat('x', 440))")
        .execute(held)
        .await?;
    Ok(began.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
