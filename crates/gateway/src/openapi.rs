//! The description of the API, OpenAPI 3.1. Routes describe themselves; what all of them share (callers,
//! evidence, receipts, problems) is added here, once, so that no route can forget it.

use api::{Code, Problem, headers, media};
use serde_json::{Map, Value, json};

use crate::routes;

/// The complete description.
pub(crate) fn document() -> Value {
    let mut document = serde_json::to_value(routes::description()).unwrap_or_default();
    // OpenAPI has no parameter that takes the rest of a path; the router's star means nothing to its readers.
    if let Some(paths) = document["paths"].as_object_mut() {
        *paths = std::mem::take(paths).into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    }
    document["info"] = json!({
        "title": "domicile",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "Puts each person's data where it is at home, and keeps it there.",
        "description": INTRODUCTION,
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    });
    document["servers"] = json!([{"url": "/", "description": "This gateway"}]);
    document["tags"] = json!([
        {"name": "classify", "description": "Where a request would go, and why."},
        {"name": "subjects", "description": "Where a person is at home."},
        {"name": "records", "description": "JSON documents under subject, collection and key."},
        {"name": "zero-party", "description": "What people knowingly tell about themselves, with purpose and consent."},
        {"name": "events", "description": "CloudEvents for the home region's topics."},
        {"name": "batch", "description": "Many operations in one stream."},
        {"name": "decisions", "description": "What was decided, and why."},
        {"name": "registers", "description": "What was not as it should be, and what crossed a border."},
        {"name": "proof", "description": "The region logs as C2SP tlog-tiles: checkpoints, tiles, entries and proofs, for whoever verifies them."},
    ]);
    document["security"] = json!([{"bearer": []}]);
    document["components"]["securitySchemes"]["bearer"] = json!({
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`dom_<id>_<secret>`), or a JWT of the configured identity provider."
    });
    let schemas = &mut document["components"]["schemas"];
    for (name, schema) in shared_schemas() {
        schemas[name] = schema;
    }
    let operations = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for (method, operation) in operations.filter_map(Value::as_object_mut).flatten() {
        if operation.is_object() {
            complete(method, operation);
        }
    }
    document
}

const INTRODUCTION: &str = "Every request about a subject is decided by headers and path, before its body is read: where is \
this person's data at home? It is then carried out there and nowhere else. A 2xx on a write means that the change, its \
event and its audit leaf are durable together. Refusals are problems (RFC 9457) with a stable `code`.";

/// Schemas that no single route mentions.
fn shared_schemas() -> Vec<(String, Value)> {
    use utoipa::{PartialSchema as _, ToSchema as _};
    let mut schemas = Vec::new();
    Problem::schemas(&mut schemas);
    schemas.push((Problem::name().into_owned(), Problem::schema()));
    schemas.into_iter().filter_map(|(name, schema)| Some((name, serde_json::to_value(schema).ok()?))).collect()
}

