//! Whoever looks into a log through these pages is in that log: an entry is shown only behind the leaf that says who
//! asked for it, in which way, and how many there were.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use residency::{Region, SubjectId};
use storage::RegionStore;

/// What somebody asked of the logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The page, as its address says it behind `/console/`.
    pub page: String,
    /// What the search was narrowed down to, by name; without the subject.
    pub filter: Vec<(&'static str, String)>,
    /// The subject that was asked for. A leaf holds its tag, never its name.
    pub subject: Option<SubjectId>,
}

/// Writes into the logs who reads them.
pub trait Accounts: Send + Sync {
    /// Writes into a region's log that this many of its entries are about to be shown, or that it was searched in vain.
    ///
    /// # Errors
    /// [`Unlogged`]: nothing may be shown.
    fn account<'a>(
        &'a self,
        store: &'a RegionStore,
        asked: &'a Asked,
        rows: u64,
    ) -> BoxFuture<'a, Result<(), Unlogged>>;
}

/// The leaf could not be written; what to answer in the place of the page.
#[derive(Debug)]
pub struct Unlogged(Box<Response>);

impl Unlogged {
    /// To be answered with this.
    #[must_use]
    pub fn answered_with(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for Unlogged {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// Who asks for a page, as an extension of the request. Without one, no page that shows entries is made.
#[derive(Clone)]
pub struct Visitor(Arc<dyn Accounts>);

impl Visitor {
    /// A visitor whose looks these accounts enter.
    #[must_use]
    pub fn new(accounts: impl Accounts + 'static) -> Self {
        Self(Arc::new(accounts))
    }

    /// Enters a look into the log of every region that answered, with how many of its entries are shown.
    pub(crate) async fn looked(
        &self,
        stores: impl Iterator<Item = &RegionStore>,
        asked: &Asked,
        rows: impl Fn(&Region) -> u64,
    ) -> Result<(), Unlogged> {
        for store in stores {
            self.0.account(store, asked, rows(store.region())).await?;
        }
        Ok(())
    }
}
