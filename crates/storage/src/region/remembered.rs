//! Subjects whose row a lookup need not read, because it is known under the fence that stands. The lookup's statement reads
//! the fence, too, so that what is remembered and what is read are of one moment; where the fence has moved, the lookup is
//! made again and reads every row.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::Shared;
use super::lookups::Ask;
use super::subjects::{Known, known};
use crate::error::Trouble;

/// Who of a batch's subjects is remembered, in the order in which they are asked for.
pub(super) struct Remembered {
    fence: u64,
    known: Vec<Option<Arc<Known>>>,
}

impl Remembered {
    /// Everybody who is known under the fence as it was last seen.
    pub(super) fn of<What>(shared: &Shared, asked: &[Ask<'_, What>]) -> Self {
        let Some(fence) = shared.head.fence() else { return Self::nobody(asked.len()) };
        Self { fence, known: asked.iter().map(|ask| shared.subjects.get(ask.who(), fence)).collect() }
    }

    /// Nobody of so many.
    pub(super) fn nobody(of: usize) -> Self {
        Self { fence: 0, known: vec![None; of] }
    }

    /// Whose rows are to be read, each in its place.
    pub(super) fn strangers<'a, What>(&self, asked: &[Ask<'a, What>]) -> Vec<Option<&'a str>> {
        let stranger = |(known, ask): (&Option<Arc<Known>>, &Ask<'a, What>)| known.is_none().then(|| ask.subject());
        self.known.iter().zip(asked).map(stranger).collect()
    }

    /// Whether what is remembered is true of a moment with this fence.
    pub(super) fn holds_under(&self, fence: u64) -> bool {
        fence == self.fence || self.known.iter().all(Option::is_none)
    }

    /// The subject in this place, as it is remembered or as its row says, which is then remembered under `fence`; `None` when
    /// it is not registered here.
    pub(super) fn subject<What>(
        &self,
        shared: &Shared,
        at: usize,
        ask: &Ask<'_, What>,
        row: &PgRow,
        fence: u64,
    ) -> Result<Option<Arc<Known>>, Trouble> {
        if let Some(Some(known)) = self.known.get(at) {
            return Ok(Some(Arc::clone(known)));
        }
        if row.try_get::<Option<&str>, _>(0)?.is_none() {
            return Ok(None);
        }
        let known = Arc::new(known(row, shared, ask.subject())?);
        shared.subjects.insert(ask.who().clone(), fence, Arc::clone(&known));
        Ok(Some(known))
    }
}