/// What the route of an operation cannot say by itself.
fn complete(method: &str, operation: &mut Value) {
    let traits = Traits::of(method, operation);
    if traits.decided {
        let parameters = operation["parameters"].take();
        let mut parameters = parameters.as_array().cloned().unwrap_or_default();
        parameters.extend(evidence());
        operation["parameters"] = parameters.into();
        let answers = operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut);
        for answer in answers {
            let told = answer["headers"].take();
            let mut told = told.as_object().cloned().unwrap_or_default();
            told.extend(receipts());
            answer["headers"] = told.into();
        }
    }
    let mut answers: Map<String, Value> = Map::new();
    for code in Code::ALL.iter().copied().filter(|code| applies(*code, &traits)) {
        let answer = answers.entry(code.status().to_string()).or_insert_with(|| {
            json!({
                "description": "",
                "content": {media::PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            })
        });
        let so_far = answer["description"].as_str().unwrap_or_default();
        let between = if so_far.is_empty() { "" } else { " " };
        answer["description"] = format!("{so_far}{between}`{}`: {}.", code.name(), code.title()).into();
        if matches!(code.status(), 409 | 429 | 503) {
            answer["headers"] = json!({"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}});
        }
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        for (status, answer) in answers {
            responses.entry(status).or_insert(answer);
        }
    }
}

/// What decides which problems an operation can have.
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
struct Traits {
    tag: String,
    /// Whether it is about a subject, so that a decision is taken first.
    decided: bool,
    /// Whether it changes something that it is not known to have changed when the answer is lost.
    writes: bool,
    with_body: bool,
    with_query: bool,
    /// Whether it answers in pages.
    paged: bool,
    /// Whether it takes `If-Match`.
    conditional: bool,
}

impl Traits {
    fn of(method: &str, operation: &Value) -> Self {
        let tag = operation["tags"][0].as_str().unwrap_or_default().to_owned();
        let any = |wanted: &dyn Fn(&Value) -> bool| {
            operation["parameters"].as_array().is_some_and(|all| all.iter().any(wanted))
        };
        let decided = matches!(tag.as_str(), "subjects" | "records" | "zero-party" | "events");
        Self {
            decided,
            writes: method != "get" && (decided || tag == "registers"),
            with_body: operation.get("requestBody").is_some(),
            with_query: any(&|parameter| parameter["in"] == "query"),
            paged: any(&|parameter| parameter["name"] == "cursor"),
            conditional: any(&|parameter| parameter["name"] == "If-Match"),
            tag,
        }
    }
}

/// Whether an operation can be answered with a code. Written as a match on the code, so that a new one
/// must be given its place.
fn applies(code: Code, operation: &Traits) -> bool {
    let &Traits { decided, writes, with_body, with_query, paged, conditional, .. } = operation;
    let tag = operation.tag.as_str();
    match code {
        Code::Unauthenticated
        | Code::CredentialsRefused
        | Code::ScopeMissing
        | Code::RateLimited
        | Code::Internal
        | Code::DirectoryUnavailable
        | Code::IdentityUnavailable
        | Code::Overloaded
        | Code::DeadlineExceeded => true,
        Code::SubjectMismatch | Code::TenantMismatch => decided || tag == "classify",
        Code::HeaderRepeated | Code::HeaderMalformed => decided || with_body,
        Code::HeaderMisplaced => matches!(tag, "batch" | "classify"),
        Code::MalformedPath => decided || matches!(tag, "decisions" | "proof" | "registers"),
        Code::MalformedQuery => with_query,
        Code::MalformedCursor => paged,
        Code::MalformedJson | Code::InvalidBody | Code::BodyUnreadable | Code::BodyTooSlow => {
            with_body && tag != "batch"
        }
        Code::BodyTooLarge => with_body && tag != "batch",
        Code::UnsupportedMediaType => with_body,
        Code::SubjectNotFound => decided,
        Code::RecordNotFound => tag == "records",
        Code::AttributeNotFound => tag == "zero-party",
        Code::DecisionNotFound => tag == "decisions",
        Code::ViolationNotFound => tag == "registers",
        Code::NotInLog => tag == "proof",
        Code::PreconditionFailed => conditional,
        // One region is named, or decided for.
        Code::MisdirectedRegion | Code::RegionMisplaced => decided || tag == "proof" || (tag == "registers" && writes),
        Code::ResidencyUnresolved | Code::ResidencyRefused | Code::SubjectMoving | Code::SubjectErased => decided,
        Code::AuditUnavailable => decided || matches!(tag, "decisions" | "proof" | "registers"),
        Code::OutcomeUnknown => writes,
        Code::ValueRefused => decided && (with_body || conditional),
        Code::RegionUnavailable => decided || matches!(tag, "decisions" | "proof" | "registers"),
        Code::IdempotencyKeyReused => tag == "events",
        Code::BadRequest | Code::CrossSite | Code::RouteNotFound | Code::MethodNotAllowed => false,
    }
}

/// The headers in which evidence travels.
fn evidence() -> [Value; 4] {
    let header = |name: &str, description: &str, example: &str| {
        json!({
            "name": name, "in": "header", "required": false, "description": description,
            "schema": {"type": "string"}, "example": example
        })
    };
    [
        header("Domicile-Residence", "The residence the person declared, `DE` or `US-CA`", "DE"),
        header(
            "Domicile-Tenant",
            "The tenant; believed from callers with the scope `evidence:tenant`, or bound to that tenant",
            "acme",
        ),
        header(
            "Domicile-Client-Address",
            "The person's network address; believed from callers with the scope `evidence:client-address`",
            "2.160.0.1",
        ),
        header("X-Request-Id", "Names the request in logs: up to 64 of A-Z, a-z, 0-9, `-`, `_`, `.`", "checkout-4711"),
    ]
}

/// The headers that every answer about a subject carries.
fn receipts() -> Map<String, Value> {
    let header = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let mut map = Map::new();
    map.insert(shown(headers::REGION), header("The home region"));
    map.insert(shown(headers::DECISION), header("The decision's id"));
    map.insert(
        shown(headers::AUDIT),
        header("`log=<origin>; seq=<n>; leaf=<base64url>`: where the audit leaf is; absent if reads are audited in a buffer"),
    );
    map
}

/// A header's name as people write it.
fn shown(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(capital).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_openapi_3_1_and_names_every_path_of_the_api() {
        let document = document();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let described: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        for path in [
            api::paths::CLASSIFY,
            api::paths::SUBJECT,
            api::paths::RECORDS,
            api::paths::RECORD,
            api::paths::EVENTS,
            api::paths::ATTRIBUTES,
            api::paths::ATTRIBUTE,
            api::paths::ATTRIBUTE_HISTORY,
            api::paths::BATCH,
            api::paths::DECISIONS,
            api::paths::DECISION,
            api::paths::DECISION_EXPLAIN,
            api::paths::LOG_CHECKPOINT,
            "/v1/audit/{region}/tile/{tile}",
            api::paths::LOG_PROOF,
            api::paths::LOG_POLICIES,
            api::paths::LOG_DETAILS,
            api::paths::LOG_EXPORT,
            api::paths::VIOLATIONS,
            api::paths::VIOLATION_ACKNOWLEDGE,
            api::paths::TRANSFERS,
        ] {
            assert!(described.iter().any(|known| *known == path), "{path}");
        }
        assert_eq!(described.len(), 21);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        found.push(reference.clone());
                    }
                    members.values().for_each(|member| references(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_says_what_it_does_how_it_fails_and_what_a_success_looks_like() {
        let document = document();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let at = format!("{method} {path}");
                assert!(operation["summary"].is_string(), "{at}");
                let responses = operation["responses"].as_object().unwrap();
                for status in ["401", "403", "429", "500", "503", "504"] {
                    assert!(responses[status]["content"][media::PROBLEM].is_object(), "{at} {status}");
                }
                assert!(responses.keys().any(|status| status.starts_with('2')), "{at}");
                if path.contains("{subject}") {
                    for status in ["421", "422", "451"] {
                        assert!(responses.contains_key(status), "{at} {status}");
                    }
                    assert!(
                        operation["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "Domicile-Residence")
                    );
                }
            }
        }
    }

    #[test]
    fn an_operation_names_the_problems_that_it_can_have() {
        let document = document();
        let operations: Vec<&Value> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .collect();
        let names = |id: &str, code: Code| {
            let operation = operations.iter().find(|operation| operation["operationId"] == id).unwrap();
            let answer = &operation["responses"][code.status().to_string()]["description"];
            answer.as_str().unwrap_or_default().contains(&format!("`{}`", code.name()))
        };
        for (id, code) in [
            ("subject_pin", Code::OutcomeUnknown),
            ("subject_erase", Code::OutcomeUnknown),
            ("violation_acknowledge", Code::OutcomeUnknown),
            ("violation_acknowledge", Code::MisdirectedRegion),
            ("violation_acknowledge", Code::RegionMisplaced),
            ("log_export", Code::MalformedQuery),
            ("log_checkpoint", Code::MalformedQuery),
            ("log_proof", Code::RegionMisplaced),
            ("log_tile", Code::RegionMisplaced),
            ("subject_erase", Code::MalformedQuery),
            ("decision_list", Code::MalformedCursor),
            ("record_put", Code::OutcomeUnknown),
            ("event_publish", Code::OutcomeUnknown),
        ] {
            assert!(names(id, code), "{id}: {}", code.name());
        }
        for (id, code) in [
            ("subject_read", Code::OutcomeUnknown),
            ("subject_read", Code::MalformedQuery),
            ("record_read", Code::MalformedCursor),
            ("violation_list", Code::OutcomeUnknown),
            ("decision_read", Code::MalformedCursor),
        ] {
            assert!(!names(id, code), "{id}: {}", code.name());
        }
    }

    #[test]
    fn operation_ids_are_unique() {
        let document = document();
        let ids: Vec<_> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), unique.len());
    }
}
