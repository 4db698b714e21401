//! Which gateway wrote a leaf, and since which boot it counts.

use std::fmt;
use std::sync::Arc;

use residency::Malformed;

/// One boot of one gateway: `<instance>/<boot id, 8 hex digits>`, e.g. `eu-gw-1/7f3a09c2`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayId(Arc<str>);

const RULE: Malformed = Malformed {
    what: "gateway",
    rule: "an instance of 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`, a slash and 8 lower-case hex digits",
};

impl GatewayId {
    /// Names this boot of the gateway `instance`; `boot` is drawn at random when it starts.
    ///
    /// # Errors
    /// [`Malformed`] unless the instance is 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`.
    pub fn new(instance: &str, boot: u32) -> Result<Self, Malformed> {
        Self::read(&format!("{instance}/{boot:08x}"))
    }

    /// Reads what [`as_str`](Self::as_str) shows.
    ///
    /// # Errors
    /// [`Malformed`] when it has another shape.
    pub fn read(text: &str) -> Result<Self, Malformed> {
        let (instance, boot) = text.split_once('/').ok_or(RULE)?;
        let instance_fits = (1..=64).contains(&instance.len())
            && instance.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let boot_fits = boot.len() == 8 && boot.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if instance_fits && boot_fits { Ok(Self(text.into())) } else { Err(RULE) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
