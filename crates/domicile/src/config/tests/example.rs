//! The annotated example is complete, sound and tells the truth about defaults.

use super::*;

#[test]
fn the_annotated_example_is_sound_but_for_its_secrets() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/domicile.toml");
    let mistakes = load_with(&path, &BTreeMap::new()).expect_err("its secrets are not here");
    for mistake in mistakes.errors() {
        assert!(mistake.message.contains("/run/secrets/"), "only secrets are missing:\n{mistakes}");
    }
}

#[test]
fn the_annotated_example_holds_every_key_that_exists() {
    let text = include_str!("../../../../../config/domicile.toml");
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
    let text = include_str!("../../../../../config/domicile.toml");
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
        ("events", "message_bytes_max"),
        ("events", "relay_batch_rows_max"),
        ("events", "forwarder_batch_rows_max"),
        ("events", "forwarder_batch_ms_max"),
        ("events", "idle_ms_max"),
        ("events", "lease_s"),
        ("geoip", "networks_min"),
        ("geoip", "coverage_percent_min"),
        ("geoip", "reload_s"),
        ("region", "audit_reads"),
        ("region", "scrub_leaves_per_s"),
        ("region", "reader_connections"),
        ("region", "committer_connections"),
        ("redpanda", "security"),
        ("redpanda", "missing_topics"),
        ("redpanda", "topic_partitions"),
        ("redpanda", "topic_replicas"),
        ("redpanda", "topic_retention_hours"),
        ("redpanda", "topics_forget_hours_max"),
        ("snowflake", "create"),
        ("snowflake", "retention_days"),
        ("snowflake", "request_s_max"),
        ("otlp", "traces"),
        ("otlp", "metrics"),
        ("otlp", "trace_ratio"),
        ("otlp", "metrics_every_s"),
    ] {
        let value = root.pointer(&format!("/{table}/{key}")).expect("a default");
        let written = format!("# {key} = {value}");
        let shown =
            text.lines().any(|line| line.strip_prefix(&written).is_some_and(|r| r.is_empty() || r.starts_with(' ')));
        assert!(shown, "{written}");
    }
}
