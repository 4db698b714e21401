//! Leaves that are about no decision: what happened to the gateway, the policy, the keys, the log itself, and who
//! read it. Each kind has its fields in one table, [`FactKind::fields`]; reader and writer both go by it, so that a
//! line of a known kind can be written in one way only and read in no other.
//!
//! | kind | fields beside `gseq`, `gw`, `k`, `ts`, `v` |
//! | --- | --- |
//! | `gateway.start` | `beat_s`: seconds between heartbeats; `conf`: SHA-256 of the effective configuration without secrets; `pol`: the policy in force; `ver`: the program's version; `via`: the gateway's own region |
//! | `gateway.heartbeat` | `beat_s`; the gateway's count is its `gseq`, so that what is missing before it shows |
//! | `gateway.stop` | none: it has ended as it should |
//! | `policy.activate` | `pol`: the hash that decisions name; `text`, `jur`, `loc`: SHA-256 of the table and of both presets, which are kept beside the log; `ver`: the author's version |
//! | `config.change` | `conf`, `was`: SHA-256 of the effective configuration after and before; `keys`: the names of the keys that differ, never a value; `more`: how many further ones |
//! | `key.rotate` | `key`: the public key that signs from here on; `was`: the one before; `root` and `size` of the log that it signed last, where this log succeeds another |
//! | `key.retire` | `key`: the public key that signs no more; `next`: its successor |
//! | `placement.attest` | `db`: the database's name; `loc`: where it stands as configured, `cloud/location`; `pg`: the server's version; `sysid`: the cluster's system identifier |
//! | `audit.read` | `act`: who; `what`: in which way; `flt`: the filter, `name=value`, without a subject; `sub`: the tag of the subject asked for; `at`: the entries `[from, to)`; `rows`: how many entries were shown, where that is known before |
//! | `export.make` | `act`; `fmt`: the format; `at`: the entries `[from, to)`; `rows`, `bytes`; `sha256` of what was made; `flt`, `sub` as above; `age`: to how many recipients it was encrypted |
//! | `violation.acknowledge` | `act`: who answers; `of`: the violation's number in the region's register; `rule`: what it is; `seq`: the entry it is about; `why`: SHA-256 of a salt and the reason, which are in the register |
//! | `log.prune` | `act`; `at`: the entries `[from, to)` whose lines are gone; `root` of the log at `size`; `why` |
//! | `log.recover` | `act`; `lost`: the entries `[from, to)` that had been acknowledged and are gone; `root` of the log that was signed at `size`; `why` |
//! | `transfer.out`, `transfer.in` | the other side of a decision with `xf` in another region's log: `act`, `xf`, `rows`, `bytes` as there; `of`: that leaf's hash; `seq`: its index |

use std::fmt;

use residency::Transfer;
use uuid::Uuid;

use crate::gateway::GatewayId;
use crate::text;

/// The most bytes of one text, within its quotes.
const TEXT_BYTES_MAX: usize = 192;
/// The most bytes of one text of a list, within its quotes.
const ITEM_BYTES_MAX: usize = 96;
/// The most texts of a list: of further ones a leaf says how many there are.
pub const LIST_ITEMS_MAX: usize = 24;

/// What a leaf that is about no decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKind {
    /// A gateway has begun to serve.
    GatewayStart,
    /// A gateway is still there.
    GatewayHeartbeat,
    /// A gateway has ended as it should.
    GatewayStop,
    /// A policy has come into force.
    PolicyActivate,
    /// The effective configuration is another one.
    ConfigChange,
    /// Another key signs the log from here on.
    KeyRotate,
    /// A key signs the log no more.
    KeyRetire,
    /// Which database holds the region, as it says itself.
    PlacementAttest,
    /// Somebody read the log.
    AuditRead,
    /// Something was made of the log for somebody outside.
    ExportMake,
    /// Somebody answers for something that was not as it should be.
    ViolationAcknowledge,
    /// The lines of a range are gone, as the retention says.
    LogPrune,
    /// Acknowledged entries were lost.
    LogRecover,
    /// Data left this region for another jurisdiction.
    TransferOut,
    /// Data came into this region from another jurisdiction.
    TransferIn,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A text of at most 192 bytes.
    Text,
    /// A whole number.
    Count,
    /// 64 lower-case hex digits.
    Sha256,
    /// A subject's tag: 43 characters of base64url.
    Tag,
    /// At most [`LIST_ITEMS_MAX`] texts of at most 96 bytes.
    Texts,
    /// Entries from the first to before the second number.
    Range,
    /// A transfer across a border.
    Crossing,
}

/// A field of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its key.
    pub key: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// Whether every leaf of the kind has it.
    pub required: bool,
}

const fn must(key: &'static str, shape: Shape) -> Field {
    Field { key, shape, required: true }
}

