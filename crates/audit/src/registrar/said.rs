//! What the registers want to know of a leaf of any kind. Lenient: that a leaf is well-formed is the verifier's to say.

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Said<'a> {
    pub(super) k: &'a str,
    pub(super) ts: &'a str,
    pub(super) gw: &'a str,
    pub(super) gseq: Option<u64>,
    pub(super) act: Option<String>,
    pub(super) op: Option<&'a str>,
    pub(super) out: Option<&'a str>,
    pub(super) why: Option<String>,
    pub(super) rows: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) of: Option<&'a str>,
    pub(super) xf: Option<Crossing>,
}

/// Where data crossed a border.
#[derive(Deserialize)]
pub(super) struct Crossing {
    pub(super) id: uuid::Uuid,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) basis: String,
    pub(super) inst: Option<String>,
}
