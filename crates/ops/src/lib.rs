//! What an operator does to a whole deployment, as opposed to one database: bringing its databases up to date, backing
//! them up and proving it, rehearsing their disasters, each in a module of its own.
//!
//! Nothing here reads configuration or prints: the binary hands in a [`Deployment`] and shows what it is told.

pub mod backup;
mod deployment;
pub mod drill;
pub mod migrate;

pub use deployment::{Database, DatabaseName, Deployment};
