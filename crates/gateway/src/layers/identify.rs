//! Who asks. Behind these layers a request carries its [`Caller`]; without one it goes no further.

use api::{Scope, paths};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::ACCEPT;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

use crate::app::App;
use crate::callers::Caller;
use crate::error::Error;

/// The API's way: by `Authorization`.
pub(super) async fn by_header(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.callers.by_header(request.headers()).await {
        Ok(caller) => go_on(caller, request, next).await,
        Err(error) => error.into_response(),
    }
}

/// The pages' way: by `Authorization`, or by the cookie of a browser that logged in.
pub(super) async fn by_header_or_cookie(State(app): State<App>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match for_page(&app, &parts).await {
        Ok(caller) => go_on(caller, Request::from_parts(parts, body), next).await,
        // A person with a browser is shown the door rather than told that it is closed.
        Err(Error::Unauthenticated | Error::Credentials(_)) if is_navigation(&parts) => {
            Redirect::to(paths::CONSOLE_LOGIN).into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn for_page(app: &App, request: &Parts) -> Result<Caller, Error> {
    let headers = &request.headers;
    let caller = match app.callers.by_header(headers).await {
        Err(Error::Unauthenticated) => {
            let caller = app.callers.by_cookie(headers).await?.ok_or(Error::Unauthenticated)?;
            // The cookie comes along by itself, so a form must come from our own pages.
            if request.method != Method::GET && request.method != Method::HEAD {
                same_site(headers, &request.uri)?;
            }
            caller
        }
        other => other?,
    };
    if request.uri.path().starts_with(paths::CONSOLE) {
        caller.may(Scope::ConsoleRead)?;
    }
    Ok(caller)
}

async fn go_on(caller: Caller, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Demands that a form was sent by a page of this very host. `SameSite=Strict` says the same; this is
/// the second lock, for browsers that do not know the first.
///
/// # Errors
/// [`Error::CrossSite`].
pub(crate) fn same_site(headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    // HTTP/2 names the host beside the path, HTTP/1.1 in a header.
    let host = uri.authority().map(Authority::as_str).or_else(|| text("host"));
    let origin = match (text("origin"), host) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host)),
        (Some(_), None) => false,
    };
    if site && origin { Ok(()) } else { Err(Error::CrossSite) }
}

fn is_navigation(request: &Parts) -> bool {
    let wants_html = request.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    request.method == Method::GET && wants_html.is_some_and(|accept| accept.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_from_another_site_is_refused() {
        let check = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            same_site(&headers, &Uri::from_static("/console/login")).is_ok()
        };
        assert!(check(&[("host", "a.example:8080"), ("origin", "http://a.example:8080")]));
        assert!(check(&[("host", "a.example"), ("sec-fetch-site", "same-origin")]));
        assert!(check(&[("host", "a.example")]));
        assert!(!check(&[("host", "a.example"), ("origin", "https://b.example")]));
        assert!(!check(&[("host", "a.example"), ("origin", "null")]));
        assert!(!check(&[("host", "a.example"), ("sec-fetch-site", "cross-site")]));
        assert!(!check(&[("host", "a.example"), ("origin", "http://a.example"), ("sec-fetch-site", "same-site")]));
        // As HTTP/2 has it.
        let over_http2 = |origin: &str| {
            let headers = HeaderMap::from_iter([(http::header::ORIGIN, origin.parse().unwrap())]);
            same_site(&headers, &Uri::from_static("https://a.example/console/login")).is_ok()
        };
        assert!(over_http2("https://a.example") && !over_http2("https://b.example"));
    }
}
