//! Reading a leaf, strictly: what was read is written again and must be the same bytes.

use residency::{
    Actor, Decision, DecisionId, Evidence, EvidenceList, Finding, Nothing, Operation, Origin, Place, Region, RuleId,
    Source,
};
use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};
use uuid::Uuid;

use crate::canonical::{NotCanonical, check_canonical};
use crate::gateway::GatewayId;
use crate::line::{Kind, Leaf, Out};
use crate::read_fact::WrittenCrossing;
use crate::subject::SubjectTag;

/// A leaf as it was read: [`Parsed::as_leaf`] writes the same bytes again.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The decision. Its GeoIP build time is known to the day only.
    pub decision: Decision,
    /// What the leaf is about.
    pub kind: Kind,
    /// Who wrote it.
    pub gateway: GatewayId,
    /// The gateway's count of its leaves since its boot.
    pub gseq: u64,
    /// The subject's tag in this log.
    pub subject: Option<SubjectTag>,
    /// The subject's home region, where one is known.
    pub home: Option<Region>,
    /// What came of it.
    pub out: Out,
    /// The stable code of a denial or an error.
    pub why: Option<String>,
    /// Rows disclosed or changed.
    pub rows: u64,
    /// Bytes disclosed or changed.
    pub bytes: u64,
    /// The commitment to details that lie beside the log.
    pub details: Option<[u8; 32]>,
}

impl Parsed {
    /// The leaf that was read, for writing.
    #[must_use]
    pub fn as_leaf(&self) -> Leaf<'_> {
        Leaf {
            decision: &self.decision,
            kind: self.kind,
            gateway: &self.gateway,
            gseq: self.gseq,
            subject: self.subject,
            home: self.home.as_ref(),
            out: self.out,
            why: self.why.as_deref(),
            rows: self.rows,
            bytes: self.bytes,
            details: self.details,
        }
    }
}

/// Why a line is not a leaf about a decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotALeaf {
    /// It is not canonical JSON.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// It is canonical, and not made of a leaf's fields.
    #[error("the line does not have the fields of a leaf")]
    OtherFields,
    /// A field does not hold what it must.
    #[error("the field `{0}` of the leaf does not hold what it must")]
    Field(&'static str),
    /// Every field can be read, but the line says something that a leaf never says in this way.
    #[error("the line is not what its own fields would be written as")]
    Rewritten,
}

