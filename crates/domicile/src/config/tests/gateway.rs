//! The gateway, its callers, addresses and telemetry.

use super::*;

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
    geoip("path = \"demo\"\ncanaries = { \"2.160.0.1\" = \"Germany\" }").refused("geoip.canaries.2.160.0.1", "\"DE\"");
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
fn telemetry_is_checked() {
    Scene::new().and("[telemetry]\nfilter = \"info,,=x=\"\n").refused("telemetry.filter", "info,storage=debug");
    Scene::new()
        .and("[telemetry.otlp]\nendpoint = \"https://collector:4318\"\n")
        .refused("telemetry.otlp.endpoint", "plain http");
}

#[test]
fn telemetry_stays_in_the_jurisdiction_of_every_region_served() {
    let site = |site: &str| {
        let text = format!("[telemetry.otlp]\nendpoint = \"http://otel:4318\"\nsite = \"{site}\"\n");
        Scene::new().and(&text)
    };
    site("local").sound();
    site("newrelic-eu").sound();
    site("datadog-eu1").sound();
    site("newrelic-us").refused("telemetry.otlp.site", "outside the jurisdiction eu of eu-central");
    site("datadog-us5").refused("telemetry.otlp.site", "keeps telemetry in US");
    site("datadog-ap1").refused("telemetry.otlp.site", "keeps telemetry in JP");
    site("newrelic-ue").refused("telemetry.otlp.site", "newrelic-eu");
    // A gateway for two jurisdictions has no vendor that would be lawful for both.
    let both = |which: &str| {
        site(which).with(
            "[regions.us-east]\nhome_url = \"https://us.example.com/\"\n",
            "[regions.us-east]\npostgres = \"postgres://d@db.us.internal/us\"\nlog_origin = \"us.log.example.com\"\n",
        )
    };
    both("local").sound();
    both("newrelic-eu").refused("telemetry.otlp.site", "outside the jurisdiction us of us-east");
    both("newrelic-us").refused("telemetry.otlp.site", "outside the jurisdiction eu of eu-central");
}

#[test]
fn a_table_of_telemetry_sites_can_be_an_operators_own() {
    let text = "[telemetry.otlp]\nendpoint = \"http://otel:4318\"\nsite = \"in-house\"\nsites = \"sites.csv\"\n";
    let scene = Scene::new().and(text);
    scene.refused("telemetry.otlp.sites", "sites.csv");
    scene.file("sites.csv", "site,country,host,source\nin-house,FR,otlp.example.com,contract\n", 0o644);
    scene.sound();
    scene.file("sites.csv", "site,country,host,source\nin-house,Utopia,otlp.example.com,contract\n", 0o644);
    scene.refused("telemetry.otlp.sites", "Utopia");
}

#[test]
fn the_types_of_events_are_names_or_domains() {
    let types = |list: &str| Scene::new().and(&format!("[events]\ntypes = {list}\n"));
    types("[\"shop.*\", \"billing.paid\"]").sound();
    types("[\"*\"]").refused("events.types[0]", "shop.*");
    types("[\"shop.*\", \"sh*op\"]").refused("events.types[1]", "shop.*");
}
