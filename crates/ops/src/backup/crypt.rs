//! Encryption by age: to at least two recipients, so that one lost key loses nothing, and with no private key where
//! backups are made.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use age::x25519;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Error, Refusal};

/// The fewest recipients.
const RECIPIENTS_MIN: usize = 2;
/// The most recipients.
const RECIPIENTS_MAX: usize = 20;

/// Who can open the backups: public keys only.
#[derive(Debug, Clone)]
pub struct Recipients(Vec<String>);

impl Recipients {
    /// Reads age recipients (`age1…`).
    ///
    /// # Errors
    /// [`Refusal::NotARecipient`] and, when fewer than two different ones are given, [`Refusal::TooFewRecipients`].
    pub fn parse(texts: &[String]) -> Result<Self, Refusal> {
        let mut recipients: Vec<String> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate().take(RECIPIENTS_MAX) {
            let read: x25519::Recipient =
                text.trim().parse().map_err(|_| Refusal::NotARecipient { position: index + 1 })?;
            recipients.push(read.to_string());
        }
        recipients.sort();
        recipients.dedup();
        if recipients.len() < RECIPIENTS_MIN {
            return Err(Refusal::TooFewRecipients { given: recipients.len() });
        }
        Ok(Self(recipients))
    }

    /// Their public keys, sorted.
    #[must_use]
    pub fn as_texts(&self) -> &[String] {
        &self.0
    }

    fn keys(&self) -> Vec<x25519::Recipient> {
        self.0.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

/// A new pair of keys: the private one as a line of an identity file, and the recipient.
#[must_use]
pub fn new_pair() -> (SecretString, String) {
    let identity = x25519::Identity::generate();
    (identity.to_string(), identity.to_public().to_string())
}

/// Private keys: only where a backup is verified from its ciphertext or restored.
pub struct Identities(Vec<x25519::Identity>);

impl Identities {
    /// Reads an identity file: lines `AGE-SECRET-KEY-1…`, comments allowed.
    ///
    /// # Errors
    /// [`Refusal::NotAnIdentity`]. The text is not repeated.
    pub fn parse(text: &SecretString) -> Result<Self, Refusal> {
        let lines = text.expose_secret().lines().map(str::trim);
        let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = keys.map(|line| line.parse().map_err(|_| Refusal::NotAnIdentity)).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(Refusal::NotAnIdentity) } else { Ok(Self(keys)) }
    }

    /// The public keys of these, as recipients are written.
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        self.0.iter().map(|identity| identity.to_public().to_string()).collect()
    }

    /// A reader of what `cipher` hides.
    pub(super) fn open<R: Read>(&self, cipher: R) -> Result<impl Read + use<R>, Refusal> {
        let decryptor = age::Decryptor::new(cipher).map_err(|_| Refusal::DoesNotDecrypt)?;
        let keys = self.0.iter().map(|identity| identity as &dyn age::Identity);
        decryptor.decrypt(keys).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => Refusal::NotForThisIdentity,
            _ => Refusal::DoesNotDecrypt,
        })
    }
}

impl Clone for Identities {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Plain bytes in, encrypted bytes out, piece by piece.
pub(super) struct Encryption {
    writer: age::stream::StreamWriter<Tray>,
    tray: Tray,
}

impl Encryption {
    pub(super) fn to(recipients: &Recipients) -> Result<Self, Error> {
        let keys = recipients.keys();
        let encryptor = age::Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient))
            .map_err(|error| Error::Encrypt(io::Error::other(error.to_string())))?;
        let tray = Tray::default();
        let writer = encryptor.wrap_output(tray.clone()).map_err(Error::Encrypt)?;
        Ok(Self { writer, tray })
    }

    /// Takes plain bytes and gives what has become ready.
    pub(super) fn push(&mut self, plain: &[u8]) -> Result<Vec<u8>, Error> {
        self.writer.write_all(plain).map_err(Error::Encrypt)?;
        Ok(self.tray.clear())
    }

    /// The last bytes. Without them the file does not decrypt.
    pub(super) fn finish(self) -> Result<Vec<u8>, Error> {
        let tray = self.writer.finish().map_err(Error::Encrypt)?;
        Ok(tray.clear())
    }
}

/// Where the encryption lays down its output until it is fetched.
#[derive(Clone, Default)]
struct Tray(Arc<Mutex<Vec<u8>>>);

impl Tray {
    fn clear(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Tray {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (x25519::Identity, String) {
        let identity = x25519::Identity::generate();
        let public = identity.to_public().to_string();
        (identity, public)
    }

    fn identities(key: &x25519::Identity) -> Identities {
        Identities::parse(&key.to_string()).expect("an identity")
    }

    #[test]
    fn fewer_than_two_different_recipients_are_refused() {
        let (_, one) = key();
        let (_, two) = key();
        let refused = |texts: &[String]| Recipients::parse(texts).err().map(|refusal| refusal.name());
        assert_eq!(refused(&[]), Some("too_few_recipients"));
        assert_eq!(refused(std::slice::from_ref(&one)), Some("too_few_recipients"));
        assert_eq!(refused(&[one.clone(), one.clone()]), Some("too_few_recipients"));
        assert_eq!(refused(&[one.clone(), "age1nonsense".into()]), Some("not_a_recipient"));
        assert_eq!(refused(&[one, two]), None);
    }

    #[test]
    fn every_recipient_opens_it_and_nobody_else_does() {
        let ((first, one), (second, two), (stranger, _)) = (key(), key(), key());
        let recipients = Recipients::parse(&[one, two]).expect("two recipients");
        let plain: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut encryption = Encryption::to(&recipients).expect("it begins");
        let mut cipher = Vec::new();
        for piece in plain.chunks(70_001) {
            cipher.extend(encryption.push(piece).expect("it takes a piece"));
        }
        cipher.extend(encryption.finish().expect("it ends"));
        for key in [first, second] {
            let mut read = Vec::new();
            identities(&key).open(cipher.as_slice()).expect("it opens").read_to_end(&mut read).expect("it reads");
            assert!(read == plain);
        }
        let refused = identities(&stranger).open(cipher.as_slice()).err();
        assert_eq!(refused, Some(Refusal::NotForThisIdentity));
    }

    #[test]
    fn an_identity_that_cannot_be_read_is_refused_without_repeating_it() {
        let error = Identities::parse(&"AGE-SECRET-KEY-1NOTREALLY".into()).err().expect("it is refused");
        assert!(!error.to_string().contains("NOTREALLY"));
        assert_eq!(Identities::parse(&"# only a comment\n".into()).err(), Some(Refusal::NotAnIdentity));
    }
}
