//! Secrets are referenced, never written, never shown.

use super::*;

#[test]
fn a_secret_in_plain_text_is_refused_and_not_repeated() {
    let scene = Scene::new().with("env:SNOWFLAKE_PASSWORD", "sneeuwpop");
    scene.refused("regions.eu-central.snowflake.password", "file:/run/secrets/");
    assert!(!scene.mistakes().to_string().contains("sneeuwpop"));
}

#[test]
fn a_password_inside_a_url_is_refused_and_not_repeated() {
    let scene = Scene::new().with("\"file:eu-dsn\"", "\"postgres://domicile:geheim@db/eu\"");
    scene.refused("regions.eu-central.postgres", "plain text");
    assert!(!scene.mistakes().to_string().contains("geheim"));
}

#[test]
fn a_login_inside_any_url_is_refused_and_neither_repeated_nor_shown() {
    let scenes = [
        ("regions.uk-south.home_url", Scene::new().with("https://uk.", "https://me:geheim@uk.")),
        ("regions.us-east.home_url", Scene::new().with("https://us.", "https://geheim@us.")),
        (
            "regions.eu-central.redpanda.schema_registry",
            Scene::new().with("[regions.eu-central.snowflake]", "schema_registry = \"http://me:geheim@localhost:8081\"\n[regions.eu-central.snowflake]"),
        ),
        (
            "auth.jwt.jwks",
            Scene::new().and(
                "[auth.jwt]\nissuer = \"https://id.example.com\"\naudience = \"domicile\"\njwks = \"https://me:geheim@id.example.com/keys\"\n",
            ),
        ),
        ("telemetry.otlp.endpoint", Scene::new().and("[telemetry.otlp]\nendpoint = \"http://me:geheim@127.0.0.1:4318\"\n")),
    ];
    for (key, scene) in scenes {
        scene.refused(key, "before the @");
        assert!(!scene.mistakes().to_string().contains("geheim"), "{key}");
        let mut root: raw::Root = toml::from_str(&scene.text).expect("its shape is sound");
        redact(&mut root);
        let shown = toml::to_string(&root).expect("writable");
        assert!(!shown.contains("geheim"), "{shown}");
    }
    Scene::new().with("https://uk.example.com", "https://uk.example.com/@here").sound();
}

#[test]
fn a_missing_secret_is_named_with_its_file_or_variable() {
    Scene::new().with("file:pepper", "file:salt").refused("directory.peppers[0].secret", "salt");
    let mut scene = Scene::new();
    scene.variables.clear();
    scene.refused("regions.eu-central.snowflake.password", "SNOWFLAKE_PASSWORD");
}

#[test]
fn a_secret_that_others_may_read_is_warned_of() {
    let scene = Scene::new();
    scene.file("pepper", PEPPER, 0o644);
    scene.warned("directory.peppers[0].secret", "chmod 600");
}

#[test]
fn a_short_pepper_is_refused() {
    let scene = Scene::new();
    scene.file("pepper", "zout", 0o600);
    scene.refused("directory.peppers[0].secret", "32 bytes");
}

#[test]
fn exactly_one_pepper_is_current_and_each_has_its_own_number() {
    let second = |text: &str| Scene::new().and(&format!("[[directory.peppers]]\nsecret = \"file:pepper\"\n{text}\n"));
    second("key_id = 2").refused("directory.peppers", "No pepper is current");
    second("key_id = 1\ncurrent = true").refused("directory.peppers[1].key_id", "this number");
    assert_eq!(second("key_id = 2\ncurrent = true").sound().directory.current_pepper, 2);
    let mistakes = Scene::new().with("[[directory.peppers]]\nkey_id = 1\nsecret = \"file:pepper\"", "").mistakes();
    assert!(mistakes.mention("directory.peppers"), "{mistakes}");
}

#[test]
fn no_secret_is_ever_shown() {
    let config = Scene::new().sound();
    let shown = format!("{config:?} {config:#?}");
    for secret in [PASSWORD, PEPPER, "geheim", "sneeuw"] {
        assert!(!shown.contains(secret), "a secret is shown");
    }
    assert!(shown.contains("REDACTED"), "the secrets were in reach");
}

#[test]
fn a_secret_in_plain_text_is_not_shown_either() {
    let text = SOUND
        .replace("file:pepper", PEPPER)
        .replace("env:SNOWFLAKE_PASSWORD", "sneeuw")
        .replace("file:eu-dsn", "postgres://d:geheim@db/eu")
        .replace("file:password", PASSWORD);
    let mut root: raw::Root = toml::from_str(&text).expect("its shape is sound");
    redact(&mut root);
    let shown = toml::to_string(&root).expect("writable");
    for secret in [PASSWORD, PEPPER, "geheim", "sneeuw"] {
        assert!(!shown.contains(secret), "a secret is shown:\n{shown}");
    }
    assert!(shown.contains("postgres://domicile@db.internal/directory"), "what is no secret is shown:\n{shown}");
}
