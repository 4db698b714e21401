//! How a browser becomes a caller: the console's login page sends an API key, and gets a cookie.

use std::time::Duration;

use api::{Scope, paths};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Form, RequestExt as _};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body_util::Limited;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::timeout;

use crate::app::App;
use crate::callers::{SESSION_S_MAX, cookie};
use crate::error::Error;
use crate::layers::same_site;

/// Bytes of a key that is worth looking up.
const KEY_BYTES_MAX: usize = 512;

/// Bytes of the form.
const FORM_BYTES_MAX: usize = 4 * 1024;
/// How long a browser may take to send it.
const FORM_READ_MAX: Duration = Duration::from_secs(5);

/// The form of the login page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    key: String,
}

/// Takes a key with `console:read`; answers with a cookie that opens pages for 12 hours, and nothing else.
pub(crate) async fn login(State(app): State<App>, request: Request) -> Result<Response, Error> {
    same_site(request.headers(), request.uri())?;
    let Login { key } = form(&app, request).await?;
    let refused =
        |sentence| (StatusCode::UNAUTHORIZED, page_headers(), console::login_page(Some(sentence))).into_response();
    let key = SecretString::from(key);
    let trimmed = key.expose_secret().trim();
    if trimmed.is_empty() || trimmed.len() > KEY_BYTES_MAX {
        return Ok(refused("That is not an API key."));
    }
    let caller = match app.callers.by_key(trimmed).await {
        Ok(caller) => caller,
        Err(Error::Credentials(_)) => return Ok(refused("There is no such key, or it has been revoked.")),
        Err(error) => return Err(error),
    };
    if caller.may(Scope::ConsoleRead).is_err() {
        return Ok(refused("This key may not open the console: it lacks the scope console:read."));
    }
    let session =
        app.callers.sessions.begin(trimmed.to_owned().into()).ok_or(Error::Nonsense("the system's randomness"))?;
    let mut response = Redirect::to(paths::CONSOLE).into_response();
    set_cookie(&app, &mut response, &session, SESSION_S_MAX);
    Ok(response)
}

/// Reads the form. Nobody has said who they are yet, so it may take little memory, little time, and few of
/// the places that callers need.
async fn form(app: &App, request: Request) -> Result<Login, Error> {
    let _place = app.logins.try_acquire().map_err(|_| Error::Overloaded)?;
    let read_max = app.settings.limits.body_read_max.min(FORM_READ_MAX);
    let request = request.map(|body| Body::new(Limited::new(body, FORM_BYTES_MAX)));
    match timeout(read_max, request.extract()).await {
        Ok(Ok(Form(login))) => Ok(login),
        Ok(Err(_)) => Err(Error::BadRequest),
        Err(_) => Err(Error::BodyTooSlow { seconds: read_max.as_secs() }),
    }
}

/// Ends the session, here and in the browser.
pub(crate) async fn logout(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Result<Response, Error> {
    same_site(&headers, &uri)?;
    app.callers.sessions.end(headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()));
    let mut response = Redirect::to(paths::CONSOLE_LOGIN).into_response();
    set_cookie(&app, &mut response, "", 0);
    Ok(response)
}

fn set_cookie(app: &App, response: &mut Response, value: &str, seconds: u64) {
    let secure = app.settings.cookie_secure;
    let name = cookie(secure);
    let tail = if secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{tail}");
    if let Ok(text) = HeaderValue::try_from(text) {
        response.headers_mut().insert(SET_COOKIE, text);
    }
}

fn page_headers() -> [(http::HeaderName, &'static str); 3] {
    [
        (CONTENT_SECURITY_POLICY, console::CONTENT_SECURITY_POLICY),
        (REFERRER_POLICY, console::REFERRER),
        (CACHE_CONTROL, "no-store"),
    ]
}
