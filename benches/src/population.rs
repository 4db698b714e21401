//! People by the thousand or the million: pinned in the directory and registered in their regions, by COPY.

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

/// The region where the subject of a number is at home: they take turns.
pub(crate) fn home(regions: &[RegionWorld], n: u64) -> &RegionWorld {
    let turn = n % u64::try_from(regions.len()).unwrap_or(1);
    &regions[usize::try_from(turn).unwrap_or(0)]
}

/// Pins the subjects of these numbers, and registers each in its region. They must be new.
pub(crate) async fn settle(world: &World, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
    let peppers = world.peppers()?;
    pin(world, &peppers, numbers.clone()).await.context("the subjects could not be pinned")?;
    let regions = world.regions();
    let every = u64::try_from(regions.len())?;
    for region in regions {
        let here = numbers.clone().take(regions.len()).find(|n| home(regions, *n).name() == region.name());
        let Some(first) = here else { continue };
        let here = (first..=*numbers.end()).step_by(usize::try_from(every)?);
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
    copy(&world.directory_dsn(), into, rows).await
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
    copy(&region.superuser_dsn(), into, rows).await
}

/// Copies rows of text into a table, and lets the planner know of them.
pub(crate) async fn copy(dsn: &str, into: &'static str, rows: impl Iterator<Item = Result<String>>) -> Result<()> {
    let mut connection = PgConnection::connect(dsn).await?;
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
    sqlx::query("ANALYZE").execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
