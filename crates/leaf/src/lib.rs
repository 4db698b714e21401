//! The leaf: one decision, or one fact about the gateway or the log ([`FactKind`]), as one line of canonical JSON,
//! the bytes that a region log hashes, stores and exports. Pure: what it says comes from a [`residency::Decision`]
//! and the outcome in the region, or from a [`Fact`].
//!
//! Canonical means that there is exactly one way to write a leaf: the keys are ASCII and sorted, there is
//! no space, no null, no float, integers stay below 2^53, and strings escape only what RFC 8785 escapes.
//! The reader takes nothing else, so a line cannot be read in two ways. The stored bytes are what is
//! hashed; nothing is ever encoded anew to be checked.
//!
//! | key | meaning |
//! | --- | --- |
//! | `act` | who asked: the class and name of the caller's credentials |
//! | `bytes` | how many bytes were disclosed or changed |
//! | `dc` | the commitment to identifying details that lie sealed beside the log, where there are any: [`Details`] |
//! | `dst` | the region where the deed was done |
//! | `ev` | the evidence, heaviest first: `[source, value, weight, origin]`; the value is a place (`DE`), a region (`eu-central`) or, behind a hyphen, why there is none (`-special_address`) |
//! | `geo` | the day the GeoIP database consulted was built |
//! | `gseq` | the gateway's own count of its leaves since its boot, without gaps |
//! | `gw` | the gateway and its boot: `instance/8 hex digits` |
//! | `home` | the subject's home region |
//! | `id` | the decision's id, which the caller was given, too |
//! | `k` | the kind, [`Kind`] |
//! | `op` | the operation |
//! | `out` | what came of it, [`Out`] |
//! | `pol` | `[the policy's hash in hex, rule]`; the hash covers the policy's text and its presets, and in logs older than 2026-12 the text alone |
//! | `res` | the coarse class of what was touched, such as a collection's name |
//! | `rows` | how many rows were disclosed or changed |
//! | `sub` | the subject's tag, [`SubjectTag`] |
//! | `subx` | instead of `sub`: why there is no tag |
//! | `ts` | the gateway's clock, RFC 3339 in UTC with six fractional digits |
//! | `v` | the version of this table: 1 |
//! | `via` | the region where the request arrived |
//! | `why` | the stable code of a denial or an error |
//! | `win` | the index in `ev` of what decided |
//! | `xf` | where data crossed a border: `{basis, from, id, inst, to}`, the legal basis and instrument as the policy names them; `id` is the decision's, and the other side's log has it, too |

mod canonical;
mod details;
mod fact;
mod facts;
mod gateway;
mod line;
mod mould;
mod read;
mod read_fact;
mod subject;
mod text;

pub use canonical::{NotCanonical, check_canonical};
pub use details::{
    DETAIL_BYTES_MAX, DETAILS_MAX, Detail, DetailKey, Details, NotItsDetails, Sealed, Shown, check_details,
};
pub use fact::{Crossing, Fact, FactKind, Field, LIST_ITEMS_MAX, Shape};
pub use facts::{Attestation, Counterpart, Export, Gone, Reading};
pub use gateway::GatewayId;
pub use line::{Kind, LEAF_BYTES_MAX, Leaf, Out};
pub use mould::{Cast, Mould, parse_and_mould};
pub use read::{NotALeaf, Parsed, parse};
pub use read_fact::{ParsedFact, parse_fact};
pub use subject::{SubjectSecret, SubjectTag, tag};
