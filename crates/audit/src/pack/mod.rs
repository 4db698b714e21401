//! Evidence packs: a part of a log with everything that is needed to verify it offline, as a zip file.
//!
//! | file | what |
//! | --- | --- |
//! | `checkpoint` | the signed checkpoint, with cosignatures |
//! | `tile/…`, `tile/entries/…` | tiles and entries under their C2SP paths; entries verbatim |
//! | `policies/<sha256>.toml`, `….jurisdictions.csv`, `….locations.csv` | the policies that were in force |
//! | `denials.jsonl` | which entries are denials, and why |
//! | `transfers.jsonl` | which entries speak of a transfer across a border, and what they say of it |
//! | `violations.jsonl` | the region's register of violations, as far as it is about these entries, with acknowledgements |
//! | `manifest.json` | the log, the range, and the SHA-256 of every other file |
//! | `verify.py`, `VERIFY.txt` | a verifier in Python's standard library, and how to use it |
//!
//! A pack is made and kept in its region. It names no subject, as its leaves do not. With recipients it is encrypted to
//! them (age), as a whole.

pub(crate) mod lists;
mod read;
mod seal;
mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::read::Pack;
pub use self::seal::{Identities, NotARecipient, NotIdentities, RECIPIENTS_MAX, Recipient};
pub use self::write::{NotPacked, Packed, Wanted, write_pack};

/// The most entries of one pack: its manifest, which readers hold in memory, names a file for every 256.
pub const ENTRIES_MAX: u64 = 64 << 20;
/// What a pack calls itself.
const FORMAT: &str = "domicile-evidence-pack/1";
/// The verifier that an auditor can read.
pub const VERIFY_PY: &str = include_str!("verify.py");
const VERIFY_TXT: &str = include_str!("VERIFY.txt");

/// `manifest.json`. Nothing in it is signed: what it says of files is for finding damage, and what it says of the
/// log is checked against the tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    origin: String,
    size: u64,
    /// The first entry that is in the pack, and the first behind it that is not.
    from: u64,
    to: u64,
    policies: Vec<String>,
    files: BTreeMap<String, String>,
}

fn policy_files(sha256: &str) -> [String; 3] {
    ["toml", "jurisdictions.csv", "locations.csv"].map(|kind| format!("policies/{sha256}.{kind}"))
}
