//! `cargo xtask ci`: everything a change must pass. The tests, then the runbook on containers where that can be played,
//! and last, in the form of cargo's own result line, what both came to.

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::docker;
use crate::run::{self, Cargo, Done};

/// Where it is set, libFuzzer runs too, and the runbook with the literal `docker build`, however long they take.
pub(crate) const LONG_CI: &str = "DOMICILE_CI_LONG";
/// How long the continuous integration lets all of it take, from its beginning.
const CI_MAX: Duration = Duration::from_secs(90 * 60);
/// What the rehearsal needs where the stand-ins for the images of others have to be made first.
const REHEARSAL_MAX: Duration = Duration::from_secs(25 * 60);
/// What is left for whatever came before we began to count, and for the last lines.
const MARGIN: Duration = Duration::from_secs(10 * 60);
/// The exit code of a rehearsal that could not begin.
pub(crate) const UNPREPARED: u8 = 3;

/// What became of the rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rehearsal {
    Held(Duration),
    Failed(String),
    NotRun(String),
}

impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = "the rehearsal on containers (image, cell, deploy, a bad release, rollback, backup)";
        match self {
            Self::Held(took) => write!(f, "HELD: {what}, in {}", run::seconds(*took)),
            Self::Failed(why) => write!(f, "FAILED: {what}, {why}"),
            Self::NotRun(why) => {
                write!(
                    f,
                    "NOT RUN: {what}, because {why}\nRun `cargo xtask test --docker` where a Docker engine answers."
                )
            }
        }
    }
}

/// What the tests came to: the sums of cargo's result lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    /// Adds a line, if it is one of theirs.
    fn read(&mut self, line: &str) {
        let Some((_, rest)) = line.split_once("test result: ") else { return };
        let number = |word: &str| {
            let part = rest.split(['.', ';']).find_map(|part| part.trim().strip_suffix(word))?;
            part.trim().parse::<u64>().ok()
        };
        self.passed += number("passed").unwrap_or(0);
        self.failed += number("failed").unwrap_or(0);
        self.ignored += number("ignored").unwrap_or(0);
    }

    /// The rehearsal counts as a test; one that was not run as one that was ignored.
    fn with(mut self, rehearsal: &Rehearsal) -> Self {
        match rehearsal {
            Rehearsal::Held(_) => self.passed += 1,
            Rehearsal::Failed(_) => self.failed += 1,
            Rehearsal::NotRun(_) => self.ignored += 1,
        }
        self
    }
}

/// The tests and the rehearsal, and what stands last. `began` is when all of it did.
pub(crate) fn tests_and_rehearsal(cargo: &Cargo, began: Instant) -> Result<ExitCode> {
    run::step("Building the tests", cargo.command(["test", "--workspace", "--no-run", "--quiet"]))?;
    let tests_began = Instant::now();
    let mut tally = Tally::default();
    let code = run::reading(cargo.command(["test", "--workspace", "--no-fail-fast"]), |line| tally.read(line))?;
    let rehearsal = match code {
        0 => rehearse(cargo, began)?,
        _ => Rehearsal::NotRun("the tests failed".into()),
    };
    let line = "=".repeat(100);
    eprintln!("{line}\n{rehearsal}\n{line}");
    let good = code == 0 && !matches!(rehearsal, Rehearsal::Failed(_));
    let Tally { passed, failed, ignored } = tally.with(&rehearsal);
    let word = if good { "ok" } else { "FAILED" };
    let took_s = tests_began.elapsed().as_secs_f64();
    print_last(&format!(
        "all of it: test result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out; finished in {took_s:.2}s"
    ));
    Ok(match (good, u8::try_from(code)) {
        (true, _) => ExitCode::SUCCESS,
        (false, Ok(code)) if code != 0 => ExitCode::from(code),
        (false, _) => ExitCode::FAILURE,
    })
}

#[expect(clippy::print_stdout, reason = "the tests' own result lines are there, and this is their sum")]
fn print_last(line: &str) {
    println!("{line}");
}

fn rehearse(cargo: &Cargo, began: Instant) -> Result<Rehearsal> {
    let long = std::env::var_os(LONG_CI).is_some();
    if !docker::answers() {
        return Ok(Rehearsal::NotRun("no Docker engine answers on this machine".into()));
    }
    let deadline = match long {
        true => None,
        false => match time_left(began.elapsed()) {
            Ok(left) => Some(Instant::now() + left),
            Err(why) => return Ok(Rehearsal::NotRun(why)),
        },
    };
    // In a process group of its own, so that it can be ended with all that it has started.
    // By its place: building the tests may have put a new one there.
    let own = std::env::current_exe()?.with_file_name("xtask");
    let mut child = cargo.as_we_were_told(own).args(["test", "--docker"]);
    if !long {
        child = child.arg("--ready");
    }
    let rehearsal_began = Instant::now();
    Ok(match run::until(deadline, "The rehearsal on containers", child)? {
        Done::Ended(0) => Rehearsal::Held(rehearsal_began.elapsed()),
        Done::Ended(code) if code == i32::from(UNPREPARED) => {
            Rehearsal::NotRun("this machine lacks what it needs: see the last lines of it above".into())
        }
        Done::Ended(code) => Rehearsal::Failed(format!("with exit code {code}: see above")),
        // A slow machine is no failure of what was rehearsed.
        Done::Late => Rehearsal::NotRun(format!(
            "it was ended after {}, which was all that was left; `docker ps` may show what it left behind",
            run::seconds(rehearsal_began.elapsed())
        )),
    })
}

/// How long the rehearsal may take, after so much of the time is spent; or why that is too little.
fn time_left(spent: Duration) -> std::result::Result<Duration, String> {
    let left = CI_MAX.saturating_sub(MARGIN).saturating_sub(spent);
    match left >= REHEARSAL_MAX {
        true => Ok(left),
        false => Err(format!(
            "{} of {} are spent, and it needs {} and {} to spare",
            run::seconds(spent),
            run::seconds(CI_MAX),
            run::seconds(REHEARSAL_MAX),
            run::seconds(MARGIN)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_nothing_else_is() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally, Tally { passed: 13, failed: 2, ignored: 1 });
        let failed = tally.with(&Rehearsal::Failed("x".into()));
        assert_eq!((failed.failed, tally.with(&Rehearsal::NotRun("x".into())).ignored), (3, 2));
        assert_eq!(tally.with(&Rehearsal::Held(Duration::ZERO)).passed, 14);
    }

    #[test]
    fn the_rehearsal_is_begun_only_when_it_can_end() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        assert_eq!(time_left(minutes(30)), Ok(minutes(50)));
        assert_eq!(time_left(minutes(55)), Ok(minutes(25)));
        let why = time_left(minutes(56)).expect_err("too late");
        assert!(why.contains("56 min 0 s of 90 min 0 s"), "{why}");
        assert!(time_left(minutes(1_000)).is_err());
    }

    #[test]
    fn what_was_not_run_is_said_with_its_reason_and_the_command() {
        let told = Rehearsal::NotRun("no Docker engine answers".into()).to_string();
        assert!(told.starts_with("NOT RUN: ") && told.contains("because no Docker engine answers"), "{told}");
        assert!(told.contains("cargo xtask test --docker"));
    }
}
