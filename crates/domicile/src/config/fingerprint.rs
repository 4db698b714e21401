//! What is remembered of the effective configuration, so that a change of it can be named in the log: for each key a
//! hash of its value. A secret's value is where it is kept, so what it is never gets in here.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::raw;

/// The hash of each key's value.
pub(crate) type Fingerprints = BTreeMap<String, [u8; 32]>;

/// The keys of a checked configuration, defaults included.
pub(crate) fn of(root: &raw::Root) -> Fingerprints {
    let mut found = Fingerprints::new();
    // Settings are tables of texts and numbers: there is nothing in them that cannot be written.
    walk(&serde_json::to_value(root).unwrap_or_default(), String::new(), &mut found);
    found
}

fn walk(value: &Value, key: String, found: &mut Fingerprints) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                walk(value, super::layers::join(&key, name), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(value, format!("{key}[{index}]"), found);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(key, Sha256::digest(value.to_string()).into());
        }
    }
}

/// One hash over all of them.
pub(crate) fn digest(settings: &Fingerprints) -> [u8; 32] {
    let mut all = Sha256::new();
    for (key, sha256) in settings {
        all.update(key.as_bytes());
        all.update(b"=");
        all.update(hex::encode(sha256));
        all.update(b"\n");
    }
    all.finalize().into()
}

/// The keys whose values differ, or that only one of the two has.
pub(crate) fn changed(before: &Fingerprints, after: &Fingerprints) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_named_by_its_key_and_never_by_its_value() {
        let mut root = raw::Root::default();
        root.gateway.listen = Some("127.0.0.1:8080".into());
        root.gateway.instance = Some("gateway-1".into());
        let before = of(&root);
        root.gateway.listen = Some("127.0.0.1:9999".into());
        root.gateway.region = Some("eu-central".into());
        let after = of(&root);
        assert_eq!(changed(&before, &after), ["gateway.listen", "gateway.region"]);
        assert_ne!(digest(&before), digest(&after));
        assert_eq!(changed(&after, &of(&root)), [""; 0]);
    }
}
