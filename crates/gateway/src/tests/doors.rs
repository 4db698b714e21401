//! Who comes in, and what happens before a body is read.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;

/// Every operation of the description, with its placeholders filled.
fn operations() -> Vec<(String, String)> {
    let document = crate::openapi();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled = path
            .replace("{subject}", "anna")
            .replace("{collection}", "profile")
            .replace("{key}", "address")
            .replace("{attribute}", "colour")
            .replace("{region}", "eu-central")
            .replace("{tile}", "0/x001/234")
            .replace("{seq}", "42")
            .replace("{id}", "01935b5e-8a7e-7a0c-9d53-0c2a4e7f9b11");
        assert!(!filled.contains('{'), "{filled}");
        for method in item.as_object().unwrap().keys() {
            all.push((method.to_uppercase(), filled.clone()));
        }
    }
    all
}

#[tokio::test]
async fn nothing_but_health_is_open() {
    let scene = Scene::new();
    let others = ["/openapi.json", "/docs", "/events", "/console", "/nowhere", "/v1/nowhere", "/metrics", "/readyz"];
    let others = others.map(|path| ("GET".to_owned(), path.to_owned()));
    for (method, path) in operations().into_iter().chain(others) {
        for (key, code) in
            [("", "unauthenticated"), ("dom_none_x", "credentials_refused"), ("a.b.c", "credentials_refused")]
        {
            let (body, touched) = never_sent();
            let answer = scene.send(request(&method, &path, key).body(body).unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, code), "{method} {path} {key}");
            assert!(!touched.load(Ordering::SeqCst), "{method} {path}");
        }
    }
    assert_eq!(scene.get("/healthz", "").await.status, 200);
}

#[tokio::test]
async fn every_operation_of_the_description_is_served_and_no_other() {
    let scene = Scene::new();
    let described = operations();
    for (method, path) in &described {
        let (body, _) = never_sent();
        let answer = scene.send(request(method, path, ALL).header("content-type", "x/y").body(body).unwrap()).await;
        assert!(!matches!(answer.status.as_u16(), 404 | 405), "{method} {path}: {}", answer.status);
    }
    for (_, path) in &described {
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            if described.iter().any(|known| known.0 == method && known.1 == *path) {
                continue;
            }
            let answer = scene.send(request(method, path, ALL).body(Body::empty()).unwrap()).await;
            assert_eq!(answer.code(), "method_not_allowed", "{method} {path}");
            assert!(answer.headers.contains_key("allow"), "{method} {path}");
        }
    }
    assert_eq!(scene.get("/v1/nowhere", ALL).await.code(), "route_not_found");
}

#[tokio::test]
async fn a_refusal_comes_before_one_byte_of_the_body_is_read() {
    let scene = Scene::new();
    for (method, path, key, header, code) in [
        ("PUT", "/v1/subjects/anna/records/profile/address", READER, ("accept", "*/*"), "scope_missing"),
        ("PUT", "/v1/subjects/anna/records/profile/address", ALL, ("accept", "*/*"), "directory_unavailable"),
        ("PATCH", "/v1/subjects/anna/records/profile/address", ALL, ("if-match", "W/\"1\""), "header_malformed"),
        ("PUT", "/v1/subjects/anna/records/a%20b/address", ALL, ("accept", "*/*"), "malformed_path"),
        ("PUT", "/v1/subjects/%ff/records/profile/address", ALL, ("accept", "*/*"), "malformed_path"),
        ("PUT", "/v1/subjects/anna/zero-party/colour", ALL, ("domicile-residence", "Germany"), "header_malformed"),
        ("POST", "/v1/subjects/anna/events", ALL, ("idempotency-key", "a b"), "header_malformed"),
        ("POST", "/v1/subjects/anna/events", READER, ("accept", "*/*"), "scope_missing"),
        ("POST", "/v1/batch", ALL, ("domicile-residence", "DE"), "header_misplaced"),
    ] {
        let (body, touched) = never_sent();
        let sent = request(method, path, key).header(header.0, header.1).header("content-type", "application/json");
        let answer = scene.send(sent.body(body).unwrap()).await;
        assert_eq!(answer.code(), code, "{method} {path}");
        assert!(!touched.load(Ordering::SeqCst), "{method} {path}");
    }
}

#[tokio::test]
async fn a_header_that_stands_twice_is_refused() {
    let scene = Scene::new();
    for name in ["domicile-residence", "domicile-tenant", "domicile-client-address"] {
        let value = if name.ends_with("address") { "2.160.0.1" } else { "DE" };
        let sent = request("GET", "/v1/subjects/anna", ALL).header(name, value).header(name, value);
        assert_eq!(scene.send(sent.body(Body::empty()).unwrap()).await.code(), "header_repeated", "{name}");
    }
    let sent = request("GET", "/v1/subjects/anna", ALL).header("authorization", format!("Bearer {READER}"));
    assert_eq!(scene.send(sent.body(Body::empty()).unwrap()).await.code(), "header_repeated");
}

#[tokio::test]
async fn a_caller_that_is_too_fast_is_told_when_to_come_back_and_others_are_not_held_up() {
    let scene = Scene::with(|settings| {
        settings.limits.caller_requests_per_s_max = NonZeroU32::new(1);
        settings.limits.caller_burst_max = NonZeroU32::new(2).unwrap();
    });
    for _ in 0..2 {
        assert_eq!(scene.get("/docs", ALL).await.status, 200);
    }
    // One more each second is within the rate: a slow machine finds the bound a few requests later.
    let mut next = scene.get("/docs", ALL).await;
    for _ in 0..1_000 {
        if next.status != 200 {
            break;
        }
        next = scene.get("/docs", ALL).await;
    }
    assert_eq!(next.code(), "rate_limited");
    assert_eq!(scene.get("/docs", READER).await.status, 200);
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_so_at_once() {
    let scene = Scene::with(|settings| settings.limits.requests_max = 2);
    let mut held = [(); 2].map(|()| Box::pin(scene.get("/docs", HANGING)));
    for request in &mut held {
        assert!(futures::poll!(request).is_pending());
    }
    // At once: it is answered although the two will never make room.
    assert_eq!(scene.get("/docs", ALL).await.code(), "overloaded");
    drop(held);
    assert_eq!(scene.get("/docs", ALL).await.status, 200);
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let scene = Scene::with(|settings| settings.limits.request_max = Duration::from_millis(50));
    assert_eq!(scene.get("/docs", HANGING).await.code(), "deadline_exceeded");
}

#[tokio::test]
async fn even_a_panic_is_answered_as_a_problem_that_names_its_request() {
    let scene = Scene::new();
    let sent = request("GET", "/v1/subjects/anna", CURSED).header("x-request-id", "checkout-7");
    let answer = scene.send(sent.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.code(), "internal");
    assert_eq!(answer.json()["instance"], "urn:domicile:request:checkout-7");
    assert!(!String::from_utf8_lossy(&answer.body).contains("a bug"));
    assert_eq!(scene.get("/docs", ALL).await.status, 200);
}

#[tokio::test]
async fn every_answer_is_named_and_kept_from_caches_and_frames() {
    let scene = Scene::new();
    for (path, key) in [("/healthz", ""), ("/docs", ALL), ("/openapi.json", ALL), ("/nowhere", ALL), ("/nowhere", "")] {
        let answer = scene.get(path, key).await;
        assert!(answer.headers["x-request-id"].len() >= 32, "{path}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert!(answer.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"), "{path}");
    }
}
