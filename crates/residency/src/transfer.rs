//! A transfer: a person's data crossing from one jurisdiction into another. Where it is lawful, and why, is
//! written in the policy; here are only the words for it.

use std::sync::Arc;

use crate::words::Region;

/// The basis of a transfer for which the policy names none.
pub const NO_BASIS: &str = "none-stated";

/// One crossing, as it is logged on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Where the data left.
    pub from: Region,
    /// Where it arrived.
    pub to: Region,
    /// The legal basis, e.g. `adequacy:(EU)2023/1795`, or [`NO_BASIS`].
    pub basis: Arc<str>,
    /// The instrument behind it, e.g. the number of a contract; absent where the basis needs none.
    pub instrument: Option<Arc<str>>,
}

impl Transfer {
    /// Whether the policy names a legal basis.
    #[must_use]
    pub fn has_basis(&self) -> bool {
        &*self.basis != NO_BASIS
    }
}
