//! Each kind of mistake is found, named by file and key, and comes with its fix; all of them at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;

use super::*;

const PEPPER: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const PASSWORD: &str = "wachtwoord-uit-het-bestand";

/// A sound configuration; each test breaks it in its own way.
const SOUND: &str = r#"
[gateway]
region = "eu-central"

[directory]
postgres = "postgres://domicile@db.internal/directory"
postgres_password = "file:password"

[[directory.peppers]]
key_id = 1
secret = "file:pepper"

[regions.eu-central]
postgres = "file:eu-dsn"
log_origin = "eu.log.example.com"

[regions.eu-central.redpanda]
brokers = ["broker.eu.internal:9092"]

[regions.eu-central.snowflake]
account = "example-eu"
user = "DOMICILE"
password = "env:SNOWFLAKE_PASSWORD"
warehouse = "W"
database = "D"

[regions.uk-south]
home_url = "https://uk.example.com"

[regions.us-east]
home_url = "https://us.example.com/"
"#;

struct Scene {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    text: String,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Self { folder, variables: BTreeMap::new(), text: SOUND.to_owned() };
        scene.file("password", PASSWORD, 0o600);
        scene.file("pepper", PEPPER, 0o600);
        scene.file("eu-dsn", "postgres://domicile:geheim@db.eu.internal/eu\n", 0o600);
        scene.variable("SNOWFLAKE_PASSWORD", "sneeuw")
    }

    fn file(&self, name: &str, content: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Replaces a piece of the sound text, which must be there.
    fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "the sound text holds {old}");
        self.text = self.text.replacen(old, new, 1);
        self
    }

    fn and(mut self, more: &str) -> Self {
        self.text.push_str(more);
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("domicile.toml")
    }

    fn load(&self) -> Result<Config, Mistakes> {
        parse(&self.path(), &self.text, &self.variables)
    }

    fn sound(&self) -> Config {
        self.load().unwrap_or_else(|mistakes| panic!("sound, but:\n{mistakes}"))
    }

    fn mistakes(&self) -> Mistakes {
        self.load().err().expect("a mistake is found")
    }

    /// The one error there is, which must have this key and say this in its message or fix.
    fn refused(&self, key: &str, says: &str) {
        let mistakes = self.mistakes();
        let errors: Vec<_> = mistakes.errors().collect();
        assert_eq!(errors.len(), 1, "exactly one error:\n{mistakes}");
        assert_eq!(errors[0].key, key, "{mistakes}");
        assert!(errors[0].message.contains(says) || errors[0].fix.contains(says), "{says} is said:\n{mistakes}");
        assert!(!errors[0].fix.is_empty(), "there is a fix:\n{mistakes}");
    }

    fn warned(&self, key: &str, says: &str) {
        let warnings = self.sound().warnings;
        let found = warnings.0.iter().any(|w| w.key == key && (w.message.contains(says) || w.fix.contains(says)));
        assert!(found, "{key} is warned of:\n{warnings}");
    }
}

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
    let mistakes = load_with(Path::new("/nowhere/domicile.toml"), &BTreeMap::new()).err().expect("a mistake");
    assert!(mistakes.0[0].fix.contains("--config"), "{mistakes}");
}

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
fn a_region_that_the_policy_lacks_is_refused_with_the_one_that_was_meant() {
    let mistakes = Scene::new().with("[regions.us-east]", "[regions.us-eats]").mistakes();
    let errors: Vec<_> = mistakes.errors().collect();
    assert!(errors.iter().any(|m| m.key == "regions.us-eats" && m.fix.contains("us-east")), "{mistakes}");
    assert!(errors.iter().any(|m| m.key == "regions.us-east" && m.message.contains("The policy sends")), "{mistakes}");
    assert_eq!(errors.len(), 2, "{mistakes}");
}

