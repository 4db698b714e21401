//! The API's description as one readable page: made from the OpenAPI document, without scripts and
//! without anything from elsewhere, so that it works offline and under the strictest content policy.

mod events;

use std::fmt::Write as _;

use api::Code;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("../assets/docs.css");

/// The page, and the policy that allows its one style and nothing else.
pub(crate) struct Docs {
    pub(crate) html: Bytes,
    pub(crate) content_security_policy: String,
}

impl Docs {
    /// Renders an OpenAPI document.
    pub(crate) fn of(document: &Value) -> Self {
        Self::showing(page(document))
    }

    /// Renders the events of the topics.
    pub(crate) fn of_events() -> Self {
        Self::showing(events::page())
    }

    fn showing(html: String) -> Self {
        let style = STANDARD.encode(Sha256::digest(STYLE));
        Self {
            html: html.into(),
            content_security_policy: format!(
                "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
        }
    }
}

/// One operation with where it is.
struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    said: &'a Value,
}

fn page(document: &Value) -> String {
    let mut html = String::with_capacity(256 * 1024);
    let info = &document["info"];
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>domicile API</title><style>{STYLE}</style></head><body><div class=\"page\">"
    );
    let operations = operations(document);
    let tags: Vec<(&str, &str)> =
        array(&document["tags"]).iter().map(|tag| (text(&tag["name"]), text(&tag["description"]))).collect();
    navigation(&mut html, &tags, &operations);
    let _ = write!(
        html,
        "<main><h1>{}</h1><p class=\"lead\">{}</p><p>Version {}. For programs: <a href=\"/openapi.json\">openapi.json</a>. \
         In the examples, <code>$DOMICILE</code> is this gateway and <code>$KEY</code> an API key or a token.</p>",
        prose(text(&info["summary"])),
        prose(text(&info["description"])),
        escape(text(&info["version"])),
    );
    for (tag, about) in &tags {
        let _ = write!(html, "<h2 id=\"{tag}\">{}</h2><p>{}</p>", escape(&title(tag)), prose(about));
        for operation in operations.iter().filter(|operation| text(&operation.said["tags"][0]) == *tag) {
            section(&mut html, operation);
        }
    }
    problems(&mut html);
    schemas(&mut html, &document["components"]["schemas"]);
    html.push_str("</main></div></body></html>");
    html
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    // As one thinks of a thing: look, put, change, take away.
    let order = ["get", "put", "post", "patch", "delete"];
    members(&document["paths"])
        .flat_map(|(path, item)| {
            order.iter().filter_map(move |method| {
                let said = item.get(*method)?;
                Some(Operation { method, path, said })
            })
        })
        .collect()
}

fn navigation(html: &mut String, tags: &[(&str, &str)], operations: &[Operation<'_>]) {
    html.push_str("<nav aria-label=\"Contents\"><a class=\"mark\" href=\"#\">domicile API</a><div class=\"group\">");
    for (tag, _) in tags {
        let _ = write!(html, "<strong>{}</strong>", escape(&title(tag)));
        for operation in operations.iter().filter(|operation| text(&operation.said["tags"][0]) == *tag) {
            let id = text(&operation.said["operationId"]);
            let _ = write!(html, "<a href=\"#{id}\">{}</a>", escape(&title(&id.replace('_', " "))));
        }
    }
    html.push_str(
        "<strong>Reference</strong><a href=\"#problems\">Problems</a><a href=\"#schemas\">Schemas</a><a href=\"/events\">Events</a></div></nav>",
    );
}

fn section(html: &mut String, operation: &Operation<'_>) {
    let Operation { method, path, said } = operation;
    let _ = write!(
        html,
        "<section class=\"operation\" id=\"{}\"><div class=\"route\"><span class=\"method {method}\">{}</span><code>{}</code></div><h3>{}</h3>",
        text(&said["operationId"]),
        method.to_uppercase(),
        escape(path),
        prose(text(&said["summary"])),
    );
    for paragraph in text(&said["description"]).split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let _ = write!(html, "<p>{}</p>", prose(paragraph));
    }
    parameters(html, array(&said["parameters"]));
    if let Some(body) = said.get("requestBody") {
        for (media, content) in members(&body["content"]) {
            let _ = write!(html, "<h4>Body, <code>{}</code></h4>", escape(media));
            let _ = write!(html, "<p>{} {}</p>", prose(text(&body["description"])), kind(&content["schema"]));
            if let Some(example) = content.get("example").filter(|example| !example.is_null()) {
                example_of(html, example);
            }
        }
    }
    html.push_str("<h4>Example</h4>");
    let _ = write!(html, "<pre>{}</pre>", escape(&curl(operation)));
    answers(html, &said["responses"]);
    html.push_str("</section>");
}

