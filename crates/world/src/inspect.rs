//! Looking for a person's data everywhere it could rest: what `nowhere else` means, in bytes.
//!
//! Needles are searched for as they are and as they would look in hexadecimal (what `pg_dump` makes of `bytea`) and
//! in base64, whatever they are preceded by.

use crate::broker::Message;
use crate::world::World;
use aho_corasick::AhoCorasick;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt;

/// What kind of place data may rest in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A database, as `pg_dump` writes it.
    Database,
    /// A topic: key, headers and payload of every message.
    Topic,
    /// What was forwarded to Snowflake.
    Snowflake,
    /// A log file.
    Log,
    /// A gateway's `/metrics`.
    Metrics,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::Topic => "topic",
            Self::Snowflake => "Snowflake account",
            Self::Log => "log file",
            Self::Metrics => "metrics page",
        })
    }
}

/// One place, with everything in it.
#[derive(Debug, Clone)]
pub struct Place {
    /// What it is.
    pub kind: Kind,
    /// Whose it is; `None` when it is no single region's: the directory, logs, metrics.
    pub region: Option<String>,
    /// Its name, e.g. `eu-central/domicile` or `gateway-1.log`.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Something that must be at home and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle {
    /// The text, at least 8 bytes so that chance does not find it.
    pub text: String,
    /// Where it may be; `None` means nowhere at all.
    pub home: Option<String>,
}

impl Needle {
    /// `text` belongs to `region`.
    pub fn at_home_in(region: impl Into<String>, text: impl Into<String>) -> Self {
        Self { text: text.into(), home: Some(region.into()) }
    }

    /// `text` must be in no store, log or metric.
    pub fn nowhere(text: impl Into<String>) -> Self {
        Self { text: text.into(), home: None }
    }
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Needles found where they must not be, as sentences. The text itself is given: these are made-up data.
    pub leaks: Vec<String>,
    /// How many needles were found in each kind of place of their own home: proof that the search can find.
    pub at_home: BTreeMap<Kind, usize>,
    /// How many needles were looked for.
    pub needles: usize,
    /// How many places of each kind were searched.
    pub places: BTreeMap<Kind, usize>,
    /// How many bytes were searched.
    pub bytes: usize,
}

impl Findings {
    /// The leaks as an error.
    ///
    /// # Errors
    /// When there is one, naming every leak.
    pub fn must_be_clean(&self) -> Result<()> {
        anyhow::ensure!(self.leaks.is_empty(), "Data was found away from home:\n{}", self.leaks.join("\n"));
        Ok(())
    }
}

/// Searches `places` for `needles`. A needle may be in a database, topic or Snowflake account of its home; never in
/// the directory, a log or a metric.
///
/// # Errors
/// When the needles cannot be compiled.
pub fn search(places: &[Place], needles: &[Needle]) -> Result<Findings> {
    let mut findings = Findings { needles: needles.len(), ..Findings::default() };
    let mut patterns = Vec::new();
    let mut owners = Vec::new();
    for (index, needle) in needles.iter().enumerate() {
        for form in forms(&needle.text) {
            patterns.push(form);
            owners.push(index);
        }
    }
    let automaton = AhoCorasick::builder().ascii_case_insensitive(false).build(&patterns)?;
    for place in places {
        *findings.places.entry(place.kind).or_default() += 1;
        findings.bytes += place.bytes.len();
        let mut seen = vec![false; needles.len()];
        for hit in automaton.find_overlapping_iter(&place.bytes) {
            seen[owners[hit.pattern().as_usize()]] = true;
        }
        for (needle, _) in needles.iter().zip(seen).filter(|(_, seen)| *seen) {
            if place.region.is_some() && place.region == needle.home {
                *findings.at_home.entry(place.kind).or_default() += 1;
            } else {
                let home = needle.home.as_deref().unwrap_or("nowhere");
                findings.leaks.push(format!(
                    "`{}`, at home in {home}, was found in the {} {}",
                    needle.text, place.kind, place.name
                ));
            }
        }
    }
    Ok(findings)
}

/// The ways a text may be written: itself, in hexadecimal, and in base64 at each of the three alignments, both
/// alphabets. The edges of a base64 form depend on the neighbours and are left out.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut forms = vec![bytes.to_vec(), hex::encode(bytes).into_bytes(), hex::encode_upper(bytes).into_bytes()];
    for skipped in 0..3.min(bytes.len()) {
        let whole = &bytes[skipped..];
        let whole = &whole[..whole.len() - whole.len() % 3];
        if whole.len() >= 6 {
            forms.extend([base64(whole, b"+/"), base64(whole, b"-_")]);
        }
    }
    forms.dedup();
    forms
}

/// RFC 4648 for whole groups of three bytes.
fn base64(bytes: &[u8], last_two: &[u8; 2]) -> Vec<u8> {
    let digit = |value: u8| match value {
        0..26 => b'A' + value,
        26..52 => b'a' + value - 26,
        52..62 => b'0' + value - 52,
        other => last_two[usize::from(other - 62)],
    };
    bytes
        .chunks_exact(3)
        .flat_map(|c| [c[0] >> 2, (c[0] & 3) << 4 | c[1] >> 4, (c[1] & 15) << 2 | c[2] >> 6, c[2] & 63])
        .map(digit)
        .collect()
}

