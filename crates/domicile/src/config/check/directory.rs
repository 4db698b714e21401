//! The meaning of `[directory]`.

use std::collections::BTreeSet;

use residency::Policy;
use secrecy::ExposeSecret as _;

use super::Check;
use crate::config::{Directory, raw};

/// A shorter pepper could be guessed, in bytes.
const PEPPER_BYTES_MIN: usize = 32;

impl Check<'_> {
    pub(super) fn directory(&mut self, raw: &raw::Directory, policy: Option<&Policy>) -> Option<Directory> {
        let postgres = self.postgres(
            "directory",
            raw.postgres.as_ref(),
            raw.postgres_password.as_ref(),
            raw.postgres_owner.as_ref(),
        );
        if raw.peppers.is_empty() {
            if !self.mistakes.mention("directory.peppers") {
                let fix = "Add [[directory.peppers]] with key_id = 1 and secret = \"file:…\" (openssl rand -hex 32).";
                self.error("directory.peppers", "There is no pepper, so subjects could not be found.", fix);
            }
            return None;
        }
        let mut numbers = BTreeSet::new();
        let mut peppers = Vec::with_capacity(raw.peppers.len());
        for (index, pepper) in raw.peppers.iter().enumerate() {
            let key = |name: &str| format!("directory.peppers[{index}].{name}");
            let number = self.required(&key("key_id"), pepper.key_id.as_ref(), "Number it, e.g. key_id = 1.");
            if number.is_some_and(|number| !numbers.insert(number)) {
                self.error(&key("key_id"), "Another pepper has this number.", "Give each its own number, for ever.");
            }
            let fix = "Write secret = \"file:…\"; make it with `openssl rand -hex 32`.";
            let secret = self.secret(&key("secret"), pepper.secret.as_ref(), fix);
            if let Some(secret) = &secret
                && secret.expose_secret().len() < PEPPER_BYTES_MIN
            {
                let message = format!("A pepper has at least {PEPPER_BYTES_MIN} bytes.");
                self.error(&key("secret"), message, "Make one with `openssl rand -hex 32`.");
            }
            if let (Some(number), Some(secret)) = (number, secret) {
                peppers.push((number, secret));
            }
        }
        let backup = raw.backup.as_ref().map(|raw| self.backup("directory.backup", raw, policy, None));
        let complete = peppers.len() == raw.peppers.len();
        let current = self.current_pepper(raw);
        Some(Directory {
            postgres: postgres?,
            cache_pins_max: raw.cache_pins_max,
            backup: match backup {
                Some(backup) => Some(Box::new(backup?)),
                None => None,
            },
            current_pepper: current?,
            peppers: complete.then_some(peppers)?,
        })
    }

    fn current_pepper(&mut self, raw: &raw::Directory) -> Option<u16> {
        if let [only] = raw.peppers.as_slice()
            && only.current.is_none()
        {
            return only.key_id;
        }
        let current: Vec<_> = raw.peppers.iter().filter(|p| p.current == Some(true)).collect();
        match current.as_slice() {
            [one] => one.key_id,
            [] => {
                self.error("directory.peppers", "No pepper is current.", "Write current = true in exactly one.");
                None
            }
            _ => {
                let fix = "Write current = true in exactly one.";
                self.error("directory.peppers", "More than one pepper is current.", fix);
                None
            }
        }
    }
}
