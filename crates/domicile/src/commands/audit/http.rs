//! A region's log at a URL. What comes from there is verified, not believed; it is only read, again if need be.

use std::time::Duration;

use anyhow::Context as _;
use audit::BUNDLE_BYTES_MAX;
use audit::verify::{PolicyText, Source, Unread};
use reqwest::StatusCode;
use tlog::{NOTE_BYTES_MAX, TILE_WIDTH, Tile};
use tokio::runtime::Handle;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most bytes of a list of policies.
const POLICIES_BYTES_MAX: usize = 64 << 20;
/// How often one thing is asked for.
const ATTEMPTS_MAX: u32 = 4;
/// The first pause between attempts; it doubles.
const PAUSE: Duration = Duration::from_millis(250);

/// A log at a URL, to be read from threads that may wait.
pub(super) struct Remote {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
    /// Whether the checkpoint is to be one that a witness has cosigned.
    witnessed: bool,
    runtime: Handle,
}

impl Remote {
    /// The log at this URL.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub(super) fn new(url: &str, token: Option<String>, witnessed: bool) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(PATIENCE).build().context("no HTTP client")?;
        let base = url.trim_end_matches('/').trim_end_matches("/checkpoint").to_owned();
        Ok(Self { client, base, token, witnessed, runtime: Handle::current() })
    }

    fn get(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, Unread> {
        self.runtime.block_on(async {
            let mut pause = PAUSE;
            for attempt in 1.. {
                match self.try_get(path, bytes_max).await {
                    Err(Again(_)) if attempt < ATTEMPTS_MAX => {
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                    Err(Again(why)) => return Err(Unread::Unreachable(why)),
                    Ok(answer) => return answer,
                }
            }
            Err(Unread::Unreachable(self.base.clone()))
        })
    }

    /// One attempt: an answer for good, or a reason to ask again.
    async fn try_get(&self, path: &str, bytes_max: usize) -> Result<Result<Vec<u8>, Unread>, Again> {
        let url = format!("{}/{path}", self.base);
        let mut request = self.client.get(&url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let again = |error: reqwest::Error| Again(format!("{url}: {:#}", anyhow::Error::from(error.without_url())));
        let mut answer = request.send().await.map_err(again)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Err(Unread::Missing(url))),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Again(format!("{url} answered {status}")));
            }
            status => return Ok(Err(Unread::Unreachable(format!("{url} answered {status}")))),
        }
        let mut content = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(again)? {
            content.extend_from_slice(&chunk);
            if content.len() > bytes_max {
                return Ok(Err(Unread::Missing(format!("{url} in its place, and of its size,"))));
            }
        }
        Ok(Ok(content))
    }
}

struct Again(String);

impl Source for Remote {
    fn checkpoint(&self) -> Result<String, Unread> {
        let witnessed = self.witnessed.then(|| self.get("checkpoint?witnessed=true", NOTE_BYTES_MAX));
        let text = match witnessed {
            // That no witness has cosigned yet says nothing against the signature.
            None | Some(Err(Unread::Missing(_))) => self.get("checkpoint", NOTE_BYTES_MAX)?,
            Some(answer) => answer?,
        };
        String::from_utf8(text).map_err(|_| Unread::Unreachable(format!("{}/checkpoint is no text", self.base)))
    }

    fn tile(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        self.get(&tile.to_string(), 32 * usize::from(TILE_WIDTH))
    }

    fn entries(&self, tile: Tile) -> Result<Vec<u8>, Unread> {
        self.get(&tile.to_string().replacen("tile/0/", "tile/entries/", 1), BUNDLE_BYTES_MAX)
    }

    fn policies(&self) -> Result<Vec<PolicyText>, Unread> {
        let list: api::PolicyList = match self.get("policies", POLICIES_BYTES_MAX) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|_| Unread::Unreachable(format!("{}/policies is no list of policies", self.base)))?,
            Err(Unread::Missing(_)) => return Ok(Vec::new()),
            Err(unread) => return Err(unread),
        };
        let policy = |item: api::PolicyItem| PolicyText {
            said_sha256: Some(item.sha256),
            text: item.text,
            jurisdictions: item.jurisdictions,
            locations: item.locations,
        };
        Ok(list.items.into_iter().map(policy).collect())
    }
}
