//! Who may call: nothing but health is open, a key can be revoked, and a token speaks for its own subject only.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{PATIENCE, person, shared, until};
use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_health_is_open() {
    let world = shared().await;
    let client = world.client().with_no_key();
    for path in [
        "/v1/subjects/x",
        "/v1/audit/decisions",
        "/openapi.json",
        "/v1/subjects/x/records/c/k",
        "/v1/subjects/x/zero-party/a",
    ] {
        let answer = client.get(path).await.unwrap();
        assert_eq!(answer.status, 401, "{path}: {}", answer.text());
    }
    for token in ["", "x", "dom_", "dom_aaaaaaaaaaaa_bbbb", "dom_' OR 1=1 --", "eyJhbGciOiJub25lIn0.e30."] {
        let answer = world.client().with_key(token).home("x").await.unwrap();
        assert_eq!(answer.status, 401, "{token}");
    }
    let admin = reqwest::get(format!("{}/healthz", world.gateway().admin_url())).await.unwrap();
    assert_eq!(admin.status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_does_only_what_its_scopes_allow() {
    let world = shared().await;
    let reader = world.create_key("reader", &["records:read"], None).await.unwrap();
    let client = world.client().with_key(&reader).residing_in("DE");
    let anna = person("scopes");
    for answer in [
        client.put_record(&anna, "profile", "x", &json!({})).await.unwrap(),
        client.pin(&anna).await.unwrap(),
        client.publish(&anna, "shop.order-placed", "1", &json!({})).await.unwrap(),
        client.declare(&anna, "a", &json!(1), "p").await.unwrap(),
        client.classify(&anna).await.unwrap(),
    ] {
        assert_eq!((answer.status, answer.code().as_deref()), (403, Some("scope_missing")));
    }
    client.get_record(&anna, "profile", "x").await.unwrap().expect(404).unwrap();
}

/// Claims of a token that is fine, to be changed one by one.
#[expect(clippy::disallowed_methods, reason = "a token is dated by the machine's clock")]
fn claims(subject: &str) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    json!({"iss": "https://login.world.test/", "aud": "https://data.world.test", "sub": subject, "exp": now + 300,
        "iat": now, "scope": "records:read records:write subjects:read", "residence": "FR"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_speaks_for_its_own_subject_only() {
    let signing = ed25519_dalek::SigningKey::from_bytes(&rand::random());
    let der = ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_der(&signing).unwrap();
    let key = EncodingKey::from_ed_der(der.as_bytes());
    let base64 = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let public = base64(signing.verifying_key().as_bytes());
    let jwks =
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "alg": "EdDSA", "use": "sig", "x": public}]});
    let folder = std::env::temp_dir().join(format!("domicile-jwks-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("jwks.json");
    std::fs::write(&file, jwks.to_string()).unwrap();

    let world = World::with_regions(["eu-central", "us-east"]).without_brokers().without_snowflakes();
    let algorithms = vec![toml::Value::from("EdDSA")];
    let world = world
        .setting("auth.jwt.issuer", "https://login.world.test/")
        .setting("auth.jwt.audience", "https://data.world.test")
        .setting("auth.jwt.jwks", format!("file:{}", file.display()))
        .setting("auth.jwt.algorithms", algorithms);
    let world = world.start().await.unwrap();
    let sign = |claims: &Value| {
        let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &key).unwrap()
    };
    let base = world.client().unwrap();
    let (anna, ben) = (person("token-anna"), person("token-ben"));

    let client = base.with_key(&sign(&claims(&anna)));
    let put = client.put_record(&anna, "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    assert_eq!(put.region(), Some("eu-central"), "the verified claim places its own subject");
    let other = client.put_record(&ben, "profile", "x", &json!({})).await.unwrap().expect(403).unwrap();
    assert_eq!(other.code().as_deref(), Some("subject_mismatch"));

    // A service's token may act for anybody, but its residence is no evidence about anybody else.
    let mut service = claims("service");
    service["scope"] = "records:read records:write subjects:any".into();
    let client = base.with_key(&sign(&service));
    client.put_record(&ben, "profile", "x", &json!({})).await.unwrap().expect(422).unwrap();
    let put = client.residing_in("US").put_record(&ben, "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    assert_eq!(put.region(), Some("us-east"));

    for (what, field, value) in [
        ("another issuer", "iss", json!("https://evil.world.test/")),
        ("another audience", "aud", json!("https://other.world.test")),
        ("expired", "exp", json!(1)),
        ("not yet valid", "nbf", json!(99_999_999_999_u64)),
    ] {
        let mut bad = claims(&anna);
        bad[field] = value;
        let answer = base.with_key(&sign(&bad)).get_record(&anna, "profile", "x").await.unwrap();
        assert_eq!(answer.status, 401, "{what}");
    }
    // The public key as an HMAC secret: the classic confusion.
    let confused = EncodingKey::from_secret(signing.verifying_key().as_bytes());
    let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::HS256) };
    let confused = encode(&header, &claims(&anna), &confused).unwrap();
    base.with_key(&confused).get_record(&anna, "profile", "x").await.unwrap().expect(401).unwrap();
    let other_key = ed25519_dalek::SigningKey::from_bytes(&rand::random());
    let der = ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_der(&other_key).unwrap();
    let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::EdDSA) };
    let forged = encode(&header, &claims(&anna), &EncodingKey::from_ed_der(der.as_bytes())).unwrap();
    base.with_key(&forged).get_record(&anna, "profile", "x").await.unwrap().expect(401).unwrap();
    world.shutdown().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_within_seconds() {
    let world = shared().await;
    let token = world.create_key("short-lived", &["subjects:read"], None).await.unwrap();
    let client = world.client().with_key(&token);
    client.home("nobody-at-all").await.unwrap().expect(404).unwrap();
    let id = token.split('_').nth(1).expect("a key has an id");
    let sql = format!("UPDATE domicile.api_keys SET revoked_at = now() WHERE id = '{id}'");
    world.directory().sql("directory", &sql).await.unwrap();
    until("The refusal", PATIENCE, || async {
        client.home("nobody-at-all").await.is_ok_and(|answer| answer.status == 401)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_too_many_is_429_and_others_are_served() {
    let world = World::with_regions(["eu-central"]).without_brokers().without_snowflakes();
    let world = world
        .setting("gateway.limits.caller_requests_per_s_max", 5)
        .setting("gateway.limits.caller_burst_max", 5)
        .start()
        .await
        .unwrap();
    let client = world.client().unwrap();
    // Five a second are within the rate, so they come thirty at once, and again on a machine that is slower than that.
    until("A refusal", PATIENCE, || async {
        let answers = futures::future::join_all((0..30).map(|_| client.home("nobody"))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let mut refused = answers.iter().filter(|answer| answer.status == 429).peekable();
        refused.peek().is_some() && refused.all(|answer| answer.header("retry-after").is_some())
    })
    .await
    .unwrap();
    let other = client.with_key(&world.keys().compliance);
    let answer = other.send(other.request(Method::GET, ["v1", "subjects", "nobody"])).await.unwrap();
    assert_eq!(answer.status, 404, "another caller is not held up");
    world.shutdown().await;
}
