//! Browsers: an API key with `console:read` buys a cookie, and the cookie opens pages, nothing else.
//!
//! A cookie holds 256 random bits; the map knows only their SHA-256, so neither a dump of it nor the
//! time of a lookup helps anybody to a session.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use moka::sync::Cache;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

/// How long a login lasts, seconds: 12 hours.
pub(crate) const SESSION_S_MAX: u64 = 12 * 3_600;
/// Logins at once; the least recently used gives way.
const SESSIONS_MAX: u64 = 10_000;

/// The name of the cookie. `__Host-` makes browsers insist on TLS, the whole host and no domain.
pub(crate) fn cookie(secure: bool) -> &'static str {
    if secure { "__Host-domicile" } else { "domicile" }
}

/// The logins in force.
pub(crate) struct Sessions {
    keys: Cache<[u8; 32], SecretString>,
    secure: bool,
}

impl Sessions {
    pub(crate) fn new(secure: bool) -> Self {
        let keys = Cache::builder().max_capacity(SESSIONS_MAX).time_to_live(Duration::from_secs(SESSION_S_MAX)).build();
        Self { keys, secure }
    }

    /// Begins a session for the bearer of a key; the cookie's value. `None` when the system has no randomness.
    pub(crate) fn begin(&self, key: SecretString) -> Option<String> {
        let mut id = [0; 32];
        OsRng.try_fill_bytes(&mut id).ok()?;
        self.keys.insert(Sha256::digest(id).into(), key);
        Some(URL_SAFE_NO_PAD.encode(id))
    }

    /// Ends it.
    pub(crate) fn end<'a>(&self, cookies: impl Iterator<Item = &'a str>) {
        if let Some(session) = self.session(cookies) {
            self.keys.invalidate(&session);
        }
    }

    /// The key that the session among these cookies was begun with.
    pub(crate) fn key_of<'a>(&self, cookies: impl Iterator<Item = &'a str>) -> Option<SecretString> {
        self.keys.get(&self.session(cookies)?)
    }

    fn session<'a>(&self, cookies: impl Iterator<Item = &'a str>) -> Option<[u8; 32]> {
        let name = cookie(self.secure);
        let value = cookies
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))?;
        let id = URL_SAFE_NO_PAD.decode(value).ok().filter(|id| id.len() == 32)?;
        Some(Sha256::digest(id).into())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_session_is_found_by_its_cookie_until_it_is_ended() {
        let sessions = Sessions::new(false);
        let value = sessions.begin("dom_a_b".into()).unwrap();
        let header = format!("theme=dark; domicile={value}");
        let key = sessions.key_of([header.as_str()].into_iter()).unwrap();
        assert_eq!(key.expose_secret(), "dom_a_b");
        sessions.end([header.as_str()].into_iter());
        assert!(sessions.key_of([header.as_str()].into_iter()).is_none());
    }

    #[test]
    fn a_made_up_cookie_opens_nothing() {
        let sessions = Sessions::new(true);
        sessions.begin("dom_a_b".into()).unwrap();
        for header in ["__Host-domicile=", "__Host-domicile=AAAA", "__Host-domicile=%", "domicile=x", ""] {
            assert!(sessions.key_of([header].into_iter()).is_none(), "{header}");
        }
    }
}
