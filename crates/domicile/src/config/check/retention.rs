//! The meaning of `[[regions.*.retention]]`.

use super::Check;
use crate::config::{nearest, raw};

impl Check<'_> {
    /// Every kind at most once, known, and not kept for longer than it may be.
    pub(super) fn retention(&mut self, table: &str, raw: &[raw::Retention]) -> audit::Retention {
        let known: Vec<&str> = leaf::Kind::ALL
            .map(leaf::Kind::name)
            .into_iter()
            .chain(leaf::FactKind::ALL.map(leaf::FactKind::name))
            .chain(["log.genesis"])
            .collect();
        let mut retention = audit::Retention::default();
        for (index, rule) in raw.iter().enumerate() {
            let key = format!("{table}.retention[{index}]");
            let fix = "Name a kind of entry, e.g. \"decision.read\", or \"*\" for all without a rule of their own.";
            let Some(kind) = self.text(&format!("{key}.kind"), rule.kind.as_ref(), fix) else { continue };
            if kind != audit::EVERY_KIND && !known.contains(&kind.as_str()) {
                let fix = match nearest(&kind, known.iter().copied()) {
                    Some(near) => format!("Did you mean {near}?"),
                    None => format!("Use one of {}.", known.join(", ")),
                };
                self.error(&format!("{key}.kind"), format!("There is no kind of entry {kind}."), fix);
            }
            if rule.min_days.zip(rule.max_days).is_some_and(|(min, max)| min > max) {
                let message = "Entries would have to be kept for longer than they may be.";
                self.error(&format!("{key}.max_days"), message, "Make max_days as long as min_days at least.");
            }
            let keep = audit::Keep { min_days: rule.min_days, max_days: rule.max_days };
            if retention.0.insert(kind.clone(), keep).is_some() {
                self.error(&format!("{key}.kind"), format!("{kind} has two rules."), "Remove one of them.");
            }
        }
        retention
    }
}
