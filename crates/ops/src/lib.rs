//! What an operator does to a whole deployment, as opposed to one database: bringing all of its databases up to date,
//! deploying a release and rolling it back.
//!
//! Nothing here reads configuration or prints: the binary hands in a [`Deployment`] or a [`deploy::Deployer`] and shows
//! what it is told. Nothing here speaks SQL or HTTP either: databases and gateways are asked by the program in the
//! release itself, where they can be reached.

pub mod deploy;
mod deployment;
pub mod edge;
mod exit;
pub mod migrate;
pub mod runtime;

pub use deployment::{Database, DatabaseName, Deployment};
pub use exit::{Exit, Failure, Trouble};
