//! The lists in a pack: what an auditor wants to see first. Denials and transfers are drawn from the entries, so that
//! whoever verifies the pack draws them again and compares; violations are the region's own register.

use leaf::Out;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use storage::Violation;
use tlog::Hash;

/// Which entries are denials, and why.
pub(crate) const DENIALS: &str = "denials.jsonl";
/// Which entries speak of a transfer across a border, and what they say of it.
pub(crate) const TRANSFERS: &str = "transfers.jsonl";
/// The register of violations.
pub(super) const VIOLATIONS: &str = "violations.jsonl";

/// The line of an entry in [`DENIALS`], if it is a denial.
pub(crate) fn denial(seq: u64, entry: &[u8]) -> Option<String> {
    let parsed = leaf::parse(entry).ok().filter(|parsed| parsed.out == Out::Deny)?;
    Some(json!({ "seq": seq, "id": parsed.decision.id.to_string(), "why": parsed.why }).to_string())
}

/// The line of an entry in [`TRANSFERS`], if it speaks of one: its index, its hash, and what it says, verbatim.
pub(crate) fn transfer(seq: u64, hash: &Hash, entry: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said<'a> {
        k: &'a str,
        #[serde(borrow)]
        xf: Option<&'a RawValue>,
    }
    let said: Said<'_> = serde_json::from_slice(entry).ok()?;
    let transfer = said.xf?.get();
    Some(format!(r#"{{"k":"{}","leaf":"{}","seq":{seq},"xf":{transfer}}}"#, said.k, hex::encode(hash)))
}

/// The line of a violation. The reason is what somebody wrote; its salt shows that it is the one in the leaf of the acknowledgement.
pub(super) fn violation(violation: &Violation) -> String {
    let acknowledged = violation.acknowledged.as_ref().map(
        |said| json!({ "by": said.by, "at_us": said.at_us, "reason": said.reason, "salt": hex::encode(said.salt) }),
    );
    json!({
        "id": violation.id, "rule": violation.rule, "seq": violation.seq, "says": violation.says, "at_us": violation.at_us,
        "acknowledged": acknowledged,
    })
    .to_string()
}
