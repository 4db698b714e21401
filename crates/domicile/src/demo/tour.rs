//! The tour: every visitor is classified, writes, publishes and declares through the gateway; then what they left is
//! looked up in the stores themselves, and everywhere else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use world::inspect::{Findings, Kind, Needle};
use world::{Answer, Client, Evidence, RegionWorld, World};

use super::people::{Expected, VISITORS, Visitor};

/// How long relay and forwarder may take to carry what was written.
const CARRY_PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether they have.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What an order looks like to the shop of the tour.
const EVENT_TYPE: &str = "shop.order-placed";
const PURPOSE: &str = "recommendations";

/// Everything the tour saw.
pub(super) struct Seen {
    /// One per visitor, in their order.
    pub visits: Vec<Visit>,
    /// What was found where.
    pub findings: Findings,
    /// Regions whose Postgres refused a row of another region when asked by SQL.
    pub refusals: usize,
    /// What did not hold, as sentences. Empty is the promise.
    pub broken: Vec<String>,
}

/// One visit and its traces.
pub(super) struct Visit {
    pub visitor: Visitor,
    /// The country of the address, as GeoIP has it.
    pub country: Option<String>,
    /// The evidence that decided.
    pub evidence: String,
    pub outcome: Outcome,
}

pub(super) enum Outcome {
    /// The data was taken; where it is.
    Kept(Traces),
    /// Nothing was taken.
    TurnedAway { status: u16, code: String },
}

pub(super) struct Traces {
    pub region: String,
    /// The partition's row, e.g. `records_eu_central, version 1`.
    pub row: String,
    /// The event, e.g. `eu-central.shop.order-placed.v1 0@3`.
    pub message: String,
    /// The declared attribute's row.
    pub snowflake: String,
    /// The position of the record's leaf in the region log.
    pub leaf: u64,
}

/// What a visitor brings: every text is theirs alone, so that it can be looked for.
struct Luggage {
    subject: String,
    record: String,
    event: String,
    event_id: String,
    declared: String,
}

impl Luggage {
    fn of(visitor: &Visitor) -> Self {
        let tag = || format!("{}-{:016x}", visitor.slug, rand::random::<u64>());
        Self {
            subject: format!("visitor-{}", tag()),
            record: format!("note-{}", tag()),
            event: format!("order-{}", tag()),
            event_id: format!("event-{}", tag()),
            declared: format!("wish-{}", tag()),
        }
    }

    fn texts(&self) -> [&str; 5] {
        [&self.subject, &self.record, &self.event, &self.event_id, &self.declared]
    }
}

/// What the gateway said to a visitor.
struct Said {
    visitor: Visitor,
    luggage: Luggage,
    classification: Value,
    written: Answer,
}

/// Takes the tour.
///
/// # Errors
/// When the world itself fails: a promise that does not hold is not an error but in [`Seen::broken`].
pub(super) async fn take(world: &World) -> Result<Seen> {
    let client = world.client()?;
    let mut said = Vec::new();
    for visitor in VISITORS {
        said.push(come_by(&client, visitor).await.with_context(|| format!("The {}", visitor.who))?);
    }
    let mut broken = Vec::new();
    let mut traces = BTreeMap::new();
    for region in world.regions() {
        traces.extend(traces_in(region, &said, &mut broken).await?);
    }
    let needles: Vec<Needle> = said.iter().flat_map(needles_of).collect();
    let findings = world.search(&needles).await?;
    broken.extend(findings.leaks.iter().cloned());
    let kept = said.iter().filter(|said| said.written.is_success()).count();
    let found = findings.at_home.get(&Kind::Database).copied().unwrap_or_default();
    let carried = kept * Luggage::of(&VISITORS[0]).texts().len();
    if found < carried {
        broken.push(format!("Only {found} of {carried} texts were found in the database of their own region"));
    }
    let refusals = foreign_rows_refused(world, &mut broken).await?;
    let visits = said.into_iter().map(|said| visit(said, &mut traces, &mut broken)).collect();
    Ok(Seen { visits, findings, refusals, broken })
}

