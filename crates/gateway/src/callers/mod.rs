//! Who asks: an API key, a token of the identity provider, or a browser that logged in with a key.
//!
//! Scopes say what a caller may do, and what it may be believed about.

mod jwks;
mod jwt;
mod keys;
mod sessions;

use std::sync::Arc;

use api::Scope;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use residency::{Actor, Place, SubjectId, Tenant};

use crate::error::Error;
use keys::Remembered;

pub(crate) use jwks::Jwks;
pub use jwks::{JwksSource, NoJwks};
pub(crate) use jwt::Tokens;
pub use jwt::{Algorithm, ClaimNames, JwtSettings};
pub use keys::{KeyOwner, KeyRing};
pub(crate) use sessions::{SESSION_S_MAX, Sessions, cookie};

/// What every API key begins with; everything else is taken for a token.
const KEY_PREFIX: &str = "dom_";
/// Characters of a credential.
const CREDENTIAL_CHARS_MAX: usize = 8_192;

/// Somebody whose credentials hold.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The name in decisions: `key:checkout`, `token:shop-backend`. Never a person's.
    pub(crate) actor: Actor,
    /// What limits are counted by: opaque, one per key, and per subject of a token.
    pub(crate) bucket: u128,
    /// What it may do.
    pub(crate) scopes: Scopes,
    /// The tenant its credentials are bound to.
    pub(crate) tenant: Option<Tenant>,
    /// What a token says of its own subject.
    pub(crate) token: Option<Arc<TokenFacts>>,
}

/// What a verified token says of the person it is about.
#[derive(Debug)]
pub(crate) struct TokenFacts {
    /// Whom the token is about, if it says so in a form that a subject can have.
    pub(crate) subject: Option<SubjectId>,
    /// Where that person resides.
    pub(crate) residence: Option<Place>,
}

impl Caller {
    /// Demands a scope.
    ///
    /// # Errors
    /// [`Error::ScopeMissing`].
    pub(crate) fn may(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(Error::ScopeMissing(scope)) }
    }

    /// Demands that the caller may act for this subject: a key may for any, a token for its own.
    ///
    /// # Errors
    /// [`Error::SubjectMismatch`].
    pub(crate) fn may_act_for(&self, subject: &SubjectId) -> Result<(), Error> {
        match &self.token {
            Some(facts) if !self.scopes.contains(Scope::SubjectsAny) && facts.subject.as_ref() != Some(subject) => {
                Err(Error::SubjectMismatch)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Scopes(u32);

impl Scopes {
    /// The scopes of these names; names that are not ours mean nothing.
    pub(crate) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().filter_map(Scope::named).collect()
    }

    pub(crate) fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | bit(scope)))
    }
}

const fn bit(scope: Scope) -> u32 {
    1 << scope as u32
}

/// Finds out who asks.
pub(crate) struct Callers {
    keys: Arc<dyn KeyRing>,
    remembered: Remembered,
    tokens: Option<Tokens>,
    pub(crate) sessions: Sessions,
}

impl Callers {
    pub(crate) fn new(keys: Arc<dyn KeyRing>, tokens: Option<Tokens>, sessions: Sessions) -> Self {
        Self { keys, remembered: Remembered::new(), tokens, sessions }
    }

    /// The caller behind `Authorization`.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], [`Error::Credentials`], or that they cannot be checked at the moment.
    pub(crate) async fn by_header(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let credential = bearer(headers)?.ok_or(Error::Unauthenticated)?;
        if credential.starts_with(KEY_PREFIX) {
            return self.by_key(credential).await;
        }
        match &self.tokens {
            Some(tokens) => tokens.verify(credential).await,
            None => Err(Error::Credentials("it is not an API key, and no identity provider is configured")),
        }
    }

    /// The caller behind an API key.
    ///
    /// # Errors
    /// [`Error::Credentials`] when no such key is in force, [`Error::Keys`] when that cannot be said.
    pub(crate) async fn by_key(&self, key: &str) -> Result<Caller, Error> {
        match self.keys.find(key).await.map_err(Error::Keys)? {
            Some(owner) => Ok(self.remembered.caller(owner)),
            None => Err(Error::Credentials("no such API key is in force")),
        }
    }

    /// The caller behind a browser's session cookie, if it has one that is in force. The key it logged
    /// in with is looked up again: revoking the key ends its sessions.
    ///
    /// # Errors
    /// As for [`Callers::by_key`].
    pub(crate) async fn by_cookie(&self, headers: &HeaderMap) -> Result<Option<Caller>, Error> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let Some(key) = self.sessions.key_of(cookies) else { return Ok(None) };
        self.by_key(secrecy::ExposeSecret::expose_secret(&key)).await.map(Some)
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::HeaderRepeated("authorization"));
    }
    let text = value.to_str().map_err(|_| Error::Credentials("they are not visible ASCII"))?;
    let (scheme, credential) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Error::Credentials("the scheme must be Bearer"));
    }
    match credential.trim() {
        "" => Err(Error::Credentials("there is nothing behind Bearer")),
        long if long.len() > CREDENTIAL_CHARS_MAX => Err(Error::Credentials("they are too long")),
        credential => Ok(Some(credential)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_that_are_not_ours_give_nothing() {
        let scopes = Scopes::named(["records:read", "admin", "*", "records:"]);
        assert!(scopes.contains(Scope::RecordsRead));
        assert_eq!(Scope::ALL.into_iter().filter(|scope| scopes.contains(*scope)).count(), 1);
    }

    #[test]
    fn the_scheme_is_bearer_and_stands_once() {
        let mut headers = HeaderMap::new();
        assert!(matches!(bearer(&headers), Ok(None)));
        headers.append("authorization", "bearer dom_a_b".parse().unwrap());
        assert!(matches!(bearer(&headers), Ok(Some("dom_a_b"))));
        headers.append("authorization", "Bearer dom_c_d".parse().unwrap());
        assert!(matches!(bearer(&headers), Err(Error::HeaderRepeated(_))));
        headers.insert("authorization", "Basic dXNlcg==".parse().unwrap());
        assert!(matches!(bearer(&headers), Err(Error::Credentials(_))));
    }
}
