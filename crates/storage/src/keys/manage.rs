//! Creating, listing and revoking keys: an operator's deeds, for a login that is a member of
//! `domicile_keys`. A gateway's login is not, so a gateway cannot make itself a key.

use std::sync::Arc;

use residency::Tenant;
use secrecy::SecretString;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::token::{Token, id_text};
use super::{ApiKeys, KEYS_MAX};
use crate::error::{Cause, Error, Trouble};
use crate::link::{self, Address, Link, Work};

/// Scopes that one key may have.
const SCOPES_MAX: usize = 32;

/// A key that was just made.
#[derive(Debug)]
pub struct NewKey {
    /// Its id, to revoke it by.
    pub id: String,
    /// The token that the caller will send. It is shown this once and kept nowhere.
    pub token: SecretString,
}

/// A key as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it may be used for, sorted.
    pub scopes: Vec<String>,
    /// The tenant it is bound to.
    pub tenant: Option<Tenant>,
    /// When it was made, microseconds since 1970-01-01 UTC, by the directory's clock.
    pub created_at_us: i64,
    /// When it was revoked, likewise.
    pub revoked_at_us: Option<i64>,
}

/// Why a key was not made or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The name cannot be used.
    #[error("a key's name is 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`")]
    Name,
    /// A scope is not one.
    #[error("a key needs 1 to {SCOPES_MAX} scopes such as `records:read`")]
    Scopes,
    /// Another live key has the name. Two of one name could not be told apart in the audit log.
    #[error("there is a live key of this name already; revoke it first, or choose another name")]
    NameTaken,
    /// There are too many.
    #[error("there are {KEYS_MAX} live keys already; revoke some first")]
    TooMany,
    /// There is no such key.
    #[error("there is no key with this id")]
    NotFound,
    /// The login may not do this.
    #[error("this login may not manage API keys: it is not a member of domicile_keys")]
    NotAllowed,
    /// The directory failed.
    #[error(transparent)]
    Storage(#[from] Error),
}

impl ApiKeys {
    /// Makes a key. Gateways know it within two seconds, or as soon as somebody uses it.
    ///
    /// # Errors
    /// [`KeysError`] says what is wrong; nothing was made then, unless the connection was lost at the very end.
    pub async fn create(&self, name: &str, scopes: &[&str], tenant: Option<&Tenant>) -> Result<NewKey, KeysError> {
        let scopes = checked_scopes(scopes).ok_or(KeysError::Scopes)?;
        if !is_name(name) {
            return Err(KeysError::Name);
        }
        let (token, text) = Token::generate();
        let id = id_text(&token.id);
        let made = perform(&self.0.management, async |connection| {
            sqlx::query(
                "INSERT INTO domicile.api_keys (id, name, secret_hash, scopes, tenant) \
                 SELECT $1, $2, $3, $4, $5 \
                 WHERE (SELECT count(*) FROM domicile.api_keys WHERE revoked_at IS NULL) < $6",
            )
            .bind(&id)
            .bind(name)
            .bind(token.hash.0)
            .bind(&scopes)
            .bind(tenant.map(Tenant::as_str))
            .bind(i64::try_from(KEYS_MAX).unwrap_or(i64::MAX))
            .execute(connection)
            .await
        })
        .await?;
        if made.rows_affected() == 0 {
            return Err(KeysError::TooMany);
        }
        self.0.shared.wanted.notify_one();
        Ok(NewKey { id, token: text })
    }

    /// All keys, live and revoked, the newest first; at most twice [`KEYS_MAX`].
    ///
    /// # Errors
    /// When the directory cannot be asked or the login may not.
    pub async fn list(&self) -> Result<Vec<ApiKey>, KeysError> {
        let rows = perform(&self.0.management, async |connection| {
            sqlx::query(
                "SELECT id, name, scopes, tenant, \
                        (extract(epoch FROM created_at) * 1000000)::bigint AS created_at_us, \
                        (extract(epoch FROM revoked_at) * 1000000)::bigint AS revoked_at_us \
                 FROM domicile.api_keys ORDER BY created_at DESC, id LIMIT $1",
            )
            .bind(i64::try_from(KEYS_MAX * 2).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
        })
        .await?;
        let keys: Result<_, Trouble> = rows.iter().map(api_key).collect();
        Ok(keys.map_err(|trouble| trouble.into_error(None))?)
    }

    /// Revokes a key; `false` when it was revoked already. Every gateway refuses it within two seconds.
    ///
    /// # Errors
    /// [`KeysError::NotFound`] when there is none; otherwise when the directory cannot be asked or the login may not.
    pub async fn revoke(&self, id: &str) -> Result<bool, KeysError> {
        let row = perform(&self.0.management, async |connection| {
            sqlx::query(
                "WITH revoked AS ( \
                     UPDATE domicile.api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING id \
                 ) \
                 SELECT EXISTS (SELECT FROM revoked) AS now, \
                        EXISTS (SELECT FROM domicile.api_keys WHERE id = $1) AS known",
            )
            .bind(id)
            .fetch_one(connection)
            .await
        })
        .await?;
        let told =
            |column| row.try_get::<bool, _>(column).map_err(|e| KeysError::Storage(Trouble::from(e).into_error(None)));
        if !told("known")? {
            return Err(KeysError::NotFound);
        }
        self.0.shared.wanted.notify_one();
        told("now")
    }
}

/// Runs one statement on a connection of its own.
async fn perform<T>(
    address: &Arc<Address>,
    statement: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, KeysError> {
    let patience = address.patience();
    let mut link = Link::new(Arc::clone(address), Work::Commits);
    let failed = |trouble: Trouble| KeysError::Storage(trouble.into_error(None));
    let connection = link.connection().await.map_err(failed)?;
    let outcome = link::within(patience, async { Ok(statement(connection).await) }).await.map_err(failed)?;
    outcome.map_err(|error| match error.as_database_error().and_then(|refusal| refusal.code()).as_deref() {
        Some("23505") => KeysError::NameTaken,
        Some("42501") => KeysError::NotAllowed,
        _ => failed(error.into()),
    })
}

fn api_key(row: &PgRow) -> Result<ApiKey, Trouble> {
    let tenant = row.try_get::<Option<&str>, _>("tenant")?.map(Tenant::new).transpose();
    Ok(ApiKey {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scopes: row.try_get("scopes")?,
        tenant: tenant.map_err(|_| Trouble::Internal(Cause::new("a key's tenant is malformed")))?,
        created_at_us: row.try_get("created_at_us")?,
        revoked_at_us: row.try_get("revoked_at_us")?,
    })
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Which scopes there are is the gateway's knowledge; here they only have to look like one.
fn checked_scopes(scopes: &[&str]) -> Option<Vec<String>> {
    let is_scope = |text: &&str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b':' | b'-'))
    };
    if !(1..=SCOPES_MAX).contains(&scopes.len()) || !scopes.iter().all(is_scope) {
        return None;
    }
    let mut scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    scopes.sort();
    scopes.dedup();
    Some(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_sorted_and_named_once() {
        let scopes = checked_scopes(&["records:write", "classify", "records:write"]).expect("scopes");
        assert_eq!(scopes, ["classify", "records:write"]);
        for bad in [&[][..], &[""], &["a b"], &["A"], &["é"], &["a"; SCOPES_MAX + 1]] {
            assert_eq!(checked_scopes(bad), None, "{bad:?}");
        }
    }
}
