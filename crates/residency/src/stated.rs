//! What a request stated that identifies somebody, and that compliance wants to be able to look up later: names and
//! values, on their way into the sealed row beside the log. Never shown otherwise, not even by `Debug`.

use std::fmt;
use std::sync::Arc;

/// Identifying details of one request. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Stated(Arc<[(&'static str, Box<str>)]>);

impl Stated {
    /// These names and values; `None` when there are none.
    #[must_use]
    pub fn new(values: Vec<(&'static str, String)>) -> Option<Self> {
        (!values.is_empty()).then(|| Self(values.into_iter().map(|(name, value)| (name, value.into())).collect()))
    }

    /// Names and values, for the home region's sealed row and nothing else.
    pub fn expose(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, &**value))
    }
}

impl fmt::Debug for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
