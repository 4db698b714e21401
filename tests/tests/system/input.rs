//! Bad input: a clear 4xx with a stable code, nothing lost, no panic.

use reqwest::Method;
use serde_json::json;
use system_tests::{PATIENCE, person, shared};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_acceptable_json_is_a_clear_4xx() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let anna = person("bad-bodies");
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("empty", b"".to_vec()),
        ("cut off", br#"{"a": "#.to_vec()),
        ("trailing", br#"{"a": 1} x"#.to_vec()),
        ("invalid UTF-8", b"{\"a\": \"\xff\xfe\"}".to_vec()),
        ("NUL escape", br#"{"a": "x\u0000y"}"#.to_vec()),
        ("NUL in a key", br#"{"a\u0000": 1}"#.to_vec()),
        ("raw NUL", b"{\"a\": \"x\0y\"}".to_vec()),
        ("lone surrogate", br#"{"a": "\ud800"}"#.to_vec()),
        ("duplicate key", br#"{"a": 1, "a": 2}"#.to_vec()),
        ("too deep", deep.into_bytes()),
        ("a number beyond numeric", br#"{"a": 1e999999}"#.to_vec()),
    ];
    for (what, body) in bodies {
        let put =
            client.record(Method::PUT, &anna, "profile", "x").header("content-type", "application/json").body(body);
        let answer = client.send(put).await.unwrap();
        assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
        assert!(answer.code().is_some(), "{what}: a problem has a code");
    }
    client.put_record(&anna, "profile", "x", &json!({"fine": true})).await.unwrap().expect(201).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_are_413_and_a_megabyte_of_header_is_431() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let anna = person("large");
    let big = json!({ "blob": "x".repeat(10 * 1024 * 1024) });
    // The answer may come while the body is still on its way; then the connection closes under it.
    if let Ok(answer) = client.put_record(&anna, "profile", "big", &big).await {
        assert_eq!((answer.status, answer.code().as_deref()), (413, Some("body_too_large")));
    }
    client.get_record(&anna, "profile", "big").await.unwrap().expect(404).unwrap();

    let host = world.gateway().url().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(&host).await.unwrap();
    let head = format!("GET /v1/subjects/x HTTP/1.1\r\nhost: {host}\r\nx-large: {}\r\n\r\n", "y".repeat(1024 * 1024));
    let _ = connection.write_all(head.as_bytes()).await; // may be cut short by the answer
    let mut answer = vec![0; 64];
    let read = connection.read(&mut answer).await.unwrap_or(0);
    let line = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(read == 0 || line.starts_with("HTTP/1.1 431"), "{line}");
    client.put_record(&anna, "profile", "small", &json!({})).await.unwrap().expect(201).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_headers_and_types_are_checked() {
    let world = shared().await;
    let client = world.client().residing_in("DE");
    let url = |path: &str| format!("{}{path}", world.gateway().url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let key = world.keys().service.clone();
    let get = |path: &str| http.get(url(path)).bearer_auth(&key).header("domicile-residence", "DE");

    for path in [
        "/v1/subjects/%ff/records/profile/x",
        "/v1/subjects/a%00b/records/profile/x",
        "/v1/subjects/a/records/pro%20file/x",
    ] {
        let answer = get(path).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 400, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    assert_eq!(get("/v1/nothing-here").send().await.unwrap().status().as_u16(), 404);
    assert_eq!(http.delete(url("/v1/classify")).bearer_auth(&key).send().await.unwrap().status().as_u16(), 405);

    let twice = get("/v1/subjects/a/records/profile/x").header("domicile-residence", "US");
    assert_eq!(twice.send().await.unwrap().status().as_u16(), 400, "a repeated evidence header is refused");
    let malformed = client.residing_in("Germany").get_record("a", "profile", "x").await.unwrap().expect(400).unwrap();
    assert_eq!(malformed.code().as_deref(), Some("header_malformed"));

    let anna = person("types");
    let put = client.record(Method::PUT, &anna, "profile", "x").header("content-type", "text/plain").body("{}");
    client.send(put).await.unwrap().expect(415).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misdirected_request_is_answered_before_one_byte_of_its_body() {
    let world = shared().await;
    let anna = person("unread-body");
    world.client().residing_in("US").pin(&anna).await.unwrap().expect_success().unwrap();

    // The European gateway is told of a body that never comes.
    let european = world.european();
    let host = european.url().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(&host).await.unwrap();
    let head = format!(
        "PUT /v1/subjects/{anna}/records/profile/x HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100000\r\n\r\n",
        world.keys().service
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // Whoever waited for the body would say in the end that it took too long: another status.
    let mut text = String::new();
    while !text.contains("us-east") {
        let mut some = vec![0; 4096];
        let read = tokio::time::timeout(PATIENCE, connection.read(&mut some)).await;
        let read = read.expect("an answer without the body").unwrap();
        if read == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    assert!(text.starts_with("HTTP/1.1 421"), "{text}");
    assert!(text.contains("us-east"), "it names the home region: {text}");
}
