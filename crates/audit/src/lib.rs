//! The ledger: what the region logs say, for those who have to answer for it. Decisions are searched across
//! regions, told in plain sentences, and held against the policy that was in force; a caller's receipt
//! names the leaf that proves a deed.
//!
//! Nothing here shows who a decision was about: a leaf names a subject by a tag that only the home region
//! can resolve.

mod explain;
mod receipt;
mod search;
mod words;

pub use explain::{Explanation, Replay, Role, Weighed, explain};
pub use receipt::{NotAReceipt, ORIGIN_BYTES_MAX, Receipt};
pub use search::{Answered, Cursor, Entry, NotACursor, PAGE_ROWS_MAX, Page, find, search};
pub use words::{at_utc, deed, places, resource, signal};
