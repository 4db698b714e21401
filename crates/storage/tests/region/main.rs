//! A region's store against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod changes;
mod crowding;
mod erasure;
mod failures;
mod identity;
mod log;
mod merges;
mod passing;
mod reads;
mod renamed;
mod scene;
mod standby;
#[path = "../support/mod.rs"]
mod support;
mod tiles;
