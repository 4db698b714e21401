//! Browsers: the login, what its cookie opens, and what it does not.

use super::*;

async fn login(scene: &Scene, key: &str) -> Answer {
    let sent = Request::builder()
        .method("POST")
        .uri("/console/login")
        .header("host", "gateway.example")
        .header("origin", "http://gateway.example")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(format!("key={key}")))
        .unwrap();
    scene.send(sent).await
}

fn cookie(answer: &Answer) -> String {
    answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

async fn with_cookie(scene: &Scene, method: &str, path: &str, cookie: &str, more: &[(&str, &str)]) -> Answer {
    let mut sent =
        Request::builder().method(method).uri(path).header("cookie", cookie).header("host", "gateway.example");
    for (name, value) in more {
        sent = sent.header(*name, *value);
    }
    scene.send(sent.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_login_opens_the_pages_and_nothing_else() {
    let scene = Scene::new();
    let answer = login(&scene, AUDITOR).await;
    assert_eq!(answer.status, 303);
    let attributes = answer.headers["set-cookie"].to_str().unwrap();
    assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"), "{attributes}");
    assert!(!attributes.contains(AUDITOR));
    let cookie = cookie(&answer);
    for path in ["/console", "/docs", "/events", "/openapi.json"] {
        assert_eq!(with_cookie(&scene, "GET", path, &cookie, &[]).await.status, 200, "{path}");
    }
    for path in ["/v1/audit/decisions", "/v1/subjects/anna", "/v1/subjects/anna/records/profile/address"] {
        assert_eq!(with_cookie(&scene, "GET", path, &cookie, &[]).await.code(), "unauthenticated", "{path}");
    }
}

#[tokio::test]
async fn the_session_ends_with_its_key_and_with_the_logout() {
    let scene = Scene::new();
    let first = cookie(&login(&scene, AUDITOR).await);
    assert_eq!(with_cookie(&scene, "POST", "/console/logout", &first, &[]).await.status, 303);
    assert_eq!(with_cookie(&scene, "GET", "/console", &first, &[]).await.code(), "unauthenticated");
    let second = cookie(&login(&scene, AUDITOR).await);
    assert_eq!(with_cookie(&scene, "GET", "/console", &second, &[]).await.status, 200);
    scene.keys.revoke(AUDITOR);
    assert_eq!(with_cookie(&scene, "GET", "/console", &second, &[]).await.code(), "credentials_refused");
}

#[tokio::test]
async fn a_key_without_the_scope_gets_no_cookie() {
    let scene = Scene::new();
    for key in [READER, "dom_none_x", "", "%00", &"x".repeat(2_000)] {
        let answer = login(&scene, key).await;
        assert_eq!(answer.status, 401, "{key}");
        assert!(!answer.headers.contains_key("set-cookie"), "{key}");
        assert!(String::from_utf8_lossy(&answer.body).contains("<form"), "{key}");
    }
    assert_eq!(scene.get("/console", READER).await.code(), "scope_missing");
    assert_eq!(scene.get("/docs", READER).await.status, 200);
}

#[tokio::test]
async fn forms_come_from_our_own_pages() {
    let scene = Scene::new();
    let foreign = Request::builder()
        .method("POST")
        .uri("/console/login")
        .header("host", "gateway.example")
        .header("origin", "https://evil.example")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(format!("key={AUDITOR}")))
        .unwrap();
    assert_eq!(scene.send(foreign).await.code(), "cross_site");
    let cookie = cookie(&login(&scene, AUDITOR).await);
    let evil = [("origin", "https://evil.example")];
    assert_eq!(with_cookie(&scene, "POST", "/console", &cookie, &evil).await.code(), "cross_site");
    let ours = [("origin", "http://gateway.example"), ("sec-fetch-site", "same-origin")];
    assert_eq!(with_cookie(&scene, "POST", "/console", &cookie, &ours).await.status, 200);
    // An origin that is kept back is nobody's, unless the browser itself says that it is ours.
    let kept_back = [("origin", "null")];
    assert_eq!(with_cookie(&scene, "POST", "/console", &cookie, &kept_back).await.code(), "cross_site");
    let framed = [("origin", "null"), ("sec-fetch-site", "cross-site")];
    assert_eq!(with_cookie(&scene, "POST", "/console", &cookie, &framed).await.code(), "cross_site");
    let told = [("origin", "null"), ("sec-fetch-site", "same-origin")];
    assert_eq!(with_cookie(&scene, "POST", "/console", &cookie, &told).await.status, 200);
}

#[tokio::test]
async fn a_page_with_a_form_lets_the_browser_say_where_the_form_comes_from() {
    let scene = Scene::new();
    for answer in [with_cookie(&scene, "GET", "/console/login", "", &[]).await, login(&scene, "dom_none_x").await] {
        assert!(String::from_utf8_lossy(&answer.body).contains("<form"));
        assert_eq!(answer.headers["referrer-policy"], "same-origin", "or Chromium sends `Origin: null`");
    }
}

#[tokio::test]
async fn a_browser_without_a_session_is_shown_the_door() {
    let scene = Scene::new();
    let answer = with_cookie(&scene, "GET", "/docs", "", &[("accept", "text/html,*/*")]).await;
    assert_eq!((answer.status.as_u16(), answer.headers["location"].to_str().unwrap()), (303, "/console/login"));
    assert_eq!(with_cookie(&scene, "GET", "/console/login", "", &[]).await.status, 200);
    assert_eq!(with_cookie(&scene, "GET", "/console/style.css", "", &[]).await.status, 200);
}

#[tokio::test]
async fn strangers_at_the_login_cannot_take_the_places_of_callers() {
    let scene = Scene::with(|settings| {
        settings.limits.requests_max = 4;
        settings.limits.logins_max = 1;
    });
    let stranger = || {
        let (body, _) = never_sent();
        let sent = Request::builder().method("POST").uri("/console/login");
        sent.header("content-type", "application/x-www-form-urlencoded").body(body).unwrap()
    };
    let mut slow: Vec<_> = (0..8).map(|_| Box::pin(scene.send(stranger()))).collect();
    // All have begun, and all but one have been sent away.
    let (mut waiting, mut refused) = (0, 0);
    for login in &mut slow {
        match futures::poll!(login) {
            std::task::Poll::Pending => waiting += 1,
            std::task::Poll::Ready(answer) => refused += u32::from(answer.code() == "overloaded"),
        }
    }
    assert_eq!((waiting, refused), (1, 7));
    assert_ne!(scene.get("/docs", ALL).await.status, 503);
    assert_eq!(slow.remove(0).await.code(), "body_too_slow");
}

#[tokio::test]
async fn a_login_form_is_short() {
    let scene = Scene::new();
    assert_eq!(login(&scene, &"x".repeat(10_000)).await.code(), "bad_request");
}
