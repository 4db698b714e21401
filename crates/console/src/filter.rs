//! What a visitor asked for: the form of the decisions page, and the search it means.

use audit::Cursor;
use leaf::{Kind, Out};
use residency::{Operation, Region, SubjectId};
use serde::Deserialize;
use storage::DecisionFilter;
use time::{Date, Month};

use crate::visitor::Asked;

/// How many decisions a page shows.
const ROWS: u16 = 50;

/// The form as it was sent. What is empty is not asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Form {
    pub(crate) region: String,
    pub(crate) kind: String,
    pub(crate) operation: String,
    pub(crate) outcome: String,
    pub(crate) actor: String,
    pub(crate) rule: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// Personal data: only ever sent in a body, never in an address.
    pub(crate) subject: String,
    pub(crate) before: String,
}

/// The search that a form means.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) region: Option<Region>,
    pub(crate) filter: DecisionFilter,
    pub(crate) cursor: Cursor,
    /// The days as they were written.
    days: (String, String),
}

impl Search {
    /// What a log keeps of the search.
    pub(crate) fn asked(&self) -> Asked {
        let day = |text: &String| (!text.is_empty()).then(|| text.clone());
        let DecisionFilter { actor, rule, outcome, kind, operation, subject, .. } = self.filter.clone();
        let said = [
            ("from", day(&self.days.0)),
            ("to", day(&self.days.1)),
            ("actor", actor),
            ("rule", rule),
            ("outcome", outcome),
            ("kind", kind),
            ("operation", operation),
            ("region", self.region.as_ref().map(ToString::to_string)),
        ];
        let filter = said.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Asked { page: "decisions".to_owned(), filter, subject }
    }
}

impl Form {
    /// Reads the form.
    ///
    /// # Errors
    /// One sentence for each field that cannot be understood. None repeats what was written.
    pub(crate) fn read(&self) -> Result<Search, Vec<&'static str>> {
        let mut mistakes = Vec::new();
        let mut is = |holds: bool, sentence: &'static str| {
            if !holds {
                mistakes.push(sentence);
            }
        };
        let region = Region::new(&self.region).ok();
        is(self.region.is_empty() || region.is_some(), "There is no region of that name.");
        is(self.kind.is_empty() || Kind::named(&self.kind).is_some(), "There is no such kind of entry.");
        let operation = Operation::ALL.into_iter().find(|operation| operation.name() == self.operation);
        is(self.operation.is_empty() || operation.is_some(), "There is no such operation.");
        is(self.outcome.is_empty() || Out::named(&self.outcome).is_some(), "There is no such outcome.");
        let from = day(&self.from);
        is(self.from.is_empty() || from.is_some(), "The first day is not a date like 2026-11-22.");
        let to = day(&self.to);
        is(self.to.is_empty() || to.is_some(), "The last day is not a date like 2026-11-22.");
        let subject = SubjectId::new(&self.subject).ok();
        is(self.subject.is_empty() || subject.is_some(), "A person's identifier has 1 to 256 printable bytes.");
        let cursor = self.before.parse().ok();
        is(self.before.is_empty() || cursor.is_some(), "The page asked for does not exist; this would be its first.");
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let filter = DecisionFilter {
            from_us: from,
            to_us: to.map(|day| day.saturating_add(DAY_US)),
            actor: asked(&self.actor),
            rule: asked(&self.rule),
            outcome: asked(&self.outcome),
            kind: asked(&self.kind),
            operation: asked(&self.operation),
            subject,
            before_seq: None,
            limit: ROWS,
        };
        let days = (self.from.clone(), self.to.clone());
        Ok(Search { region, filter, cursor: cursor.unwrap_or_default(), days })
    }
}

const DAY_US: i64 = 86_400_000_000;

fn asked(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The beginning of a day, in microseconds.
fn day(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let year = parts.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let month = Month::try_from(parts.next()?.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, parts.next()?.parse().ok()?).ok()?;
    date.midnight().assume_utc().unix_timestamp().checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_form_asks_for_everything() {
        let search = Form::default().read().expect("a search");
        assert!(search.region.is_none() && search.filter.subject.is_none() && search.filter.actor.is_none());
        assert_eq!(search.cursor, Cursor::default());
    }

    #[test]
    fn the_last_day_is_part_of_the_search() {
        let form = Form { from: "2026-11-22".to_owned(), to: "2026-11-22".to_owned(), ..Form::default() };
        let filter = form.read().expect("a search").filter;
        assert_eq!(filter.from_us, Some(1_795_305_600_000_000));
        assert_eq!(filter.to_us, Some(1_795_305_600_000_000 + DAY_US));
    }

    #[test]
    fn a_log_keeps_what_was_asked_and_the_person_apart() {
        let text = str::to_owned;
        let form = Form {
            to: text("2026-11-22"),
            actor: text(" key:checkout "),
            region: text("us-east"),
            subject: text("anna@example.com"),
            before: text("us-east.7"),
            ..Form::default()
        };
        let asked = form.read().expect("a search").asked();
        let said: Vec<_> = asked.filter.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(said, ["to=2026-11-22", "actor=key:checkout", "region=us-east"]);
        assert_eq!(asked.subject, SubjectId::new("anna@example.com").ok());
    }

    #[test]
    fn every_mistake_is_named_at_once_and_none_is_repeated() {
        let bad = || "<b>\u{7}".to_owned();
        let form = Form {
            region: bad(),
            kind: bad(),
            operation: bad(),
            outcome: bad(),
            from: bad(),
            to: bad(),
            subject: bad(),
            before: bad(),
            ..Form::default()
        };
        let mistakes = form.read().expect_err("mistakes");
        assert_eq!(mistakes.len(), 8);
        assert!(mistakes.iter().all(|mistake| !mistake.contains("<b>")));
    }
}