/// What one visitor does.
async fn come_by(client: &Client, visitor: Visitor) -> Result<Said> {
    let luggage = Luggage::of(&visitor);
    let client = client.with_evidence(Evidence {
        residence: visitor.declared.map(str::to_owned),
        tenant: None,
        client_address: Some(visitor.address.to_owned()),
    });
    let subject = luggage.subject.as_str();
    let classified = client.classify(subject).await?;
    let written = client.put_record(subject, "profile", "contact", &json!({ "note": luggage.record })).await?;
    if written.is_success() {
        let order = json!({ "item": luggage.event });
        client.publish(subject, EVENT_TYPE, &luggage.event_id, &order).await?.expect_success()?;
        client.declare(subject, "wish", &json!(luggage.declared), PURPOSE).await?.expect_success()?;
        client.get_record(subject, "profile", "contact").await?.expect(200)?;
    }
    Ok(Said { visitor, luggage, classification: classified.json(), written })
}

/// Looks the traces of a region's people up: the row and the leaf in its Postgres, the message in its topics, the
/// declared attribute in its Snowflake.
async fn traces_in(region: &RegionWorld, said: &[Said], broken: &mut Vec<String>) -> Result<BTreeMap<String, Traces>> {
    let name = region.name();
    let here: Vec<&Said> =
        said.iter().filter(|said| said.written.region() == Some(name) && said.written.is_success()).collect();
    if here.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = region
        .sql("SELECT r.subject, c.relname, r.version FROM domicile.records r JOIN pg_class c ON c.oid = r.tableoid")
        .await
        .with_context(|| format!("The partition of {name} could not be read"))?;
    let messages = carried(region, &here).await?;
    let forwarded = region.forwarded_rows().await?;
    let mut traces = BTreeMap::new();
    for said in here {
        let subject = &said.luggage.subject;
        let mut missing = |what: &str| {
            broken.push(format!("The {} of the {} is missing in {name}", what, said.visitor.who));
            "missing".to_owned()
        };
        let row = rows.iter().find_map(|row| row.strip_prefix(subject.as_str())?.strip_prefix('|')?.split_once('|'));
        let row = row.map_or_else(|| missing("record"), |(table, version)| format!("{table} @{version}"));
        let message = messages.get(&said.luggage.event_id).cloned().unwrap_or_else(|| missing("event"));
        let declared =
            forwarded.iter().find(|row| row.value.as_ref().is_some_and(|v| v.contains(&said.luggage.declared)));
        let snowflake = declared.map_or_else(
            || missing("Snowflake row"),
            |row| format!("{} @{}, log {}", row.attribute, row.version, row.seq),
        );
        let leaf = said.written.seq().unwrap_or_default();
        if !leaf_is_there(region, &said.written, leaf).await? {
            missing("audit leaf");
        }
        let region = name.to_owned();
        traces.insert(subject.clone(), Traces { region, row, message, snowflake, leaf });
    }
    Ok(traces)
}

