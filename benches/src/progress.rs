//! Telling whoever waits what is being measured: one moving line on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::Comparison;

/// How often the moving line moves.
const TURN: Duration = Duration::from_millis(120);

/// The line, or the lines. All of it goes to standard error: standard output is the table's.
pub(crate) struct Progress {
    line: Option<ProgressBar>,
    began: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let line = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {wide_msg}");
            let line = ProgressBar::new_spinner();
            line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            line.enable_steady_tick(TURN);
            line
        });
        Self { line, began: Instant::now() }
    }

    /// What is done now.
    pub(crate) fn now(&self, what: impl AsRef<str>) {
        match &self.line {
            Some(line) => line.set_message(what.as_ref().to_owned()),
            None => self.print(what.as_ref()),
        }
    }

    /// What was found: it stays.
    pub(crate) fn found(&self, one: &Comparison) {
        self.say(&format!("  {}: {}{}", one.name, one.in_words(), one.verdict()));
    }

    /// A sentence that stays.
    pub(crate) fn say(&self, sentence: &str) {
        match &self.line {
            Some(line) => line.suspend(|| self.print(sentence)),
            None => self.print(sentence),
        }
    }

    /// How long it has been.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes the moving line away.
    pub(crate) fn end(&self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }

    #[expect(clippy::print_stderr, reason = "a command speaks to its terminal")]
    fn print(&self, line: &str) {
        if self.line.is_some() {
            eprintln!("{line}");
        } else {
            eprintln!("[{:>4} s] {line}", self.began.elapsed().as_secs());
        }
    }
}
