//! The environment over the file.

use super::*;

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
