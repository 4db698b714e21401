//! A million small records in one request, against COPY of the same rows into one table; and whether the gateway's
//! memory stays what it was.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use world::World;

use crate::memory::{Watch, mib};
use crate::people;
use crate::plan::Plan;
use crate::population::{self, home, subject};
use crate::process::{cpu_of, cpu_of_cluster};
use crate::progress::Progress;
use crate::report::{Comparison, Goal};
use crate::scene::POSTGRES;
use crate::wire;

/// Records of one subject.
const RECORDS_EACH: u64 = 100;
/// The request is sent in pieces of about this many bytes, of which a few may wait.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_WAITING_MAX: usize = 4;
/// How much the gateway may grow while a batch of any length runs through it.
const GROWTH_MIB_MAX: f64 = 64.0;
const NOTE: &str = "small";
/// Regions, of one jurisdiction.
const REGIONS: usize = 3;

/// One batch over three regions.
pub(crate) async fn against_copy(plan: &Plan, progress: &Progress) -> Result<Vec<Comparison>> {
    progress.now("starting three regions");
    let policy = people::policy(REGIONS)?;
    let mut builder = people::apart(REGIONS, policy.path())
        .setting("gateway.limits.batch_body_bytes_max", 1_i64 << 30)
        .setting("telemetry.filter", "warn");
    for (name, value) in POSTGRES {
        builder = builder.postgres_setting(name, value);
    }
    let world = builder.start().await?;
    let subjects = plan.batch_lines / RECORDS_EACH;
    population::settle(&world, 1..=subjects).await?;

    progress.now(format!("COPY of {} rows into one table", plan.batch_lines));
    let copy = copy(&world, plan.batch_lines).await?;
    progress.now(format!("a batch of {} lines over three regions", plan.batch_lines));
    let gateway = &world.gateways()[0];
    let process = gateway.id().await.context("the gateway has ended")?;
    let (mut postgres, mut gateway_cpu) = (cpu_of_regions(&world).await?, cpu_of(process)?);
    let watch = Watch::begin(process)?;
    let began = Instant::now();
    send(&world, plan.batch_lines).await?;
    let took = began.elapsed();
    let (idle, peak) = watch.end().await?;
    postgres = cpu_of_regions(&world).await? - postgres;
    gateway_cpu = cpu_of(process)? - gateway_cpu;
    gateway.terminate().await?;
    must_be_there_once(&world, plan.batch_lines).await?;
    world.shutdown().await;

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let lines = plan.batch_lines as f64;
    let (rate, copy_rate) = (lines / took.as_secs_f64(), lines / copy.as_secs_f64());
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / lines;
    let detail = format!(
        "{lines} records in {:.1} s, {:.2} of COPY's {copy_rate:.0}/s; every record with its event and its leaf",
        took.as_secs_f64(),
        rate / copy_rate
    );
    let goal = Goal::AtLeast((0.3 * copy_rate).max(100_000.0).round());
    let memory = format!("{:.0} MiB before, {:.0} MiB at most while the lines ran through", mib(idle), mib(peak));
    let found = vec![
        Comparison::value("batch over 3 regions", rate, "/s", goal, detail).with_cpu(each(gateway_cpu), each(postgres)),
        Comparison::value(
            "batch over 3 regions: growth of the gateway",
            mib(peak.saturating_sub(idle)),
            "MiB",
            Goal::AtMost(GROWTH_MIB_MAX),
            memory,
        ),
    ];
    found.iter().for_each(|one| progress.found(one));
    Ok(found)
}

/// The `n`th record: whose it is, and its key within the subject.
fn record(n: u64) -> (u64, u64) {
    (n / RECORDS_EACH + 1, n % RECORDS_EACH)
}

/// The measure: the same rows as text into a table of the same shape.
async fn copy(world: &World, lines: u64) -> Result<Duration> {
    let region = world.region("eu-central");
    for statement in ["CREATE SCHEMA bench", "CREATE TABLE bench.records (LIKE domicile.records INCLUDING ALL)"] {
        region.sql(statement).await?;
    }
    let rows = (0..lines).map(|n| {
        let (s, k) = record(n);
        Ok(format!(
            "{}\t{}\tprofile\tk{k}\t1\t{{\"n\":{n},\"note\":\"{NOTE}\"}}\tnow\n",
            home(world.regions(), s).name(),
            subject(s)
        ))
    });
    let into = "COPY bench.records (region, subject, collection, key, version, body, updated_at) FROM STDIN";
    population::copy(&region.superuser_dsn(), into, rows).await
}

