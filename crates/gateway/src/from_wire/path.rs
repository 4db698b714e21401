//! Path segments: percent-decoded UTF-8, then one of our words. An encoded slash is part of a segment.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use residency::{Attribute, Collection, Malformed, RecordKey, SubjectId};

use crate::error::Error;

/// The decoded segments of a request's path.
pub(crate) struct Segments(RawPathParams);

impl Segments {
    /// Decodes them.
    ///
    /// # Errors
    /// [`Error::PathEncoding`] when one is not percent-encoded UTF-8.
    pub(crate) async fn of(parts: &mut Parts) -> Result<Self, Error> {
        RawPathParams::from_request_parts(parts, &()).await.map(Self).map_err(|_| Error::PathEncoding)
    }

    /// Reads the segment of this name as a word.
    ///
    /// # Errors
    /// [`Error::Path`] with the word's rule.
    pub(crate) fn word<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Malformed>) -> Result<T, Error> {
        let segment = self.0.iter().find_map(|(key, value)| (key == name).then_some(value));
        parse(segment.unwrap_or_default()).map_err(Error::Path)
    }

    /// The subject that the path names.
    ///
    /// # Errors
    /// As for [`Segments::word`].
    pub(crate) fn subject(&self) -> Result<SubjectId, Error> {
        self.word("subject", SubjectId::new)
    }
}

/// What an operation touches, beside its subject.
pub(crate) trait Target: Sized + Send {
    /// Reads it from the path.
    ///
    /// # Errors
    /// [`Error::Path`].
    fn read(segments: &Segments) -> Result<Self, Error>;

    /// Its coarse class, for the log: never a key.
    fn resource(&self) -> Option<Arc<str>>;
}

/// The subject itself.
pub(crate) struct Itself;

impl Target for Itself {
    fn read(_: &Segments) -> Result<Self, Error> {
        Ok(Self)
    }

    fn resource(&self) -> Option<Arc<str>> {
        None
    }
}

/// One record.
pub(crate) struct OneRecord {
    pub(crate) collection: Collection,
    pub(crate) key: RecordKey,
}

impl Target for OneRecord {
    fn read(segments: &Segments) -> Result<Self, Error> {
        Ok(Self {
            collection: segments.word("collection", Collection::new)?,
            key: segments.word("key", RecordKey::new)?,
        })
    }

    fn resource(&self) -> Option<Arc<str>> {
        Some(self.collection.as_str().into())
    }
}

/// The records of a collection.
pub(crate) struct OneCollection {
    pub(crate) collection: Collection,
}

impl Target for OneCollection {
    fn read(segments: &Segments) -> Result<Self, Error> {
        Ok(Self { collection: segments.word("collection", Collection::new)? })
    }

    fn resource(&self) -> Option<Arc<str>> {
        Some(self.collection.as_str().into())
    }
}

/// One zero-party attribute.
pub(crate) struct OneAttribute {
    pub(crate) attribute: Attribute,
}

impl Target for OneAttribute {
    fn read(segments: &Segments) -> Result<Self, Error> {
        Ok(Self { attribute: segments.word("attribute", Attribute::new)? })
    }

    fn resource(&self) -> Option<Arc<str>> {
        Some(self.attribute.as_str().into())
    }
}
