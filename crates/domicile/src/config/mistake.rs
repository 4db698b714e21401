//! What is wrong with a configuration, all of it at once: where it stands, what is wrong, what to do.

use std::fmt;

use serde::Serialize;

/// How grave a mistake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Gravity {
    /// The process does not start.
    Error,
    /// It starts, and says so in the log.
    Warning,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Mistake {
    /// How grave it is.
    pub gravity: Gravity,
    /// The file, with the line where it is known, or the environment variable.
    pub at: String,
    /// The key as one would name it aloud: `regions.eu-central.postgres`.
    pub key: String,
    /// What is wrong: a sentence without the value when that may be secret.
    pub message: String,
    /// What to do about it: a sentence.
    pub fix: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gravity = match self.gravity {
            Gravity::Error => "error",
            Gravity::Warning => "warning",
        };
        write!(f, "{gravity}: {}", self.at)?;
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, "\n  {}", self.message)?;
        if !self.fix.is_empty() {
            write!(f, "\n  fix: {}", self.fix)?;
        }
        Ok(())
    }
}

/// Every mistake of a configuration, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// The errors.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter().filter(|m| m.gravity == Gravity::Error)
    }

    /// The warnings.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter().filter(|m| m.gravity == Gravity::Warning)
    }

    /// Whether a key, or something inside it, already has a mistake: saying more about it would only distract.
    pub(crate) fn mention(&self, key: &str) -> bool {
        self.0.iter().any(|m| {
            m.key
                .strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
        })
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.0 {
            writeln!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The known word nearest to `word`, when it is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + word.len() / 4;
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed || starts_alike(word, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Whether one is the other without its unit or ending: `request_ms` for `request_ms_max`.
fn starts_alike(word: &str, candidate: &str) -> bool {
    word.len() >= 4 && candidate.len() >= 4 && (candidate.starts_with(word) || word.starts_with(candidate))
}

/// Edits (insert, delete, replace, swap of neighbours) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_a_stranger_is_not() {
        let known = ["listen", "admin_listen", "region", "limits"];
        assert_eq!(nearest("lisetn", known), Some("listen"));
        assert_eq!(nearest("regoin", known), Some("region"));
        assert_eq!(nearest("colour", known), None);
    }

    #[test]
    fn a_forgotten_unit_is_recognised() {
        assert_eq!(nearest("request_ms", ["request_ms_max", "body_bytes_max"]), Some("request_ms_max"));
    }

    #[test]
    fn a_mistake_inside_a_table_counts_as_a_mention_of_the_table_but_not_of_its_namesake() {
        let mistake = |key: &str| Mistake {
            gravity: Gravity::Error,
            at: "f".into(),
            key: key.into(),
            message: "m".into(),
            fix: String::new(),
        };
        let mistakes = Mistakes(vec![mistake("regions.eu.postgres")]);
        assert!(mistakes.mention("regions.eu"));
        assert!(mistakes.mention("regions.eu.postgres"));
        assert!(!mistakes.mention("regions.e"));
        assert!(!mistakes.mention("regions.eu.postgres_owner"));
    }
}