/// Waits until relay and forwarder have carried everything of these people, and says where each event is.
async fn carried(region: &RegionWorld, here: &[&Said]) -> Result<BTreeMap<String, String>> {
    let began = Instant::now();
    let topic = format!("{}.{EVENT_TYPE}.v1", region.name());
    loop {
        let mut places = BTreeMap::new();
        for message in region.messages(&topic, usize::MAX).await? {
            if let Some(id) = message.header("ce_id") {
                places.insert(id.to_owned(), format!("{} {}@{}", message.topic, message.partition, message.offset));
            }
        }
        let forwarded = region.forwarded().await?.join("\n");
        let complete = here
            .iter()
            .all(|said| places.contains_key(&said.luggage.event_id) && forwarded.contains(&said.luggage.declared));
        if complete || began.elapsed() > CARRY_PATIENCE {
            return Ok(places);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether the receipt of an answer is true: the leaf at this position has the hash it names.
async fn leaf_is_there(region: &RegionWorld, answer: &Answer, seq: u64) -> Result<bool> {
    let hash = "SELECT rtrim(translate(encode(hash, 'base64'), '+/', '-_'), '=') FROM domicile.leaves WHERE seq =";
    let stored = region.sql(&format!("{hash} {seq}")).await?;
    let receipt = answer.header("domicile-audit").unwrap_or_default();
    Ok(stored.first().is_some_and(|hash| receipt.contains(hash.as_str())))
}

/// Everything that is this person's own.
fn needles_of(said: &Said) -> Vec<Needle> {
    let home = said.written.region().filter(|_| said.written.is_success());
    let needle = |text: &str| match home {
        Some(home) => Needle::at_home_in(home, text),
        None => Needle::nowhere(text),
    };
    said.luggage.texts().into_iter().chain([said.visitor.address]).map(needle).collect()
}

/// Asks each region's Postgres by SQL, as its superuser, to take a row of another region.
async fn foreign_rows_refused(world: &World, broken: &mut Vec<String>) -> Result<usize> {
    let mut refusals = 0;
    for region in world.regions() {
        let Some(foreign) = world.regions().iter().find(|other| other.name() != region.name()) else { continue };
        let insert = format!(
            "INSERT INTO domicile.records (region, subject, collection, key, version, body, updated_at) \
             VALUES ('{}', 'a-stray', 'profile', 'contact', 1, '{{}}', now())",
            foreign.name()
        );
        match region.sql(&insert).await {
            Err(error) if error.to_string().contains("no partition") => refusals += 1,
            Err(error) => bail!(error.context(format!("The Postgres of {} was asked a question", region.name()))),
            Ok(_) => broken.push(format!("The Postgres of {} took a row of {}", region.name(), foreign.name())),
        }
    }
    ensure!(!world.regions().is_empty(), "A tour needs regions");
    Ok(refusals)
}

fn visit(said: Said, traces: &mut BTreeMap<String, Traces>, broken: &mut Vec<String>) -> Visit {
    let Said { visitor, luggage, classification, written } = said;
    let code = written.code().unwrap_or_default();
    let came_true = match visitor.expected {
        Expected::Home(region) => {
            written.is_success() && written.region() == Some(region) && classification["region"] == region
        }
        Expected::Refused => (written.status, code.as_str()) == (451, "residency_refused"),
        Expected::Unresolved => (written.status, code.as_str()) == (422, "residency_unresolved"),
    };
    if !came_true {
        broken.push(format!(
            "The {} was to be {:?}, but the gateway answered {} {code} {}",
            visitor.who,
            visitor.expected,
            written.status,
            written.region().unwrap_or_default()
        ));
    }
    let outcome = match traces.remove(&luggage.subject) {
        Some(traces) => Outcome::Kept(traces),
        None => Outcome::TurnedAway { status: written.status, code },
    };
    Visit { visitor, country: country_of(&classification), evidence: evidence_of(&classification), outcome }
}

/// What GeoIP said of the address.
fn country_of(classification: &Value) -> Option<String> {
    let signals = classification["signals"].as_array()?;
    let geoip = signals.iter().find(|signal| signal["source"] == "geoip" && signal["finding"] == "place")?;
    Some(geoip["value"].as_str()?.to_owned())
}

/// The signal that won, in words.
fn evidence_of(classification: &Value) -> String {
    let winner = classification["winner"].as_u64().and_then(|index| usize::try_from(index).ok());
    let signal = winner.and_then(|index| classification["signals"].get(index));
    match signal {
        Some(signal) => {
            let word = |key: &str| signal[key].as_str().unwrap_or_default().replace('_', " ");
            format!("{}: {}", word("source"), word("value"))
        }
        None => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_that_won_is_told_and_the_country_is_geoips() {
        let classification = json!({"winner": 0, "signals": [
            {"source": "declared_residence", "finding": "place", "value": "DE"},
            {"source": "geoip", "finding": "place", "value": "US"},
        ]});
        assert_eq!(evidence_of(&classification), "declared residence: DE");
        assert_eq!(country_of(&classification).as_deref(), Some("US"));
        assert_eq!(evidence_of(&json!({"signals": []})), "none");
    }
}
