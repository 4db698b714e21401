//! The identity provider's keys: fetched, kept, refreshed, bounded.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::StatusCode;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

/// Bytes of a key set.
const SET_BYTES_MAX: usize = 256 * 1024;
/// Keys in a set.
const SET_KEYS_MAX: usize = 64;
/// How long a fetch may take.
const FETCH_MAX: Duration = Duration::from_secs(5);
/// How long a set is used before it is fetched again.
const REFRESH_EVERY: Duration = Duration::from_secs(300);
/// How soon an unknown key id may cause a fetch after the last one.
const REFRESH_SOONEST: Duration = Duration::from_secs(10);
/// How long a set is used that cannot be fetched again.
const STALE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Where the key set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// A file.
    File(PathBuf),
    /// An `https` URL; `http` only on this machine's loopback addresses.
    Url(String),
}

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoJwks {
    /// The URL is not one that keys may come from.
    #[error("the key set's URL must be https, or http on a loopback address")]
    Insecure,
    /// The client could not be made.
    #[error("the client for the key set could not be made")]
    Client(#[source] reqwest::Error),
    /// It could not be fetched.
    #[error("the key set could not be fetched")]
    Fetch(#[source] reqwest::Error),
    /// The server has another answer than a key set; redirects are not followed.
    #[error("the key set could not be fetched: the server answered {0}")]
    Status(u16),
    /// It could not be read.
    #[error("the key set could not be read from its file")]
    Read(#[source] std::io::Error),
    /// It is larger than 256 KiB.
    #[error("the key set is larger than 256 KiB")]
    TooLarge,
    /// It is not a key set.
    #[error("the key set is not a JWK set (RFC 7517)")]
    Malformed(#[source] serde_json::Error),
    /// It holds no key that can check a signature.
    #[error("the key set has no key that can check a signature")]
    Empty,
}

/// One key that can check signatures.
pub(crate) struct Key {
    pub(crate) id: Option<String>,
    /// The algorithm it is for, when the set says so.
    pub(crate) algorithm: Option<KeyAlgorithm>,
    pub(crate) decoding: DecodingKey,
}

/// A key set at one time.
pub(crate) struct KeySet {
    keys: Vec<Key>,
    fetched: Instant,
    /// Grows with each set whose content may differ, so that what was verified under an old one is verified again.
    pub(crate) generation: u64,
}

impl KeySet {
    /// The key of this id; without an id, the only key there is.
    pub(crate) fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, self.keys.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

/// Where the key set is, with what it takes to get there.
enum Source {
    File(PathBuf),
    Url(String, reqwest::Client),
}

/// The provider's keys, kept fresh.
pub(crate) struct Jwks {
    source: Source,
    set: ArcSwapOption<KeySet>,
    /// When a fetch was last begun; the lock makes one fetch of many, and is held until it has ended.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Jwks {
    /// Prepares; nothing is fetched yet.
    ///
    /// # Errors
    /// [`NoJwks::Insecure`] or [`NoJwks::Client`].
    pub(crate) fn new(source: JwksSource) -> Result<Self, NoJwks> {
        Self::with_patience(source, FETCH_MAX)
    }

    /// The same, with another bound for how long a fetch may take.
    fn with_patience(source: JwksSource, fetch_max: Duration) -> Result<Self, NoJwks> {
        let source = match source {
            JwksSource::File(path) => Source::File(path),
            JwksSource::Url(url) => {
                let channel = secure(&url)?;
                let builder = reqwest::Client::builder().timeout(fetch_max).redirect(reqwest::redirect::Policy::none());
                let builder = match channel {
                    Channel::Tls => builder,
                    // Without TLS not even a proxy stands between.
                    Channel::ThisMachine => builder.no_proxy(),
                };
                Source::Url(url, builder.build().map_err(NoJwks::Client)?)
            }
        };
        Ok(Self { source, set: ArcSwapOption::empty(), last: Arc::default() })
    }

    /// The set in force; `None` when no usable set is to be had. The first caller waits for the first
    /// fetch; a set that is due is fetched again behind everybody's back.
    pub(crate) async fn current(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        match self.set.load_full() {
            Some(set) if set.fetched.elapsed() < REFRESH_EVERY => return Some(set),
            Some(set) if set.fetched.elapsed() < STALE_MAX => {
                if self.last.try_lock().is_ok_and(|last| last.is_none_or(|last| last.elapsed() >= REFRESH_SOONEST)) {
                    let this = self.clone();
                    tokio::spawn(async move { this.refresh().await });
                }
                return Some(set);
            }
            Some(_) | None => self.refresh().await,
        }
        self.set.load_full().filter(|set| set.fetched.elapsed() < STALE_MAX)
    }

    /// The set after an attempt to find a key that the present one does not have.
    pub(crate) async fn renewed(self: &Arc<Self>) -> Option<Arc<KeySet>> {
        self.refresh().await;
        self.set.load_full()
    }

    /// Fetches, unless that was tried a moment ago. A failure keeps the set there is.
    async fn refresh(self: &Arc<Self>) {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if last.is_some_and(|last| last.elapsed() < REFRESH_SOONEST) {
            return;
        }
        *last = Some(Instant::now());
        let this = Arc::clone(self);
        // In a task of its own: others wait for it, too, and whoever began it may hang up.
        let fetch = tokio::spawn(async move {
            this.replace().await;
            drop(last);
        });
        drop(fetch.await);
    }

    async fn replace(&self) {
        match self.fetch().await {
            Ok(keys) => {
                let generation = self.set.load().as_ref().map_or(0, |set| set.generation + 1);
                info!(keys = keys.len(), "The identity provider's key set was read: {} keys", keys.len());
                self.set.store(Some(Arc::new(KeySet { keys, fetched: Instant::now(), generation })));
            }
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "The identity provider's key set cannot be had; the last one stays in force"
                );
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, NoJwks> {
        let bytes = match &self.source {
            Source::File(path) => {
                let bytes = tokio::fs::read(path).await.map_err(NoJwks::Read)?;
                if bytes.len() > SET_BYTES_MAX { Err(NoJwks::TooLarge) } else { Ok(bytes) }
            }
            Source::Url(url, client) => download(client, url).await,
        }?;
        keys(&bytes)
    }
}

/// Fetches a text of bounded length.
async fn download(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, NoJwks> {
    // An error is logged, and a URL may hold a secret.
    let failed = |error: reqwest::Error| NoJwks::Fetch(error.without_url());
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(NoJwks::Status(response.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > SET_BYTES_MAX {
            return Err(NoJwks::TooLarge);
        }
    }
    Ok(bytes)
}

/// The keys of a set that can check signatures. Symmetric keys and keys for encryption are none.
fn keys(bytes: &[u8]) -> Result<Vec<Key>, NoJwks> {
    let set: JwkSet = serde_json::from_slice(bytes).map_err(NoJwks::Malformed)?;
    let keys: Vec<_> = set.keys.iter().filter(|jwk| asymmetric(jwk)).take(SET_KEYS_MAX).filter_map(key).collect();
    if keys.is_empty() { Err(NoJwks::Empty) } else { Ok(keys) }
}

fn asymmetric(jwk: &Jwk) -> bool {
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    signs
        && matches!(
            jwk.algorithm,
            AlgorithmParameters::RSA(_) | AlgorithmParameters::EllipticCurve(_) | AlgorithmParameters::OctetKeyPair(_)
        )
}

fn key(jwk: &Jwk) -> Option<Key> {
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { id: jwk.common.key_id.clone(), algorithm: jwk.common.key_algorithm, decoding })
}

/// What keeps others from putting keys of their own into a set on its way here.
enum Channel {
    Tls,
    ThisMachine,
}

fn secure(url: &str) -> Result<Channel, NoJwks> {
    let url = reqwest::Url::parse(url).map_err(|_| NoJwks::Insecure)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(Channel::Tls),
        "http" if loopback => Ok(Channel::ThisMachine),
        _ => Err(NoJwks::Insecure),
    }
}

#[cfg(test)]
mod tests;
