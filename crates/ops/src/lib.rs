//! What an operator does to a whole deployment, as opposed to one database: bringing its databases up to date, deploying
//! a release and rolling it back, backing up and proving it, rehearsing disasters, each in a module of its own.
//!
//! Nothing here reads configuration or prints: the binary hands in a [`Deployment`] or a [`deploy::Deployer`] and shows
//! what it is told. The deployer knows no connection string: databases are asked by the program in the release itself,
//! where they can be reached.

pub mod backup;
pub mod deploy;
mod deployment;
pub mod drill;
pub mod edge;
mod exit;
pub mod migrate;
pub mod runtime;

pub use deployment::{Database, DatabaseName, Deployment};
pub use exit::{Exit, Failure, Trouble};
