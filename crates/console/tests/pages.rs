//! The pages as a browser gets them: what they may load, and what a hostile visitor can put into them.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use console::{Accounts, Asked, CONTENT_SECURITY_POLICY, Console, Unlogged, Visitor, doorstep, router};
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use residency::{Policy, presets};
use storage::RegionStore;
use tower::ServiceExt as _;

const HOSTILE: &str = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%27";

/// Somebody whose looks are in no log: there is no region here.
struct Nobody;

impl Accounts for Nobody {
    fn account<'a>(&'a self, _: &'a RegionStore, _: &'a Asked, _: u64) -> BoxFuture<'a, Result<(), Unlogged>> {
        Box::pin(async { Ok(()) })
    }
}

async fn ask(request: Request<Body>) -> (Response<()>, String) {
    let policy = Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS).expect("a policy");
    let policy = Arc::new(policy);
    let console = Console::new([], move || Arc::clone(&policy));
    let pages = router(console).layer(Extension(Visitor::new(Nobody)));
    let answer = pages.merge(doorstep()).oneshot(request).await.expect("infallible");
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (Response::from_parts(head, ()), String::from_utf8(body.to_vec()).expect("UTF-8"))
}

async fn get(address: &str) -> (Response<()>, String) {
    ask(Request::get(address).body(Body::empty()).expect("a request")).await
}

async fn post(address: &str, form: &'static str) -> (Response<()>, String) {
    let request = Request::post(address).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    ask(request.body(Body::from(form)).expect("a request")).await
}

#[tokio::test]
async fn a_hostile_filter_is_shown_as_text() {
    for field in ["actor", "rule", "region", "kind", "operation", "outcome", "from", "to", "before", "subject"] {
        let (head, html) = get(&format!("/console/decisions?{field}={HOSTILE}")).await;
        assert_eq!(head.status(), StatusCode::OK, "{field}");
        assert!(!html.contains("<script"), "{field}: {html}");
    }
    let (_, html) = get(&format!("/console/decisions?actor={HOSTILE}")).await;
    assert!(html.contains("value=\"&#34;&#62;&#60;script&#62;alert(1)&#60;/script&#62;&#39;\""), "{html}");
    let (_, html) = get(&format!("/console/policy?q={HOSTILE}&to={HOSTILE}")).await;
    assert!(!html.contains("<script"), "{html}");
    let (head, html) = get(&format!("/console/decisions/{HOSTILE}")).await;
    assert_eq!(head.status(), StatusCode::NOT_FOUND);
    assert!(!html.contains("<script"), "{html}");
}

#[tokio::test]
async fn a_person_named_in_an_address_is_ignored_and_one_in_a_body_is_kept() {
    let (_, html) = get("/console/decisions?subject=anna%40example.com").await;
    assert!(!html.contains("anna"), "{html}");
    let (head, html) = post("/console/decisions", "subject=anna%40example.com").await;
    assert_eq!(head.status(), StatusCode::OK);
    assert!(html.contains("value=\"anna@example.com\""), "{html}");
}

#[tokio::test]
async fn no_page_that_shows_entries_is_made_for_somebody_unknown() {
    let policy = Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS).expect("a policy");
    let policy = Arc::new(policy);
    let pages = router(Console::new([], move || Arc::clone(&policy)));
    for (address, status) in [
        ("/console", StatusCode::OK),
        ("/console/decisions", StatusCode::INTERNAL_SERVER_ERROR),
        ("/console/decisions/0193f14c-0000-7000-8000-000000000000", StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let request = Request::get(address).body(Body::empty()).expect("a request");
        assert_eq!(pages.clone().oneshot(request).await.expect("infallible").status(), status, "{address}");
    }
}

#[tokio::test]
async fn every_page_forbids_scripts_frames_and_caches() {
    for address in ["/console", "/console/decisions", "/console/decisions/x", "/console/policy", "/console/login"] {
        let (head, html) = get(address).await;
        let says = |name| head.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!(says(header::CONTENT_SECURITY_POLICY), CONTENT_SECURITY_POLICY, "{address}");
        assert_eq!(says(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{address}");
        assert_eq!(says(header::REFERRER_POLICY), "same-origin", "{address}: a form says where it comes from");
        assert_eq!(says(header::CACHE_CONTROL), "no-store", "{address}");
        for foreign in ["<script", " style=", " on", "http://", "https://", "<style", "<iframe"] {
            let markup = html.split("<pre").next().expect("markup");
            let found = if foreign == " on" { markup.contains(" onclick=") } else { markup.contains(foreign) };
            assert!(!found, "{foreign} in {address}");
        }
        assert!(html.contains("<html lang=\"en\">") && html.contains("<title>"), "{address}");
    }
}

#[tokio::test]
async fn the_stylesheet_is_served_to_anybody() {
    let (head, css) = get("/console/style.css").await;
    assert_eq!(head.headers()[header::CONTENT_TYPE], "text/css; charset=utf-8");
    assert!(css.contains("prefers-color-scheme: dark"));
}

#[tokio::test]
async fn the_policy_page_says_where_every_country_goes() {
    let (head, html) = get("/console/policy").await;
    assert_eq!(head.status(), StatusCode::OK);
    for said in ["Germany", "eu-central", "uk-south", "us-east", "refused", "The table is sound"] {
        assert!(html.contains(said), "{said}");
    }
    let (_, html) = get("/console/policy?q=germany").await;
    assert!(html.contains("<code>DE</code>") && !html.contains("<code>FR</code>"), "narrowed down");
    let (_, html) = get("/console/policy?to=us-east").await;
    assert!(html.contains("<code>US</code>") && !html.contains("<code>DE</code>"), "narrowed down");
}

#[tokio::test]
async fn without_regions_the_overview_says_so() {
    let (head, html) = get("/console").await;
    assert_eq!(head.status(), StatusCode::OK);
    assert!(html.contains("No region is served here."));
}
