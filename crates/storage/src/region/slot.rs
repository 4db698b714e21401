//! What stands under one key while a batch is folded: preconditions and versions.

use std::borrow::Cow;

use time::OffsetDateTime;

use super::{records, zero_party};
use crate::deeds::{Effect, Precondition};
use crate::error::Error;

/// What stands under one key, while the batch is folded.
pub(super) struct Slot<Content> {
    /// The version in the database.
    pub(super) before: Option<u64>,
    /// The version as folded so far.
    pub(super) now: Option<u64>,
    /// No version is given twice: a new one is above this.
    pub(super) highest: u64,
    /// What stands there, or, once it is deleted, stood there last.
    pub(super) content: Option<Content>,
    pub(super) touched: bool,
    pub(super) updated_at: OffsetDateTime,
}

impl<Content> Slot<Content> {
    pub(super) fn new(current: &records::Current, content: Option<Content>) -> Self {
        Self {
            before: current.version,
            now: current.version,
            highest: current.version.unwrap_or(current.floor),
            content,
            touched: false,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    pub(super) fn check(&self, when: &Precondition) -> Result<(), Error> {
        if when.holds(self.now) { Ok(()) } else { Err(Error::PreconditionFailed { current: self.now }) }
    }

    /// Takes over new content, under the next version.
    pub(super) fn put(&mut self, content: Content, updated_at: OffsetDateTime) -> Effect {
        let existed = self.now.is_some();
        let version = self.highest + 1;
        *self = Self {
            before: self.before,
            now: Some(version),
            highest: version,
            content: Some(content),
            touched: true,
            updated_at,
        };
        if existed { Effect::Replaced { version } } else { Effect::Created { version } }
    }

    /// Deletes; the version that is gone.
    pub(super) fn delete(&mut self, when: &Precondition) -> Result<u64, Error> {
        self.check(when)?;
        let gone = self.now.take().ok_or(Error::NotFound)?;
        self.touched = true;
        Ok(gone)
    }

    /// What the batch makes of it.
    pub(super) fn became(self) -> Became<Content> {
        match (self.before, self.now, self.content) {
            (before, Some(version), Some(content)) => Became::Stands { before, after: (version, content) },
            (None, _, Some(content)) => Became::Passed { version: self.highest, content },
            (before, _, _) => Became::Gone { before },
        }
    }
}

/// What becomes of one key.
pub(super) enum Became<Content> {
    /// It has this version and content from now on.
    Stands { before: Option<u64>, after: (u64, Content) },
    /// It was created and deleted, both in this batch; that is what it was last.
    Passed { version: u64, content: Content },
    /// It is deleted.
    Gone { before: Option<u64> },
}

/// A record's.
pub(super) type RecordSlot<'a> = Slot<Cow<'a, str>>;
/// An attribute's.
pub(super) type AttributeSlot<'a> = Slot<zero_party::Declared<'a>>;

impl RecordSlot<'_> {
    /// Takes over what was loaded.
    pub(super) fn loaded(mut current: records::Current) -> Self {
        let body = current.body.take().map(Cow::Owned);
        Self::new(&current, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_created_again_goes_on_above_what_was_deleted() {
        let mut slot: RecordSlot<'_> = Slot::new(&records::Current { version: Some(7), body: None, floor: 0 }, None);
        assert_eq!(slot.delete(&Precondition::None), Ok(7));
        assert_eq!(slot.put("{}".into(), OffsetDateTime::UNIX_EPOCH), Effect::Created { version: 8 });
        let mut later: RecordSlot<'_> = Slot::new(&records::Current { version: None, body: None, floor: 8 }, None);
        assert_eq!(later.put("{}".into(), OffsetDateTime::UNIX_EPOCH), Effect::Created { version: 9 });
    }
}
