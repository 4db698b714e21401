//! Writing a leaf. It is encoded late, when the committer knows what only the region knows: the subject's
//! tag, what came of it, how much was touched, and the place in the gateway's count.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use residency::{Decision, Evidence, Finding, Operation, Place, Region};

use crate::fact::write_crossing;
use crate::gateway::GatewayId;
use crate::subject::SubjectTag;
use crate::text;

/// The most bytes a leaf has, whatever it is made of. The longest that the words allow stay below 2,000.
pub const LEAF_BYTES_MAX: usize = 4096;

/// The most bytes any one free text takes within its quotes, after escaping.
const TEXT_BYTES_MAX: usize = 192;

/// What a leaf is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something was disclosed, or looked for.
    DecisionRead,
    /// Something was changed.
    DecisionWrite,
    /// A request was turned away.
    DecisionDeny,
    /// A subject was given its home here.
    SubjectRegister,
    /// A subject was erased here.
    SubjectErase,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::DecisionRead, Self::DecisionWrite, Self::DecisionDeny, Self::SubjectRegister, Self::SubjectErase];

    /// The kind of the leaf of an operation that was permitted.
    #[must_use]
    pub const fn of(operation: Operation) -> Self {
        match operation {
            Operation::SubjectPin => Self::SubjectRegister,
            Operation::SubjectErase => Self::SubjectErase,
            _ if operation.writes() => Self::DecisionWrite,
            _ => Self::DecisionRead,
        }
    }

    /// The stable name in the leaf.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DecisionRead => "decision.read",
            Self::DecisionWrite => "decision.write",
            Self::DecisionDeny => "decision.deny",
            Self::SubjectRegister => "subject.register",
            Self::SubjectErase => "subject.erase",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Out {
    /// It was permitted and done.
    Allow,
    /// It was turned away; nothing was done.
    Deny,
    /// It was permitted, and the region could not or would not do it; nothing was done.
    Error,
}

impl Out {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Error];

    /// The stable name in the leaf.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Error => "error",
        }
    }

    /// The outcome with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|out| out.name() == name)
    }
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One leaf, ready to be written.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// The decision that was taken.
    pub decision: &'a Decision,
    /// What the leaf is about.
    pub kind: Kind,
    /// Who writes it.
    pub gateway: &'a GatewayId,
    /// The gateway's count of its leaves since its boot, without gaps.
    pub gseq: u64,
    /// The subject's tag in this log; `None` for a subject that has no home here.
    pub subject: Option<SubjectTag>,
    /// The subject's home region, where one is known.
    pub home: Option<&'a Region>,
    /// What came of it.
    pub out: Out,
    /// The stable code of a denial or an error.
    pub why: Option<&'a str>,
    /// Rows disclosed or changed.
    pub rows: u64,
    /// Bytes disclosed or changed.
    pub bytes: u64,
    /// The commitment to details that lie beside the log.
    pub details: Option<[u8; 32]>,
}

