//! How a subject is named outside its home: a keyed digest, and the keys (peppers) it is made with.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use residency::SubjectId;
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;

/// HMAC-SHA-256 of a subject under a pepper. Pseudonymous, and still guarded as personal data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectDigest {
    /// Which pepper it was made with.
    pub key_id: u16,
    /// The digest.
    pub bytes: [u8; 32],
}

impl SubjectDigest {
    /// The digest as 64 hexadecimal digits: what is the key of a message in a region's topic.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.bytes)
    }
}

impl fmt::Debug for SubjectDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubjectDigest(key {}, …)", self.key_id)
    }
}

/// One key for digests.
#[derive(Clone)]
pub struct Pepper {
    key_id: u16,
    mac: Hmac<Sha256>,
}

impl Pepper {
    /// Makes a pepper of at least 16 secret bytes; 32 random ones are best.
    ///
    /// # Errors
    /// A sentence, when the secret is too short to protect anybody or the id is none that the databases can hold.
    pub fn new(key_id: u16, secret: &[u8]) -> Result<Self, &'static str> {
        if secret.len() < 16 {
            return Err("a pepper needs at least 16 bytes");
        }
        if i16::try_from(key_id).is_err() {
            return Err("a pepper's id is at most 32767");
        }
        let mac = Hmac::new_from_slice(&Zeroizing::new(secret.to_vec())).map_err(|_| "this is no key for HMAC")?;
        Ok(Self { key_id, mac })
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper(key {}, …)", self.key_id)
    }
}

/// The current pepper, and those that older digests were made with.
#[derive(Clone, Debug)]
pub struct Peppers {
    current: Pepper,
    older: Arc<[Pepper]>,
}

impl Peppers {
    /// New digests are made with `current`; `older` ones are still looked up.
    #[must_use]
    pub fn new(current: Pepper, older: Vec<Pepper>) -> Self {
        Self { current, older: older.into() }
    }

    /// The digest under the current pepper.
    #[must_use]
    pub fn digest(&self, subject: &SubjectId) -> SubjectDigest {
        digest(&self.current, subject)
    }

    /// The digests under every pepper, the current one first.
    pub fn digests<'a>(&'a self, subject: &'a SubjectId) -> impl Iterator<Item = SubjectDigest> + 'a {
        std::iter::once(&self.current).chain(self.older.iter()).map(move |pepper| digest(pepper, subject))
    }
}

fn digest(pepper: &Pepper, subject: &SubjectId) -> SubjectDigest {
    let mut mac = pepper.mac.clone();
    mac.update(b"domicile/pin/v1\0");
    mac.update(subject.expose().as_bytes());
    SubjectDigest { key_id: pepper.key_id, bytes: mac.finalize().into_bytes().into() }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_digest_depends_on_the_pepper_and_never_shows_itself() {
        let anna = SubjectId::new("anna").unwrap();
        let one = Pepper::new(1, &[1; 32]).unwrap();
        let two = Pepper::new(2, &[2; 32]).unwrap();
        let peppers = Peppers::new(two, vec![one]);
        let all: Vec<_> = peppers.digests(&anna).collect();
        assert_eq!(all[0], peppers.digest(&anna));
        assert_ne!(all[0].bytes, all[1].bytes);
        assert!(!format!("{:?}", all[0]).contains(&all[0].to_hex()[..8]));
        assert!(Pepper::new(1, b"short").is_err());
    }
}
