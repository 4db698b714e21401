//! What `snowflake-api` leaves out of the protocol, added between it and the network:
//!
//! - another base URL (its host is hard-coded), and the doubled slash of its session renewal;
//! - statements that run longer than 45 s: Snowflake answers "in progress" with a URL to ask again;
//! - a session that Snowflake has forgotten, told apart from other refusals, so that the client is rebuilt;
//! - refusals without `data`, which it cannot decode.
//!
//! Result chunks on other hosts pass untouched. Nothing here logs a header, a URL or a body.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::Extensions;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, Request, Response, Url};
use reqwest_middleware::{Error as MiddlewareError, Middleware, Next};
use serde_json::{Value, json};

/// Snowflake's codes for a statement that is still running.
const IN_PROGRESS: [&str; 2] = ["333333", "333334"];
/// Snowflake's codes for a session or token that is no longer known, expired or invalid.
const SESSION_LOST: [&str; 6] = ["390104", "390111", "390112", "390113", "390114", "390115"];
/// The largest answer that is read into memory; larger results come in chunks.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Snowflake no longer knows our session.
#[derive(Debug, thiserror::Error)]
#[error("Snowflake no longer knows the session")]
pub(super) struct SessionLost;

/// Something else in the protocol that cannot be gone on with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(&'static str);

pub(super) struct Gate {
    /// The host that `snowflake-api` asks for, in lower case.
    host: String,
    /// Where to go instead.
    base: Option<Url>,
    /// How long one statement may be in progress.
    statement_max: Duration,
    /// Snowflake's name for the statement that was answered last.
    last_query: LastQuery,
}

/// Where the gate leaves the name of the last query.
pub(super) type LastQuery = Arc<Mutex<String>>;

impl Gate {
    pub(super) fn new(account: &str, base: Option<Url>, statement_max: Duration, last_query: LastQuery) -> Self {
        Self {
            host: format!("{}.snowflakecomputing.com", account.to_ascii_lowercase()),
            base,
            statement_max,
            last_query,
        }
    }

    /// The same request, where it is to go.
    fn direct(&self, url: &Url) -> Result<Url, MiddlewareError> {
        let mut to = url.clone();
        let path = url.path().trim_start_matches('/');
        match &self.base {
            None => to.set_path(&format!("/{path}")),
            Some(base) => {
                let set = to.set_scheme(base.scheme()).is_ok()
                    && to.set_host(base.host_str()).is_ok()
                    && to.set_port(base.port()).is_ok();
                if !set {
                    return Err(MiddlewareError::middleware(Unusable("the base URL does not fit a request")));
                }
                to.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
            }
        }
        Ok(to)
    }
}

#[async_trait]
impl Middleware for Gate {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response, MiddlewareError> {
        if !request.url().host_str().is_some_and(|host| host.eq_ignore_ascii_case(&self.host)) {
            return next.run(request, extensions).await;
        }
        *request.url_mut() = self.direct(request.url())?;
        let (url, headers) = (request.url().clone(), request.headers().clone());
        let give_up = Instant::now() + self.statement_max;
        let mut response = next.clone().run(request, extensions).await?;
        loop {
            if !response.status().is_success() {
                return Ok(response);
            }
            let (answer, parts) = read(response).await?;
            let code = answer.get("code").and_then(Value::as_str).unwrap_or_default();
            if SESSION_LOST.contains(&code) {
                return Err(MiddlewareError::middleware(SessionLost));
            }
            if !IN_PROGRESS.contains(&code) {
                let query = answer.pointer("/data/queryId").and_then(Value::as_str).unwrap_or_default();
                if let Ok(mut last) = self.last_query.lock() {
                    query.clone_into(&mut last);
                }
                return write(&completed(answer), parts);
            }
            if Instant::now() >= give_up {
                return Err(MiddlewareError::middleware(Unusable("the statement took too long")));
            }
            let again = answer.pointer("/data/getResultUrl").and_then(Value::as_str);
            let again = again.and_then(|path| url.join(path).ok());
            // The same host and nothing else: the session's token goes with the question.
            let again = again.filter(|again| again.origin() == url.origin());
            let Some(again) = again else {
                return Err(MiddlewareError::middleware(Unusable("a running statement has no place to ask for it")));
            };
            let mut ask = Request::new(Method::GET, again);
            for name in [AUTHORIZATION, ACCEPT] {
                if let Some(value) = headers.get(&name) {
                    ask.headers_mut().insert(name, value.clone());
                }
            }
            // Snowflake holds the answer back by itself for up to 45 s; this only keeps a stand-in from spinning us.
            tokio::time::sleep(Duration::from_millis(100)).await;
            response = next.clone().run(ask, extensions).await?;
        }
    }
}

