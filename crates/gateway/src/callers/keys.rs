//! API keys. Storage knows them; this is the narrow side that the gateway sees of it.

use std::sync::Arc;

use futures::future::BoxFuture;
use quick_cache::sync::Cache;
use residency::Actor;
use sha2::{Digest, Sha256};

use super::{Caller, Scopes};

/// Whose key it is, as storage says it.
pub use storage::Caller as KeyOwner;

/// Callers that are remembered at a time.
const REMEMBERED_MAX: usize = 10_000;

/// Finds the owner of an API key. A seam, so that layers and callers can be tested without a database.
pub trait KeyRing: Send + Sync + 'static {
    /// The owner, or `None` when no such key is in force.
    ///
    /// # Errors
    /// When it cannot be said: nobody is let in then.
    fn find<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Arc<KeyOwner>>, storage::Error>>;
}

impl KeyRing for storage::ApiKeys {
    fn find<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Arc<KeyOwner>>, storage::Error>> {
        Box::pin(storage::ApiKeys::find(self, key))
    }
}

/// The callers that keys made of their bearers. What storage says of a key is the same object until storage reads its
/// keys again, so a caller need not be made anew for each of its requests.
pub(super) struct Remembered(Cache<usize, (Arc<KeyOwner>, Caller)>);

impl Remembered {
    pub(super) fn new() -> Self {
        Self(Cache::new(REMEMBERED_MAX))
    }

    /// The caller that a key makes of its bearer.
    pub(super) fn caller(&self, owner: Arc<KeyOwner>) -> Caller {
        // Its place in memory names it: no other object can be there as long as this one is remembered, and so alive.
        let place = Arc::as_ptr(&owner) as usize;
        if let Some((_, caller)) = self.0.get(&place) {
            return caller;
        }
        let caller = caller(&owner);
        self.0.insert(place, (owner, caller.clone()));
        caller
    }
}

fn caller(owner: &KeyOwner) -> Caller {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(scopes: &[&str]) -> Arc<KeyOwner> {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Arc::new(KeyOwner { id: "a".to_owned(), name: "checkout".to_owned(), scopes, tenant: None })
    }

    #[test]
    fn a_key_whose_scopes_changed_is_not_the_caller_that_is_remembered() {
        let remembered = Remembered::new();
        for _ in 0..1_000 {
            // Each is gone from storage before the next comes, and may lie where the last one lay.
            assert!(remembered.caller(owner(&["records:read"])).may(api::Scope::RecordsRead).is_ok());
            assert!(remembered.caller(owner(&[])).may(api::Scope::RecordsRead).is_err());
        }
    }
}
