//! People by the thousand or the million: pinned in the directory and registered in their regions, by COPY.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::RngCore as _;
use residency::SubjectId;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use storage::Peppers;
use world::{RegionWorld, World};

/// Rows are sent in pieces of about this many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// The subject of a number, from 1.
pub(crate) fn subject(n: u64) -> String {
    format!("bench-{n}")
}

/// The regions of the first one's jurisdiction. People are at home in these only: what crosses a border stands in the logs
/// of both sides, which is more work by design and would be measured instead.
fn homes(regions: &[RegionWorld]) -> impl Iterator<Item = &RegionWorld> + Clone {
    regions.iter().filter(|region| region.jurisdiction() == regions[0].jurisdiction())
}

/// The region where the subject of a number is at home: they take turns.
pub(crate) fn home(regions: &[RegionWorld], n: u64) -> &RegionWorld {
    let turn = n % u64::try_from(homes(regions).count()).unwrap_or(1);
    homes(regions).nth(usize::try_from(turn).unwrap_or(0)).unwrap_or(&regions[0])
}

/// Pins the subjects of these numbers, and registers each in its region. They must be new.
pub(crate) async fn settle(world: &World, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
    let peppers = world.peppers()?;
    pin(world, &peppers, numbers.clone()).await.context("the subjects could not be pinned")?;
    let regions = world.regions();
    let every = homes(regions).count();
    for region in homes(regions) {
        let here = numbers.clone().take(every).find(|n| home(regions, *n).name() == region.name());
        let Some(first) = here else { continue };
        let here = (first..=*numbers.end()).step_by(every);
        register(region, &peppers, here).await.context("the subjects could not be registered")?;
    }
    Ok(())
}

async fn pin(world: &World, peppers: &Peppers, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
    let rows = numbers.map(|n| {
        let digest = peppers.digest(&SubjectId::new(&subject(n))?);
        let region = home(world.regions(), n).name();
        Ok(format!("\\\\x{}\t{}\t{region}\t1\tactive\n", digest.to_hex(), digest.key_id))
    });
    let into = "COPY domicile.pins (subject_digest, key_id, region, epoch, state) FROM STDIN";
    copy(&world.directory_dsn(), into, rows).await.map(drop)
}

async fn register(region: &RegionWorld, peppers: &Peppers, numbers: impl Iterator<Item = u64>) -> Result<()> {
    let mut chance = rand::rng();
    let rows = numbers.map(|n| {
        let name = subject(n);
        let digest = peppers.digest(&SubjectId::new(&name)?);
        let mut secret = [0_u8; 32];
        chance.fill_bytes(&mut secret);
        let secret = storage::SubjectDigest { key_id: 0, bytes: secret }.to_hex();
        Ok(format!("{name}\t\\\\x{}\t{}\tactive\t1\t\\\\x{secret}\tnow\n", digest.to_hex(), digest.key_id))
    });
    let into = "COPY domicile.subjects (subject, digest, key_id, state, epoch, secret, registered_at) FROM STDIN";
    copy(&region.superuser_dsn(), into, rows).await.map(drop)
}

/// Copies rows of text into a table, and lets the planner know of them. How long the copying took.
pub(crate) async fn copy(
    dsn: &str,
    into: &'static str,
    rows: impl Iterator<Item = Result<String>>,
) -> Result<Duration> {
    let mut connection = PgConnection::connect(dsn).await?;
    let began = Instant::now();
    let mut copy = connection.copy_in_raw(into).await?;
    let mut piece = String::with_capacity(PIECE_BYTES + 1_024);
    for row in rows {
        piece.push_str(&row?);
        if piece.len() >= PIECE_BYTES {
            copy.send(piece.as_bytes()).await?;
            piece.clear();
        }
    }
    copy.send(piece.as_bytes()).await?;
    copy.finish().await?;
    let took = began.elapsed();
    sqlx::query("ANALYZE").execute(&mut connection).await?;
    connection.close().await?;
    Ok(took)
}