fn parameters(html: &mut String, parameters: &[Value]) {
    if parameters.is_empty() {
        return;
    }
    html.push_str("<h4>Parameters</h4><div class=\"scroll\"><table><tbody>");
    for parameter in parameters {
        let _ = write!(
            html,
            "<tr><td><code>{}</code><br><span class=\"where\">{}{}</span></td><td>{}</td></tr>",
            escape(text(&parameter["name"])),
            escape(text(&parameter["in"])),
            if parameter["required"] == true { ", required" } else { "" },
            prose(text(&parameter["description"])),
        );
    }
    html.push_str("</tbody></table></div>");
}

fn answers(html: &mut String, responses: &Value) {
    let row = |html: &mut String, status: &str, answer: &Value| {
        let kinds: Vec<_> = members(&answer["content"]).map(|(_, content)| kind(&content["schema"])).collect();
        let _ = write!(
            html,
            "<tr><td><code>{}</code></td><td>{} {}</td></tr>",
            escape(status),
            prose(text(&answer["description"])),
            if status.starts_with('2') { kinds.join(" ") } else { String::new() },
        );
    };
    html.push_str("<h4>Answers</h4><div class=\"scroll\"><table><tbody>");
    for (status, answer) in members(responses).filter(|(status, _)| !refuses(status)) {
        row(html, status, answer);
    }
    html.push_str(
        "</tbody></table></div><details><summary>How it can be refused</summary><div class=\"scroll\"><table><tbody>",
    );
    for (status, answer) in members(responses).filter(|(status, _)| refuses(status)) {
        row(html, status, answer);
    }
    html.push_str("</tbody></table></div></details>");
}

fn refuses(status: &str) -> bool {
    status.starts_with('4') || status.starts_with('5')
}

fn problems(html: &mut String) {
    html.push_str(
        "<h2 id=\"problems\">Problems</h2><p>Every refusal is <code>application/problem+json</code> (RFC 9457). Its <code>code</code> \
         is stable; <code>detail</code> is for people; <code>instance</code> names the request in the logs.</p>\
         <div class=\"scroll\"><table><thead><tr><th>Status</th><th>Code</th><th>What happened, and what to do next</th></tr></thead><tbody>",
    );
    for code in Code::ALL {
        let _ = write!(
            html,
            "<tr><td>{}</td><td><code>{}</code></td><td>{}.<br><span class=\"where\">{}</span></td></tr>",
            code.status(),
            code.name(),
            prose(code.title()),
            prose(code.next_step()),
        );
    }
    html.push_str("</tbody></table></div>");
}

fn schemas(html: &mut String, schemas: &Value) {
    html.push_str("<h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in members(schemas) {
        let _ = write!(html, "<section class=\"schema\" id=\"schema-{name}\"><h3><code>{}</code></h3>", escape(name));
        let _ = write!(html, "<p>{}</p>", prose(text(&schema["description"])));
        let required = array(&schema["required"]);
        if schema["properties"].is_object() {
            html.push_str("<div class=\"scroll\"><table><tbody>");
            for (field, of) in members(&schema["properties"]) {
                let must = required.iter().any(|name| name == field);
                let _ = write!(
                    html,
                    "<tr><td><code>{}</code><br><span class=\"where\">{}{}</span></td><td>{}</td></tr>",
                    escape(field),
                    kind(of),
                    if must { ", required" } else { "" },
                    prose(text(&of["description"])),
                );
            }
            html.push_str("</tbody></table></div>");
        }
        if let Some(words) = schema["enum"].as_array() {
            let words: Vec<_> = words.iter().map(|word| format!("<code>{}</code>", escape(text(word)))).collect();
            let _ = write!(html, "<p>{}</p>", words.join(", "));
        }
        if let Some(example) = schema.get("example") {
            example_of(html, example);
        }
        html.push_str("</section>");
    }
}

