//! The events of a region's topics as one readable page: where they are, what every message carries, and the schema
//! of each type that domicile makes.

use std::fmt::Write as _;

use api::EventSchema;
use serde_json::Value;

use super::{STYLE, array, escape, example_of, kind, members, prose, text, title};

/// What every message carries, beside its key and its data.
const HEADERS: [(&str, &str); 11] = [
    (
        "key",
        "The subject's digest, 64 hexadecimal digits. One subject's events are in one partition, in the order in which they were committed. Subjects are never named.",
    ),
    (
        "ce_specversion, ce_id, ce_source, ce_type, ce_time",
        "CloudEvents 1.0, Kafka protocol binding, binary mode. `ce_id` is the event's own; of an event made here it begins with the id of the decision that allowed it.",
    ),
    ("content-type", "The media type of the data."),
    ("ce_dataschema", "The schema's identifier, of the events below; otherwise what the publisher said."),
    ("traceparent", "W3C trace context of the request that caused it, if it had one."),
    ("ce_domicileregion", "The region, which is also the first part of the topic's name."),
    ("domicile_log", "The origin of the region's log."),
    (
        "domicile_seq",
        "The event's position in that log. (`domicile_log`, `domicile_seq`) names an event for ever: skip what you have seen. Positions grow but are not dense: entries of the log that are no events lie between them.",
    ),
    (
        "domicile_prev",
        "The position of the event before this one, in whatever topic of the region; 0 for the first. Who reads all of a region's topics sees by it that nothing is missing.",
    ),
    ("domicile_replay", "Present when an operator sent the message again."),
    (
        "domicile_reason, domicile_topic, domicile_bytes",
        "In `<region>.domicile.dead-letter.v1` only: why an event could not be sent, where it belonged, and how large it is. Its data stays in the log.",
    ),
];

/// Renders the page.
pub(super) fn page() -> String {
    let mut html = String::with_capacity(32 * 1024);
    html.push_str(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
    );
    let _ = write!(html, "<title>domicile events</title><style>{STYLE}</style></head><body><div class=\"page\">");
    html.push_str("<nav aria-label=\"Contents\"><a class=\"mark\" href=\"#\">domicile events</a><div class=\"group\"><strong>Every message</strong>");
    html.push_str(
        "<a href=\"#topics\">Topics</a><a href=\"#headers\">Key and headers</a><strong>Made by domicile</strong>",
    );
    for schema in EventSchema::ALL {
        let _ = write!(html, "<a href=\"#{0}\">{0}</a>", escape(schema.event_type));
    }
    html.push_str("<strong>Also</strong><a href=\"/docs\">API</a></div></nav><main><h1>Events</h1>");
    html.push_str("<p class=\"lead\">What happened to a region&#39;s data, in that region&#39;s topics and in no other&#39;s.</p>");
    html.push_str("<h2 id=\"topics\">Topics</h2>");
    for paragraph in [
        "An event of the type `shop.order-placed` of a subject at home in `eu-central` is in the topic `eu-central.shop.order-placed.v1`; a type that ends in `.v2` is in a topic that does, too. The types that begin with `domicile.` are made here, with the change that they tell of, in one transaction.",
        "Delivery is at least once. A consumer that keeps the newest `domicile_seq` per key and skips what is not above it sees each event once, in order. Two examples are in the sources under `examples/`.",
        "Schemas grow by addition only. A reader ignores properties that it does not know.",
    ] {
        let _ = write!(html, "<p>{}</p>", prose(paragraph));
    }
    html.push_str("<h2 id=\"headers\">Key and headers</h2><div class=\"scroll\"><table><tbody>");
    for (name, about) in HEADERS {
        let _ = write!(html, "<tr><td><code>{}</code></td><td>{}</td></tr>", escape(name), prose(about));
    }
    html.push_str("</tbody></table></div><h2>Made by domicile</h2>");
    for schema in EventSchema::ALL {
        section(&mut html, &schema);
    }
    html.push_str("</main></div></body></html>");
    html
}

fn section(html: &mut String, schema: &EventSchema) {
    let document: Value = serde_json::from_str(schema.text).unwrap_or_default();
    let _ = write!(
        html,
        "<section class=\"schema\" id=\"{0}\"><h3><code>{0}</code></h3><p>{1}. {2}</p><p>Schema <code>{3}</code></p>",
        escape(schema.event_type),
        prose(&title(text(&document["title"]))),
        prose(text(&document["description"])),
        escape(schema.id),
    );
    html.push_str("<div class=\"scroll\"><table><tbody>");
    properties(html, "", &document);
    html.push_str("</tbody></table></div><details><summary>JSON Schema</summary>");
    example_of(html, &document);
    html.push_str("</details></section>");
}

fn properties(html: &mut String, before: &str, schema: &Value) {
    let required = array(&schema["required"]);
    for (name, of) in members(&schema["properties"]) {
        let must = if required.iter().any(|known| known == name) { ", always there" } else { "" };
        let words: Vec<String> =
            array(&of["enum"]).iter().map(|word| format!("<code>{}</code>", escape(text(word)))).collect();
        let words = if words.is_empty() { String::new() } else { format!(" {}.", words.join(", ")) };
        let _ = write!(
            html,
            "<tr><td><code>{}{}</code><br><span class=\"where\">{}{must}</span></td><td>{}{words}</td></tr>",
            escape(before),
            escape(name),
            kind(of),
            prose(text(&of["description"])),
        );
        if of["items"]["properties"].is_object() {
            properties(html, &format!("{name}[]."), &of["items"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_event_with_every_property_and_loads_nothing() {
        let html = page();
        for schema in EventSchema::ALL {
            assert!(html.contains(&format!("id=\"{}\"", schema.event_type)));
            let document: Value = serde_json::from_str(schema.text).unwrap();
            for (name, _) in members(&document["properties"]) {
                assert!(html.contains(&format!("<code>{name}</code>")), "{name}");
            }
        }
        assert!(html.contains("consents[].granted"));
        for foreign in ["<script", "src=", "@import", "url(", "<link"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }
}
