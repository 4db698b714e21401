//! How a leaf names a subject: by a tag under a secret of the subject's own. Who destroys the secret
//! makes every leaf about that subject speak of nobody.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

const DOMAIN: &[u8] = b"domicile/subject/v1\0";

/// Thirty-two random bytes, kept in the subject's home region and destroyed on erasure.
/// Wiped from memory when dropped; never shown.
#[derive(Clone)]
pub struct SubjectSecret(Zeroizing<[u8; 32]>);

impl SubjectSecret {
    /// Takes over a secret read from the region, or fresh random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret itself, for the home region's database and nothing else.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SubjectSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectSecret(…)")
    }
}

/// A subject as one region log names it. Pseudonymous: personal data for as long as the secret exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubjectTag(pub [u8; 32]);

impl SubjectTag {
    /// Reads the 43 characters of base64url that a leaf shows.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for SubjectTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SubjectTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectTag(…)")
    }
}

/// The tag of a subject in the log with this origin: HMAC-SHA-256 of `"domicile/subject/v1\0" || origin`
/// under the subject's secret. It differs from log to log, so that two logs cannot be joined by it.
#[must_use]
pub fn tag(secret: &SubjectSecret, origin: &str) -> SubjectTag {
    SubjectTag(keyed(secret, DOMAIN, origin))
}

/// HMAC-SHA-256 of a domain and a log's origin under a subject's secret.
pub(crate) fn keyed(secret: &SubjectSecret, domain: &[u8], origin: &str) -> [u8; 32] {
    // HMAC pads a shorter key with zeros to a block; doing it here leaves no way to fail.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(secret.expose());
    let mut mac = Hmac::<Sha256>::new(&(*block).into());
    mac.update(domain);
    mac.update(origin.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_hmac_over_domain_and_origin() {
        // printf 'domicile/subject/v1\0audit.example.com/domicile/eu' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…
        let found = tag(&SubjectSecret::new([7; 32]), "audit.example.com/domicile/eu");
        assert_eq!(hex::encode(found.0), "43832a94761f9023dda6bc53dd8015fb11a9c74a16c90af102815e5e34ed9445");
        assert_eq!(SubjectTag::read(&found.to_string()), Some(found));
    }

    #[test]
    fn the_same_subject_has_another_tag_in_another_log() {
        let secret = SubjectSecret::new([7; 32]);
        assert_ne!(tag(&secret, "a/domicile/eu"), tag(&secret, "a/domicile/us"));
        assert_ne!(tag(&secret, "a/domicile/eu"), tag(&SubjectSecret::new([8; 32]), "a/domicile/eu"));
    }

    #[test]
    fn neither_secret_nor_tag_shows_in_debug_output() {
        let secret = SubjectSecret::new([7; 32]);
        assert_eq!(format!("{secret:?} {:?}", tag(&secret, "o")), "SubjectSecret(…) SubjectTag(…)");
    }
}