const fn may(key: &'static str, shape: Shape) -> Field {
    Field { key, shape, required: false }
}

impl FactKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::GatewayStart,
        Self::GatewayHeartbeat,
        Self::GatewayStop,
        Self::PolicyActivate,
        Self::ConfigChange,
        Self::KeyRotate,
        Self::KeyRetire,
        Self::PlacementAttest,
        Self::AuditRead,
        Self::ExportMake,
        Self::ViolationAcknowledge,
        Self::LogPrune,
        Self::LogRecover,
        Self::TransferOut,
        Self::TransferIn,
    ];

    /// The stable name in the leaf.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GatewayStart => "gateway.start",
            Self::GatewayHeartbeat => "gateway.heartbeat",
            Self::GatewayStop => "gateway.stop",
            Self::PolicyActivate => "policy.activate",
            Self::ConfigChange => "config.change",
            Self::KeyRotate => "key.rotate",
            Self::KeyRetire => "key.retire",
            Self::PlacementAttest => "placement.attest",
            Self::AuditRead => "audit.read",
            Self::ExportMake => "export.make",
            Self::ViolationAcknowledge => "violation.acknowledge",
            Self::LogPrune => "log.prune",
            Self::LogRecover => "log.recover",
            Self::TransferOut => "transfer.out",
            Self::TransferIn => "transfer.in",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What its leaves hold beside `gseq`, `gw`, `k`, `ts` and `v`, sorted by key.
    ///
    /// No kind has both `id` and `op`: by these two a gateway tells a decision from everything else.
    #[must_use]
    pub const fn fields(self) -> &'static [Field] {
        use Shape::{Count, Crossing, Range, Sha256, Tag, Text, Texts};
        match self {
            Self::GatewayStart => {
                &const {
                    [
                        must("beat_s", Count),
                        must("conf", Sha256),
                        must("pol", Sha256),
                        must("ver", Text),
                        must("via", Text),
                    ]
                }
            }
            Self::GatewayHeartbeat => &const { [must("beat_s", Count)] },
            Self::GatewayStop => &[],
            Self::PolicyActivate => {
                &const {
                    [
                        must("jur", Sha256),
                        must("loc", Sha256),
                        must("pol", Sha256),
                        must("text", Sha256),
                        must("ver", Text),
                    ]
                }
            }
            Self::ConfigChange => {
                &const { [must("conf", Sha256), must("keys", Texts), may("more", Count), may("was", Sha256)] }
            }
            Self::KeyRotate => {
                &const { [must("key", Text), may("root", Sha256), may("size", Count), may("was", Text)] }
            }
            Self::KeyRetire => &const { [must("key", Text), may("next", Text)] },
            Self::PlacementAttest => {
                &const { [must("db", Text), may("loc", Text), must("pg", Text), must("sysid", Text)] }
            }
            Self::AuditRead => {
                &const {
                    [
                        must("act", Text),
                        may("at", Range),
                        may("flt", Texts),
                        may("rows", Count),
                        may("sub", Tag),
                        must("what", Text),
                    ]
                }
            }
            Self::ExportMake => {
                &const {
                    [
                        must("act", Text),
                        may("age", Count),
                        must("at", Range),
                        must("bytes", Count),
                        may("flt", Texts),
                        must("fmt", Text),
                        must("rows", Count),
                        must("sha256", Sha256),
                        may("sub", Tag),
                    ]
                }
            }
            Self::ViolationAcknowledge => {
                &const { [must("act", Text), must("of", Count), must("rule", Text), may("seq", Count), must("why", Sha256)] }
            }
            Self::LogPrune => {
                &const {
                    [must("act", Text), must("at", Range), must("root", Sha256), must("size", Count), must("why", Text)]
                }
            }
            Self::LogRecover => {
                &const {
                    [
                        must("act", Text),
                        must("lost", Range),
                        must("root", Sha256),
                        must("size", Count),
                        must("why", Text),
                    ]
                }
            }
            Self::TransferOut | Self::TransferIn => {
                &const {
                    [
                        must("act", Text),
                        must("bytes", Count),
                        must("of", Sha256),
                        must("rows", Count),
                        must("seq", Count),
                        must("xf", Crossing),
                    ]
                }
            }
        }
    }

    pub(crate) fn field(self, key: &str) -> Option<Field> {
        self.fields().iter().copied().find(|field| field.key == key)
    }
}

impl fmt::Display for FactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A transfer, by the name that both sides know it by: the id of the decision that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// The same in both logs.
    pub id: Uuid,
    /// What crossed where, and on what basis.
    pub transfer: Transfer,
}

/// The content of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Count(u64),
    Texts(Vec<String>),
    Range(u64, u64),
    Crossing(Box<Crossing>),
}

