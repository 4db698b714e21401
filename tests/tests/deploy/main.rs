//! Deploying and rolling back, for real: gateways as processes, HAProxy as the edge, PostgreSQL, and clients that keep
//! asking all the while. The same pipeline with containers is `cargo xtask test --docker`.

#![expect(clippy::expect_used, reason = "a scene that cannot be set is a failed test")]

mod bad;
mod cell;
mod drills;
mod killed;
mod left;
mod load;
mod moves;
mod script;
