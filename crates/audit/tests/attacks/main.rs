//! Attacks on a region's log, done for real on a real PostgreSQL by its superuser, and each caught: the test names
//! the check and the rule that caught it. Beside them stands what an attack would have achieved without the
//! auditor's own key or older checkpoint, so that nobody believes more than is proven.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod databases;
mod details;
mod exports;
mod packs;
mod partition;
mod proofs;
mod registers;
mod retention;
#[path = "../../../storage/tests/region/scene.rs"]
#[expect(dead_code, reason = "the scene of the storage tests; these play on a part of it")]
mod scene;
mod sealed;
mod stage;
mod succession;
#[path = "../../../storage/tests/support/mod.rs"]
mod support;
mod transfers;
mod watchers;
