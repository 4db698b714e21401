//! `domicile relay …` and `domicile forwarder …`: the two followers of the region logs, seen by an operator.

mod replay;
mod status;

use std::process::ExitCode;

use super::Failure;
use crate::cli;

/// Which follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Region log -> Redpanda.
    Relay,
    /// Region log -> Snowflake.
    Forwarder,
}

impl Kind {
    fn cursor(self) -> &'static str {
        match self {
            Self::Relay => relay::CURSOR,
            Self::Forwarder => forwarder::CURSOR,
        }
    }
}

/// Does what the command says.
pub(crate) async fn run(kind: Kind, command: &cli::Stream) -> Result<ExitCode, Failure> {
    match command {
        cli::Stream::Status(args) => status::run(kind, args).await,
        cli::Stream::Replay(args) => replay::run(kind, args).await,
    }
}