#[test]
fn a_region_of_the_policy_that_the_file_lacks_is_refused() {
    let lacking = "[regions.uk-south]\nhome_url = \"https://uk.example.com\"\n";
    Scene::new().with(lacking, "").refused("regions.uk-south", "[regions.uk-south]");
}

#[test]
fn a_region_name_that_is_none_is_refused() {
    let mistakes = Scene::new().and("[regions.all]\nhome_url = \"https://x.example\"\n").mistakes();
    assert_eq!(mistakes.errors().map(|m| m.key.as_str()).collect::<Vec<_>>(), ["regions.all"], "{mistakes}");
}

#[test]
fn a_jurisdiction_that_contradicts_the_policy_is_refused() {
    Scene::new()
        .with("log_origin", "jurisdiction = \"us\"\nlog_origin")
        .refused("regions.eu-central.jurisdiction", "jurisdiction eu");
}

#[test]
fn a_placement_that_the_policy_does_not_allow_is_refused() {
    Scene::new()
        .with("log_origin", "placement = \"aws/us-east-1\"\nlog_origin")
        .refused("regions.eu-central.placement", "azure/germanywestcentral");
    Scene::new().with("log_origin", "placement = \"azure/germanywestcentral\"\nlog_origin").sound();
}

#[test]
fn two_regions_in_one_database_are_refused_however_the_url_is_written() {
    let scene = Scene::new().with(
        "[regions.us-east]\nhome_url = \"https://us.example.com/\"",
        "[regions.us-east]\npostgres = \"postgres://other@DB.eu.internal:5432/eu\"\nlog_origin = \"us.log.example.com\"",
    );
    let mistakes = scene.mistakes();
    assert!(mistakes.errors().any(|m| m.message.contains("share one database")), "{mistakes}");
}

#[test]
fn a_server_in_two_jurisdictions_is_refused_and_on_this_machine_warned_of() {
    let two = |eu: &str, us: &str| {
        let scene = Scene::new().with(
            "[regions.us-east]\nhome_url = \"https://us.example.com/\"",
            &format!("[regions.us-east]\npostgres = \"{us}\"\nlog_origin = \"us.log.example.com\""),
        );
        scene.file("eu-dsn", eu, 0o600);
        scene
    };
    two("postgres://d@db.internal/eu", "postgres://d@db.internal/us")
        .refused("regions.us-east.postgres", "one place only");
    two("postgres://d@127.0.0.1/eu", "postgres://d@127.0.0.1/us").warned("regions.us-east.postgres", "one place only");
    assert_eq!(two("postgres://d@a.internal/d", "postgres://d@b.internal/d").sound().warnings, Mistakes::default());
}

#[test]
fn two_logs_of_one_name_are_refused() {
    Scene::new()
        .with(
            "[regions.us-east]\nhome_url = \"https://us.example.com/\"",
            "[regions.us-east]\npostgres = \"postgres://d@db.us/us\"\nlog_origin = \"eu.log.example.com\"",
        )
        .refused("regions.us-east.log_origin", "same name");
}

#[test]
fn a_region_served_elsewhere_must_say_where() {
    Scene::new()
        .with("home_url = \"https://us.example.com/\"", "served = false")
        .refused("regions.us-east.home_url", "https://");
}

#[test]
fn a_way_into_a_region_that_is_not_served_here_is_warned_of() {
    Scene::new()
        .with("[regions.us-east]", "[regions.us-east]\nserved = false\npostgres = \"postgres://d@db.us/us\"")
        .warned("regions.us-east.postgres", "not served here");
}

#[test]
fn the_gateways_own_region_must_be_served_by_it() {
    Scene::new().with("region = \"eu-central\"", "region = \"us-east\"").refused("gateway.region", "served = true");
    Scene::new().with("region = \"eu-central\"", "").refused("gateway.region", "Name the region");
}

