//! Tokens whose keys cannot be had: nobody is let in, and nobody is blamed.

use super::*;
use crate::{JwksSource, JwtSettings};

#[tokio::test]
async fn without_the_providers_keys_a_token_is_told_to_come_back_and_a_key_still_opens() {
    let scene = Scene::with(|settings| {
        let nowhere = JwksSource::File("/nonexistent/jwks.json".into());
        settings.jwt = Some(JwtSettings::new("https://login.example.com/", "https://data.example.com", nowhere));
    });
    // {"alg":"ES256","kid":"k1"}
    let answer = scene.get("/v1/subjects/anna", "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.e30.c2ln").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "identity_unavailable"));
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(scene.get("/openapi.json", READER).await.status, 200);
}
