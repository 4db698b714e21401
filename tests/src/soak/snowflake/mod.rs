//! Zero-party changes through a bad network, by forwarders that are killed, of people of whom some are erased meanwhile:
//! the table equals what was declared, a replay of the whole log changes nothing, nobody's value is where no consent is,
//! and of the erased there is nothing.

mod declaring;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use world::{RegionWorld, Row, Snowflake, World};

use super::Length;
use super::proxy::Proxy;
use super::stage::{self, API, Carrier, PATIENCE, REGION};
use crate::until;
use declaring::{Declared, Declaring, Model, PURPOSE, value};

/// Runs it; the answer is what held, in words.
///
/// # Errors
/// When the table is not what was declared.
pub async fn snowflake(length: Length) -> Result<String> {
    let (changes, kills) = (length.of(6_000, 200_000), length.of(2, 5));
    let proxy = Proxy::start(length.of(7, 13)).await?;
    let world = Carrier::Forwarder
        .world()
        .setting("events.lease_s", 5)
        .setting("events.forwarder_batch_ms_max", 100)
        .setting("events.forwarder_batch_rows_max", length.of(100, 1_000))
        .setting("regions.eu-central.snowflake.base_url", proxy.url.as_str())
        // What ends a connection that says nothing.
        .setting("regions.eu-central.snowflake.request_s_max", length.of(3, 10))
        .setting("regions.eu-central.snowflake.purposes", vec![PURPOSE])
        .start()
        .await?;
    let region = world.region(REGION);
    let snowflake = stage::snowflake(region)?;
    proxy.lead_to(&snowflake.url());

    let declaring = Declaring::start(world.client_of(world.gateway(API))?, changes, kills + 1);
    let forwarder = Carrier::Forwarder.of(&world);
    let mut erased = BTreeSet::new();
    for round in 1..=kills {
        declaring.written(round).await?;
        let doomed = declaring.doomed(round, kills);
        let digests = digests(region, &doomed).await?;
        until("Somebody who is to be erased in the table", PATIENCE, || holds_some(snowflake, &digests)).await?;
        // The next share is written while people are erased, the first of them before the forwarder falls, the others
        // while it is away.
        declaring.open(round + 1);
        let (first, others) = doomed.split_at(doomed.len() / 2);
        declaring.erase(first).await?;
        forwarder.kill().await?;
        declaring.erase(others).await?;
        forwarder.start_again().await?;
        erased.extend(digests);
    }
    let Declared { model, refused } = declaring.end().await?;
    ensure!(refused > 0, "nobody wrote about the erased");
    Carrier::Forwarder.caught_up(region).await?;
    proxy.heal();
    let met = proxy.met().await?;
    ensure!(met.silences > kills, "only {} connections were silent", met.silences);

    let rows = compare(region, &model, &erased).await?;
    closed(region, erased.len()).await?;
    ensure!(snowflake.staged().await? == 0, "rows were left between their insert and their merge");
    replay(&world)?;
    ensure!(compare(region, &model, &erased).await? == rows, "a replay of the whole log changed the table");
    closed(region, erased.len()).await?;
    ensure!(snowflake.staged().await? == 0, "the replay left rows behind");
    world.shutdown().await;
    let withdrawn = rows.iter().filter(|row| row.deleted).count();
    Ok(format!(
        "{changes} changes, {} faults ({} connections that said nothing, each given up), the forwarder killed {kills} times, {} people \
         erased meanwhile ({refused} changes came too late for them: 410): the table equals what was declared of {} attributes, \
         {withdrawn} without consent or deleted are tombstones, of the erased nothing is in table or staging, each has its leaf, \
         and a replay of the whole log changed nothing",
        met.faults,
        met.silences,
        erased.len(),
        model.len()
    ))
}

/// The digests that people go by in the table.
async fn digests(region: &RegionWorld, people: &[String]) -> Result<BTreeSet<String>> {
    let list = people.iter().map(|subject| format!("'{subject}'")).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT encode(digest, 'hex') FROM domicile.subjects WHERE subject IN ({list})");
    let digests: BTreeSet<String> = region.sql(&sql).await?.into_iter().collect();
    ensure!(digests.len() == people.len(), "{} of {} people are known", digests.len(), people.len());
    Ok(digests)
}

async fn holds_some(snowflake: &Snowflake, digests: &BTreeSet<String>) -> bool {
    snowflake.rows().await.is_ok_and(|rows| rows.iter().any(|row| digests.contains(&row.subject_digest)))
}

/// Every row is what was declared last, there is no other, and none of the erased.
async fn compare(region: &RegionWorld, model: &Model, erased: &BTreeSet<String>) -> Result<Vec<Row>> {
    let rows = region.forwarded_rows().await?;
    let back = rows.iter().filter(|row| erased.contains(&row.subject_digest)).count();
    ensure!(back == 0, "{back} rows of the erased are in the table");
    let declared: BTreeMap<u64, (&str, Option<u64>)> =
        model.iter().map(|((_, attribute), (seq, n))| (*seq, (attribute.as_str(), *n))).collect();
    ensure!(rows.len() == model.len(), "{} rows for {} attributes", rows.len(), model.len());
    for row in &rows {
        let (attribute, n) = declared.get(&row.seq).with_context(|| format!("nobody's last change is {}", row.seq))?;
        ensure!(row.attribute == *attribute, "the row at {} is of another attribute", row.seq);
        let found: Option<Value> = row.value.as_deref().map(serde_json::from_str).transpose()?;
        let expected = n.map(value);
        ensure!(found == expected && row.deleted == expected.is_none(), "the row at {} is {found:?}", row.seq);
        let consents = row.consents.as_deref().unwrap_or_default();
        ensure!(!consents.contains("research"), "a consent for another purpose went out at {}", row.seq);
        ensure!(consents.contains(PURPOSE) != row.deleted, "the row at {} goes by {consents:?}", row.seq);
    }
    Ok(rows)
}

/// The region's log says of each of the erased, once, that the account has forgotten.
async fn closed(region: &RegionWorld, erased: usize) -> Result<()> {
    let sql = "SELECT (SELECT count(*) FROM domicile.erasures WHERE forwarded_at IS NOT NULL) || ' ' || \
               (SELECT count(*) FROM domicile.erasures) || ' ' || \
               (SELECT count(*) FROM domicile.leaves WHERE line LIKE '%\"k\":\"subject.erased-downstream\"%')";
    let found = region.sql(sql).await?.join(" ");
    ensure!(
        found == format!("{erased} {erased} {erased}"),
        "of {erased} erasures, done, known and in the log: {found}"
    );
    Ok(())
}

/// The operator's command, beside the forwarder.
fn replay(world: &World) -> Result<()> {
    let output = Command::new(world::tools::domicile()?)
        .args(["forwarder", "replay", "--from", "1", "--apply", "--json", "--config"])
        .arg(Carrier::Forwarder.of(world).config())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the replay failed: {said} {}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_str(&said)?;
    ensure!(said["complete"] == true, "the replay did not come to its end: {said}");
    Ok(())
}
