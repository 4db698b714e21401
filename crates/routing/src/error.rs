//! What can keep an operation from its region.

use residency::{DecisionId, Denial, Region};
use storage::LogPosition;

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The decision went against it. Its leaf is durable.
    #[error("the request was denied: {}", denial.reason.code())]
    Denied {
        /// The decision and the reason.
        denial: Box<Denial>,
        /// Where the denial is logged.
        position: LogPosition,
    },
    /// The decision went against it, and could not be logged: nothing may be told of it.
    #[error("the decision could not be logged in region {region}")]
    Unlogged {
        /// The region whose log it belongs in.
        region: Region,
        /// What kept it out.
        #[source]
        source: storage::Error,
    },
    /// The region could not do it.
    #[error("region {region} did not carry out the operation")]
    Region {
        /// The region asked.
        region: Region,
        /// The decision, where the region's log has it or may have it: the deed left a leaf though it was not done.
        decision: Option<DecisionId>,
        /// What it said.
        #[source]
        source: storage::Error,
    },
    /// The directory of pins could not be asked.
    #[error("the directory of pins did not answer")]
    Directory(#[source] storage::Error),
    /// A permit named a region without a store here; nothing was done.
    #[error("region {region} is not served by this gateway")]
    NotServed {
        /// The region.
        region: Region,
    },
}
