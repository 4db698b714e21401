//! The registers: what the registrar finds in a log that somebody tampered with, and that it finds it once.

use audit::{Reconciler, Registrar, Rule, Scrubber};
use storage::{TransferFilter, Violation, ViolationFilter};

use crate::scene::ORIGIN;
use crate::stage::Stage;

#[expect(clippy::disallowed_methods, reason = "a test is a front door")]
pub(crate) fn now_us() -> i64 {
    i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000).unwrap()
}

/// Ten minutes from now: nothing that is missing can still come.
fn later() -> i64 {
    now_us() + 600_000_000
}

async fn registered(stage: &Stage) -> Vec<Violation> {
    let registrar = Registrar::new(stage.log(), "registrar-1", now_us);
    assert!(registrar.catch_up(later()).await.unwrap());
    stage.log().violations(&ViolationFilter { limit: 1_000, ..ViolationFilter::default() }).await.unwrap()
}

fn of(violations: &[Violation], rule: Rule) -> Vec<&Violation> {
    violations.iter().filter(|one| one.rule == rule.name()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denied_attempts_are_registered_once_and_the_registers_follow_the_log() {
    let stage = Stage::with(300).await;
    let violations = registered(&stage).await;
    assert_eq!(of(&violations, Rule::Denied).len(), 299, "every leaf but the log's first is a denial");
    assert_eq!(violations.len(), 299);
    stage.grow(10).await;
    assert_eq!(registered(&stage).await.len(), 309);
    assert_eq!(registered(&stage).await.len(), 309, "nothing is registered twice");
    assert_eq!(audit::registers::behind(&stage.log()).await.unwrap(), 0);
    let transfers = stage.log().transfers(&TransferFilter { limit: 10, ..TransferFilter::default() }).await.unwrap();
    assert_eq!(transfers, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_leaf_that_was_never_written_is_in_the_register() {
    let stage = Stage::with(50).await;
    // What a gateway would do that drops a deed between execution and commit: the count goes on, the leaf is not there.
    stage.sql("ALTER TABLE domicile.leaves DISABLE TRIGGER ALL").await;
    stage
        .sql(
            "UPDATE domicile.leaves SET line = regexp_replace(line, '\"gseq\":([0-9]+)', \
             '\"gseq\":' || ((line::jsonb ->> 'gseq')::bigint + 5)) WHERE seq >= 30",
        )
        .await;
    let violations = registered(&stage).await;
    let gaps = of(&violations, Rule::Gap);
    assert_eq!(gaps.len(), 1, "{violations:#?}");
    assert_eq!(gaps[0].seq, Some(30));
    assert!(gaps[0].says.contains("counted 30 to 34"), "{gaps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_repeated_and_a_leaping_count_and_a_line_that_is_no_leaf_are_in_the_register() {
    let stage = Stage::with(40).await;
    stage
        .sql(
            "UPDATE domicile.leaves SET line = CASE seq WHEN 20 THEN 'not a leaf' \
             ELSE regexp_replace(line, '\"gseq\":([0-9]+)', CASE seq WHEN 25 THEN '\"gseq\":7' ELSE '\"gseq\":9000000' END) END \
             WHERE seq IN (20, 25, 39)",
        )
        .await;
    let violations = registered(&stage).await;
    for (rule, seq) in [(Rule::Repeated, 25), (Rule::Jump, 39), (Rule::Unreadable, 20)] {
        let found = of(&violations, rule);
        assert_eq!(found.iter().map(|one| one.seq).collect::<Vec<_>>(), [Some(seq)], "{rule:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_damage_that_the_scrubber_finds_is_in_the_register_once() {
    let stage = Stage::with(300).await;
    stage.sql("UPDATE domicile.leaves SET line = replace(line, 'key:test', 'key:text') WHERE seq = 7").await;
    let scrubber = Scrubber::new(stage.log(), "scrubber-1", 1_000_000);
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(scrubber.run(stop.clone()));
    crate::scene::eventually("the damage is registered", async || {
        let filter =
            ViolationFilter { rule: Some(Rule::Damage.name().into()), limit: 10, ..ViolationFilter::default() };
        let found = stage.log().violations(&filter).await.unwrap();
        found.len() == 1 && found[0].seq == Some(7) && found[0].says.contains("leaf_edited")
    })
    .await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_a_transfer_without_its_other_side_is_in_the_register() {
    let (here, there) = (Stage::with(5).await, Stage::with(5).await);
    // The other region's log is a log of its own under the same name here: what counts is that it lacks the other side.
    here.sql(
        "UPDATE domicile.leaves SET line = regexp_replace(line, '\\}$', \
         ',\"xf\":{\"basis\":\"scc:2021/914\",\"from\":\"eu-central\",\"id\":\"01936f3e-8f4c-7bbd-a1b0-9d5c1f0a2b3c\",\"to\":\"eu-central\"}}') \
         WHERE seq = 3",
    )
    .await;
    registered(&here).await;
    let reconciler = Reconciler::new(here.log(), vec![there.log()], now_us);
    reconciler.look(now_us()).await.unwrap();
    let filter =
        ViolationFilter { rule: Some(Rule::TransferUnmatched.name().into()), limit: 10, ..ViolationFilter::default() };
    assert_eq!(here.log().violations(&filter).await.unwrap(), [], "it may still come");
    reconciler.look(later()).await.unwrap();
    reconciler.look(later()).await.unwrap();
    let found = here.log().violations(&filter).await.unwrap();
    assert_eq!(found.iter().map(|one| one.seq).collect::<Vec<_>>(), [Some(3)], "{found:?}");
    let unmatched = TransferFilter { matched: Some(false), limit: 10, ..TransferFilter::default() };
    let listed = here.log().transfers(&unmatched).await.unwrap();
    assert_eq!((listed.len(), listed[0].basis.as_str(), listed[0].counterpart), (1, "scc:2021/914", false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_violation_is_acknowledged_once_and_the_leaf_holds_a_hash_that_the_register_explains() {
    let stage = Stage::with(10).await;
    let violation = registered(&stage).await.remove(0);
    let acknowledge = |reason: &'static str| {
        audit::registers::acknowledge(&stage.store, violation.id, "key:auditor", reason, [7; 16], now_us())
    };
    let done = acknowledge("seen by the duty officer").await.unwrap();
    let audit::registers::Acknowledged::Now(stands) = done else { panic!("{done:?}") };
    let said = stands.acknowledged.clone().unwrap();
    assert!(matches!(acknowledge("again").await.unwrap(), audit::registers::Acknowledged::Before(_)));
    let line = stage.lines().await.pop().unwrap();
    let parsed = leaf::parse_fact(line.as_bytes()).unwrap();
    assert_eq!(parsed.fact.kind(), leaf::FactKind::ViolationAcknowledge);
    assert_eq!(parsed.fact.text("why").unwrap(), hex::encode(audit::registers::reason_hash(&said)));
    assert_eq!((parsed.fact.count("of"), parsed.fact.count("seq")), (Some(violation.id), violation.seq));
    assert!(!line.contains("duty officer"), "{line}");
    assert_eq!(stage.log().origin(), ORIGIN);
}