/// Sends the batch while its results are read; each must be a success.
async fn send(world: &World, lines: u64) -> Result<()> {
    let gateway = &world.gateways()[0];
    let stream = TcpStream::connect(wire::address(gateway.url())?).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING_MAX);
    let residences: Vec<String> = (0..3).map(|n| home(world.regions(), n).residence().to_owned()).collect();
    let writer = tokio::spawn(write(pieces, residences, lines));
    let request = Request::post("/v1/batch")
        .header("host", gateway.url().trim_start_matches("http://"))
        .header("authorization", format!("Bearer {}", world.keys().service))
        .header("content-type", "application/x-ndjson")
        .body(StreamBody::new(ReceiverStream::new(waiting)))?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status().is_success(), "the batch was answered {}", answer.status());
    let results = read(answer.into_body()).await?;
    writer.await??;
    drop(sender);
    connection.await??;
    ensure!(results == lines, "{lines} lines and {results} results: the figure is void");
    Ok(())
}

type Piece = Result<Frame<Bytes>, std::convert::Infallible>;

async fn write(pieces: mpsc::Sender<Piece>, residences: Vec<String>, lines: u64) -> Result<()> {
    use std::fmt::Write as _;
    let mut piece = String::with_capacity(PIECE_BYTES + 1_024);
    for n in 0..lines {
        let (s, k) = record(n);
        let residence = &residences[usize::try_from(s)? % residences.len()];
        writeln!(
            piece,
            "{{\"operation\":\"record.put\",\"subject\":\"{}\",\"residence\":\"{residence}\",\"collection\":\"profile\",\
             \"key\":\"k{k}\",\"body\":{{\"n\":{n},\"note\":\"{NOTE}\"}}}}",
            subject(s)
        )?;
        if piece.len() >= PIECE_BYTES || n + 1 == lines {
            let whole = std::mem::replace(&mut piece, String::with_capacity(PIECE_BYTES + 1_024));
            pieces.send(Ok(Frame::data(whole.into()))).await.context("the gateway reads no further")?;
        }
    }
    Ok(())
}

/// Counts the results, which are lines that say `"status":201` or another success near their beginning.
async fn read(mut body: Incoming) -> Result<u64> {
    let (mut results, mut rest) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        rest.extend_from_slice(&data);
        let mut from = 0;
        while let Some(end) = memchr::memchr(b'\n', &rest[from..]) {
            let line = &rest[from..from + end];
            if memchr::memmem::find(line, b"\"status\":20").is_none() {
                bail!("a line failed: {}", String::from_utf8_lossy(line));
            }
            results += 1;
            from += end + 1;
        }
        rest.drain(..from);
    }
    ensure!(rest.is_empty(), "the last result is torn");
    Ok(results)
}

async fn cpu_of_regions(world: &World) -> Result<Duration> {
    let mut sum = cpu_of_cluster(world.directory()).await?;
    for region in world.regions() {
        sum += cpu_of_cluster(&region.cluster).await?;
    }
    Ok(sum)
}

/// Every record is at home once, in its first version, with its event and its leaf.
async fn must_be_there_once(world: &World, lines: u64) -> Result<()> {
    let mut sums = [0_u64; 4];
    for region in world.regions() {
        let counted = "SELECT (SELECT count(*) FROM domicile.records), (SELECT coalesce(sum(version), 0) FROM domicile.records), \
             (SELECT count(*) FROM domicile.outbox), (SELECT count(*) FROM domicile.leaves WHERE line LIKE '%\"op\":%')";
        let row = region.sql(counted).await?.concat();
        for (sum, number) in sums.iter_mut().zip(row.split('|')) {
            *sum += number.parse::<u64>()?;
        }
    }
    ensure!(
        sums == [lines; 4],
        "{lines} lines, and records, versions, events, leaves are {sums:?}: the figure is void"
    );
    Ok(())
}
