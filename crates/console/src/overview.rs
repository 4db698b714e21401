//! The overview: how each region stands, how long its log is, and how far its followers have come.

use std::time::SystemTime;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use futures::future::{join_all, try_join, try_join_all};
use residency::Policy;
use storage::{Channel, CursorState, Error, Head, Health, Log, RegionStore};

use crate::Console;
use crate::page::{Frame, clock, grouped, hex, render, short};

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    headline: String,
    regions: Vec<RegionView>,
}

struct RegionView {
    name: String,
    jurisdiction: String,
    law: String,
    /// `up`, `down` or `misplaced`: also the class of its mark.
    state: &'static str,
    /// What is wrong with it, if anything.
    trouble: Option<String>,
    placement: Option<String>,
    log: Option<LogView>,
}

struct LogView {
    size: String,
    root: String,
    root_short: String,
    cursors: Vec<CursorView>,
}

struct CursorView {
    name: String,
    /// How many entries behind the end; `None` when nothing waits for it.
    lag: Option<String>,
    owner: Option<String>,
}

pub(crate) async fn show(State(console): State<Console>) -> Response {
    let policy = console.policy();
    let regions = join_all(console.regions.iter().map(|store| look_at(store, &policy))).await;
    render(&view(&policy, regions))
}

fn view(policy: &Policy, regions: Vec<RegionView>) -> Overview {
    let up = regions.iter().filter(|region| region.state == "up").count();
    let headline = match (up, regions.len()) {
        (_, 0) => "No region is served here.".to_owned(),
        (up, all) if up == all => "Every region is up.".to_owned(),
        (0, _) => "No region can be reached.".to_owned(),
        (up, all) => format!("{up} of {all} regions are up."),
    };
    Overview { frame: Frame::new("overview", policy), headline, regions }
}

async fn look_at(store: &RegionStore, policy: &Policy) -> RegionView {
    let rule = policy.region(store.region());
    let jurisdiction = rule.map(|rule| &rule.jurisdiction);
    let (title, law) = jurisdiction.and_then(|jurisdiction| policy.jurisdiction(jurisdiction)).unwrap_or_default();
    let placement = rule.and_then(|rule| rule.placements.first());
    let (state, trouble, log) = match store.health() {
        Health::Misplaced { reason } => ("misplaced", Some(reason), None),
        Health::Down { since, reason } => ("down", Some(format!("Since {}: {reason}.", at(since))), None),
        Health::Up => {
            let log = store.log();
            match look_at_log(&log).await {
                Ok(view) => ("up", None, Some(view)),
                Err(error) => ("down", Some(error.to_string()), None),
            }
        }
    };
    RegionView {
        name: store.region().to_string(),
        jurisdiction: if title.is_empty() { "not in the policy".to_owned() } else { title.to_owned() },
        law: law.to_owned(),
        state,
        trouble,
        placement: placement.map(|first| format!("{} {} ({})", first.cloud, first.location, first.country)),
        log,
    }
}

async fn look_at_log(log: &Log) -> Result<LogView, Error> {
    let (cursors, head) = try_join(log.cursors(), log.head()).await?;
    let cursors = try_join_all(cursors.into_iter().map(|cursor| look_at_cursor(log, &head, cursor))).await?;
    let root = hex(&head.root);
    Ok(LogView { size: grouped(head.size), root_short: short(&root), root, cursors })
}

/// A follower of events rests on the last event it carried, however many entries without one came after.
async fn look_at_cursor(log: &Log, head: &Head, cursor: CursorState) -> Result<CursorView, Error> {
    let channel = match cursor.name.as_str() {
        "relay" => Some(Channel::Events),
        "forwarder" => Some(Channel::ZeroParty),
        _ => None,
    };
    let rests = match channel {
        Some(channel) => log.outbox(channel, cursor.seq, 1).await?.is_empty(),
        None => false,
    };
    Ok(cursor_view(head, cursor, rests))
}

fn cursor_view(head: &Head, cursor: CursorState, rests: bool) -> CursorView {
    // A cursor stands on the last entry that is done; entry 0 is the log's own.
    let lag = if rests { 0 } else { head.size.saturating_sub(1).saturating_sub(cursor.seq) };
    CursorView { lag: (lag > 0).then(|| grouped(lag)), name: cursor.name, owner: cursor.owner }
}

fn at(since: SystemTime) -> String {
    let us = since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros());
    clock(i64::try_from(us).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn region(name: &str, state: &'static str) -> RegionView {
        let head = Head { size: 48_213, root: [0xc7; 32], fence: 3 };
        let cursor = |name: &str, seq, rests| {
            let state = CursorState { name: name.to_owned(), seq, owner: None, updated_at_us: 0 };
            cursor_view(&head, state, rests)
        };
        let log = LogView {
            size: grouped(head.size),
            root: hex(&head.root),
            root_short: short(&hex(&head.root)),
            cursors: vec![
                cursor("index", 48_212, false),
                cursor("relay", 17, true),
                cursor("forwarder", 48_000, false),
            ],
        };
        RegionView {
            name: name.to_owned(),
            jurisdiction: "European Economic Area".to_owned(),
            law: "GDPR".to_owned(),
            state,
            trouble: (state != "up").then(|| "the connection <b>failed</b>".to_owned()),
            placement: Some("azure germanywestcentral (DE)".to_owned()),
            log: (state == "up").then_some(log),
        }
    }

    #[test]
    fn each_region_shows_its_state_its_log_and_how_far_its_followers_are() {
        let html = view(&sample::policy(), vec![region("eu-central", "up"), region("us-east", "down")]);
        let html = html.render().expect("a page");
        for said in ["1 of 2 regions are up", "48\u{202f}213", "c7c7c7c7c7c7…", "up to date", ">212<"] {
            assert!(html.contains(said), "{said}");
        }
        assert_eq!(html.matches("up to date").count(), 2, "the index is at the end, the relay has nothing to carry");
        assert!(!html.contains("<b>"), "{html}");
    }
}
