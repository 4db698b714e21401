//! The keys of signed notes: a log's own Ed25519 key (C2SP signed-note, type 0x01) and a witness's for
//! timestamped cosignatures (C2SP tlog-cosignature, type 0x04).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::note::{Note, Signature};

/// The longest name of a key, bytes.
pub const KEY_NAME_BYTES_MAX: usize = 256;

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// A log's own checkpoints: Ed25519 over the note's text.
    Log,
    /// What a witness has seen: Ed25519 over a time and the note's text (`cosignature/v1`).
    Witness,
}

impl KeyKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Log => 0x01,
            Self::Witness => 0x04,
        }
    }

    fn of_byte(byte: u8) -> Option<Self> {
        [Self::Log, Self::Witness].into_iter().find(|kind| kind.byte() == byte)
    }
}

/// The text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not of the form that keys have.
    #[error("a key looks like `<name>+<8 hex digits>+<base64>`, and a private one begins with `PRIVATE+KEY+`")]
    Shape,
    /// The name cannot stand in a note.
    #[error("the name of a key is 1 to 256 bytes without spaces, control characters and `+`")]
    Name,
    /// It is of a kind that is not known here.
    #[error("the key is neither an Ed25519 log key (0x01) nor an Ed25519 cosignature key (0x04)")]
    Kind,
    /// The id in it is not the id of that name and key: a digit was lost on the way.
    #[error("the id in the key does not fit its name and its bytes")]
    Id,
}

/// Whether a text can be the name of a key, or the origin of a log.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    (1..=KEY_NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(|character| character.is_whitespace() || character.is_control() || character == '+')
}

fn key_id(name: &str, kind: KeyKind, public: &[u8; 32]) -> u32 {
    let digest =
        Sha256::new().chain_update(name.as_bytes()).chain_update([b'\n', kind.byte()]).chain_update(public).finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(digest);
    u32::from_be_bytes([a, b, c, d])
}

/// A public key, as auditors pin it (a C2SP vkey). `Display` writes `<name>+<id>+<base64>`, `FromStr` reads exactly that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    id: u32,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, kind: KeyKind, key: ed25519_dalek::VerifyingKey) -> Self {
        Self { name: name.to_owned(), kind, id: key_id(name, kind, key.as_bytes()), key }
    }

    /// The key's name; a log's is its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The first four bytes of the SHA-256 of name, kind and key.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Looks for this key's signature under a note and checks it.
    ///
    /// # Errors
    /// [`SignatureError::Absent`] when it did not sign; [`SignatureError::Wrong`] when a line claims to be its
    /// signature and is not. Lines of other keys are ignored.
    pub fn verify(&self, note: &Note) -> Result<Verified, SignatureError> {
        let mut found = Err(SignatureError::Absent);
        for signature in note.signatures().iter().filter(|s| s.key_id() == self.id && s.name() == self.name) {
            // Several cosignatures of one witness may stand under a note; each must be right.
            let verified = self.verify_one(note.text(), signature).ok_or(SignatureError::Wrong)?;
            found = match found {
                Ok(before) => Ok(verified.max(before)),
                Err(_) => Ok(verified),
            };
        }
        found
    }

    fn verify_one(&self, text: &str, signature: &Signature) -> Option<Verified> {
        match self.kind {
            KeyKind::Log => {
                let bytes: [u8; 64] = signature.bytes().try_into().ok()?;
                self.key.verify_strict(text.as_bytes(), &bytes.into()).ok()?;
                Some(Verified::Signed)
            }
            KeyKind::Witness => {
                let (at_s, bytes) = signature.bytes().split_first_chunk::<8>()?;
                let at_s = u64::from_be_bytes(*at_s);
                let bytes: [u8; 64] = bytes.try_into().ok()?;
                self.key.verify_strict(cosigned(text, at_s).as_bytes(), &bytes.into()).ok()?;
                Some(Verified::Cosigned { at_s })
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.kind.byte()];
        bytes.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(bytes))
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, kind, bytes) = read_key(text)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Shape)?;
        let found = Self::new(name, kind, key);
        if found.id == id { Ok(found) } else { Err(KeyError::Id) }
    }
}

/// Name, id, kind and the 32 bytes of a key.
type Read<'a> = (&'a str, u32, KeyKind, Zeroizing<[u8; 32]>);

fn read_key(text: &str) -> Result<Read<'_>, KeyError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyError::Shape);
    };
    if !is_key_name(name) {
        return Err(KeyError::Name);
    }
    let id_fits = id.len() == 8 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = u32::from_str_radix(id, 16).ok().filter(|_| id_fits).ok_or(KeyError::Shape)?;
    let bytes = Zeroizing::new(STANDARD.decode(key).map_err(|_| KeyError::Shape)?);
    let (kind, key) = bytes.split_first().ok_or(KeyError::Shape)?;
    let kind = KeyKind::of_byte(*kind).ok_or(KeyError::Kind)?;
    Ok((name, id, kind, Zeroizing::new(key.try_into().map_err(|_| KeyError::Shape)?)))
}

/// What a right signature says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verified {
    /// The log signed the note.
    Signed,
    /// A witness had seen, at this time, no larger tree of that log and no other root of this one.
    Cosigned {
        /// Seconds since 1970-01-01 UTC, by the witness's clock.
        at_s: u64,
    },
}

/// Why a note is not signed by a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key did not sign it.
    #[error("the note is not signed by this key")]
    Absent,
    /// A line under the note claims to be this key's signature, and is not.
    #[error("the note's signature by this key is wrong")]
    Wrong,
}

fn cosigned(text: &str, at_s: u64) -> String {
    format!("cosignature/v1\ntime {at_s}\n{text}")
}

/// A private key. Wiped from memory when dropped, and never shown but by [`SigningKey::to_secret_text`].
#[derive(Clone)]
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    public: VerifierKey,
}

impl SigningKey {
    /// The key that these 32 random bytes are.
    ///
    /// # Errors
    /// [`KeyError::Name`] when a key cannot have this name.
    pub fn new(name: &str, kind: KeyKind, seed: &[u8; 32]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name);
        }
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = VerifierKey::new(name, kind, key.verifying_key());
        Ok(Self { key, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// The key as a text to be kept secret: `PRIVATE+KEY+<name>+<id>+<base64>`, as Go's `note` package writes it.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(vec![self.public.kind.byte()]);
        bytes.extend_from_slice(self.key.as_bytes());
        let encoded = Zeroizing::new(STANDARD.encode(&*bytes));
        Zeroizing::new(format!("PRIVATE+KEY+{}+{:08x}+{}", self.public.name, self.public.id, *encoded))
    }

    /// Signs a note's text. `at_s`, seconds since 1970-01-01 UTC, is what a witness's signature states; a log's
    /// does not hold it.
    #[must_use]
    pub fn sign(&self, text: &str, at_s: u64) -> Signature {
        let bytes = match self.public.kind {
            KeyKind::Log => self.key.sign(text.as_bytes()).to_bytes().to_vec(),
            KeyKind::Witness => {
                let signature = self.key.sign(cosigned(text, at_s).as_bytes()).to_bytes();
                [at_s.to_be_bytes().as_slice(), &signature].concat()
            }
        };
        Signature::new(self.public.name.clone(), self.public.id, bytes)
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix("PRIVATE+KEY+").ok_or(KeyError::Shape)?;
        let (name, id, kind, seed) = read_key(rest)?;
        let key = Self::new(name, kind, &seed)?;
        if key.public.id == id { Ok(key) } else { Err(KeyError::Id) }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, …)", self.public)
    }
}
