//! An application service's view: the gateway's API over HTTP, with the evidence that service passes on.

use anyhow::{Context, Result, bail};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Url};
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than any deadline of the gateway: a hang is the gateway's mistake and must show as one.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A caller with one key. Cheap to clone; connections are shared.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    token: Option<String>,
    evidence: Evidence,
}

/// What a service says about the person it calls for: the evidence headers of the API.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// `Domicile-Residence`, e.g. `DE` or `US-CA`.
    pub residence: Option<String>,
    /// `Domicile-Tenant`.
    pub tenant: Option<String>,
    /// `Domicile-Client-Address`.
    pub client_address: Option<String>,
}

/// One answer of the gateway, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A caller of the gateway at `url` with `token`.
    ///
    /// # Errors
    /// When `url` is none.
    pub fn new(url: &str, token: &str) -> Result<Self> {
        Ok(Self { http: http()?, url: Url::parse(url)?, token: Some(token.to_owned()), evidence: Evidence::default() })
    }

    /// The same caller at another gateway.
    ///
    /// # Errors
    /// When `url` is none.
    pub fn at(&self, url: &str) -> Result<Self> {
        Ok(Self { url: Url::parse(url)?, ..self.clone() })
    }

    /// The same gateway with another key.
    #[must_use]
    pub fn with_key(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same gateway with no key at all.
    #[must_use]
    pub fn with_no_key(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// Passing on exactly this evidence.
    #[must_use]
    pub fn with_evidence(&self, evidence: Evidence) -> Self {
        Self { evidence, ..self.clone() }
    }

    /// For a person seen from this address.
    #[must_use]
    pub fn seen_from(&self, address: &str) -> Self {
        let evidence = Evidence { client_address: Some(address.to_owned()), ..self.evidence.clone() };
        self.with_evidence(evidence)
    }

    /// For a person who declared this residence.
    #[must_use]
    pub fn residing_in(&self, place: &str) -> Self {
        let evidence = Evidence { residence: Some(place.to_owned()), ..self.evidence.clone() };
        self.with_evidence(evidence)
    }

    /// A request with key and evidence, its path given as segments that are percent-encoded here.
    pub fn request<'a>(&self, method: Method, segments: impl IntoIterator<Item = &'a str>) -> RequestBuilder {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let Evidence { residence, tenant, client_address } = &self.evidence;
        let headers = [
            ("domicile-residence", residence),
            ("domicile-tenant", tenant),
            ("domicile-client-address", client_address),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request
    }

    /// Sends a request and reads the answer to its end.
    ///
    /// # Errors
    /// When there is no answer: refused, reset, or none within 40 s.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { status, headers, body: answer.bytes().await?.to_vec() })
    }

    /// `POST /v1/classify` with the client's evidence in the body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn classify(&self, subject: &str) -> Result<Answer> {
        let Evidence { residence, tenant, client_address } = &self.evidence;
        let body = json!({
            "subject": subject, "residence": residence, "tenant": tenant, "client_address": client_address,
        });
        let plain = self.with_evidence(Evidence::default());
        self.send(plain.request(Method::POST, ["v1", "classify"]).json(&body)).await
    }

    /// `PUT /v1/subjects/{subject}`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn pin(&self, subject: &str) -> Result<Answer> {
        self.send(self.request(Method::PUT, ["v1", "subjects", subject])).await
    }

    /// `DELETE /v1/subjects/{subject}`, or what it would do.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn erase(&self, subject: &str, dry_run: bool) -> Result<Answer> {
        let request = self.request(Method::DELETE, ["v1", "subjects", subject]);
        self.send(if dry_run { request.query(&[("dry_run", "true")]) } else { request }).await
    }

    /// `GET /v1/subjects/{subject}`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn home(&self, subject: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, ["v1", "subjects", subject])).await
    }

    /// `PUT /v1/subjects/{subject}/records/{collection}/{key}`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn put_record(&self, subject: &str, collection: &str, key: &str, body: &Value) -> Result<Answer> {
        self.send(self.record(Method::PUT, subject, collection, key).json(body)).await
    }

    /// `GET /v1/subjects/{subject}/records/{collection}/{key}`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get_record(&self, subject: &str, collection: &str, key: &str) -> Result<Answer> {
        self.send(self.record(Method::GET, subject, collection, key)).await
    }

    /// `DELETE /v1/subjects/{subject}/records/{collection}/{key}`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn delete_record(&self, subject: &str, collection: &str, key: &str) -> Result<Answer> {
        self.send(self.record(Method::DELETE, subject, collection, key)).await
    }

    /// A request for one record, to add headers to.
    pub fn record(&self, method: Method, subject: &str, collection: &str, key: &str) -> RequestBuilder {
        self.request(method, ["v1", "subjects", subject, "records", collection, key])
    }

    /// `POST /v1/subjects/{subject}/events`: a structured CloudEvent.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn publish(&self, subject: &str, event_type: &str, id: &str, data: &Value) -> Result<Answer> {
        let event = json!({
            "specversion": "1.0", "id": id, "source": "/world", "type": event_type,
            "datacontenttype": "application/json", "data": data,
        });
        let request = self.request(Method::POST, ["v1", "subjects", subject, "events"]);
        let request = request.header("content-type", "application/cloudevents+json").body(event.to_string());
        self.send(request).await
    }

    /// `PUT /v1/subjects/{subject}/zero-party/{attribute}` with consent given for one purpose.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn declare(&self, subject: &str, attribute: &str, value: &Value, purpose: &str) -> Result<Answer> {
        let body = json!({
            "value": value, "source": "preference-centre",
            "consents": [{"purpose": purpose, "granted": true, "notice_version": "2026-10"}],
        });
        let segments = ["v1", "subjects", subject, "zero-party", attribute];
        self.send(self.request(Method::PUT, segments).json(&body)).await
    }

    /// `GET` of any path without parameters, e.g. `/v1/audit/decisions`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path.trim_start_matches('/').split('/'))).await
    }
}

impl Answer {
    /// Whether the status says so.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Itself, when its status is the expected one.
    ///
    /// # Errors
    /// When not: the sentence carries status and body.
    pub fn expect(self, status: u16) -> Result<Self> {
        if self.status != status {
            bail!("The answer was {} instead of {status}: {}", self.status, self.text());
        }
        Ok(self)
    }

    /// Itself, when it is a success.
    ///
    /// # Errors
    /// When not: the sentence carries status and body.
    pub fn expect_success(self) -> Result<Self> {
        if !self.is_success() {
            bail!("The answer was {}: {}", self.status, self.text());
        }
        Ok(self)
    }

    /// The body as JSON; `null` when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The stable code of a problem.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        Some(self.json().get("code")?.as_str()?.to_owned())
    }

    /// `Domicile-Region`.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.header("domicile-region")
    }

    /// The sequence number in `Domicile-Audit`.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        let receipt = self.header("domicile-audit")?;
        receipt.split(';').find_map(|part| part.trim().strip_prefix("seq=")?.parse().ok())
    }
}

/// An HTTP client with our limits. It follows no redirect and knows no proxy: everything is on this machine.
pub(crate) fn http() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .context("The HTTP client could not be made")
}
