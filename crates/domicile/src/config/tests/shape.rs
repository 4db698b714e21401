//! What a file may look like, and how it is said that it does not.

use super::*;

#[test]
fn a_sound_configuration_has_nothing_to_say() {
    let config = Scene::new().sound();
    assert_eq!(config.warnings, Mistakes::default());
    assert_eq!(config.served.keys().map(Region::as_str).collect::<Vec<_>>(), ["eu-central"]);
    let homes: Vec<_> = config.home_urls.values().map(String::as_str).collect();
    assert_eq!(homes, ["https://uk.example.com", "https://us.example.com"]);
    let dsn = config.directory.postgres.dsn.expose_secret();
    assert_eq!(dsn, format!("postgres://domicile:{PASSWORD}@db.internal/directory"));
    assert_eq!(config.directory.current_pepper, 1);
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn every_mistake_is_reported_at_once_with_its_line() {
    let mistakes = Scene::new()
        .with("[gateway]", "[gateway]\nlisten = 8080\nlisten_admin = \"x\"")
        .with("key_id = 1", "key_id = 0")
        .with("account = \"example-eu\"", "account = \"https://example-eu\"")
        .with("https://us.example.com/", "ftp://us.example.com")
        .with("file:eu-dsn", "file:not-there")
        .and("[telemetri]\n")
        .mistakes();
    let keys: Vec<_> = mistakes.errors().map(|m| m.key.as_str()).collect();
    for key in [
        "gateway.listen",
        "gateway.listen_admin",
        "directory.peppers[0].key_id",
        "regions.eu-central.snowflake.account",
        "regions.us-east.home_url",
        "regions.eu-central.postgres",
        "telemetri",
    ] {
        assert!(keys.contains(&key), "{key} is reported:\n{mistakes}");
    }
    assert_eq!(keys.len(), 7, "and nothing else:\n{mistakes}");
    let listen = mistakes.errors().find(|m| m.key == "gateway.listen").expect("reported");
    assert!(listen.at.ends_with("domicile.toml:3"), "{}", listen.at);
    assert!(mistakes.errors().all(|m| !m.at.is_empty() && !m.message.is_empty() && !m.fix.is_empty()));
}

#[test]
fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    Scene::new().with("region = ", "lisetn = \"127.0.0.1:1\"\nregion = ").refused("gateway.lisetn", "`listen`");
}

#[test]
fn a_wrong_type_is_named_with_the_right_one() {
    Scene::new().with("region = ", "listen = 8080\nregion = ").refused("gateway.listen", "a text in quotes");
}

#[test]
fn a_number_out_of_range_is_named_with_the_range() {
    Scene::new()
        .and("[gateway.limits]\nbody_bytes_max = 12\n")
        .refused("gateway.limits.body_bytes_max", "from 1024 to 16777216");
}

#[test]
fn an_unknown_word_is_named_with_the_accepted_ones() {
    Scene::new()
        .with("log_origin", "audit_reads = \"durabel\"\nlog_origin")
        .refused("regions.eu-central.audit_reads", "\"durable\"");
}

#[test]
fn what_is_not_toml_is_named_with_its_line() {
    let mistakes = Scene::new().with("region = \"eu-central\"", "region = eu-central").mistakes();
    assert!(mistakes.0[0].at.ends_with("domicile.toml:3"), "{mistakes}");
}

#[test]
fn a_missing_file_is_a_mistake_and_not_a_default() {
    let mistakes = load_with(Path::new("/nowhere/domicile.toml"), &BTreeMap::new()).expect_err("a mistake");
    assert!(mistakes.0[0].fix.contains("--config"), "{mistakes}");
}

#[test]
fn a_policy_that_cannot_be_read_is_reported_with_its_own_keys() {
    Scene::new().and("[policy]\nfile = \"none.toml\"\n").refused("policy.file", "none.toml");
    let scene = Scene::new().and("[policy]\nfile = \"policy.toml\"\n");
    scene.file("policy.toml", "version = \"1\"\ncolour = \"red\"\n", 0o644);
    let mistakes = scene.mistakes();
    assert!(mistakes.errors().all(|m| m.at.ends_with("policy.toml") && !m.fix.is_empty()), "{mistakes}");
}