#[test]
fn an_admin_listener_for_the_world_is_warned_of() {
    Scene::new()
        .with("region = ", "admin_listen = \"0.0.0.0:9090\"\nregion = ")
        .warned("gateway.admin_listen", "other machines");
    Scene::new()
        .with("region = ", "admin_listen = \"127.0.0.1:8080\"\nregion = ")
        .refused("gateway.admin_listen", "same address");
}

#[test]
fn forwarding_headers_need_proxies_that_are_trusted_and_named() {
    let forwarding = |text: &str| Scene::new().and(&format!("[gateway.forwarding]\n{text}\n"));
    forwarding("source = \"x-forwarded-for\"").refused("gateway.forwarding.trusted", "no proxy is trusted");
    let everyone = "source = \"forwarded\"\ntrusted = [\"0.0.0.0/0\"]";
    forwarding(everyone).refused("gateway.forwarding.trusted[0]", "whole internet");
    let nonsense = "source = \"forwarded\"\ntrusted = [\"10.0.0.0/8\", \"proxy\"]";
    forwarding(nonsense).refused("gateway.forwarding.trusted[1]", "not a network");
    forwarding("source = \"header\"\ntrusted = [\"10.0.0.1\"]").refused("gateway.forwarding.header", "header");
    forwarding("trusted = [\"10.0.0.0/8\"]").warned("gateway.forwarding.trusted", "no header is read");
}

#[test]
fn geoip_settings_are_checked_and_the_demonstration_is_marked() {
    let geoip = |text: &str| Scene::new().and(&format!("[geoip]\n{text}\n"));
    geoip("path = \"demo\"").warned("geoip.path", "demonstrations");
    geoip("path = \"missing.mmdb\"").refused("geoip.path", "missing.mmdb");
    geoip("").refused("geoip.path", "path = ");
    geoip("path = \"demo\"\nsha256 = \"abc\"").refused("geoip.sha256", "sha256sum");
    geoip("path = \"demo\"\ncanaries = { \"2.160.0.1\" = \"Germany\" }")
        .refused("geoip.canaries.2.160.0.1", "\"DE\"");
}

#[test]
fn tokens_need_an_issuer_an_audience_and_keys_over_tls() {
    let jwt = |text: &str| Scene::new().and(&format!("[auth.jwt]\n{text}\n"));
    let keys: Vec<String> = jwt("").mistakes().errors().map(|m| m.key.clone()).collect();
    assert_eq!(keys, ["auth.jwt.issuer", "auth.jwt.audience", "auth.jwt.jwks"]);
    let with = |jwks: &str| jwt(&format!("issuer = \"i\"\naudience = \"a\"\njwks = \"{jwks}\""));
    with("http://login.example.com/jwks").refused("auth.jwt.jwks", "https");
    with("file:none.json").refused("auth.jwt.jwks", "none.json");
    assert!(with("https://login.example.com/jwks").sound().jwt.is_some());
    assert!(with("http://127.0.0.1:9/jwks").sound().jwt.is_some());
    jwt("issuer = \"i\"\naudience = \"a\"\njwks = \"https://x\"\nalgorithms = [\"HS256\"]")
        .refused("auth.jwt.algorithms[0]", "RS256");
}

#[test]
fn a_broker_needs_a_host_a_port_and_a_protected_password() {
    let broker = |old: &str, new: &str| Scene::new().with(old, new);
    let list = "brokers = [\"broker.eu.internal:9092\"]";
    broker(list, "brokers = []").refused("regions.eu-central.redpanda.brokers", "no broker");
    broker(list, "brokers = [\"broker\"]").refused("regions.eu-central.redpanda.brokers[0]", "host and port");
    let plaintext = format!("{list}\nsecurity = \"plaintext\"");
    broker(list, &plaintext).warned("regions.eu-central.redpanda.security", "plain text");
    let sasl = format!("{plaintext}\nsasl = {{ user = \"u\", password = \"file:password\" }}");
    broker(list, &sasl).refused("regions.eu-central.redpanda.sasl", "tls");
}

