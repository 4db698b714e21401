//! What `doctor` knows, and what it admits not to know.

use super::super::*;
use super::model::Model;
use crate::exit::Exit;

const LIST: &str = "ops backup list";
const HISTORY: &str = "ops drill history";

/// Two releases, a proven backup of each of two databases and a drill, all of the day the model begins.
fn fit() -> Model {
    let model = Model::new();
    let settings = Settings::default();
    for content in ["one", "two"] {
        model.build("myapp:prod", content, None);
        model.deploy(&settings).expect("it serves");
    }
    let at = model.wall();
    let row = |region: &str| format!(r#"{{"region":"{region}","verified":true,"taken_at":"{at}"}}"#);
    model.answers(LIST, 0, format!(r#"{{"backups":[{},{}]}}"#, row("eu-central"), row("directory")));
    model.answers(HISTORY, 0, format!(r#"{{"drills":[{{"kind":"restore","at":"{at}","verdict":"pass"}}]}}"#));
    model
}

fn asked(model: &Model) -> Vec<Finding> {
    model.deployer().doctor().expect("it answers")
}

fn says(findings: &[Finding], question: &str) -> (Says, String) {
    let found = findings.iter().find(|finding| finding.question == question);
    let found = found.unwrap_or_else(|| panic!("{question} is not among {findings:?}"));
    (found.says, found.answer.clone())
}

#[test]
fn a_fit_cell_is_fit_and_nobody_says_that_it_could_fail_over() {
    let findings = asked(&fit());
    for question in
        ["can I deploy?", "can I roll back?", "can I back up?", "can I restore?", "was a restore rehearsed?"]
    {
        assert_eq!(says(&findings, question).0, Says::Yes, "{question} {findings:?}");
    }
    let (fails_over, _) = says(&findings, "can I fail over?");
    assert_eq!((fails_over, fails_over.in_words()), (Says::NotKnownHere, "cannot tell"));
    // Nothing that can be looked at is missing, so a monitor that calls it every hour stays quiet.
    assert_eq!(exit_of(&findings), Exit::Done);
    let told = serde_json::to_value(&findings).expect("JSON");
    let words: Vec<&str> = told.as_array().expect("a list").iter().filter_map(|one| one["says"].as_str()).collect();
    assert_eq!((words.first(), words.last()), (Some(&"yes"), Some(&"cannot_tell")), "{told}");
}

#[test]
fn a_program_that_does_not_answer_is_neither_a_yes_nor_a_no() {
    let model = fit();
    model.answers(LIST, 1, "");
    model.answers("migrate --dry-run", 1, "");
    let findings = asked(&model);
    for question in ["can I restore?", "can I roll back?"] {
        let (told, answer) = says(&findings, question);
        assert_eq!(told, Says::CannotTell, "{question} {answer}");
        assert!(answer.contains("it said why"), "{answer}");
    }
    assert_eq!(exit_of(&findings), Exit::Unreachable);
    // A certain no weighs more than what nobody knows.
    model.answers(HISTORY, 0, r#"{"drills":[]}"#);
    let findings = asked(&model);
    assert_eq!(says(&findings, "was a restore rehearsed?").0, Says::No);
    assert_eq!(exit_of(&findings), Exit::Findings);
}

#[test]
fn a_database_without_a_proven_backup_does_not_hide_behind_the_others() {
    let model = fit();
    let at = model.wall();
    let rows = format!(
        r#"{{"backups":[{{"region":"eu-central","verified":true,"taken_at":"{at}"}},
            {{"region":"us-east","verified":false,"taken_at":"{at}"}}]}}"#
    );
    model.answers(LIST, 0, rows);
    let (told, answer) = says(&asked(&model), "can I restore?");
    assert_eq!(told, Says::No);
    assert!(answer.contains("us-east"), "{answer}");
}

#[test]
fn what_was_proven_long_ago_is_not_proven() {
    let model = fit();
    model.days_go_by(9);
    let findings = asked(&model);
    for question in ["can I restore?", "was a restore rehearsed?"] {
        assert_eq!(says(&findings, question).0, Says::No, "{question}");
    }
}

#[test]
fn a_release_below_the_floor_is_nothing_to_roll_back_to() {
    let model = fit();
    model.raise_floor(10);
    let (told, answer) = says(&asked(&model), "can I roll back?");
    assert_eq!(told, Says::No);
    assert!(answer.contains("floor is 10"), "{answer}");
}

#[test]
fn a_release_whose_image_is_gone_is_nothing_to_roll_back_to() {
    let model = fit();
    model.lose(ReleaseId(1));
    let (told, answer) = says(&asked(&model), "can I roll back?");
    assert_eq!(told, Says::No, "{answer}");
    assert!(answer.contains("rel-1") && answer.contains("is gone"), "{answer}");
}

#[test]
fn a_database_without_any_backup_or_rehearsal_does_not_hide_behind_the_others() {
    let model = fit();
    let at = model.wall();
    let drill = |region: &str| format!(r#"{{"kind":"restore","region":"{region}","at":"{at}","verdict":"pass"}}"#);
    let row = format!(r#"{{"region":"eu-central","verified":true,"taken_at":"{at}"}}"#);
    model.answers(LIST, 0, format!(r#"{{"databases":["eu-central","us-east"],"backups":[{row}]}}"#));
    model.answers(HISTORY, 0, format!(r#"{{"drills":[{}]}}"#, drill("eu-central")));
    for (question, words) in
        [("can I restore?", "no backup of us-east"), ("was a restore rehearsed?", "us-east: never")]
    {
        let (told, answer) = says(&asked(&model), question);
        assert_eq!(told, Says::No, "{question}: {answer}");
        assert!(answer.contains(words), "{question}: {answer}");
    }
    model.answers(HISTORY, 0, format!(r#"{{"drills":[{},{}]}}"#, drill("eu-central"), drill("us-east")));
    assert_eq!(says(&asked(&model), "was a restore rehearsed?").0, Says::Yes);
}

#[test]
fn a_place_that_cannot_be_written_to_and_a_region_without_one_are_named() {
    let model = fit();
    let row =
        r#"{"region":"eu","place":"the folder /b in aws/eu-central-1","error":"no space left","fix":"make room"}"#;
    model.answers("ops backup check", 9, format!(r#"{{"places":[{row}],"without":["us-east"]}}"#));
    let findings = asked(&model);
    let (told, answer) = says(&findings, "can I back up?");
    assert_eq!(told, Says::No, "{answer}");
    for words in ["eu: the folder /b", "no space left", "make room", "us-east has no place for backups"] {
        assert!(answer.contains(words), "{words} is missing in {answer}");
    }
    assert_eq!(exit_of(&findings), Exit::Findings);
}