impl Leaf<'_> {
    /// Whether data crossed with this very leaf: nothing did when nothing was done, and a registration that goes
    /// before another deed of the same decision leaves it to that deed's leaf.
    fn crosses(&self) -> bool {
        self.out == Out::Allow
            && (self.kind != Kind::SubjectRegister || self.decision.operation == Operation::SubjectPin)
    }

    /// Appends the line, without a line break, to `buf`: canonical, and at most [`LEAF_BYTES_MAX`] bytes.
    ///
    /// Nothing is allocated beyond `buf`. Text longer than 192 bytes ends in `…`; integers above 2^53 - 1
    /// and times outside the years 1970 to 9999 become the nearest that fit.
    pub fn encode_into(&self, buf: &mut Vec<u8>) {
        let decision = self.decision;
        buf.reserve(512);
        buf.extend_from_slice(br#"{"act":"#);
        text::string(buf, decision.actor.as_str(), TEXT_BYTES_MAX);
        buf.extend_from_slice(br#","bytes":"#);
        text::integer(buf, self.bytes);
        if let Some(commitment) = &self.details {
            buf.extend_from_slice(br#","dc":""#);
            write_tag(buf, &SubjectTag(*commitment));
            buf.push(b'"');
        }
        if let Some(home) = self.home.filter(|_| self.out != Out::Deny) {
            field(buf, br#","dst":"#, home.as_str());
        }
        buf.extend_from_slice(br#","ev":["#);
        for (index, evidence) in decision.evidence.iter().enumerate() {
            if index > 0 {
                buf.push(b',');
            }
            write_evidence(buf, evidence);
        }
        buf.push(b']');
        if let Some(built_s) = decision.geoip_built_s {
            buf.extend_from_slice(br#","geo":""#);
            text::day(buf, built_s);
            buf.push(b'"');
        }
        buf.extend_from_slice(br#","gseq":"#);
        text::integer(buf, self.gseq);
        field(buf, br#","gw":"#, self.gateway.as_str());
        if let Some(home) = self.home {
            field(buf, br#","home":"#, home.as_str());
        }
        field(buf, br#","id":"#, decision.id.0.hyphenated().encode_lower(&mut [0; 36]));
        field(buf, br#","k":"#, self.kind.name());
        field(buf, br#","op":"#, decision.operation.name());
        field(buf, br#","out":"#, self.out.name());
        buf.extend_from_slice(br#","pol":[""#);
        text::hex(buf, &decision.policy_hash);
        field(buf, br#"","#, decision.rule.as_str());
        buf.push(b']');
        if let Some(resource) = &decision.resource {
            field(buf, br#","res":"#, resource);
        }
        buf.extend_from_slice(br#","rows":"#);
        text::integer(buf, self.rows);
        match &self.subject {
            Some(tag) => {
                buf.extend_from_slice(br#","sub":""#);
                write_tag(buf, tag);
                buf.push(b'"');
            }
            None => buf.extend_from_slice(br#","subx":"unresolved""#),
        }
        buf.extend_from_slice(br#","ts":""#);
        text::time(buf, decision.at_us);
        buf.extend_from_slice(br#"","v":1,"via":"#);
        text::string(buf, decision.via.as_str(), TEXT_BYTES_MAX);
        if let Some(why) = self.why {
            field(buf, br#","why":"#, why);
        }
        if let Some(winner) = decision.winner {
            buf.extend_from_slice(br#","win":"#);
            text::integer(buf, u64::from(winner));
        }
        if let Some(transfer) = decision.transfer.as_ref().filter(|_| self.crosses()) {
            buf.extend_from_slice(br#","xf":"#);
            write_crossing(buf, decision.id.0, transfer);
        }
        buf.push(b'}');
    }
}

fn field(buf: &mut Vec<u8>, key: &[u8], value: &str) {
    buf.extend_from_slice(key);
    text::string(buf, value, TEXT_BYTES_MAX);
}

/// `["geoip","DE",20,"connection"]`: none of the names needs escaping.
fn write_evidence(buf: &mut Vec<u8>, evidence: &Evidence) {
    buf.extend_from_slice(br#"[""#);
    buf.extend_from_slice(evidence.source.name().as_bytes());
    buf.extend_from_slice(br#"",""#);
    match &evidence.finding {
        Finding::Home(region) => buf.extend_from_slice(region.as_str().as_bytes()),
        Finding::Place(place) => write_place(buf, *place),
        Finding::Nothing(nothing) => {
            buf.push(b'-');
            buf.extend_from_slice(nothing.name().as_bytes());
        }
    }
    buf.extend_from_slice(br#"","#);
    text::integer(buf, u64::from(evidence.source.weight()));
    buf.extend_from_slice(br#",""#);
    buf.extend_from_slice(evidence.origin.name().as_bytes());
    buf.extend_from_slice(br#""]"#);
}

fn write_place(buf: &mut Vec<u8>, place: Place) {
    buf.extend_from_slice(place.country.as_str().as_bytes());
    if let Some(subdivision) = place.subdivision {
        buf.push(b'-');
        buf.extend_from_slice(subdivision.as_str().as_bytes());
    }
}

fn write_tag(buf: &mut Vec<u8>, tag: &SubjectTag) {
    let mut encoded = [0; 43];
    let written = URL_SAFE_NO_PAD.encode_slice(tag.0, &mut encoded).unwrap_or(0);
    buf.extend_from_slice(&encoded[..written]);
}
