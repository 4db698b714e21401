//! What a caller may do, and what it may be believed about.

/// One permission of an API key or token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Explain where a request would go.
    Classify,
    /// Read where a subject is at home.
    SubjectsRead,
    /// Pin a subject.
    SubjectsWrite,
    /// Erase a subject, for ever, and count beforehand what would go.
    SubjectsErase,
    /// Act for any subject. API keys always may; a token without it only for its own `sub`.
    SubjectsAny,
    /// Read and list records.
    RecordsRead,
    /// Create, replace, patch and delete records.
    RecordsWrite,
    /// Publish events.
    EventsWrite,
    /// Read zero-party attributes.
    ZeroPartyRead,
    /// Declare and withdraw zero-party attributes.
    ZeroPartyWrite,
    /// Search and explain decisions.
    AuditRead,
    /// Answer for violations.
    AuditAcknowledge,
    /// See the identifying details of one decision.
    AuditDetails,
    /// Open the console.
    ConsoleRead,
    /// Be believed about the person's network address.
    EvidenceClientAddress,
    /// Be believed about the tenant.
    EvidenceTenant,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 16] = [
        Self::Classify,
        Self::SubjectsRead,
        Self::SubjectsWrite,
        Self::SubjectsErase,
        Self::SubjectsAny,
        Self::RecordsRead,
        Self::RecordsWrite,
        Self::EventsWrite,
        Self::ZeroPartyRead,
        Self::ZeroPartyWrite,
        Self::AuditRead,
        Self::AuditAcknowledge,
        Self::AuditDetails,
        Self::ConsoleRead,
        Self::EvidenceClientAddress,
        Self::EvidenceTenant,
    ];

    /// The name in keys and tokens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::SubjectsRead => "subjects:read",
            Self::SubjectsWrite => "subjects:write",
            Self::SubjectsErase => "subjects:erase",
            Self::SubjectsAny => "subjects:any",
            Self::RecordsRead => "records:read",
            Self::RecordsWrite => "records:write",
            Self::EventsWrite => "events:write",
            Self::ZeroPartyRead => "zero-party:read",
            Self::ZeroPartyWrite => "zero-party:write",
            Self::AuditRead => "audit:read",
            Self::AuditAcknowledge => "audit:acknowledge",
            Self::AuditDetails => "audit:details",
            Self::ConsoleRead => "console:read",
            Self::EvidenceClientAddress => "evidence:client-address",
            Self::EvidenceTenant => "evidence:tenant",
        }
    }

    /// Finds a scope by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_is_found_by_its_name() {
        for scope in Scope::ALL {
            assert_eq!(Scope::named(scope.name()), Some(scope));
        }
        assert_eq!(Scope::named("all"), None);
    }
}
