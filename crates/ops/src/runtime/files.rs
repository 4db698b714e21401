//! What is read of Compose's files and of what Docker says: pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Condition;

/// The newest API version that docker-compose 1.29 can live with.
const API_MAX: (u32, u32) = (1, 44);

/// The variables of an `.env` file.
#[must_use]
pub fn variables(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
        .collect()
}

/// The name of a cell by its variables.
#[must_use]
pub fn project_of(variables: &BTreeMap<String, String>) -> String {
    variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| "domicile".into())
}

/// How a container is, by `docker inspect`.
pub(super) fn condition(container: &Value) -> Condition {
    let state = &container["State"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if state["Running"] != Value::Bool(true) || state["Restarting"] == Value::Bool(true) {
        let status = word(&state["Status"]);
        return Condition::Ended(format!("{status}, exit code {}", state["ExitCode"]));
    }
    match state["Health"]["Status"].as_str() {
        None | Some("healthy" | "none") => Condition::Healthy,
        Some("starting") if container["RestartCount"].as_u64().unwrap_or(0) > 0 => {
            Condition::Ended(format!("it was started again {} times", container["RestartCount"]))
        }
        Some("starting") => Condition::Starting,
        Some(_) => {
            let last = state["Health"]["Log"].as_array().and_then(|log| log.last());
            Condition::Unhealthy(last.map(|one| word(&one["Output"])).unwrap_or_default().trim().to_owned())
        }
    }
}

/// The API version that docker-compose 1.29 is told to speak: the engine's, but not above what it can live with.
pub(super) fn compose_api(engine: &str) -> String {
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    };
    let (major, minor) = parse(engine).map_or(API_MAX, |api| api.min(API_MAX));
    format!("{major}.{minor}")
}

/// The services of a compose file that have no profile, or one that is on. Reads the plain form that ours has: a service
/// by its name at two spaces, its profiles in one line.
pub(super) fn services(text: &str, enabled: &[&str]) -> Vec<String> {
    let mut found: Vec<(String, bool)> = Vec::new();
    let mut within = false;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()) {
        if !line.starts_with(' ') {
            within = line.trim_end() == "services:";
        } else if let Some(name) = line.strip_prefix("  ").filter(|rest| within && !rest.starts_with(' ')) {
            found.push((name.trim_end().trim_end_matches(':').to_owned(), true));
        } else if let (true, Some(list)) = (within, line.trim().strip_prefix("profiles:")) {
            let mut profiles = list
                .split(['[', ']', ','])
                .map(|one| one.trim().trim_matches(['"', '\'']))
                .filter(|one| !one.is_empty());
            if let Some(last) = found.last_mut() {
                last.1 = profiles.any(|profile| enabled.contains(&profile));
            }
        }
    }
    found.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

/// A service's part of a compose file of that form, without comments.
pub(super) fn block(text: &str, service: &str) -> Option<String> {
    let heading = format!("  {service}:");
    let mut lines = text.lines().skip_while(|line| line.trim_end() != "services:");
    lines.find(|line| line.trim_end() == heading)?;
    let is_of_it =
        |line: &&str| line.trim().is_empty() || line.starts_with("   ") || line.trim_start().starts_with('#');
    let kept = lines.take_while(is_of_it).filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    Some(kept.map(|line| format!("{line}\n")).collect())
}

/// The files and folders of the repository that a service's part binds: what it reads its settings from. Secrets and state
/// are none.
pub(super) fn bound_files(block: &str) -> Vec<&str> {
    let bound = block.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split_once(':'));
    let paths = bound.map(|(path, _)| path);
    paths.filter(|path| path.starts_with("infrastructure/") || path.starts_with("config/")).collect()
}

/// The variables that a text names as `${NAME}`, `${NAME:-…}` and the like, each once.
pub(super) fn mentioned(text: &str) -> BTreeSet<String> {
    let names = text.split("${").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    names.collect()
}

