//! The promises of the design, each as a scene in a world of real servers: Postgres, a Kafka-protocol broker,
//! a Snowflake stand-in, and the real binary.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod alarms;
mod backups;
mod callers;
mod commands;
mod decisions;
mod erasure;
mod erasures_at_once;
mod evidence;
mod input;
mod ledger;
mod outage;
mod pinned;
mod proof;
mod records;
mod registers;
mod short_soaks;
mod streams;
mod telemetry;
mod witness;