fn example_of(html: &mut String, example: &Value) {
    let pretty = serde_json::to_string_pretty(example).unwrap_or_default();
    let _ = write!(html, "<pre>{}</pre>", escape(&pretty));
}

/// What kind of value a schema describes, with a link where it has a name.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let kinds: Vec<_> = choices.iter().filter(|one| one["type"] != "null").map(kind).collect();
            return kinds.join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(one) if one == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(one) => escape(one),
        Value::Array(several) => {
            let several: Vec<_> = several.iter().map(text).filter(|one| *one != "null").collect();
            if several == ["array"] {
                format!("list of {}", kind(&schema["items"]))
            } else {
                escape(&several.join(" or "))
            }
        }
        _ => "any JSON".to_owned(),
    }
}

/// A line that can be pasted, once `$DOMICILE` and `$KEY` are set.
fn curl(operation: &Operation<'_>) -> String {
    let Operation { method, path, said } = operation;
    let filled = path
        .replace("{subject}", "customer-4711")
        .replace("{collection}", "profile")
        .replace("{key}", "address")
        .replace("{attribute}", "favourite-colour")
        .replace("{id}", "01935b5e-8a7e-7a0c-9d53-0c2a4e7f9b11");
    let mut line =
        format!("curl -sS -X {} \"$DOMICILE{filled}\" -H \"Authorization: Bearer $KEY\"", method.to_uppercase());
    if path.contains("{subject}") && matches!(*method, "put" | "post") {
        line.push_str(" \\\n  -H 'Domicile-Residence: DE'");
    }
    if let Some((media, content)) = said.get("requestBody").and_then(|body| members(&body["content"]).next()) {
        let _ = write!(line, " \\\n  -H 'Content-Type: {media}'");
        let example = match (text(&said["operationId"]), content.get("example")) {
            (_, Some(example)) if !example.is_null() => Some(example.clone()),
            ("classify", _) => Some(serde_json::json!({"subject": "customer-4711", "residence": "DE"})),
            ("zero_party_put", _) => Some(serde_json::json!({
                "value": "green", "source": "preference-centre", "consents": [{"purpose": "recommendations", "granted": true}]
            })),
            ("event_publish", _) => Some(serde_json::json!({
                "specversion": "1.0", "id": "e-1001", "source": "/shop/checkout", "type": "shop.order-placed", "data": {"order": 1001}
            })),
            ("batch", _) => Some(serde_json::json!({
                "operation": "record.read", "subject": "customer-4711", "collection": "profile", "key": "address"
            })),
            _ => None,
        };
        if let Some(example) = example {
            let _ = write!(line, " \\\n  --data '{example}'");
        }
    }
    line
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn title(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Text in which backticks mean code.
fn prose(text: &str) -> String {
    escape(text)
        .split('`')
        .enumerate()
        .map(|(at, part)| if at % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_operation_and_every_code_and_loads_nothing() {
        let document = crate::openapi::document();
        let Docs { html, content_security_policy } = Docs::of(&document);
        let html = String::from_utf8(html.to_vec()).unwrap();
        for operation in operations(&document) {
            assert!(html.contains(&format!("id=\"{}\"", text(&operation.said["operationId"]))), "{}", operation.path);
        }
        for code in Code::ALL {
            assert!(html.contains(&format!("<code>{}</code>", code.name())), "{}", code.name());
        }
        for foreign in ["<script", "src=", "@import", "url(", "<link"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(content_security_policy.contains("style-src 'sha256-"));
    }

    #[test]
    fn markup_in_a_description_is_shown_not_obeyed() {
        assert_eq!(prose("`<b>` & \"x\""), "<code>&lt;b&gt;</code> &amp; &quot;x&quot;");
    }
}