/// The text of an `.env` file with a variable set, every other line as it was.
pub(super) fn with_variable(text: &str, name: &str, value: &str) -> String {
    let assignment = format!("{name}=");
    let mut set = false;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with(&assignment) {
            if !set {
                lines.push(format!("{assignment}{value}"));
            }
            set = true;
        } else {
            lines.push(line.to_owned());
        }
    }
    if !set {
        lines.push(format!("{assignment}{value}"));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn docker_compose_v1_is_told_an_api_version_that_it_can_live_with() {
        assert_eq!(compose_api("1.41"), "1.41");
        assert_eq!(compose_api("1.52"), "1.44");
        assert_eq!(compose_api("?"), "1.44");
    }

    #[test]
    fn a_variable_is_set_once_and_everything_else_stays() {
        let text = "# ours\nCOMPOSE_PROJECT_NAME=domicile\nDOMICILE_IMAGE=a\nDOMICILE_IMAGE=b\n";
        let changed = with_variable(text, "DOMICILE_IMAGE", "myapp:rel-1-x");
        assert_eq!(changed, "# ours\nCOMPOSE_PROJECT_NAME=domicile\nDOMICILE_IMAGE=myapp:rel-1-x\n");
        assert_eq!(with_variable("", "A", "b"), "A=b\n");
        assert_eq!(variables(&changed)["DOMICILE_IMAGE"], "myapp:rel-1-x");
        assert_eq!(project_of(&variables("COMPOSE_PROJECT_NAME=\"eu\"")), "eu");
    }

    #[test]
    fn services_of_other_profiles_are_not_started() {
        let text = "x-a: &a\n  image: x\nservices:\n  # edge\n  edge:\n    image: h\n  db:\n    profiles: [single, directory]\n  \
                    otel:\n    profiles: [observability]\nvolumes:\n  db:\n";
        assert_eq!(services(text, &["single"]), ["edge", "db"]);
        assert_eq!(services(text, &[""]), ["edge"]);
    }

    #[test]
    fn the_bundle_says_which_services_read_which_files() {
        let text = include_str!("../../../../docker-compose.yml");
        let reads = |service: &str| -> Vec<String> {
            let block = block(text, service).expect("it is a service");
            bound_files(&block).into_iter().map(str::to_owned).collect()
        };
        assert_eq!(reads("edge"), ["infrastructure/edge"]);
        assert_eq!(reads("otel"), ["infrastructure/observability/otel"]);
        assert_eq!(reads("prometheus"), ["infrastructure/observability/prometheus.yml", "config/alerts"]);
        assert_eq!(reads("grafana"), ["infrastructure/observability/grafana/provisioning", "config/dashboards"]);
        for store in ["db", "directory", "redpanda"] {
            assert_eq!(reads(store), Vec::<String>::new(), "{store} keeps what it has");
        }
        let otel = block(text, "otel").expect("a service");
        assert!(mentioned(&otel).contains("DOMICILE__TELEMETRY__OTLP__SITE"), "{otel}");
        assert!(!otel.contains("prometheus"), "it ends where the next one begins: {otel}");
        assert_eq!(block(text, "nobody"), None);
    }

    #[test]
    fn a_container_says_how_it_is() {
        let container = |state: Value, restarts: u32| json!({ "State": state, "RestartCount": restarts });
        let running = |health: &str| json!({ "Running": true, "Restarting": false, "Health": { "Status": health } });
        assert_eq!(condition(&container(running("healthy"), 0)), Condition::Healthy);
        assert_eq!(condition(&container(running("starting"), 0)), Condition::Starting);
        assert!(matches!(condition(&container(running("starting"), 2)), Condition::Ended(_)));
        assert!(matches!(condition(&container(running("unhealthy"), 0)), Condition::Unhealthy(_)));
        let ended = json!({ "Running": false, "Status": "exited", "ExitCode": 137 });
        assert_eq!(condition(&container(ended, 0)), Condition::Ended("exited, exit code 137".into()));
    }
}
