//! Regions: each alone, all together, against the policy; their stores.

use super::*;

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

fn with_signer(key: &str) -> Scene {
    let scene = Scene::new().with(
        "[regions.eu-central.redpanda]",
        "[regions.eu-central.signer]\nkey = \"file:log-key\"\nmemory_file = \"signed\"\n\n[regions.eu-central.redpanda]",
    );
    scene.file("log-key", key, 0o600);
    scene
}

fn log_key(name: &str, kind: tlog::KeyKind) -> String {
    tlog::SigningKey::new(name, kind, &[7; 32]).expect("a key").to_secret_text().to_string()
}

#[test]
fn a_log_is_signed_by_its_own_key_and_no_other() {
    let config = with_signer(&log_key("eu.log.example.com", tlog::KeyKind::Log)).sound();
    let signer = config.served.values().next().and_then(|served| served.signer.as_ref()).expect("a signer");
    assert_eq!(signer.key.public().name(), "eu.log.example.com");
    for (key, says) in [
        (log_key("us.log.example.com", tlog::KeyKind::Log), "us.log.example.com"),
        (log_key("eu.log.example.com", tlog::KeyKind::Witness), "not this region's log"),
        ("geheim".to_owned(), "no private key"),
    ] {
        with_signer(&key).refused("regions.eu-central.signer.key", says);
    }
}

#[test]
fn a_signer_without_a_place_for_its_memory_is_warned_of() {
    let scene = with_signer(&log_key("eu.log.example.com", tlog::KeyKind::Log));
    let scene = scene.with("memory_file = \"signed\"", "memory_file = \"nowhere/signed\"");
    scene.warned("regions.eu-central.signer.memory_file", "not there");
}

#[test]
fn a_witness_is_named_by_its_public_key_and_its_url() {
    let key =
        tlog::SigningKey::new("w.example/1", tlog::KeyKind::Witness, &[3; 32]).expect("a key").public().to_string();
    let with = |key: &str, url: &str| {
        let line = format!("memory_file = \"signed\"\nwitnesses = [{{ key = \"{key}\", url = \"{url}\" }}]");
        with_signer(&log_key("eu.log.example.com", tlog::KeyKind::Log)).with("memory_file = \"signed\"", &line)
    };
    let config = with(&key, "https://w.example").sound();
    let signer = config.served.values().next().and_then(|served| served.signer.as_ref()).expect("a signer");
    assert_eq!(signer.witnesses.len(), 1);
    with("w.example", "https://w.example").refused("regions.eu-central.signer.witnesses[0].key", "public key");
    with(&key, "w.example").refused("regions.eu-central.signer.witnesses[0].url", "");
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
    Scene::new().with("database = \"D\"", "database = \"D;DROP\"").refused(&format!("{table}.database"), "identifier");
    let mail = Scene::new().with("user = \"DOMICILE\"", "user = \"svc@example.com\"");
    mail.sound();
    mail.with("database = \"D\"", "database = \"D\"\nrole = \"R\"").warned(&format!("{table}.user"), "grant the role");
}

#[test]
fn a_wait_for_the_budgets_sake_ends_before_the_alarm() {
    let of = |more: &str| Scene::new().with("database = \"D\"", &format!("database = \"D\"\n{more}"));
    of("batch_s_stretched_max = 900").sound();
    of("credits_per_day_max = 6.0").sound();
    let long = || of("credits_per_day_max = 6.0\nbatch_s_stretched_max = 900");
    let key = "regions.eu-central.snowflake.batch_s_stretched_max";
    long().refused(key, "batch_s_stretched_max = 240");
    long().and("[events]\nforwarder_lag_alarm_s = 30\n").refused(key, "a later alarm");
    long().and("[events]\nforwarder_lag_alarm_s = 960\n").sound();
}

#[test]
fn brokers_and_an_account_of_another_jurisdiction_are_refused_and_so_are_those_of_nowhere() {
    let brokers = "location = \"azure/germanywestcentral\"";
    let account = "location = \"aws/eu-central-1\"";
    for (table, written) in [("redpanda", brokers), ("snowflake", account)] {
        let key = format!("regions.eu-central.{table}.location");
        let at = |location: &str| Scene::new().with(written, location);
        at("location = \"azure/eastus\"").refused(&key, "stands in US");
        at("location = \"aws/eu-west-2\"").refused(&key, "stands in GB");
        at("location = \"aws/eu-nowhere-1\"").refused(&key, "no aws/eu-nowhere-1");
        at("").refused(&key, "not said where");
        at("location = \"gcp/europe-west3\"").sound();
    }
    // On this machine there is nothing to prove.
    let local = Scene::new().with("broker.eu.internal:9092", "127.0.0.1:9092").with(brokers, "");
    local.sound();
    // Beside a broker on this machine, a registry elsewhere has a place, too.
    let registry = |url: &str| {
        let list = format!("127.0.0.1:9092\"]\nschema_registry = \"{url}\"");
        Scene::new().with("broker.eu.internal:9092\"]", &list).with(brokers, "")
    };
    registry("http://127.0.0.1:8081").sound();
    registry("https://registry.us.internal:8081")
        .refused("regions.eu-central.redpanda.location", "the schema registry stands");
}

#[test]
fn a_body_that_no_message_holds_is_refused_with_both_ways_out() {
    let mistakes = Scene::new().and("[gateway.limits]\nbody_bytes_max = 16000000\n").mistakes();
    let found = mistakes.errors().find(|mistake| mistake.key == "events.message_bytes_max").expect("a mistake");
    assert!(found.fix.contains("message_bytes_max = 16065536"), "{mistakes}");
    Scene::new().and("[gateway.limits]\nbody_bytes_max = 16000000\n[events]\nmessage_bytes_max = 16065536\n").sound();
}
