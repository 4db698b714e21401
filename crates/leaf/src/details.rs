//! Identifying details of a decision. They are no part of its leaf, which may never change: they lie beside the log,
//! sealed under a key that the subject's secret makes, and the leaf holds only a commitment to them. Whoever is shown a
//! detail can tell that it is the one that was committed to; whoever is not shown it cannot guess it, since each has a
//! salt of its own; and once the secret is destroyed nobody can be shown it any more.
//!
//! - of a field: `SHA-256("domicile/field/v1\0" || length of the name in 2 bytes || name || salt || value)`;
//! - of all: `SHA-256("domicile/detail/v1\0" || those of the fields, by name)`: `dc` of the leaf, in base64url.
//!
//! Sealing alone would not do: a sealed text can be made that opens to two contents under two keys.

use std::fmt;

use aes_gcm_siv::aead::{Aead as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::subject::{SubjectSecret, keyed};

/// The most fields of one leaf.
pub const DETAILS_MAX: usize = 8;
/// The most bytes of one value; a longer one is cut.
pub const DETAIL_BYTES_MAX: usize = 256;

const KEY_DOMAIN: &[u8] = b"domicile/detail-key/v1\0";
const FIELD_DOMAIN: &[u8] = b"domicile/field/v1\0";
const DETAIL_DOMAIN: &[u8] = b"domicile/detail/v1\0";

/// What a subject's details in one log are sealed with. Wiped from memory when dropped; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DetailKey(Zeroizing<[u8; 32]>);

impl DetailKey {
    /// The key of a subject in the log with this origin: HMAC-SHA-256 under the subject's secret.
    #[must_use]
    pub fn of(secret: &SubjectSecret, origin: &str) -> Self {
        Self(Zeroizing::new(keyed(secret, KEY_DOMAIN, origin)))
    }
}

impl fmt::Debug for DetailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DetailKey(…)")
    }
}

/// One detail with its salt: enough to show that a leaf committed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// What it is, e.g. `client_network`.
    pub name: String,
    /// Drawn for this one field of this one leaf.
    pub salt: [u8; 16],
    /// What was so.
    pub value: String,
}

impl Detail {
    /// What the leaf's commitment is made of.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(FIELD_DOMAIN);
        hash.update(u16::try_from(self.name.len()).unwrap_or(u16::MAX).to_be_bytes());
        hash.update(self.name.as_bytes());
        hash.update(self.salt);
        hash.update(self.value.as_bytes());
        hash.finalize().into()
    }
}

/// The details of one leaf, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details(Vec<Detail>);

/// Details sealed for the row beside the leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Drawn for this row.
    pub nonce: [u8; 12],
    /// AES-256-GCM-SIV over the fields, bound to the leaf's commitment.
    pub bytes: Vec<u8>,
}

impl Details {
    /// Details of these names and values, at most [`DETAILS_MAX`]; `random` fills salts.
    #[must_use]
    pub fn new(values: &[(&str, &str)], mut random: impl FnMut(&mut [u8])) -> Self {
        let mut details: Vec<Detail> = values
            .iter()
            .take(DETAILS_MAX)
            .map(|(name, value)| {
                let mut salt = [0; 16];
                random(&mut salt);
                Detail { name: (*name).to_owned(), salt, value: cut(value).to_owned() }
            })
            .collect();
        details.sort_by(|a, b| a.name.cmp(&b.name));
        details.dedup_by(|a, b| a.name == b.name);
        Self(details)
    }

    /// The details.
    #[must_use]
    pub fn fields(&self) -> &[Detail] {
        &self.0
    }

    /// What the leaf says.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        over(self.0.iter().map(Detail::commitment))
    }

    /// Seals them. `None` only if they are longer than any cipher takes.
    #[must_use]
    pub fn seal(&self, key: &DetailKey, nonce: [u8; 12]) -> Option<Sealed> {
        let rows: Vec<_> =
            self.0.iter().map(|detail| (&detail.name, URL_SAFE_NO_PAD.encode(detail.salt), &detail.value)).collect();
        let text = Zeroizing::new(serde_json::to_vec(&rows).ok()?);
        let payload = Payload { msg: &text, aad: &self.commitment() };
        let bytes = cipher(key).encrypt(&Nonce::from(nonce), payload).ok()?;
        Some(Sealed { nonce, bytes })
    }

    /// Opens what was sealed beside a leaf with this commitment. `None` when it is not what was sealed there.
    #[must_use]
    pub fn open(key: &DetailKey, sealed: &Sealed, commitment: &[u8; 32]) -> Option<Self> {
        let payload = Payload { msg: &sealed.bytes, aad: commitment };
        let text = Zeroizing::new(cipher(key).decrypt(&Nonce::from(sealed.nonce), payload).ok()?);
        let rows: Vec<(String, String, String)> = serde_json::from_slice(&text).ok()?;
        let detail = |(name, salt, value): (String, String, String)| {
            let salt = URL_SAFE_NO_PAD.decode(salt).ok()?.try_into().ok()?;
            Some(Detail { name, salt, value })
        };
        let details = Self(rows.into_iter().map(detail).collect::<Option<_>>()?);
        (details.commitment() == *commitment).then_some(details)
    }
}

