//! One line of a batch: what would be path, headers and body of a request by itself.

use std::sync::Arc;

use api::{BatchLine, FieldError, PutAttribute};
use residency::{Attribute, Collection, Malformed, Operation, RecordKey, SubjectId};
use serde_json::value::RawValue;
use storage::{Change, Lookup};

use super::attribute::consents;
use super::body;
use super::conditions::parse_change;
use super::event;
use super::evidence::Stated;
use crate::error::Error;
use crate::settings::EventTypes;

/// Bytes of a line's name.
const ID_BYTES_MAX: usize = 128;

/// What a line asks for.
pub(crate) struct Line {
    pub(crate) subject: SubjectId,
    pub(crate) operation: Operation,
    /// The coarse class of what is touched, for the log.
    pub(crate) resource: Option<Arc<str>>,
    pub(crate) stated: Stated,
    pub(crate) deed: Deed,
}

/// What is to be done.
pub(crate) enum Deed {
    /// A lookup.
    Read(Lookup),
    /// A change.
    Write(Box<Change>),
}

/// What orders a line: lines of one lane are carried out one after another, in the order they were sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// One record.
    Record(SubjectId, Collection, RecordKey),
    /// One attribute.
    Attribute(SubjectId, Attribute),
    /// The events of a subject.
    Events(SubjectId),
    /// The subject itself.
    Subject(SubjectId),
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field and its rule.
    pub(crate) fn read(mut line: BatchLine, now_us: i64, types: &EventTypes) -> Result<Self, Error> {
        let subject = SubjectId::new(&line.subject).map_err(|malformed| word("subject", malformed))?;
        let stated =
            Stated::in_fields(line.residence.as_deref(), line.tenant.as_deref(), line.client_address.as_deref())?;
        let operation = Operation::ALL
            .into_iter()
            .find(|operation| operation.name() == line.operation)
            .ok_or_else(|| Error::invalid("operation", "one of those that /openapi.json names"))?;
        let body = line.body.take();
        let mut fields = Fields { line: &line, operation, body };
        let when = || parse_change(&line.if_match, &line.if_none_match).map_err(in_fields);
        let (resource, deed): (Option<String>, Deed) = match operation {
            Operation::SubjectRead => {
                fields.only(&[])?;
                (None, Deed::Read(Lookup::Subject))
            }
            Operation::SubjectPin => {
                fields.only(&[])?;
                (None, Deed::Write(Box::new(Change::PinSubject)))
            }
            Operation::RecordRead => {
                fields.only(&["collection", "key"])?;
                let (collection, key) = fields.record()?;
                (Some(collection.to_string()), Deed::Read(Lookup::Record { collection, key }))
            }
            Operation::RecordPut => {
                fields.only(&["collection", "key", "if_match", "if_none_match", "body"])?;
                let ((collection, key), body) = (fields.record()?, fields.body()?);
                let change = Change::PutRecord { collection: collection.clone(), key, body, when: when()? };
                (Some(collection.to_string()), Deed::Write(Box::new(change)))
            }
            Operation::RecordPatch => {
                fields.only(&["collection", "key", "if_match", "if_none_match", "body"])?;
                let ((collection, key), patch) = (fields.record()?, body::patch(fields.body()?.get().as_bytes())?);
                let change = Change::PatchRecord { collection: collection.clone(), key, patch, when: when()? };
                (Some(collection.to_string()), Deed::Write(Box::new(change)))
            }
            Operation::RecordDelete => {
                fields.only(&["collection", "key", "if_match", "if_none_match"])?;
                let (collection, key) = fields.record()?;
                let change = Change::DeleteRecord { collection: collection.clone(), key, when: when()? };
                (Some(collection.to_string()), Deed::Write(Box::new(change)))
            }
            Operation::EventPublish => {
                fields.only(&["idempotency_key", "body"])?;
                let event = event::allowed(event::structured(&fields.body()?)?, types)?;
                let idempotency = match &line.idempotency_key {
                    None => None,
                    Some(key) if event::good_key(key) => Some(event::idempotency(key.clone(), &event)),
                    Some(_) => return Err(Error::invalid("idempotency_key", event::KEY_RULE)),
                };
                (None, Deed::Write(Box::new(Change::PublishEvent { event, idempotency })))
            }
            Operation::ZeroPartyRead => {
                fields.only(&["attribute"])?;
                let attribute = fields.attribute()?;
                (Some(attribute.to_string()), Deed::Read(Lookup::Attribute(attribute)))
            }
            Operation::ZeroPartyPut => {
                fields.only(&["attribute", "if_match", "if_none_match", "body"])?;
                let attribute = fields.attribute()?;
                let declared: PutAttribute = body::typed(fields.body()?.get().as_bytes())?;
                let consents = consents(&declared, now_us)?;
                let PutAttribute { value, source, .. } = declared;
                let change =
                    Change::PutAttribute { attribute: attribute.clone(), value, consents, source, when: when()? };
                (Some(attribute.to_string()), Deed::Write(Box::new(change)))
            }
            Operation::ZeroPartyDelete => {
                fields.only(&["attribute", "if_match", "if_none_match"])?;
                let attribute = fields.attribute()?;
                let change = Change::DeleteAttribute { attribute: attribute.clone(), when: when()? };
                (Some(attribute.to_string()), Deed::Write(Box::new(change)))
            }
            Operation::SubjectErase | Operation::SubjectErasePreview => {
                return Err(Error::invalid("operation", "what cannot be taken back is asked for by itself"));
            }
            Operation::RecordList => {
                return Err(Error::invalid("operation", "lists have pages: ask for them by themselves"));
            }
        };
        Ok(Self { subject, operation, resource: resource.map(Into::into), stated, deed })
    }

    /// Which lines it has to wait for.
    pub(crate) fn lane(&self) -> Lane {
        let subject = self.subject.clone();
        match &self.deed {
            Deed::Read(Lookup::Record { collection, key }) => Lane::Record(subject, collection.clone(), key.clone()),
            Deed::Read(Lookup::Attribute(attribute) | Lookup::History { attribute, .. }) => {
                Lane::Attribute(subject, attribute.clone())
            }
            Deed::Read(Lookup::Subject | Lookup::Extent | Lookup::Records { .. } | Lookup::Attributes) => {
                Lane::Subject(subject)
            }
            Deed::Write(change) => match &**change {
                Change::PutRecord { collection, key, .. }
                | Change::PatchRecord { collection, key, .. }
                | Change::DeleteRecord { collection, key, .. } => {
                    Lane::Record(subject, collection.clone(), key.clone())
                }
                Change::PutAttribute { attribute, .. } | Change::DeleteAttribute { attribute, .. } => {
                    Lane::Attribute(subject, attribute.clone())
                }
                Change::PublishEvent { .. } => Lane::Events(subject),
                Change::PinSubject | Change::EraseSubject => Lane::Subject(subject),
            },
        }
    }
}

