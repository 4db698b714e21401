//! The decisions page: a table, newest first, that can be narrowed down.

use askama::Template;
use audit::{Entry, Page};
use axum::Extension;
use axum::extract::{Form as Received, State};
use axum::response::Response;
use leaf::{Kind, Out};
use residency::{Operation, Region};
use storage::RegionStore;

use crate::Console;
use crate::filter::{Form, Search};
use crate::page::{Frame, clock, grouped, render};
use crate::visitor::{Unlogged, Visitor};

#[derive(Template)]
#[template(path = "decisions.html")]
struct Decisions {
    frame: Frame,
    form: Form,
    regions: Vec<String>,
    kinds: Vec<&'static str>,
    operations: Vec<&'static str>,
    outcomes: Vec<&'static str>,
    mistakes: Vec<&'static str>,
    /// The regions that did not answer, with the reason.
    silent: Vec<(String, String)>,
    rows: Vec<Row>,
    /// Where the next page begins.
    next: Option<String>,
}

struct Row {
    region: String,
    seq: String,
    intact: bool,
    /// `None` for an entry that is no decision, or cannot be read.
    said: Option<Said>,
}

struct Said {
    id: String,
    at: String,
    actor: String,
    deed: &'static str,
    resource: Option<String>,
    home: Option<String>,
    via: String,
    rule: String,
    out: &'static str,
    why: Option<String>,
}

impl Row {
    fn new(entry: &Entry) -> Self {
        let said = entry.parsed.as_ref().ok().map(|parsed| Said {
            id: parsed.decision.id.to_string(),
            at: clock(parsed.decision.at_us),
            actor: parsed.decision.actor.as_str().to_owned(),
            deed: audit::deed(parsed),
            resource: audit::resource(parsed).map(str::to_owned),
            home: parsed.home.as_ref().map(ToString::to_string),
            via: parsed.decision.via.to_string(),
            rule: parsed.decision.rule.to_string(),
            out: parsed.out.name(),
            why: parsed.why.clone(),
        });
        Self { region: entry.region.to_string(), seq: grouped(entry.seq), intact: entry.is_intact(), said }
    }
}

/// The table. An address is remembered and logged in many places, so a person cannot be named in one.
pub(crate) async fn show(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Received(form): Received<Form>,
) -> Result<Response, Unlogged> {
    table(&console, &visitor, Form { subject: String::new(), ..form }).await
}

/// The table of the decisions about one person, whose identifier came in the body.
pub(crate) async fn show_one_person(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Received(form): Received<Form>,
) -> Result<Response, Unlogged> {
    table(&console, &visitor, form).await
}

async fn table(console: &Console, visitor: &Visitor, form: Form) -> Result<Response, Unlogged> {
    let (page, mistakes) = match form.read() {
        Ok(search) => (found(console, visitor, &search).await?, Vec::new()),
        Err(mistakes) => (Page { entries: Vec::new(), regions: Vec::new(), next: None }, mistakes),
    };
    let regions = console.regions.iter().map(|store| store.region().to_string()).collect();
    Ok(render(&view(Frame::new("decisions", &console.policy()), regions, form, mistakes, &page)))
}

/// What the search finds, once every log that answered knows of it.
async fn found(console: &Console, visitor: &Visitor, search: &Search) -> Result<Page, Unlogged> {
    let wanted = |store: &&RegionStore| search.region.as_ref().is_none_or(|region| region == store.region());
    let stores: Vec<_> = console.regions.iter().filter(wanted).cloned().collect();
    let page = audit::search(&stores, &search.filter, &search.cursor).await;
    let answered = stores.iter().filter(|store| page.answered(store.region()));
    let rows = |region: &Region| page.entries.iter().filter(|entry| entry.region == *region).count() as u64;
    visitor.looked(answered, &search.asked(), rows).await?;
    Ok(page)
}

fn view(frame: Frame, regions: Vec<String>, form: Form, mistakes: Vec<&'static str>, page: &Page) -> Decisions {
    let silent = page
        .regions
        .iter()
        .filter_map(|answered| answered.error.as_ref().map(|error| (answered.region.to_string(), error.to_string())));
    Decisions {
        frame,
        form,
        regions,
        kinds: Kind::ALL.map(Kind::name).to_vec(),
        operations: Operation::ALL.map(Operation::name).to_vec(),
        outcomes: Out::ALL.map(Out::name).to_vec(),
        mistakes,
        silent: silent.collect(),
        rows: page.entries.iter().map(Row::new).collect(),
        next: page.next.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use audit::Answered;

    use super::*;
    use crate::sample;

    fn page(form: Form, page: &Page) -> String {
        let regions = vec!["eu-central".to_owned(), "us-east".to_owned()];
        view(Frame::new("decisions", &sample::policy()), regions, form, Vec::new(), page).render().expect("a page")
    }

    #[test]
    fn a_row_says_who_asked_for_what_and_what_came_of_it() {
        let entries = vec![sample::entry(), sample::denied()];
        let html = page(Form::default(), &Page { entries, regions: Vec::new(), next: None });
        for said in ["key:checkout", "write a record", "eu-central", "eea", "allow", "residency_unresolved"] {
            assert!(html.contains(said), "{said}");
        }
        assert!(!html.contains("Older decisions") && !html.contains("edited"));
    }

    #[test]
    fn what_a_caller_is_called_cannot_become_markup() {
        let mut entry = sample::entry();
        let parsed = entry.parsed.as_mut().expect("a leaf");
        parsed.decision.actor = residency::Actor::new("<img src=x onerror=alert(1)>");
        parsed.decision.resource = Some("\"'><b>".into());
        let html = page(Form::default(), &Page { entries: vec![entry], regions: Vec::new(), next: None });
        assert!(!html.contains("<img") && !html.contains("<b>"), "{html}");
    }

    #[test]
    fn an_edited_entry_stands_out() {
        let mut entry = sample::entry();
        entry.line = entry.line.replacen("\"rows\":1", "\"rows\":2", 1);
        let html = page(Form::default(), &Page { entries: vec![entry], regions: Vec::new(), next: None });
        assert!(html.contains(">edited<"));
    }

    #[test]
    fn a_region_that_did_not_answer_is_named() {
        let region = residency::Region::new("us-east").expect("a region");
        let error = Some(storage::Error::Overloaded { region: region.clone() });
        let html =
            page(Form::default(), &Page { entries: Vec::new(), regions: vec![Answered { region, error }], next: None });
        assert!(html.contains("<strong>us-east</strong> did not answer"));
    }

    #[test]
    fn a_person_is_never_carried_in_an_address() {
        let next = Some("eu-central.4".parse().expect("a cursor"));
        let form = Form { subject: "anna@example.com".to_owned(), ..Form::default() };
        let html = page(form, &Page { entries: vec![sample::entry()], regions: Vec::new(), next });
        let pager = html.split("class=\"pager\"").nth(1).expect("a pager");
        assert!(pager.starts_with(" method=\"post\""), "{pager}");
        for address in html.split("href=\"").skip(1) {
            assert!(!address.split('"').next().expect("an address").contains("anna"));
        }
    }
}
