//! A key's token: `dom_<id>_<secret>`, where the id is 12 letters or digits and the secret is 32 random
//! bytes in base64url (RFC 4648, section 5) without padding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Lets secret scanners recognise a token that got lost.
const PREFIX: &str = "dom_";

/// Characters of an id.
const ID_LEN: usize = 12;

/// A key's id: public.
pub(super) type KeyId = [u8; ID_LEN];

/// SHA-256 of a key's secret. A plain hash is enough: the secret is 256 random bits, not a password.
#[derive(Clone, Copy)]
pub(super) struct SecretHash(pub(super) [u8; 32]);

impl SecretHash {
    /// In a time that does not tell how much of it was right.
    pub(super) fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// What is left of a token after reading it: the secret itself is not kept.
pub(super) struct Token {
    pub(super) id: KeyId,
    pub(super) hash: SecretHash,
}

impl Token {
    /// Reads a token; `None` when it has another shape.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, rest) = text.strip_prefix(PREFIX)?.as_bytes().split_first_chunk::<ID_LEN>()?;
        let encoded = rest.strip_prefix(b"_")?;
        let mut secret = Zeroizing::new([0_u8; 32]);
        let well_formed = id.iter().all(u8::is_ascii_alphanumeric)
            && URL_SAFE_NO_PAD.decode_slice(encoded, &mut secret[..]).ok()? == secret.len();
        well_formed.then(|| Self { id: *id, hash: SecretHash(Sha256::digest(&secret[..]).into()) })
    }

    /// Makes a new token, from the operating system's randomness: its parts, and its text, which is shown once.
    pub(super) fn generate() -> (Self, SecretString) {
        // The thread's generator is a CSPRNG (ChaCha12) seeded and reseeded by the operating system.
        let mut random = rand::rng();
        let id: String = (0..ID_LEN).map(|_| char::from(random.sample(Alphanumeric))).collect();
        let secret = Zeroizing::new(random.random::<[u8; 32]>());
        let text = format!("{PREFIX}{id}_{}", *Zeroizing::new(URL_SAFE_NO_PAD.encode(&secret[..])));
        let mut key_id = [0; ID_LEN];
        key_id.copy_from_slice(id.as_bytes());
        (Self { id: key_id, hash: SecretHash(Sha256::digest(&secret[..]).into()) }, text.into())
    }
}

/// An id as text.
pub(super) fn id_text(id: &KeyId) -> String {
    String::from_utf8_lossy(id).into_owned()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_token_is_read_back_as_it_was_made() {
        let (made, text) = Token::generate();
        let read = Token::parse(text.expose_secret()).expect("a token");
        assert_eq!(read.id, made.id);
        assert!(read.hash.matches(&made.hash));
        assert_eq!(text.expose_secret().len(), 4 + 12 + 1 + 43);
    }

    #[test]
    fn two_tokens_have_nothing_in_common() {
        let (one, _) = Token::generate();
        let (other, _) = Token::generate();
        assert_ne!(one.id, other.id);
        assert!(!one.hash.matches(&other.hash));
    }

    #[test]
    fn anything_else_is_no_token() {
        let (_, good) = Token::generate();
        let good = good.expose_secret();
        assert!(Token::parse(good).is_some());
        let no_letter = good.replacen(&good[4..5], "*", 1);
        for bad in [
            "",
            "dom_",
            "dom_short_x",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}A"),
            &format!("{good} "),
            &good.replacen("dom_", "DOM_", 1),
            &no_letter,
            &"é".repeat(40),
            &format!("dom_{}", "é".repeat(40)),
        ] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }
}