/// Checks the caller's name for a line.
///
/// # Errors
/// [`Error::Invalid`] when it is too long.
pub(crate) fn id(line: &BatchLine) -> Result<Option<String>, Error> {
    match &line.id {
        Some(id) if id.len() > ID_BYTES_MAX => Err(Error::invalid("id", "at most 128 bytes")),
        id => Ok(id.clone()),
    }
}

/// The fields of a line that belong to its operation.
struct Fields<'a> {
    line: &'a BatchLine,
    operation: Operation,
    /// Taken out of the line: it may be large, and is moved rather than copied.
    body: Option<Box<RawValue>>,
}

impl Fields<'_> {
    /// Refuses fields that mean nothing for the operation: a precondition on an event must not pass unnoticed.
    fn only(&self, known: &[&str]) -> Result<(), Error> {
        let line = self.line;
        let present = [
            ("collection", line.collection.is_some()),
            ("key", line.key.is_some()),
            ("attribute", line.attribute.is_some()),
            ("if_match", line.if_match.is_some()),
            ("if_none_match", line.if_none_match.is_some()),
            ("idempotency_key", line.idempotency_key.is_some()),
            ("body", self.body.is_some()),
        ];
        let errors: Vec<_> = present
            .into_iter()
            .filter(|(name, present)| *present && !known.contains(name))
            .map(|(name, _)| FieldError {
                at: name.to_owned(),
                message: format!("`{}` does not take it", self.operation.name()),
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
    }

    fn record(&self) -> Result<(Collection, RecordKey), Error> {
        let collection = self.word("collection", self.line.collection.as_deref(), Collection::new)?;
        Ok((collection, self.word("key", self.line.key.as_deref(), RecordKey::new)?))
    }

    fn attribute(&self) -> Result<Attribute, Error> {
        self.word("attribute", self.line.attribute.as_deref(), Attribute::new)
    }

    fn body(&mut self) -> Result<Box<RawValue>, Error> {
        self.body.take().ok_or_else(|| self.missing("body"))
    }

    fn word<T>(
        &self,
        at: &'static str,
        text: Option<&str>,
        parse: impl Fn(&str) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        parse(text.ok_or_else(|| self.missing(at))?).map_err(|malformed| word(at, malformed))
    }

    fn missing(&self, at: &'static str) -> Error {
        Error::invalid(at, format!("`{}` needs it", self.operation.name()))
    }
}

fn word(at: &'static str, malformed: Malformed) -> Error {
    Error::invalid(at, malformed.to_string())
}

/// A precondition's fault, told by the line's own field names.
fn in_fields(error: Error) -> Error {
    match error {
        Error::Header { name: "if-match", rule } => Error::invalid("if_match", rule),
        Error::Header { name: "if-none-match", rule } => Error::invalid("if_none_match", rule),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Line, Error> {
        Line::read(body::typed(text.as_bytes())?, 0, &EventTypes::default())
    }

    fn fault(text: &str) -> String {
        match read(text) {
            Err(Error::Invalid(errors)) => errors[0].at.clone(),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{text} passed"),
        }
    }

    #[test]
    fn a_line_says_what_a_request_would() {
        let line = read(
            r#"{"id":"1","operation":"record.put","subject":"anna","residence":"DE","collection":"c","key":"k","body":null,
                "if_match":"\"3\""}"#,
        )
        .unwrap();
        assert_eq!(line.operation, Operation::RecordPut);
        assert_eq!(line.resource.as_deref(), Some("c"));
        let Deed::Write(change) = line.deed else { panic!("a put is a write") };
        assert!(matches!(*change, Change::PutRecord { body, .. } if body.get() == "null"));
    }

    #[test]
    fn a_line_that_says_too_little_or_too_much_is_refused_by_field() {
        for (text, at) in [
            (r#"{"operation":"record.put","subject":"","collection":"c","key":"k","body":1}"#, "subject"),
            (r#"{"operation":"record.put","subject":"s","collection":"c","key":"k"}"#, "body"),
            (r#"{"operation":"record.put","subject":"s","key":"k","body":1}"#, "collection"),
            (r#"{"operation":"record.read","subject":"s","collection":"c","key":"k","if_match":"*"}"#, "if_match"),
            (r#"{"operation":"event.publish","subject":"s","if_match":"*","body":{}}"#, "if_match"),
            (
                r#"{"operation":"record.delete","subject":"s","collection":"c","key":"k","if_match":"W/\"1\""}"#,
                "if_match",
            ),
            (r#"{"operation":"record.list","subject":"s","collection":"c"}"#, "operation"),
            (r#"{"operation":"relocate","subject":"s"}"#, "operation"),
            (r#"{"operation":"subject.erase","subject":"s"}"#, "operation"),
            (r#"{"operation":"subject.pin","subject":"s","residence":"Germany"}"#, "residence"),
            (r#"{"operation":"subject.pin","subject":"s","region":"us-east"}"#, "body"),
        ] {
            assert_eq!(fault(text), at, "{text}");
        }
    }

    #[test]
    fn lines_about_one_record_share_a_lane_and_others_do_not() {
        let lane = |key: &str, operation: &str, tail: &str| {
            read(&format!(r#"{{"operation":"{operation}","subject":"s","collection":"c","key":"{key}"{tail}}}"#))
                .unwrap()
                .lane()
        };
        assert_eq!(lane("a", "record.put", r#","body":1"#), lane("a", "record.delete", ""));
        assert_ne!(lane("a", "record.read", ""), lane("b", "record.read", ""));
    }
}
