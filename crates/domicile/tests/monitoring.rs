//! What watches domicile fits domicile: dashboards and alerts name metrics that exist, collectors send where the table of
//! telemetry sites says, and the files are what Grafana and the collector take.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(top().join(folder)).expect(folder).map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|ending| ending == extension))
        .map(|path| {
            (path.file_stem().expect("a name").to_string_lossy().into_owned(), fs::read_to_string(path).expect("text"))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{folder} has files");
    found
}

/// The words of a text that look like metrics of ours.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("domicile_"));
    ours.map(|word| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| word.strip_suffix(ending));
        base.unwrap_or(word).to_owned()
    })
    .collect()
}

/// Every `"domicile_…"` of the sources that is counted, set or recorded.
fn counted() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![top().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("monitoring.rs") {
                let text = fs::read_to_string(path).expect("text");
                if ["counter!", "gauge!", "histogram!"].iter().any(|call| text.contains(call)) {
                    let quoted = text.split('"').skip(1).step_by(2).filter(|word| word.starts_with("domicile_"));
                    names.extend(quoted.map(str::to_owned));
                }
            }
        }
    }
    names
}

#[test]
fn every_metric_that_a_dashboard_or_an_alert_names_exists() {
    let counted = counted();
    assert!(counted.contains("domicile_http_requests_total"), "the sources are read: {counted:?}");
    let expressions = files("config/dashboards", "json").into_iter().map(|(name, text)| {
        let board: Value = serde_json::from_str(&text).expect("JSON");
        (name, board["panels"].to_string() + &board["templating"].to_string())
    });
    let alerts = files("config/alerts", "yml").into_iter().map(|(name, text)| {
        let lines: Vec<_> =
            text.lines().filter(|line| line.trim_start().starts_with("expr:")).map(str::to_owned).collect();
        (name, lines.join("\n"))
    });
    for (file, text) in expressions.chain(alerts) {
        let named = metrics(&text);
        assert!(!named.is_empty(), "{file} names metrics");
        for metric in named {
            assert!(counted.contains(&metric), "{file} names {metric}, which nothing counts");
        }
    }
}

#[test]
fn dashboards_are_what_grafana_provisions() {
    let mut uids = BTreeSet::new();
    for (name, text) in files("config/dashboards", "json") {
        let board: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(board["uid"], name.as_str(), "a dashboard's uid is its file's name");
        assert!(uids.insert(board["uid"].to_string()) && board["title"].is_string() && board["schemaVersion"].is_u64());
        let panels = board["panels"].as_array().expect("panels");
        let mut ids = BTreeSet::new();
        for panel in panels {
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{name}: two panels of one id");
            let place = &panel["gridPos"];
            let right = place["x"].as_u64().expect("x") + place["w"].as_u64().expect("w");
            assert!(right <= 24, "{name}: {} fits the grid", panel["title"]);
            for target in panel["targets"].as_array().expect("targets") {
                assert_eq!(target["datasource"]["uid"], "prometheus", "the source that is provisioned");
                let expr = target["expr"].as_str().expect("an expression");
                assert_eq!(expr.matches('(').count(), expr.matches(')').count(), "{expr}");
            }
        }
    }
    let home = fs::read_to_string(top().join("docker-compose.yml")).expect("there");
    assert!(home.contains("/etc/grafana/dashboards/regions.json") && uids.contains("\"regions\""));
}

#[test]
fn prometheus_asks_whoever_cannot_say_how_it_is() {
    let prometheus = fs::read_to_string(top().join("infrastructure/observability/prometheus.yml")).expect("there");
    assert!(prometheus.contains("job_name: otel") && prometheus.contains("\"otel:8888\""), "{prometheus}");
    let compose = fs::read_to_string(top().join("docker-compose.yml")).expect("there");
    let part = |service: &str| {
        let after = compose.split_once(&format!("\n  {service}:\n")).expect(service).1;
        after.split("\n\n").next().expect("a part").to_owned()
    };
    for (service, asks) in
        [("prometheus", "\"promtool\", \"query\""), ("grafana", "/api/health"), ("otel", "disable: true")]
    {
        let part = part(service);
        assert!(part.contains("healthcheck:") && part.contains(asks), "{service}: {part}");
    }
}

#[test]
fn each_collector_sends_to_its_site_of_the_table_and_nowhere_else() {
    let table = fs::read_to_string(top().join("config/presets/telemetry.csv")).expect("the table");
    let rows = table.lines().filter(|line| !line.starts_with('#')).skip(1);
    let hosts: BTreeMap<String, String> = rows
        .map(|row| row.split(',').collect::<Vec<_>>())
        .map(|cells| (cells[0].to_owned(), cells[2].to_owned()))
        .collect();
    let collectors: BTreeMap<String, String> = files("infrastructure/observability/otel", "yaml").into_iter().collect();
    assert_eq!(hosts.keys().collect::<Vec<_>>(), collectors.keys().collect::<Vec<_>>(), "one collector for each site");
    for (site, text) in &collectors {
        let settings = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let addressed: Vec<&str> = settings
            .filter_map(|line| line.strip_prefix("endpoint: https://").or_else(|| line.strip_prefix("site: ")))
            .collect();
        let expected: Vec<&str> = Some(hosts[site].as_str()).filter(|host| !host.is_empty()).into_iter().collect();
        assert_eq!(addressed, expected, "{site}");
        assert!(!text.contains("api_key") && !text.contains("${env:"), "{site}: keys are files");
        // Nothing in its own container can ask whether it runs, so Prometheus does.
        assert!(text.contains("prometheus: { host: 0.0.0.0, port: 8888 }"), "{site} shows its own figures");
        for pipeline in ["traces:", "metrics:", "logs:"] {
            assert!(text.contains(pipeline), "{site} has a pipeline for {pipeline}");
        }
    }
}
