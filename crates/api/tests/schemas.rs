//! The schemas of events: what they say is what they are, and they evolve by addition only.

use std::path::Path;

use api::EventSchema;
use serde_json::{Value, json};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a schema is JSON")
}

#[test]
fn every_schema_has_its_identifier_and_describes_every_property() {
    for schema in EventSchema::ALL {
        let document = parsed(schema.text);
        assert_eq!(document["$id"], schema.id);
        assert_eq!(schema.id, format!("urn:domicile:event:{}:v1", schema.event_type));
        assert_eq!(EventSchema::of(schema.event_type), Some(&schema));
        for (name, property) in document["properties"].as_object().expect("properties") {
            assert!(property["description"].is_string(), "{}: {name} says what it is", schema.event_type);
        }
        assert_eq!(document["additionalProperties"], true, "a reader of today reads what is added tomorrow");
    }
    assert_eq!(EventSchema::of("shop.order-placed"), None);
}

#[test]
fn every_schema_keeps_what_was_released() {
    let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/released");
    let mut compared = 0;
    for version in std::fs::read_dir(released).expect("released schemas") {
        for file in std::fs::read_dir(version.expect("a version").path()).expect("its schemas") {
            let path = file.expect("a schema").path();
            let old = parsed(&std::fs::read_to_string(&path).expect("readable"));
            let schema = EventSchema::ALL.into_iter().find(|schema| old["$id"] == schema.id);
            let schema = schema.unwrap_or_else(|| panic!("{} was released and is gone", path.display()));
            let broken = broken_promises(&old, &parsed(schema.text), "");
            assert!(broken.is_empty(), "{}: {broken:?}; make it a new type, .v2", path.display());
            compared += 1;
        }
    }
    assert!(compared >= EventSchema::ALL.len());
}

#[test]
fn what_would_break_a_reader_is_noticed() {
    let old = parsed(EventSchema::ALL[0].text);
    let changed = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).expect("it is there") = value;
        broken_promises(&old, &new, "")
    };
    assert!(broken_promises(&old, &old, "").is_empty());
    assert!(!changed("/properties/version/type", json!("string")).is_empty());
    assert!(!changed("/required", json!(["operation", "collection", "key"])).is_empty());
    assert!(!changed("/properties/operation/enum", json!(["put", "patch", "delete", "merge"])).is_empty());
    let mut without = old.clone();
    without["properties"].as_object_mut().expect("properties").remove("key");
    assert!(!broken_promises(&old, &without, "").is_empty());
    let mut with = old.clone();
    with["properties"]["reason"] = json!({"type": "string"});
    assert!(broken_promises(&old, &with, "").is_empty(), "an addition is no breach");
}

/// What a reader of the old schema could no longer rely on.
fn broken_promises(old: &Value, new: &Value, at: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for keyword in ["type", "enum", "minimum", "format", "additionalProperties"] {
        if !old[keyword].is_null() && old[keyword] != new[keyword] {
            broken.push(format!("{at}: `{keyword}` was {} and is {}", old[keyword], new[keyword]));
        }
    }
    let required = |schema: &Value| -> Vec<Value> { schema["required"].as_array().cloned().unwrap_or_default() };
    for name in required(old).into_iter().filter(|name| !required(new).contains(name)) {
        broken.push(format!("{at}: {name} is no longer always there"));
    }
    for (name, property) in old["properties"].as_object().into_iter().flatten() {
        match new["properties"].get(name) {
            Some(kept) => broken.extend(broken_promises(property, kept, &format!("{at}/{name}"))),
            None => broken.push(format!("{at}: {name} is gone")),
        }
    }
    if !old["items"].is_null() {
        broken.extend(broken_promises(&old["items"], &new["items"], &format!("{at}[]")));
    }
    broken
}
