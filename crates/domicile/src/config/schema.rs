//! The JSON Schema of the configuration, and reading it: which keys a table knows, which type and
//! limits a key has. Made from [`super::raw`], so that there is one list of keys.

use serde_json::Value;

use super::raw;

/// The JSON Schema of the whole file.
pub(crate) fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(raw::Root).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "domicile configuration".into());
    }
    schema
}

/// One place in the schema.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    root: &'a Value,
    here: &'a Value,
}

/// What a place accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Number,
    Switch,
    List,
    Table,
}

impl Kind {
    /// The type in words, with its article.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Switch => "true or false",
            Self::List => "a list",
            Self::Table => "a table",
        }
    }
}

impl<'a> Node<'a> {
    /// The whole file.
    pub(crate) fn root(schema: &'a Value) -> Self {
        Self { root: schema, here: schema }
    }

    fn at(self, here: &'a Value) -> Self {
        Self { here, ..self }.resolved()
    }

    /// Follows `$ref`, and `anyOf` with null, to the thing itself. The depth bound keeps a cyclic schema finite.
    fn resolved(self) -> Self {
        let mut here = self.here;
        for _ in 0..8 {
            if let Some(name) = here.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
                let Some(definition) = self.root.get("$defs").and_then(|defs| defs.get(name)) else { break };
                here = definition;
            } else if let Some(choices) = here.get("anyOf").and_then(Value::as_array) {
                let Some(real) = choices.iter().find(|c| c.get("type").and_then(Value::as_str) != Some("null")) else {
                    break;
                };
                here = real;
            } else {
                break;
            }
        }
        Self { here, ..self }
    }

    /// What is accepted here.
    pub(crate) fn kind(self) -> Kind {
        let types: Vec<&str> = match self.here.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        match types.into_iter().find(|t| *t != "null") {
            Some("integer") => Kind::Integer,
            Some("number") => Kind::Number,
            Some("boolean") => Kind::Switch,
            Some("array") => Kind::List,
            Some("object") => Kind::Table,
            _ => Kind::Text, // enumerations are texts
        }
    }

    /// The keys a table knows; none for a table with free names.
    pub(crate) fn keys(self) -> Vec<&'a str> {
        self.here
            .get("properties")
            .and_then(Value::as_object)
            .map(|p| p.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// Whether the names in this table are the operator's.
    pub(crate) fn names_are_free(self) -> bool {
        self.here.get("additionalProperties").is_some_and(Value::is_object)
    }

    /// What a key of this table accepts, if it is known.
    pub(crate) fn member(self, key: &str) -> Option<Self> {
        let known = self.here.get("properties").and_then(|p| p.get(key));
        let free = || self.here.get("additionalProperties").filter(|v| v.is_object());
        known.or_else(free).map(|here| self.at(here))
    }

    /// What a list's items accept.
    pub(crate) fn item(self) -> Option<Self> {
        self.here.get("items").map(|here| self.at(here))
    }

    /// The accepted words of an enumeration; empty when any text will do.
    pub(crate) fn words(self) -> Vec<&'a str> {
        let listed = self.here.get("enum").and_then(Value::as_array).into_iter().flatten();
        let described = self.here.get("oneOf").and_then(Value::as_array).into_iter().flatten().flat_map(|choice| {
            choice.get("const").into_iter().chain(choice.get("enum").and_then(Value::as_array).into_iter().flatten())
        });
        listed.chain(described).filter_map(Value::as_str).collect()
    }

    /// The smallest and largest accepted number.
    pub(crate) fn range(self) -> (Option<f64>, Option<f64>) {
        let bound = |name: &str| self.here.get(name).and_then(Value::as_f64);
        (bound("minimum"), bound("maximum"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_leads_through_options_maps_and_lists_to_limits_and_words() {
        let schema = json_schema();
        let root = Node::root(&schema);
        let step = |node: Node<'_>, key: &str| node.member(key).map(|n| n.kind());
        assert_eq!(step(root, "regions"), Some(Kind::Table));
        let region = root.member("regions").and_then(|r| r.member("eu-central")).expect("regions have free names");
        assert!(region.keys().contains(&"log_origin"));
        assert_eq!(region.member("audit_reads").expect("known").words(), ["durable", "buffered"]);
        let broker = region.member("redpanda").and_then(|r| r.member("brokers")).and_then(Node::item);
        assert_eq!(broker.expect("a list of texts").kind(), Kind::Text);
        let body = root.member("gateway").and_then(|g| g.member("limits")).and_then(|l| l.member("body_bytes_max"));
        assert_eq!(body.expect("known").range(), (Some(1024.0), Some(16_777_216.0)));
        let age = root.member("geoip").and_then(|g| g.member("age_days_max")).expect("optional tables are followed");
        assert_eq!((age.kind(), age.range()), (Kind::Integer, (Some(1.0), Some(3650.0))));
        assert!(root.member("gatway").is_none());
    }
}