impl World {
    /// Everything that rests anywhere in this world, read now: every database of every cluster, every message of
    /// every topic, every Snowflake row, every log file, every gateway's metrics.
    ///
    /// # Errors
    /// When a place that is up cannot be read. Clusters that are stopped are an error too: what was not searched must
    /// not count as clean.
    pub async fn places(&self) -> Result<Vec<Place>> {
        let (databases, topics, snowflakes) =
            tokio::try_join!(self.database_places(), self.topic_places(), self.snowflake_places())?;
        let mut places: Vec<Place> = [databases, topics, snowflakes].concat();
        for entry in std::fs::read_dir(self.root().join("logs"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            places.push(Place { kind: Kind::Log, region: None, name, bytes: std::fs::read(entry.path())? });
        }
        for gateway in self.gateways() {
            if gateway.is_running().await {
                let bytes = gateway.metrics().await?.into_bytes();
                places.push(Place { kind: Kind::Metrics, region: None, name: gateway.name().to_owned(), bytes });
            }
        }
        Ok(places)
    }

    /// Searches the whole world, see [`search`].
    ///
    /// # Errors
    /// When a place cannot be read.
    pub async fn search(&self, needles: &[Needle]) -> Result<Findings> {
        let (places, needles) = (self.places().await?, needles.to_vec());
        tokio::task::spawn_blocking(move || search(&places, &needles)).await?
    }

    /// Searches the whole world for texts that are at home in `region`: each must be in that region's database, and
    /// none anywhere else.
    ///
    /// # Errors
    /// When one is missing at home or found elsewhere.
    pub async fn assert_only(&self, region: &str, texts: &[&str]) -> Result<()> {
        let needles: Vec<Needle> = texts.iter().map(|text| Needle::at_home_in(region, *text)).collect();
        let findings = self.search(&needles).await?;
        findings.must_be_clean()?;
        let found = findings.at_home.get(&Kind::Database).copied().unwrap_or_default();
        anyhow::ensure!(found == texts.len(), "Only {found} of {} texts are in the database of {region}", texts.len());
        Ok(())
    }

    async fn database_places(&self) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        let clusters = self.regions().iter().map(|region| (Some(region.name().to_owned()), region.cluster.as_ref()));
        for (region, cluster) in clusters.chain([(None, self.directory())]) {
            for database in cluster.databases().await? {
                let bytes = cluster.dump(&database).await?;
                let name = format!("{}/{database}", cluster.name());
                places.push(Place { kind: Kind::Database, region: region.clone(), name, bytes });
            }
        }
        Ok(places)
    }

    async fn topic_places(&self) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for region in self.regions() {
            let Some(broker) = &region.broker else { continue };
            let topics = broker.topics().await?;
            let messages = broker.messages(&topics).await?;
            for topic in topics {
                let of_topic = messages.iter().filter(|message| message.topic == topic);
                let bytes = of_topic.flat_map(all_of).collect();
                let name = format!("{topic} of {}", region.name());
                places.push(Place { kind: Kind::Topic, region: Some(region.name().to_owned()), name, bytes });
            }
        }
        Ok(places)
    }

    async fn snowflake_places(&self) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for region in self.regions().iter().filter(|region| region.snowflake.is_some()) {
            let rows = region.forwarded().await.with_context(|| format!("The Snowflake of {}", region.name()))?;
            let (name, bytes) = (format!("of {}", region.name()), rows.join("\n").into_bytes());
            places.push(Place { kind: Kind::Snowflake, region: Some(region.name().to_owned()), name, bytes });
        }
        Ok(places)
    }
}

/// Key, headers and payload, one after the other.
fn all_of(message: &Message) -> Vec<u8> {
    let mut bytes = message.key.clone().unwrap_or_default();
    for (name, value) in &message.headers {
        bytes.extend_from_slice(b"\n");
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b"=");
        bytes.extend_from_slice(value);
    }
    bytes.extend_from_slice(b"\n");
    bytes.extend_from_slice(&message.payload);
    bytes.extend_from_slice(b"\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kind: Kind, region: Option<&str>, bytes: &[u8]) -> Place {
        Place { kind, region: region.map(str::to_owned), name: "it".into(), bytes: bytes.to_vec() }
    }

    #[test]
    fn a_text_is_found_as_it_is_in_hexadecimal_and_in_base64_at_every_alignment() {
        let needle = [Needle::at_home_in("eu-central", "canary-4f3a9c17")];
        let encoded = |text: &str| {
            let mut padded = text.as_bytes().to_vec();
            padded.resize(padded.len().next_multiple_of(3), b' ');
            base64(&padded, b"+/")
        };
        let written: [Vec<u8>; 6] = [
            b"{\"word\":\"canary-4f3a9c17\"}".to_vec(),
            format!("\\x{}", hex::encode("xcanary-4f3a9c17y")).into_bytes(),
            hex::encode_upper("canary-4f3a9c17").into_bytes(),
            encoded("canary-4f3a9c17"),
            encoded("1canary-4f3a9c17"),
            encoded("12canary-4f3a9c17"),
        ];
        for bytes in written {
            let abroad = search(&[place(Kind::Database, Some("us-east"), &bytes)], &needle).expect("a search");
            assert_eq!(abroad.leaks.len(), 1, "{}", String::from_utf8_lossy(&bytes));
            let home = search(&[place(Kind::Database, Some("eu-central"), &bytes)], &needle).expect("a search");
            assert!(home.leaks.is_empty() && home.at_home[&Kind::Database] == 1);
        }
    }

    #[test]
    fn logs_and_the_directory_are_nobodys_home() {
        let needle = [Needle::at_home_in("eu-central", "canary-4f3a9c17")];
        for kind in [Kind::Log, Kind::Database, Kind::Metrics] {
            let found = search(&[place(kind, None, b"... canary-4f3a9c17 ...")], &needle).expect("a search");
            assert!(found.must_be_clean().is_err());
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let needles = [Needle::nowhere("canary-4f3a9c17")];
        let found = search(&[place(Kind::Log, None, b"canary-4f3a9c1")], &needles).expect("a search");
        assert!(found.must_be_clean().is_ok());
        assert_eq!((found.bytes, found.needles), (14, 1));
    }
}
