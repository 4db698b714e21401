//! What every page has: the frame around it, its headers, and how it is rendered.

use askama::Template;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY as CSP, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use residency::Policy;
use time::OffsetDateTime;
use tracing::error;

/// What a browser may do with our pages: show them with our stylesheet and send our forms. Nothing else.
pub const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("../assets/style.css");

/// The frame around a page.
pub(crate) struct Frame {
    /// Which entry of the navigation is lit.
    pub(crate) here: &'static str,
    /// The version of the policy in force.
    pub(crate) policy_version: String,
    /// The first digits of its hash.
    pub(crate) policy_hash: String,
}

impl Frame {
    pub(crate) fn new(here: &'static str, policy: &Policy) -> Self {
        Self { here, policy_version: policy.version().to_owned(), policy_hash: short(policy.hash_hex()) }
    }

    /// Marks the navigation's entry for the current page.
    pub(crate) fn current(&self, entry: &str) -> &'static str {
        if self.here == entry { "page" } else { "false" }
    }
}

/// Renders a page.
pub(crate) fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(source) => {
            error!(error = %source, "A page of the console could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "The page could not be rendered.").into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'a> {
    error: Option<&'a str>,
}

pub(crate) fn login(error: Option<&str>) -> Html<String> {
    Html(Login { error }.render().unwrap_or_else(|_| "The page could not be rendered.".to_owned()))
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    frame: Frame,
    title: &'a str,
    sentence: &'a str,
}

/// A page with nothing but a sentence on it.
pub(crate) fn message(status: StatusCode, frame: Frame, title: &str, sentence: &str) -> Response {
    (status, render(&Message { frame, title, sentence })).into_response()
}

/// Nothing for other sites. For our own: without it browsers name no origin when they send a form (Fetch, "append a request
/// `Origin` header"), and a form of nobody's page is refused.
pub const REFERRER: &str = "same-origin";

/// The stylesheet. It changes only with the binary, and an hour is short enough for that.
pub(crate) async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "public, max-age=3600")];
    (headers, STYLE).into_response()
}

/// Sets the headers that keep a page from being stored, framed, or fed with anything foreign.
pub(crate) async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CSP, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static(REFERRER));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The first twelve characters of a hash.
pub(crate) fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number with a thin space between thousands: `1 234 567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time for a table: `2026-11-22 20:42:36`, in UTC.
pub(crate) fn clock(at_us: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(at_us.div_euclid(1_000_000)) {
        Ok(at) => {
            let (hour, minute, second) = at.to_hms();
            format!("{} {hour:02}:{minute:02}:{second:02}", at.date())
        }
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
    }

    #[test]
    fn an_error_on_the_login_page_is_escaped() {
        let Html(page) = login(Some("<script>alert(1)</script>"));
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&#60;script&#62;"), "{page}");
    }

    #[test]
    fn the_stylesheet_takes_nothing_from_elsewhere() {
        for foreign in ["http:", "https:", "//", "@import", "url("] {
            assert!(!STYLE.contains(foreign), "{foreign}");
        }
    }
}