/// Reads a line of a region log.
///
/// # Errors
/// [`NotALeaf`] unless these bytes are exactly what [`Leaf::encode_into`] writes for some decision.
pub fn parse(line: &[u8]) -> Result<Parsed, NotALeaf> {
    check_canonical(line)?;
    let fields: Fields = serde_json::from_slice(line).map_err(|_| NotALeaf::OtherFields)?;
    let parsed = fields.into_parsed()?;
    let mut again = Vec::with_capacity(line.len());
    parsed.as_leaf().encode_into(&mut again);
    if again == line { Ok(parsed) } else { Err(NotALeaf::Rewritten) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    act: String,
    bytes: u64,
    dc: Option<String>,
    #[expect(dead_code, reason = "follows from other fields; compared as bytes")]
    dst: Option<String>,
    ev: Vec<(String, String, u8, String)>,
    geo: Option<String>,
    gseq: u64,
    gw: String,
    home: Option<String>,
    id: Uuid,
    k: String,
    op: String,
    out: String,
    pol: (String, String),
    res: Option<String>,
    rows: u64,
    sub: Option<String>,
    #[expect(dead_code, reason = "follows from other fields; compared as bytes")]
    subx: Option<String>,
    ts: String,
    v: u64,
    via: String,
    why: Option<String>,
    win: Option<u8>,
    xf: Option<WrittenCrossing>,
}

impl Fields {
    /// What is derived from other fields (`dst`, `subx`, the weights) is left to the comparison of bytes.
    fn into_parsed(self) -> Result<Parsed, NotALeaf> {
        let bad = NotALeaf::Field;
        if self.v != 1 {
            return Err(bad("v"));
        }
        let evidence = self.ev.iter().map(read_evidence).collect::<Option<Vec<_>>>().ok_or(bad("ev"))?;
        let decision = Decision {
            id: DecisionId(self.id),
            at_us: read_time(&self.ts).ok_or(bad("ts"))?,
            actor: Actor::new(&self.act),
            operation: named(&Operation::ALL, Operation::name, &self.op).ok_or(bad("op"))?,
            resource: self.res.map(Into::into),
            via: Region::new(&self.via).map_err(|_| bad("via"))?,
            evidence: EvidenceList::try_from(evidence.as_slice()).map_err(|_| bad("ev"))?,
            winner: self.win,
            rule: RuleId::new(&self.pol.1),
            policy_hash: hex::decode(&self.pol.0).ok().and_then(|b| b.try_into().ok()).ok_or(bad("pol"))?,
            geoip_built_s: self.geo.map(|day| read_day(&day).ok_or(bad("geo"))).transpose()?,
            // That it has the decision's own id shows when the bytes are compared.
            transfer: match self.xf {
                Some(written) => Some(written.into_crossing().ok_or(bad("xf"))?.transfer),
                None => None,
            },
            stated: None,
        };
        if decision.winner.is_some_and(|winner| usize::from(winner) >= decision.evidence.len()) {
            return Err(bad("win"));
        }
        Ok(Parsed {
            decision,
            kind: Kind::named(&self.k).ok_or(bad("k"))?,
            gateway: GatewayId::read(&self.gw).map_err(|_| bad("gw"))?,
            gseq: self.gseq,
            subject: self.sub.map(|tag| SubjectTag::read(&tag).ok_or(bad("sub"))).transpose()?,
            home: self.home.map(|home| Region::new(&home).map_err(|_| bad("home"))).transpose()?,
            out: Out::named(&self.out).ok_or(bad("out"))?,
            why: self.why,
            rows: self.rows,
            bytes: self.bytes,
            details: self.dc.map(|dc| SubjectTag::read(&dc).map(|dc| dc.0).ok_or(bad("dc"))).transpose()?,
        })
    }
}

fn read_evidence((source, value, _weight, origin): &(String, String, u8, String)) -> Option<Evidence> {
    Some(Evidence {
        source: named(&Source::ALL, Source::name, source)?,
        origin: named(&ORIGINS, Origin::name, origin)?,
        finding: read_finding(value)?,
    })
}

/// Places are upper case, regions lower case, and a hyphen begins the reason of nothing: no value reads as two.
fn read_finding(value: &str) -> Option<Finding> {
    match value.as_bytes().first()? {
        b'-' => named(&NOTHINGS, Nothing::name, &value[1..]).map(Finding::Nothing),
        b'A'..=b'Z' => Place::new(value).ok().map(Finding::Place),
        _ => Region::new(value).ok().map(Finding::Home),
    }
}

const ORIGINS: [Origin; 6] =
    [Origin::Directory, Origin::Policy, Origin::Token, Origin::Header, Origin::Connection, Origin::TrustedProxy];

const NOTHINGS: [Nothing; 8] = [
    Nothing::SpecialAddress,
    Nothing::Anonymised,
    Nothing::UnknownNetwork,
    Nothing::MalformedForwarding,
    Nothing::NotBelieved,
    Nothing::OtherSubject,
    Nothing::UnknownTenant,
    Nothing::NoDatabase,
];

fn named<T: Copy>(all: &[T], name_of: impl Fn(T) -> &'static str, name: &str) -> Option<T> {
    all.iter().copied().find(|one| name_of(*one) == name)
}

pub(crate) fn read_time(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000).ok()
}

fn read_day(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let year = parts.next()?.parse().ok()?;
    let month = Month::try_from(parts.next()?.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, parts.next()?.parse().ok()?).ok()?;
    u64::try_from(date.midnight().assume_utc().unix_timestamp()).ok()
}
