//! What can keep an operation from its region.

use residency::{Denial, Region};
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
    /// The region, or its log, could not do it.
    #[error("region {region} did not carry out the operation")]
    Region {
        /// The region asked.
        region: Region,
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
