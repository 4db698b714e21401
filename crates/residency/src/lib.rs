//! Where a person's data is at home, and who may touch it: the words, the policy, the classification
//! and the permits. Pure: no I/O, no clock, no randomness, no knowledge of HTTP or SQL.
//!
//! The way through this crate is the way of every request:
//! [`Evidence`] is gathered by the faces, [`Policy::classify`] weighs it into a [`Verdict`],
//! a [`Pin`] makes the verdict durable, and [`Policy::permit`] turns pin and request into the one
//! thing that opens a region: a [`Permit`].

mod decision;
mod evidence;
mod permit;
pub mod policy;
pub mod presets;
mod stated;
mod transfer;
mod words;

pub use decision::{Actor, Decision, DecisionId, Denial, DenialReason, Operation};
pub use evidence::{Evidence, EvidenceList, Finding, Nothing, Origin, Source};
pub use permit::{Access, Permit, Permitted, Read, Write};
pub use policy::{Outcome, Placement, Policy, PolicyHashes, Problem, RegionRule, RuleId, Unresolved, Verdict};
pub use stated::Stated;
pub use transfer::{NO_BASIS, Transfer};
pub use words::{
    Attribute, Collection, Country, Epoch, Jurisdiction, Malformed, Pin, PinState, Place, Purpose, RecordKey, Region,
    Subdivision, SubjectId, Tenant,
};
