//! Who asks. Behind these layers a request carries its [`Caller`]; without one it goes no further.

use std::convert::Infallible;
use std::task::{Context, Poll};

use api::{Scope, paths};
use axum::extract::Request;
use axum::response::{IntoResponse, Redirect, Response};
use futures::future::BoxFuture;
use http::header::ACCEPT;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};
use tower::{Layer, Service};

use super::{Callers, Inside};
use crate::app::App;
use crate::callers::Caller;
use crate::error::Error;

/// Finds out who asks.
#[derive(Clone)]
pub(super) struct IdentifyLayer {
    app: App,
    callers: Callers,
}

impl IdentifyLayer {
    pub(super) fn new(app: &App, callers: Callers) -> Self {
        Self { app: app.clone(), callers }
    }
}

impl<S> Layer<S> for IdentifyLayer {
    type Service = Identify<S>;

    fn layer(&self, inner: S) -> Identify<S> {
        Identify { app: self.app.clone(), callers: self.callers, inner }
    }
}

/// A route that knows who asks.
#[derive(Clone)]
pub(super) struct Identify<S> {
    app: App,
    callers: Callers,
    inner: S,
}

impl<S: Inside> Service<Request> for Identify<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let callers = self.callers;
        if callers == Callers::Everybody {
            return Box::pin(self.inner.call(request));
        }
        let app = self.app.clone();
        // The one that was found ready is the one that is used.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let caller = match callers {
                Callers::ByHeaderOrCookie => for_page(&app, &parts).await,
                Callers::ByHeader | Callers::Everybody => app.callers.by_header(&parts.headers).await,
            };
            match caller {
                Ok(caller) => {
                    parts.extensions.insert(caller);
                    inner.call(Request::from_parts(parts, body)).await
                }
                // A person with a browser is shown the door rather than told that it is closed.
                Err(Error::Unauthenticated | Error::Credentials(_))
                    if callers == Callers::ByHeaderOrCookie && is_navigation(&parts) =>
                {
                    Ok(Redirect::to(paths::CONSOLE_LOGIN).into_response())
                }
                Err(error) => Ok(error.into_response()),
            }
        })
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

/// Demands that a form was sent by a page of this very host. `SameSite=Strict` says the same; this is
/// the second lock, for browsers that do not know the first.
///
/// # Errors
/// [`Error::CrossSite`].
pub(crate) fn same_site(headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (told, site) = match text("sec-fetch-site") {
        Some(site) => (true, matches!(site, "same-origin" | "none")),
        None => (false, true),
    };
    // HTTP/2 names the host beside the path, HTTP/1.1 in a header.
    let host = uri.authority().map(Authority::as_str).or_else(|| text("host"));
    let origin = match (text("origin"), host) {
        (None, _) => true,
        // Of a page that is to tell nothing of itself: then the browser's own word counts, which no page can make up.
        (Some("null"), _) => told,
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
