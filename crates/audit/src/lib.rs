//! The ledger: what the region logs say, for those who have to answer for it. Decisions are searched across
//! regions, told in plain sentences, and held against the policy that was in force; a caller's receipt
//! names the leaf that proves a deed. A signer makes checkpoints of a log, and proofs lead from a leaf to them.
//!
//! Nothing here shows who a decision was about: a leaf names a subject by a tag that only the home region
//! can resolve.

mod bundle;
mod explain;
pub mod export;
pub mod pack;
mod proofs;
mod receipt;
mod reconciler;
pub mod registers;
mod registrar;
mod retention;
mod scrubber;
mod search;
mod signer;
pub mod succession;
mod teller;
pub mod verify;
pub mod witness;
mod words;

pub use bundle::{BUNDLE_BYTES_MAX, NotABundle, bundle, read_bundle};
pub use explain::{Explanation, Replay, Role, Weighed, explain};
pub use proofs::{NoProof, consistency_proof, entry_proof, read_tiles, seq_at};
pub use receipt::{Broken, NotAReceipt, ORIGIN_BYTES_MAX, Receipt};
pub use reconciler::{OtherSide, Reconciler};
pub use registrar::{Registrar, Rule};
pub use retention::{EVERY_KIND, Keep, KindSpan, Plan, Retention, plan};
pub use scrubber::{Damage, Scrubber};
pub use search::{Answered, Cursor, Entry, NotACursor, PAGE_ROWS_MAX, Page, find, search};
pub use signer::{Forgotten, Memory, NotSigned, Post, Refusal, Signer, Step, Submitted, Submitter};
pub use teller::Teller;
pub use words::{at_utc, deed, places, resource, signal};
