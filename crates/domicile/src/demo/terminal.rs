//! What one sees while the world starts: live lines on a terminal, one line per finished step elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use world::{Progress, Step};

use crate::print;

/// A listener for the world's steps, on standard error.
pub(super) fn progress() -> Progress {
    if std::io::stderr().is_terminal() { live() } else { plain() }
}

fn plain() -> Progress {
    Progress::new(|step| match step {
        Step::Began { .. } => {}
        Step::Done { what, note, took } => print::note(format!("  {}  {}", seconds(took), sentence(&what, &note))),
        Step::Said { what } => print::note(what),
    })
}

fn live() -> Progress {
    let bars = MultiProgress::new();
    let running: Mutex<HashMap<String, ProgressBar>> = Mutex::default();
    Progress::new(move |step| {
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            Step::Began { what } => {
                let bar = bars.add(ProgressBar::new_spinner().with_message(what.clone()));
                if let Ok(style) = ProgressStyle::with_template("  {spinner} {elapsed:>4}  {msg}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(100));
                running.insert(what, bar);
            }
            Step::Done { what, note, took } => {
                if let Some(bar) = running.remove(&what) {
                    bar.finish_and_clear();
                }
                drop(bars.println(format!("  ✓ {}  {}", seconds(took), sentence(&what, &note))));
            }
            Step::Said { what } => drop(bars.println(what)),
        }
    })
}

fn sentence(what: &str, note: &str) -> String {
    if note.is_empty() { what.to_owned() } else { format!("{what}: {note}") }
}

fn seconds(took: Duration) -> String {
    format!("{:>4.1} s", took.as_secs_f64())
}
