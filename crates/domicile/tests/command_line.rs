//! The binary from outside: what it prints, and the exit codes that its help promises.

use std::path::Path;
use std::process::{Command, Output};

fn domicile(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Command::new(env!("CARGO_BIN_EXE_domicile"))
        .args(arguments)
        .current_dir(root)
        .env_remove("DOMICILE_CONFIG")
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn serving_with_a_wrong_configuration_lists_the_mistakes_and_exits_2() {
    let output = domicile(&["serve"]);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(complaint.contains("config/domicile.toml:") && complaint.contains("fix:"), "{complaint}");
    assert!(complaint.contains("nothing was started"), "{complaint}");
}

#[test]
fn checking_a_wrong_configuration_exits_1_and_says_the_same_as_json() {
    let output = domicile(&["config", "check"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let output = domicile(&["config", "check", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["sound"], false);
    let mistakes = report["mistakes"].as_array().expect("a list");
    assert!(
        mistakes.iter().all(|m| ["at", "key", "message", "fix", "gravity"].iter().all(|field| m[field].is_string()))
    );
}

#[test]
fn a_wrong_command_line_exits_2() {
    assert_eq!(domicile(&["serve", "--role", "everything"]).status.code(), Some(2));
    assert_eq!(domicile(&["keys", "create", "x"]).status.code(), Some(2));
}

#[test]
fn the_schema_is_a_json_schema_with_a_description_for_every_key() {
    let schema: serde_json::Value = serde_json::from_slice(&domicile(&["config", "schema"]).stdout).expect("JSON");
    assert!(schema["$schema"].as_str().is_some_and(|uri| uri.contains("json-schema.org")));
    for (table, definition) in schema["$defs"].as_object().expect("definitions") {
        for (key, member) in definition["properties"].as_object().into_iter().flatten() {
            assert!(member["description"].is_string(), "{key} of {table} is described");
        }
    }
}

#[test]
fn the_shipped_policy_is_proven_and_answers_without_a_server() {
    let output = domicile(&["policy", "check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let output = domicile(&["policy", "explain", "--client-address", "102.35.0.1", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["home"], "eu-central", "Réunion is an outermost region of the EU");
    let refused = domicile(&["policy", "explain", "--residence", "CN"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("Refused for CN"), "{}", text(&refused.stdout));
}

#[test]
fn a_process_that_is_not_there_is_not_well() {
    let output = domicile(&["health", "--admin", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did not answer"));
}

#[test]
fn showing_the_configuration_gives_a_file_that_means_the_same() {
    let output = domicile(&["config", "show"]);
    let shown: toml::Table = toml::from_str(&text(&output.stdout)).expect("TOML");
    assert_eq!(shown["gateway"]["limits"]["body_bytes_max"].as_integer(), Some(921_600));
    assert_eq!(shown["regions"]["uk-south"]["home_url"].as_str(), Some("https://uk.data.example.com"));
}