#[test]
fn snowflake_needs_an_account_or_a_folder_and_one_way_to_prove_itself() {
    let table = "regions.eu-central.snowflake";
    Scene::new()
        .with("password = \"env:SNOWFLAKE_PASSWORD\"", "")
        .refused(&format!("{table}.private_key"), "prove itself");
    Scene::new()
        .with("account = \"example-eu\"", "account = \"example-eu\"\nfolder = \"rows\"")
        .refused(&format!("{table}.folder"), "Both");
    Scene::new()
        .with("database = \"D\"", "database = \"D;DROP\"")
        .refused(&format!("{table}.database"), "identifier");
}

#[test]
fn telemetry_is_checked() {
    Scene::new().and("[telemetry]\nfilter = \"info,,=x=\"\n").refused("telemetry.filter", "info,storage=debug");
    Scene::new()
        .and("[telemetry.otlp]\nendpoint = \"https://collector:4318\"\n")
        .refused("telemetry.otlp.endpoint", "plain http");
}

#[test]
fn a_policy_that_cannot_be_read_is_reported_with_its_own_keys() {
    Scene::new().and("[policy]\nfile = \"none.toml\"\n").refused("policy.file", "none.toml");
    let scene = Scene::new().and("[policy]\nfile = \"policy.toml\"\n");
    scene.file("policy.toml", "version = \"1\"\ncolour = \"red\"\n", 0o644);
    let mistakes = scene.mistakes();
    assert!(mistakes.errors().all(|m| m.at.ends_with("policy.toml") && !m.fix.is_empty()), "{mistakes}");
}

#[test]
fn the_environment_lies_over_the_file() {
    let config = Scene::new()
        .variable("DOMICILE__GATEWAY__LISTEN", "127.0.0.1:1234")
        .variable("DOMICILE__GATEWAY__LIMITS__BODY_BYTES_MAX", "4096")
        .variable("DOMICILE__GATEWAY__FORWARDING__SOURCE", "forwarded")
        .variable("DOMICILE__GATEWAY__FORWARDING__TRUSTED", "10.0.0.0/8, 192.168.0.0/16")
        .variable("DOMICILE__REGIONS__EU_CENTRAL__LOG_ORIGIN", "other.log.example.com")
        .variable("DOMICILE__DIRECTORY__PEPPERS__0__KEY_ID", "7")
        .variable("DOMICILE__TELEMETRY__OTLP__ENDPOINT", "http://127.0.0.1:4318")
        .variable("DOMICILE__TELEMETRY__OTLP__TRACES", "false")
        .variable("DOMICILE_CONFIG", "not a setting")
        .sound();
    assert_eq!(config.gateway.listen.port(), 1234);
    assert_eq!(config.gateway.limits.body_bytes_max, 4096);
    assert_eq!(config.gateway.forwarding.trusted.len(), 2);
    assert_eq!(config.served.values().next().expect("served").log_origin, "other.log.example.com");
    assert_eq!(config.directory.current_pepper, 7);
    assert!(config.telemetry.otlp.is_some_and(|otlp| !otlp.traces && otlp.metrics));
}

#[test]
fn a_region_can_be_written_by_the_environment_alone() {
    let config = Scene::new()
        .with("[regions.us-east]\nhome_url = \"https://us.example.com/\"", "")
        .variable("DOMICILE__REGIONS__US_EAST__HOME_URL", "https://us.example.org")
        .sound();
    assert_eq!(config.home_urls.values().last().map(String::as_str), Some("https://us.example.org"));
}

