//! One decision, explained: the sentence, the evidence as a ladder, what would change it, and the leaf verbatim.

use askama::Template;
use audit::{Answered, Entry, Explanation, Replay};
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use residency::{DecisionId, Finding};
use uuid::Uuid;

use crate::Console;
use crate::page::{Frame, grouped, hex, message, render};
use crate::visitor::{Asked, Unlogged, Visitor};

#[derive(Template)]
#[template(path = "decision.html")]
struct One {
    frame: Frame,
    region: String,
    seq: String,
    leaf_hash: String,
    intact: bool,
    line: String,
    told: Told,
}

struct Told {
    id: String,
    sentence: String,
    kind: &'static str,
    out: &'static str,
    why: Option<String>,
    basis: String,
    evidence: Vec<Rung>,
    would_change: Vec<String>,
    replay: String,
    /// `ok`, `bad` or `none`: the class of the replay's mark.
    replay_mark: &'static str,
    gateway: String,
    gseq: String,
    via: String,
    home: Option<String>,
    subject: Option<String>,
    rule: String,
    policy_hash: String,
    rows: String,
    bytes: String,
}

/// One step of the evidence ladder.
struct Rung {
    source: &'static str,
    weight: u8,
    value: String,
    role: &'static str,
    sentence: String,
}

pub(crate) async fn show(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Result<Response, Unlogged> {
    let policy = console.policy();
    let frame = Frame::new("decisions", &policy);
    let Ok(id) = id.parse::<Uuid>() else {
        let sentence = "A decision's id is a UUID, and this is none.";
        return Ok(message(StatusCode::NOT_FOUND, frame, "No decision", sentence));
    };
    let (entry, regions) = audit::find(&console.regions, DecisionId(id)).await;
    let Some(entry) = entry else { return Ok(not_found(frame, &regions)) };
    let asked = Asked { page: format!("decisions/{id}"), filter: Vec::new(), subject: None };
    let held = console.regions.iter().filter(|store| *store.region() == entry.region);
    visitor.looked(held, &asked, |_| 1).await?;
    Ok(match audit::explain(entry.line.as_bytes(), Some(&policy)) {
        Ok(explanation) => render(&view(frame, entry, explanation)),
        Err(error) => message(
            StatusCode::INTERNAL_SERVER_ERROR,
            frame,
            "Not readable",
            &format!("The log holds an entry, but {error}."),
        ),
    })
}

fn not_found(frame: Frame, regions: &[Answered]) -> Response {
    let silent: Vec<_> = regions.iter().filter(|r| r.error.is_some()).map(|r| r.region.as_str()).collect();
    if silent.is_empty() {
        let sentence = "No region served here has a decision of this id. It may take a second to become searchable.";
        message(StatusCode::NOT_FOUND, frame, "No decision", sentence)
    } else {
        let sentence = format!("It is in no log that could be asked. No answer from: {}.", silent.join(", "));
        message(StatusCode::SERVICE_UNAVAILABLE, frame, "Not found so far", &sentence)
    }
}

fn view(frame: Frame, entry: Entry, explanation: Explanation) -> One {
    One {
        frame,
        region: entry.region.to_string(),
        seq: grouped(entry.seq),
        leaf_hash: hex(&entry.leaf_hash),
        intact: entry.is_intact(),
        told: tell(explanation),
        line: entry.line,
    }
}

fn tell(explanation: Explanation) -> Told {
    let Explanation { parsed, sentence, evidence, basis, would_change, replay } = explanation;
    let rung = |weighed: audit::Weighed| Rung {
        source: weighed.evidence.source.name(),
        weight: weighed.evidence.source.weight(),
        value: match &weighed.evidence.finding {
            Finding::Home(region) => region.to_string(),
            Finding::Place(place) => place.to_string(),
            Finding::Nothing(nothing) => nothing.name().replace('_', " "),
        },
        role: weighed.role.name(),
        sentence: weighed.sentence,
    };
    Told {
        id: parsed.decision.id.to_string(),
        sentence,
        kind: parsed.kind.name(),
        out: parsed.out.name(),
        why: parsed.why,
        basis,
        evidence: evidence.into_iter().map(rung).collect(),
        would_change,
        replay: replay.sentence(),
        replay_mark: match replay {
            Replay::Same => "ok",
            Replay::Different { .. } => "bad",
            Replay::OtherPolicy => "none",
        },
        gateway: parsed.gateway.to_string(),
        gseq: grouped(parsed.gseq),
        via: parsed.decision.via.to_string(),
        home: parsed.home.map(|home| home.to_string()),
        subject: parsed.subject.map(|tag| tag.to_string()),
        rule: parsed.decision.rule.to_string(),
        policy_hash: hex(&parsed.decision.policy_hash),
        rows: grouped(parsed.rows),
        bytes: grouped(parsed.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn page(entry: Entry) -> String {
        let policy = sample::policy();
        let explanation = audit::explain(entry.line.as_bytes(), Some(&policy)).expect("a leaf");
        view(Frame::new("decisions", &policy), entry, explanation).render().expect("a page")
    }

    #[test]
    fn a_decision_shows_its_sentence_its_ladder_and_the_leaf_verbatim() {
        let entry = sample::entry();
        let line = entry.line.replace('"', "&#34;");
        let html = page(entry);
        for said in ["because the declared residence is DE.", "class=\"decided\"", "class=\"lost\"", "decides the same"]
        {
            assert!(html.contains(said), "{said}");
        }
        assert!(html.contains(&line), "{html}");
        assert!(html.contains("have the leaf hash that the log holds"));
    }

    #[test]
    fn edited_bytes_are_called_edited() {
        let mut entry = sample::entry();
        entry.leaf_hash[0] ^= 1;
        assert!(page(entry).contains("one of them was edited"));
    }
}
