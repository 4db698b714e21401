//! The report of a drill: dated, for people (Markdown) and for programs (JSON), kept beside the others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Kind;

/// Reports that are read at most.
const REPORTS_MAX: usize = 10_000;

/// What a drill should come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// The longest outage, or time to a whole copy, milliseconds.
    pub rto_ms: u64,
    /// The oldest that what is restored may be, milliseconds.
    pub rpo_ms: u64,
}

impl Targets {
    /// In the units of the command line.
    #[must_use]
    pub fn new(rto: Duration, rpo: Duration) -> Self {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self { rto_ms: ms(rto), rpo_ms: ms(rpo) }
    }
}

/// What it came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Outage: from the last acknowledgement before to the first after; or time to a whole copy. Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto_ms: Option<u64>,
    /// The age of what was restored, or of the oldest acknowledged write that the copy lacks; milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo_ms: Option<u64>,
    /// Writes that were acknowledged to the probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<u64>,
    /// Of these, those that are not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Writes that were begun after it was broken and not acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,
    /// Rows that were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should.
    Pass,
    /// Nothing was lost, but a target was missed.
    Partial,
    /// Something was lost, or did not come back, or was not refused.
    Fail,
}

impl Verdict {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Partial => "partial",
            Self::Fail => "fail",
        }
    }
}

/// A drill that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its name: time and kind.
    pub id: String,
    /// What was rehearsed.
    pub kind: String,
    /// The region, or `directory`, or a scratch world.
    pub region: String,
    /// When it began, RFC 3339.
    pub at: String,
    /// Who did it.
    pub actor: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was broken, and how.
    pub broken: String,
    /// What it should come to.
    pub targets: Targets,
    /// What it came to.
    pub measured: Measured,
    /// What happened, in order: milliseconds since it began, and a sentence.
    pub timeline: Vec<(u64, String)>,
    /// Why it did not pass; empty when it did.
    pub findings: Vec<String>,
}

impl Report {
    /// An empty report of a drill that begins now. It passes unless something is found.
    #[must_use]
    pub fn begin(kind: Kind, region: &str, actor: &str, broken: &str, targets: Targets, at: OffsetDateTime) -> Self {
        let at = at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default();
        let digits: String = at.chars().filter(char::is_ascii_alphanumeric).collect();
        Self {
            id: format!("{digits}-{}-{region}-{:04x}", kind.name(), rand::random::<u16>()),
            kind: kind.name().to_owned(),
            region: region.to_owned(),
            at,
            actor: actor.to_owned(),
            verdict: Verdict::Pass,
            broken: broken.to_owned(),
            targets,
            measured: Measured::default(),
            timeline: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Notes what happened.
    pub fn note(&mut self, at_ms: u64, sentence: impl Into<String>) {
        self.timeline.push((at_ms, sentence.into()));
    }

    /// Something is wrong: nothing makes up for it.
    pub fn fail(&mut self, sentence: impl Into<String>) {
        self.verdict = Verdict::Fail;
        self.findings.push(sentence.into());
    }

    /// A target was missed: nothing was lost by it.
    pub fn miss(&mut self, sentence: impl Into<String>) {
        self.findings.push(sentence.into());
        if self.verdict == Verdict::Pass {
            self.verdict = Verdict::Partial;
        }
    }

    /// Compares what was measured with the targets, and lost writes with none.
    pub fn judge(&mut self) {
        if let Some(lost) = self.measured.lost.filter(|lost| *lost > 0) {
            self.fail(format!("{lost} acknowledged writes are gone"));
        }
        let missed = |what: &str, measured: Option<u64>, target: u64| {
            let over = measured.filter(|measured| *measured > target)?;
            Some(format!("{what} is {} and should be at most {}", seconds(over), seconds(target)))
        };
        let missed = [
            missed("the recovery time", self.measured.rto_ms, self.targets.rto_ms),
            missed("the age of what is recovered", self.measured.rpo_ms, self.targets.rpo_ms),
        ];
        missed.into_iter().flatten().for_each(|sentence| self.miss(sentence));
    }

    /// When it was.
    #[must_use]
    pub fn taken_at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(&self.at, &Rfc3339).ok()
    }

    /// The report for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("# Drill `{}` of {}: {}\n\n", self.kind, self.region, self.verdict.name());
        let mut line = |sentence: String| {
            text.push_str(&sentence);
            text.push('\n');
        };
        line(format!("{} by {}. What was broken: {}.\n", self.at, self.actor, self.broken));
        line("| | measured | target |\n| --- | --- | --- |".to_owned());
        let shown = |ms: Option<u64>| ms.map_or_else(|| "not measured".to_owned(), seconds);
        line(format!("| recovery time | {} | {} |", shown(self.measured.rto_ms), seconds(self.targets.rto_ms)));
        line(format!(
            "| age of what is recovered | {} | {} |",
            shown(self.measured.rpo_ms),
            seconds(self.targets.rpo_ms)
        ));
        if let (Some(acknowledged), Some(lost)) = (self.measured.acknowledged, self.measured.lost) {
            line(format!("| lost acknowledged writes | {lost} of {acknowledged} | 0 |"));
        }
        if let Some(refused) = self.measured.refused {
            let target = if self.kind == Kind::Rollback.name() { "0" } else { "" };
            line(format!("| writes not acknowledged meanwhile | {refused} | {target} |"));
        }
        if let Some(rows) = self.measured.rows {
            line(format!("| rows compared | {rows} | all |"));
        }
        line("\n## What happened\n".to_owned());
        for (at_ms, sentence) in &self.timeline {
            line(format!("* {}: {sentence}", seconds(*at_ms)));
        }
        if !self.findings.is_empty() {
            line("\n## What was found\n".to_owned());
            for finding in &self.findings {
                line(format!("* {finding}"));
            }
        }
        text
    }
}

