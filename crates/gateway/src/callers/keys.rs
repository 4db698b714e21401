//! API keys. Storage knows them; this is the narrow side that the gateway sees of it.

use futures::future::BoxFuture;
use residency::{Actor, Tenant};
use sha2::{Digest, Sha256};

use super::{Caller, Scopes};

/// Whose key it is.
#[derive(Debug, Clone)]
pub struct KeyOwner {
    /// The key's public id.
    pub id: String,
    /// The name an operator gave it.
    pub name: String,
    /// The names of its scopes.
    pub scopes: Vec<String>,
    /// The tenant it is bound to.
    pub tenant: Option<Tenant>,
}

/// Finds the owner of an API key. A seam, so that layers and callers can be tested without a database.
pub trait KeyRing: Send + Sync + 'static {
    /// The owner, or `None` when no such key is in force.
    ///
    /// # Errors
    /// When it cannot be said: nobody is let in then.
    fn find<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyOwner>, storage::Error>>;
}

impl KeyRing for storage::ApiKeys {
    fn find<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyOwner>, storage::Error>> {
        Box::pin(async move {
            let found = storage::ApiKeys::find(self, key).await?;
            Ok(found.map(|caller| KeyOwner {
                id: caller.id.clone(),
                name: caller.name.clone(),
                scopes: caller.scopes.clone(),
                tenant: caller.tenant.clone(),
            }))
        })
    }
}

/// The caller that a key makes of its bearer.
pub(super) fn caller(owner: &KeyOwner) -> Caller {
    Caller {
        actor: Actor::new(&format!("key:{}", owner.name)),
        bucket: bucket("key", &owner.id),
        scopes: Scopes::named(owner.scopes.iter().map(String::as_str)),
        tenant: owner.tenant.clone(),
        token: None,
    }
}

/// A short name for a caller that gives nothing away: what limits are counted by.
pub(super) fn bucket(kind: &str, id: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(format!("{kind}\0{id}")).into();
    digest.iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}
