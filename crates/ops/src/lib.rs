//! What an operator does to a whole deployment, as opposed to one database: today, bringing all of its
//! databases up to date. Deploying, backing up, restoring, verifying and drilling join it here, each in
//! a module of its own.
//!
//! Nothing here reads configuration or prints: the binary hands in a [`Deployment`] and shows what it is told.

mod deployment;
pub mod migrate;

pub use deployment::{Database, DatabaseName, Deployment};