/// Something that happened, ready to be written into a log. Made by the constructors in `facts`, which know what
/// each kind holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub(crate) kind: FactKind,
    pub(crate) at_us: i64,
    /// Sorted by key.
    pub(crate) fields: Vec<(&'static str, Value)>,
}

impl Fact {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> FactKind {
        self.kind
    }

    /// When it happened, microseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at_us(&self) -> i64 {
        self.at_us
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.fields.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// A field that holds a text, a hash or a tag.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            Value::Count(_) | Value::Texts(_) | Value::Range(..) | Value::Crossing(_) => None,
        }
    }

    /// A field that holds a number.
    #[must_use]
    pub fn count(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Count(count) => Some(*count),
            Value::Text(_) | Value::Texts(_) | Value::Range(..) | Value::Crossing(_) => None,
        }
    }

    /// A field that holds a list of texts.
    #[must_use]
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Texts(texts) => Some(texts),
            Value::Text(_) | Value::Count(_) | Value::Range(..) | Value::Crossing(_) => None,
        }
    }

    /// A field that holds a range of entries.
    #[must_use]
    pub fn range(&self, key: &str) -> Option<std::ops::Range<u64>> {
        match self.get(key)? {
            Value::Range(from, to) => Some(*from..*to),
            Value::Text(_) | Value::Count(_) | Value::Texts(_) | Value::Crossing(_) => None,
        }
    }

    /// The transfer it is about.
    #[must_use]
    pub fn crossing(&self) -> Option<&Crossing> {
        match self.get("xf")? {
            Value::Crossing(crossing) => Some(crossing),
            Value::Text(_) | Value::Count(_) | Value::Texts(_) | Value::Range(..) => None,
        }
    }

    /// Appends the line, without a line break, to `buf`: canonical, and at most
    /// [`LEAF_BYTES_MAX`](crate::LEAF_BYTES_MAX) bytes.
    pub fn encode_into(&self, gateway: &GatewayId, gseq: u64, buf: &mut Vec<u8>) {
        let common: [(&str, Common<'_>); 5] = [
            ("gseq", Common::Count(gseq)),
            ("gw", Common::Text(gateway.as_str())),
            ("k", Common::Text(self.kind.name())),
            ("ts", Common::Time(self.at_us)),
            ("v", Common::Count(1)),
        ];
        let own = self.fields.iter().map(|(key, value)| (*key, Common::Own(value)));
        let mut fields: Vec<(&str, Common<'_>)> = common.into_iter().chain(own).collect();
        fields.sort_unstable_by_key(|(key, _)| *key);
        for (index, (key, value)) in fields.iter().enumerate() {
            buf.push(if index == 0 { b'{' } else { b',' });
            buf.push(b'"');
            buf.extend_from_slice(key.as_bytes());
            buf.extend_from_slice(b"\":");
            match value {
                Common::Count(count) => text::integer(buf, *count),
                Common::Text(said) => text::string(buf, said, TEXT_BYTES_MAX),
                Common::Time(at_us) => {
                    buf.push(b'"');
                    text::time(buf, *at_us);
                    buf.push(b'"');
                }
                Common::Own(value) => write_value(buf, value),
            }
        }
        buf.push(b'}');
    }
}

enum Common<'a> {
    Text(&'a str),
    Count(u64),
    Time(i64),
    Own(&'a Value),
}

fn write_value(buf: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Text(said) => text::string(buf, said, TEXT_BYTES_MAX),
        Value::Count(count) => text::integer(buf, *count),
        Value::Texts(texts) => {
            buf.push(b'[');
            for (index, said) in texts.iter().take(LIST_ITEMS_MAX).enumerate() {
                if index > 0 {
                    buf.push(b',');
                }
                text::string(buf, said, ITEM_BYTES_MAX);
            }
            buf.push(b']');
        }
        Value::Range(from, to) => {
            buf.push(b'[');
            text::integer(buf, *from);
            buf.push(b',');
            text::integer(buf, *to);
            buf.push(b']');
        }
        Value::Crossing(crossing) => write_crossing(buf, crossing.id, &crossing.transfer),
    }
}

/// `{"basis":"…","from":"us-east","id":"…","inst":"…","to":"eu-central"}`
pub(crate) fn write_crossing(buf: &mut Vec<u8>, id: Uuid, transfer: &Transfer) {
    let mut field = |key: &[u8], value: &str| {
        buf.extend_from_slice(key);
        text::string(buf, value, TEXT_BYTES_MAX);
    };
    field(br#"{"basis":"#, &transfer.basis);
    field(br#","from":"#, transfer.from.as_str());
    field(br#","id":"#, id.hyphenated().encode_lower(&mut [0; 36]));
    if let Some(instrument) = &transfer.instrument {
        field(br#","inst":"#, instrument);
    }
    field(br#","to":"#, transfer.to.as_str());
    buf.push(b'}');
}
