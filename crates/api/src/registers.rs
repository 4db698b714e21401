//! Registers of the region logs: violations, and transfers across a border.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of violations, newest first, of the regions this gateway serves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ViolationPage {
    /// The violations.
    pub items: Vec<ViolationItem>,
    /// Which regions were asked, and how that went.
    pub regions: Vec<RegisterState>,
    /// Cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Something that was not as it should be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ViolationItem {
    /// Its name: the region and its number there, `eu-central.17`.
    pub id: String,
    /// The region in whose register it stands.
    pub region: String,
    /// Which rule is broken: `denied`, `gap`, `jump`, `repeated`, `transfer_unmatched`, `unreadable` or `damage`.
    pub rule: String,
    /// The entry of the region's log that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What is wrong, as a clause that names nobody.
    pub says: String,
    /// When it happened, RFC 3339.
    pub at: String,
    /// Who has answered for it; absent while nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
}

/// That somebody has seen a violation and answers for it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Acknowledged {
    /// Who, by the class and name of their credentials.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
    /// What they said about it.
    pub reason: String,
}

/// An acknowledgement.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// What is to be said about it, 1 to 500 characters. It stays in the region; the log holds its salted hash.
    pub reason: String,
}

/// A page of transfers, newest first, of the regions this gateway serves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TransferPage {
    /// The transfers.
    pub items: Vec<TransferItem>,
    /// Which regions were asked, and how that went.
    pub regions: Vec<RegisterState>,
    /// Cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An entry of a region's log about data that crossed a border.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TransferItem {
    /// The region whose log holds the entry.
    pub region: String,
    /// Its sequence number in that log.
    pub seq: u64,
    /// The leaf's hash (RFC 6962, SHA-256), base64url without padding.
    pub leaf: String,
    /// The decision that led to the transfer; the same in both regions' logs.
    pub id: String,
    /// Whether it is the entry of the decision, or the `counterpart` of one in the other region's log.
    pub side: TransferSide,
    /// When, RFC 3339.
    pub at: String,
    /// The region that the data left.
    pub from: String,
    /// The region where it arrived.
    pub to: String,
    /// The legal basis.
    pub basis: String,
    /// The instrument behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<String>,
    /// Who caused it, by the class and name of their credentials.
    pub actor: String,
    /// Rows that crossed.
    pub rows: u64,
    /// Bytes that crossed.
    pub bytes: u64,
    /// Whether the other side was seen in the other region's log.
    pub matched: bool,
    /// What is known of the other side.
    pub other_side: OtherSide,
}

/// What is known of a transfer's entry in the other region's log. A transfer of which nothing was seen is a violation: after
/// two minutes where the other log can be read, after an hour where no process could look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherSide {
    /// It was seen.
    Seen,
    /// It may still come: the transfer is younger than two minutes.
    Awaited,
    /// It is not there.
    Missing,
    /// This gateway does not serve the other region, and no gateway that serves both has seen it.
    NotServedHere,
}

/// Which side of a transfer an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransferSide {
    /// The entry of the decision that led to it.
    Decision,
    /// The other region's entry of the same transfer.
    Counterpart,
}

/// One region's part in an answer out of the registers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RegisterState {
    /// The region.
    pub region: String,
    /// Whether it answered.
    pub searched: bool,
    /// How many entries of its log are not in its registers yet; absent when it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
}
