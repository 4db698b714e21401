//! The events that domicile itself makes, each with its JSON Schema (2020-12). The same files are what `/events`
//! shows and what is registered in a schema registry.
//!
//! They evolve by addition only, so that whoever read an event yesterday reads it tomorrow: a property may be
//! added; none goes away, changes its kind or becomes optional. Anything else is a new type with the next `.vN`.
//! A test holds every schema against the ones that were released (`schemas/released`).

/// One type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSchema {
    /// The CloudEvents `type`; its topic is `<region>.<type>.v1`.
    pub event_type: &'static str,
    /// The schema's identifier, which travels as the CloudEvents attribute `dataschema`.
    pub id: &'static str,
    /// JSON Schema of the event's data.
    pub text: &'static str,
}

impl EventSchema {
    /// Every type.
    pub const ALL: [Self; 4] = [
        Self {
            event_type: "domicile.record-changed",
            id: "urn:domicile:event:domicile.record-changed:v1",
            text: include_str!("../schemas/domicile.record-changed.v1.json"),
        },
        Self {
            event_type: "domicile.subject-erased",
            id: "urn:domicile:event:domicile.subject-erased:v1",
            text: include_str!("../schemas/domicile.subject-erased.v1.json"),
        },
        Self {
            event_type: "domicile.subject-pinned",
            id: "urn:domicile:event:domicile.subject-pinned:v1",
            text: include_str!("../schemas/domicile.subject-pinned.v1.json"),
        },
        Self {
            event_type: "domicile.zero-party-changed",
            id: "urn:domicile:event:domicile.zero-party-changed:v1",
            text: include_str!("../schemas/domicile.zero-party-changed.v1.json"),
        },
    ];

    /// The schema of a type, if it is one of ours.
    #[must_use]
    pub fn of(event_type: &str) -> Option<&'static Self> {
        const ALL: &[EventSchema] = &EventSchema::ALL;
        ALL.iter().find(|schema| schema.event_type == event_type)
    }
}
