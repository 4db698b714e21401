//! The probe's way through the API: one synthetic subject, one record for each write.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use ops::backup::Sought;
use ops::drill::probe::Writer;
use reqwest::{Client, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};

/// A write that is not answered within this is not acknowledged.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the probe writes.
const COLLECTION: &str = "drill";
/// Records that are removed at a time.
const REMOVED_AT_ONCE: usize = 16;

/// A caller of one gateway.
#[derive(Clone)]
pub(super) struct ApiWriter(Arc<Inner>);

struct Inner {
    client: Client,
    url: String,
    token: SecretString,
    residence: String,
    subject: String,
    run: String,
}

impl ApiWriter {
    /// Writes as `subject`, who declares `residence`. Entries of another run do not count.
    pub(super) fn new(url: &str, token: SecretString, residence: &str, subject: &str) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(PATIENCE).no_proxy().build().context("no HTTP client")?;
        let inner = Inner {
            client,
            url: url.trim_end_matches('/').to_owned(),
            token,
            residence: residence.to_owned(),
            subject: subject.to_owned(),
            run: format!("{:08x}", rand::random::<u32>()),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Where a restored copy has what this writes.
    pub(super) fn sought(&self) -> Sought {
        let Inner { subject, run, .. } = &*self.0;
        Sought { subject: subject.clone(), collection: COLLECTION.to_owned(), prefix: format!("{run}-") }
    }

    async fn send(&self, method: Method, seq: u64, body: Option<serde_json::Value>) -> Option<StatusCode> {
        let Inner { client, url, token, residence, subject, run } = &*self.0;
        let url = format!("{url}/v1/subjects/{subject}/records/{COLLECTION}/{run}-{seq}");
        let request = client.request(method, url).bearer_auth(token.expose_secret());
        let request = request.header("domicile-residence", residence);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        request.send().await.ok().map(|answer| answer.status())
    }

    /// Removes what was written, as well as can be.
    pub(super) async fn tidy(&self, entries: impl Iterator<Item = u64>) {
        let removals = entries.map(|seq| self.send(Method::DELETE, seq, None));
        futures::stream::iter(removals).buffer_unordered(REMOVED_AT_ONCE).for_each(|_| std::future::ready(())).await;
    }
}

impl Writer for ApiWriter {
    async fn write(&self, seq: u64) -> bool {
        let body = serde_json::json!({ "drill": seq });
        self.send(Method::PUT, seq, Some(body)).await.is_some_and(|status| status.is_success())
    }

    async fn read(&self, seq: u64) -> Option<bool> {
        match self.send(Method::GET, seq, None).await? {
            status if status.is_success() => Some(true),
            StatusCode::NOT_FOUND => Some(false),
            _ => None,
        }
    }
}
