//! All live keys in memory, as they were read at one time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use residency::Tenant;
use sqlx::Row;
use tokio::time::Instant;
use tracing::warn;

use super::token::{KeyId, SecretHash, Token, id_text};
use super::{Caller, KEYS_MAX};
use crate::error::Trouble;
use crate::link::{self, Link};

/// The live keys.
pub(super) struct Snapshot {
    keys: HashMap<KeyId, Known>,
    read_at: Instant,
}

struct Known {
    hash: SecretHash,
    caller: Arc<Caller>,
}

/// What a snapshot knows of a token.
pub(super) enum Standing {
    Caller(Arc<Caller>),
    WrongSecret,
    Unknown,
}

impl Snapshot {
    /// Reads all live keys. They are as of `begun_at`: what was revoked later may still be among them.
    pub(super) async fn read(link: &mut Link, patience: Duration, begun_at: Instant) -> Result<Self, Trouble> {
        let connection = link.connection().await?;
        let query = sqlx::query(
            "SELECT id, name, secret_hash, scopes, tenant FROM domicile.api_keys \
             WHERE revoked_at IS NULL ORDER BY created_at, id LIMIT $1",
        )
        .bind(i64::try_from(KEYS_MAX).unwrap_or(i64::MAX))
        .fetch_all(connection);
        let outcome = link::within(patience, async { Ok(query.await?) }).await;
        let rows = link.settle(outcome)?;
        let mut keys = HashMap::with_capacity(rows.len());
        for row in &rows {
            let id: Option<KeyId> = row.try_get::<&str, _>("id")?.as_bytes().try_into().ok();
            let hash: Option<[u8; 32]> = row.try_get::<&[u8], _>("secret_hash")?.try_into().ok();
            let tenant = row.try_get::<Option<&str>, _>("tenant")?.map(Tenant::new).transpose();
            let (Some(id), Some(hash), Ok(tenant)) = (id, hash, tenant) else {
                // Not to be guessed at: such a key opens nothing, and the others are not held up by it.
                warn!("An API key in the directory is malformed and is not accepted");
                continue;
            };
            let caller =
                Caller { id: id_text(&id), name: row.try_get("name")?, scopes: row.try_get("scopes")?, tenant };
            keys.insert(id, Known { hash: SecretHash(hash), caller: Arc::new(caller) });
        }
        Ok(Self { keys, read_at: begun_at })
    }

    /// A memory of one key.
    #[cfg(test)]
    pub(super) fn of_one(token: &Token, read_at: Instant) -> Self {
        let caller = Caller { id: id_text(&token.id), name: "test".to_owned(), scopes: Vec::new(), tenant: None };
        Self { keys: HashMap::from([(token.id, Known { hash: token.hash, caller: Arc::new(caller) })]), read_at }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.read_at)
    }

    pub(super) fn standing(&self, token: &Token) -> Standing {
        match self.keys.get(&token.id) {
            None => Standing::Unknown,
            Some(known) if known.hash.matches(&token.hash) => Standing::Caller(Arc::clone(&known.caller)),
            Some(_) => Standing::WrongSecret,
        }
    }
}