/// The folder of the reports.
#[derive(Debug, Clone)]
pub struct Reports {
    folder: PathBuf,
}

impl Reports {
    /// Those in `drills` below the state folder.
    #[must_use]
    pub fn below(state: &Path) -> Self {
        Self { folder: state.join("drills") }
    }

    /// Keeps a report; gives the path of the one for people.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, report: &Report) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.folder)?;
        let path = |ending: &str| self.folder.join(format!("{}.{ending}", report.id));
        let json = serde_json::to_vec_pretty(report).map_err(io::Error::other)?;
        fs::write(path("md"), report.markdown())?;
        // The one that the history reads comes last, whole or not at all.
        fs::write(path("part"), json)?;
        fs::rename(path("part"), path("json"))?;
        Ok(path("md"))
    }

    /// Every report, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read; that there is none is no error.
    pub fn read(&self) -> io::Result<Vec<Report>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut reports: Vec<Report> = Vec::new();
        for entry in entries.take(REPORTS_MAX * 2) {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "json")
                && let Ok(report) = serde_json::from_slice(&fs::read(&path)?)
            {
                reports.push(report);
            }
        }
        reports.sort_by(|a, b| (&a.at, &a.id).cmp(&(&b.at, &b.id)));
        Ok(reports)
    }
}

fn seconds(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{:03} s", ms / 1_000, ms % 1_000),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: Kind) -> Report {
        let targets = Targets::new(Duration::from_secs(60), Duration::ZERO);
        Report::begin(kind, "eu-central", "test", "the primary was killed", targets, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_lost_write_fails_whatever_the_times_are() {
        let mut fine = report(Kind::Crash);
        fine.measured = Measured { rto_ms: Some(1_500), acknowledged: Some(900), lost: Some(0), ..Measured::default() };
        fine.judge();
        assert_eq!((fine.verdict, fine.findings.len()), (Verdict::Pass, 0));
        let mut slow = fine.clone();
        slow.measured.rto_ms = Some(61_000);
        slow.judge();
        assert_eq!(slow.verdict, Verdict::Partial);
        let mut lossy = fine;
        lossy.measured.lost = Some(1);
        lossy.judge();
        assert_eq!(lossy.verdict, Verdict::Fail);
        assert!(lossy.markdown().contains("1 of 900"), "{}", lossy.markdown());
    }

    #[test]
    fn reports_are_kept_for_people_and_programs_and_read_in_order() {
        let state = tempfile::tempdir().expect("a folder");
        let reports = Reports::below(state.path());
        assert_eq!(reports.read().expect("none yet"), []);
        let (first, mut second) = (report(Kind::Restore), report(Kind::Tamper));
        second.at = "1971-01-01T00:00:00Z".into();
        reports.keep(&second).expect("kept");
        let path = reports.keep(&first).expect("kept");
        assert!(fs::read_to_string(path).expect("Markdown").starts_with("# Drill `restore` of eu-central: pass"));
        assert_eq!(reports.read().expect("two"), [first, second]);
    }
}
