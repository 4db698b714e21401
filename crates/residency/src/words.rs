//! The words of the domain. Each is checked once, at its constructor; afterwards nobody sees a
//! string that means a region.

use std::fmt;
use std::sync::Arc;

/// Why a string is not one of our words. The offending text is never repeated: it may be personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {what} is {rule}")]
pub struct Malformed {
    /// The word that was meant, e.g. `subject`.
    pub what: &'static str,
    /// The rule it breaks, as the end of a sentence.
    pub rule: &'static str,
}

/// Makes a checked, cheaply clonable, displayable name type.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Checks and wraps: a ", $what, " is ", $rule, ".")]
            ///
            /// # Errors
            /// [`Malformed`] names the rule that was broken.
            pub fn new(text: &str) -> Result<Self, Malformed> {
                if ($check)(text) { Ok(Self(text.into())) } else { Err(Malformed { what: $what, rule: $rule }) }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A place inside one jurisdiction where data rests, e.g. `eu-central`. There is no default
    /// region, no region called "all", and no conversion from an absent one.
    Region, "region", "1 to 40 characters of a-z, 0-9 and inner hyphens, beginning with a letter, and not `all`",
    |t: &str| slug(t, 40) && t != "all" && t != "default"
);
name!(
    /// A legal area, e.g. `eu`.
    Jurisdiction, "jurisdiction", "1 to 40 characters of a-z, 0-9 and inner hyphens, beginning with a letter",
    |t: &str| slug(t, 40)
);
name!(
    /// A customer organisation whose people are placed by contract.
    Tenant, "tenant", "1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`",
    |t: &str| token(t, 64)
);
name!(
    /// A named set of records of one subject, e.g. `profile`.
    Collection, "collection", "1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`",
    |t: &str| token(t, 64)
);
name!(
    /// The name of a zero-party attribute, e.g. `favourite-colour`.
    Attribute, "attribute", "1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`",
    |t: &str| token(t, 64)
);
name!(
    /// What a zero-party attribute may be used for, e.g. `recommendations`.
    Purpose, "purpose", "1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`",
    |t: &str| token(t, 64)
);

/// The person or tenant whose data it is, as the application names them.
///
/// Personal data: neither `Display` nor `Debug` show it; [`SubjectId::expose`] does, for the home
/// region's database and nothing else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId(Arc<str>);

impl SubjectId {
    /// Checks and wraps an identifier.
    ///
    /// # Errors
    /// [`Malformed`] when it is empty, longer than 256 bytes or holds control characters.
    pub fn new(text: &str) -> Result<Self, Malformed> {
        if printable(text, 256) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed { what: "subject", rule: "1 to 256 bytes of UTF-8 without control characters" })
        }
    }

    /// The identifier itself. Personal data: bind it to a query of the home region, hash it, nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectId(…)")
    }
}

/// The key of a record within its collection. May hold personal data, so it is shown as little as a subject.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(Arc<str>);

impl RecordKey {
    /// Checks and wraps a key.
    ///
    /// # Errors
    /// [`Malformed`] when it is empty, longer than 512 bytes or holds control characters.
    pub fn new(text: &str) -> Result<Self, Malformed> {
        if printable(text, 512) {
            Ok(Self(text.into()))
        } else {
            Err(Malformed { what: "record key", rule: "1 to 512 bytes of UTF-8 without control characters" })
        }
    }

    /// The key itself, for the home region's database and the answer.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(…)")
    }
}

/// An ISO 3166-1 alpha-2 code (or a user-assigned one such as `XK`), upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// Checks and wraps a two-letter code; lower case is accepted and raised.
    ///
    /// # Errors
    /// [`Malformed`] when it is not two ASCII letters. Whether such a country exists is the policy's question.
    pub fn new(text: &str) -> Result<Self, Malformed> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Ok(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => Err(Malformed { what: "country", rule: "two letters of ISO 3166-1, e.g. `DE`" }),
        }
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }

    /// The two letters as numbers from 0 (`A`) to 25 (`Z`), for tables by code.
    pub(crate) fn letters(self) -> [usize; 2] {
        self.0.map(|letter| usize::from(letter - b'A'))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of an ISO 3166-2 code behind the hyphen: one to three letters or digits, upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subdivision {
    text: [u8; 3],
    len: u8,
}

impl Subdivision {
    /// Checks and wraps one to three letters or digits.
    ///
    /// # Errors
    /// [`Malformed`] otherwise.
    pub fn new(code: &str) -> Result<Self, Malformed> {
        let bytes = code.as_bytes();
        if !(1..=3).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_alphanumeric) {
            return Err(Malformed {
                what: "subdivision",
                rule: "one to three letters or digits, e.g. `CA` in `US-CA`",
            });
        }
        let mut text = [0; 3];
        for (to, from) in text.iter_mut().zip(bytes) {
            *to = from.to_ascii_uppercase();
        }
        Ok(Self { text, len: u8::try_from(bytes.len()).unwrap_or(3) })
    }

    /// The code as text, without the country.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or("?")
    }
}

impl fmt::Debug for Subdivision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A country, or a subdivision of one: `DE`, `US-CA`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The country.
    pub country: Country,
    /// The subdivision, when it is known.
    pub subdivision: Option<Subdivision>,
}

impl Place {
    /// Reads `DE` or `US-CA`, in either case.
    ///
    /// # Errors
    /// [`Malformed`] when it has another shape.
    pub fn new(text: &str) -> Result<Self, Malformed> {
        let (country, subdivision) = match text.split_once('-') {
            Some((country, subdivision)) => (country, Some(Subdivision::new(subdivision)?)),
            None => (text, None),
        };
        Ok(Self { country: Country::new(country)?, subdivision })
    }

    /// The same country without its subdivision.
    #[must_use]
    pub fn whole_country(self) -> Self {
        Self { subdivision: None, ..self }
    }
}

impl From<Country> for Place {
    fn from(country: Country) -> Self {
        Self { country, subdivision: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subdivision {
            Some(subdivision) => write!(f, "{}-{}", self.country, subdivision.as_str()),
            None => write!(f, "{}", self.country),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Grows by one at each relocation of a subject; the first home has epoch 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of a first home.
    pub const FIRST: Self = Self(1);
}

/// What the directory says of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PinState {
    /// At home and served.
    Active,
    /// On its way to another region: writes wait.
    Moving,
    /// Erased: nothing is served, nothing is accepted.
    Erased,
}

/// The durable fact subject -> home region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The home region.
    pub region: Region,
    /// Which home this is, counted from 1.
    pub epoch: Epoch,
    /// Whether it is served.
    pub state: PinState,
}

fn slug(text: &str, len_max: usize) -> bool {
    (1..=len_max).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn token(text: &str, len_max: usize) -> bool {
    (1..=len_max).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn printable(text: &str, len_max: usize) -> bool {
    (1..=len_max).contains(&text.len()) && !text.chars().any(char::is_control)
}