#[test]
fn a_mistake_in_the_environment_is_named_by_its_variable() {
    let unknown = Scene::new().variable("DOMICILE__GATEWAY__LISTNE", "x").mistakes();
    assert!(unknown.0[0].at.contains("DOMICILE__GATEWAY__LISTNE") && unknown.0[0].fix.contains("LISTEN"), "{unknown}");
    let wrong = Scene::new().variable("DOMICILE__GATEWAY__LIMITS__DRAIN_S_MAX", "soon").mistakes();
    assert!(wrong.0[0].at.contains("DRAIN_S_MAX") && wrong.0[0].message.contains("whole number"), "{wrong}");
    let meaning = Scene::new().variable("DOMICILE__GATEWAY__LISTEN", "nowhere").mistakes();
    assert!(meaning.0[0].at.contains("environment variable DOMICILE__GATEWAY__LISTEN"), "{meaning}");
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

#[test]
fn the_annotated_example_is_sound_but_for_its_secrets() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/domicile.toml");
    let mistakes = load_with(&path, &BTreeMap::new()).err().expect("its secrets are not here");
    for mistake in mistakes.errors() {
        assert!(mistake.message.contains("/run/secrets/"), "only secrets are missing:\n{mistakes}");
    }
}

#[test]
fn the_annotated_example_holds_every_key_that_exists() {
    let text = include_str!("../../../../config/domicile.toml");
    let schema = json_schema();
    let tables = schema["$defs"].as_object().expect("definitions").values().chain([&schema]);
    for key in tables.filter_map(|t| t["properties"].as_object()).flat_map(|p| p.keys()) {
        let shown = text.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ', '[']);
            line.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with([' ', '.', ']']))
                || line.contains(&format!(".{key}]"))
                || line.contains(&format!(" {key} = "))
        });
        assert!(shown, "{key} is in config/domicile.toml");
    }
}

#[test]
fn the_commented_defaults_of_the_example_are_the_defaults() {
    let text = include_str!("../../../../config/domicile.toml");
    let mut root = serde_json::to_value(raw::Root::default()).expect("serializable");
    root["geoip"] = serde_json::to_value(raw::GeoIp::default()).expect("serializable");
    root["region"] = serde_json::to_value(raw::Region::default()).expect("serializable");
    root["redpanda"] = serde_json::to_value(raw::Redpanda::default()).expect("serializable");
    root["snowflake"] = serde_json::to_value(raw::Snowflake::default()).expect("serializable");
    root["otlp"] = serde_json::to_value(raw::Otlp::default()).expect("serializable");
    for (table, key) in [
        ("gateway/limits", "body_bytes_max"),
        ("gateway/limits", "batch_body_bytes_max"),
        ("gateway/limits", "head_bytes_max"),
        ("gateway/limits", "request_ms_max"),
        ("gateway/limits", "requests_at_once_max"),
        ("gateway/limits", "caller_requests_per_s_max"),
        ("gateway/limits", "caller_burst_max"),
        ("gateway/limits", "connections_max"),
        ("gateway/limits", "drain_notice_s"),
        ("gateway/limits", "drain_s_max"),
        ("directory", "cache_pins_max"),
        ("events", "relay_batch_rows_max"),
        ("events", "forwarder_batch_rows_max"),
        ("events", "forwarder_batch_ms_max"),
        ("events", "idle_ms_max"),
        ("events", "lease_s"),
        ("geoip", "networks_min"),
        ("geoip", "coverage_percent_min"),
        ("geoip", "reload_s"),
        ("region", "audit_reads"),
        ("region", "reader_connections"),
        ("region", "committer_connections"),
        ("redpanda", "security"),
        ("redpanda", "missing_topics"),
        ("redpanda", "topic_partitions"),
        ("redpanda", "topic_replicas"),
        ("redpanda", "topic_retention_hours"),
        ("snowflake", "create"),
        ("snowflake", "retention_days"),
        ("otlp", "traces"),
        ("otlp", "metrics"),
        ("otlp", "trace_ratio"),
        ("otlp", "metrics_every_s"),
    ] {
        let value = root.pointer(&format!("/{table}/{key}")).expect("a default");
        let written = format!("# {key} = {value}");
        let shown = text.lines().any(|line| line.strip_prefix(&written).is_some_and(|r| r.is_empty() || r.starts_with(' ')));
        assert!(shown, "{written}");
    }
}