/// One field as it is shown: opened, or only committed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It is shown.
    Opened(Detail),
    /// It stays closed.
    Closed {
        /// What it is.
        name: String,
        /// What it was committed to.
        commitment: [u8; 32],
    },
}

impl Shown {
    fn name(&self) -> &str {
        match self {
            Self::Opened(detail) => &detail.name,
            Self::Closed { name, .. } => name,
        }
    }
}

/// Why details are not those of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotItsDetails {
    /// It never had any.
    #[error("the leaf committed to no details")]
    None,
    /// They stand in another order, or one stands there twice.
    #[error("the details are not sorted by name, each once")]
    Unsorted,
    /// They are others.
    #[error("the leaf committed to other details than these")]
    Others,
}

/// Whether a leaf committed to these details: every field must be there, opened or closed.
///
/// # Errors
/// [`NotItsDetails`] when it did not.
pub fn check_details(committed: Option<&[u8; 32]>, shown: &[Shown]) -> Result<(), NotItsDetails> {
    let committed = committed.ok_or(NotItsDetails::None)?;
    if !shown.windows(2).all(|pair| pair[0].name() < pair[1].name()) {
        return Err(NotItsDetails::Unsorted);
    }
    let all = over(shown.iter().map(|field| match field {
        Shown::Opened(detail) => detail.commitment(),
        Shown::Closed { commitment, .. } => *commitment,
    }));
    if all == *committed { Ok(()) } else { Err(NotItsDetails::Others) }
}

fn over(fields: impl Iterator<Item = [u8; 32]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(DETAIL_DOMAIN);
    fields.for_each(|field| hash.update(field));
    hash.finalize().into()
}

fn cipher(key: &DetailKey) -> Aes256GcmSiv {
    Aes256GcmSiv::new((&*key.0).into())
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(DETAIL_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details() -> Details {
        let mut next = 0;
        Details::new(&[("subject", "anna"), ("client_network", "203.0.113.0/24")], |salt| {
            next += 1;
            salt.fill(next);
        })
    }

    fn key(byte: u8) -> DetailKey {
        DetailKey::of(&SubjectSecret::new([byte; 32]), "log.example.com")
    }

    #[test]
    fn what_was_sealed_opens_under_its_own_key_beside_its_own_leaf_only() {
        let (details, nonce) = (details(), [9; 12]);
        let sealed = details.seal(&key(7), nonce).expect("sealed");
        assert!(!sealed.bytes.windows(4).any(|bytes| bytes == b"anna"));
        let dc = details.commitment();
        assert_eq!(Details::open(&key(7), &sealed, &dc), Some(details));
        assert_eq!(Details::open(&key(8), &sealed, &dc), None, "another subject's key");
        assert_eq!(Details::open(&key(7), &sealed, &[0; 32]), None, "another leaf's commitment");
        let mut altered = sealed;
        altered.bytes[3] ^= 1;
        assert_eq!(Details::open(&key(7), &altered, &dc), None, "an altered row");
    }

    #[test]
    fn a_leaf_takes_its_own_details_and_no_others() {
        let details = details();
        let dc = details.commitment();
        let opened: Vec<Shown> = details.fields().iter().cloned().map(Shown::Opened).collect();
        assert_eq!(check_details(Some(&dc), &opened), Ok(()));
        let mut half = opened.clone();
        half[1] = Shown::Closed { name: "subject".into(), commitment: details.fields()[1].commitment() };
        assert_eq!(check_details(Some(&dc), &half), Ok(()), "one field can stay closed");
        let mut lie = opened.clone();
        lie[1] = Shown::Opened(Detail { value: "berta".into(), ..details.fields()[1].clone() });
        assert_eq!(check_details(Some(&dc), &lie), Err(NotItsDetails::Others));
        assert_eq!(check_details(Some(&dc), &opened[1..]), Err(NotItsDetails::Others), "one left out");
        let turned: Vec<Shown> = opened.iter().rev().cloned().collect();
        assert_eq!(check_details(Some(&dc), &turned), Err(NotItsDetails::Unsorted));
        assert_eq!(check_details(None, &opened), Err(NotItsDetails::None));
    }

    #[test]
    fn the_boundary_of_name_and_value_cannot_be_moved() {
        let one = Detail { name: "ab".into(), salt: [0; 16], value: "c".into() };
        let other = Detail { name: "a".into(), salt: [0; 16], value: "bc".into() };
        assert_ne!(one.commitment(), other.commitment());
    }

    #[test]
    fn an_address_is_not_found_by_trying_all_of_them_without_the_salt() {
        // All 2^32 addresses are tried in seconds where there is no salt; with one, none of them fits.
        let dc = Details::new(&[("client_network", "203.0.113.0/24")], |salt| salt.fill(0x5a)).commitment();
        let found = (0..=u8::MAX).any(|last| {
            let guess = Detail { name: "client_network".into(), salt: [0; 16], value: format!("203.0.{last}.0/24") };
            check_details(Some(&dc), &[Shown::Opened(guess)]).is_ok()
        });
        assert!(!found);
    }
}