/// The body as JSON, and the head of the response for [`write`].
async fn read(response: Response) -> Result<(Value, http::response::Builder), MiddlewareError> {
    if response.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX) {
        return Err(MiddlewareError::middleware(Unusable("the answer is larger than 64 MiB")));
    }
    let mut head = http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        // The body is decoded and may be completed: its length is another now.
        if name != CONTENT_LENGTH && name != CONTENT_TYPE {
            head = head.header(name, value);
        }
    }
    let body = response.bytes().await.map_err(MiddlewareError::Reqwest)?;
    let answer =
        serde_json::from_slice(&body).map_err(|_| MiddlewareError::middleware(Unusable("the answer is not JSON")))?;
    Ok((answer, head))
}

fn write(answer: &Value, head: http::response::Builder) -> Result<Response, MiddlewareError> {
    let response = head.header(CONTENT_TYPE, "application/json").body(answer.to_string());
    response.map(Response::from).map_err(MiddlewareError::middleware)
}

/// A refusal with the `data` that the client insists on; anything else as it is.
fn completed(mut answer: Value) -> Value {
    let refused = answer.get("success").and_then(Value::as_bool) == Some(false);
    if refused {
        let code = answer.get("code").cloned().filter(Value::is_string).unwrap_or_else(|| json!(""));
        let mut data = json!({"age": 0, "errorCode": code, "internalError": false, "queryId": "", "sqlState": ""});
        if let (Some(Value::Object(found)), Some(data)) = (answer.get("data"), data.as_object_mut()) {
            data.extend(found.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())));
        }
        answer["data"] = data;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_to_the_base_url_and_the_doubled_slash_goes_away() {
        let asked = Url::parse("https://EXAMPLE-EU.snowflakecomputing.com//session/token-request?requestId=1").unwrap();
        let direct = |base: Option<&str>| {
            let base = base.map(|base| Url::parse(base).unwrap());
            Gate::new("Example-EU", base, Duration::from_secs(1), LastQuery::default())
                .direct(&asked)
                .unwrap()
                .to_string()
        };
        assert_eq!(direct(None), "https://example-eu.snowflakecomputing.com/session/token-request?requestId=1");
        assert_eq!(direct(Some("http://127.0.0.1:8765")), "http://127.0.0.1:8765/session/token-request?requestId=1");
        assert_eq!(
            direct(Some("https://example-eu.privatelink.snowflakecomputing.com/x/")),
            "https://example-eu.privatelink.snowflakecomputing.com/x/session/token-request?requestId=1"
        );
    }

    #[test]
    fn a_refusal_without_data_becomes_one_that_the_client_can_read() {
        let answer = completed(json!({"success": false, "code": "390100", "message": "no", "data": null}));
        assert_eq!(answer["data"]["errorCode"], "390100");
        let answer = completed(json!({"success": false, "code": "1", "data": {"errorCode": "002003", "line": 3}}));
        assert_eq!(answer["data"]["errorCode"], "002003");
        assert_eq!(answer["data"]["line"], 3);
    }
}
