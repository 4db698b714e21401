//! Promise 7 under a crowd: many people erased at once, each by everybody, while others go on writing about them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::{PATIENCE, Scene, batch, canary, person, shared, until};
use tokio::task::JoinSet;
use world::{Answer, Client};

const REGION: &str = "eu-central";
const PEOPLE: usize = 200;
/// Callers who erase everybody.
const CALLERS: usize = 16;
/// Writers about everybody.
const WRITERS: usize = 4;

/// Somebody, and whether the erasure has been answered.
struct Person {
    subject: String,
    gone: AtomicBool,
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_erasures_at_once_each_happens_once_and_nobody_comes_back() {
    let world = shared().await;
    let region = world.region(REGION);
    let gateways = [world.client(), world.client_of(world.european()).unwrap()];
    // Whoever asks says where the person resides, which would be enough to pin somebody new.
    let callers = gateways.each_ref().map(|client| client.residing_in("DE"));
    let mark = canary();
    let people: Arc<Vec<Person>> = (0..PEOPLE)
        .map(|n| Person { subject: person(&format!("crowd-{n}")), gone: AtomicBool::new(false) })
        .collect::<Vec<_>>()
        .into();
    everybody_has_something(&gateways[0], &people, &mark).await;
    let list = people.iter().map(|person| format!("'{}'", person.subject)).collect::<Vec<_>>().join(", ");
    let known = format!("SELECT encode(digest, 'hex') FROM domicile.subjects WHERE subject IN ({list})");
    let digests: BTreeSet<String> = region.sql(&known).await.unwrap().into_iter().collect();
    assert_eq!(digests.len(), PEOPLE);

    let mut writers = JoinSet::new();
    let stop = Arc::new(AtomicBool::new(false));
    for writer in 0..WRITERS {
        let (client, people) = (callers[writer % 2].clone(), Arc::clone(&people));
        writers.spawn(write(client, people, mark.clone(), writer, Arc::clone(&stop)));
    }
    let mut erasers = JoinSet::new();
    for caller in 0..CALLERS {
        // By twos at the same person at the same time, one at each gateway.
        let (client, people) = (callers[caller % 2].clone(), Arc::clone(&people));
        erasers.spawn(erase(client, people, caller / 2 * (PEOPLE * 2 / CALLERS)));
    }
    let mut times_erased = vec![0; PEOPLE];
    while let Some(erased) = erasers.join_next().await {
        erased.unwrap().into_iter().for_each(|at| times_erased[at] += 1);
    }
    assert!(times_erased.iter().all(|times| *times == 1), "answered 200 so many times each: {times_erased:?}");
    stop.store(true, Ordering::Relaxed);
    let (mut accepted, mut refused) = (0, 0);
    while let Some(written) = writers.join_next().await {
        let written = written.unwrap();
        (accepted, refused) = (accepted + written.0, refused + written.1);
    }
    assert!(accepted > 0 && refused > 0, "{accepted} writes came before an erasure and {refused} after one");

    let quoted = digests.iter().map(|digest| format!("'{digest}'")).collect::<Vec<_>>().join(", ");
    everybody_is_remembered_and_forgotten(&world, &digests, &quoted).await;
    let dump = region.cluster.dump("domicile").await.unwrap();
    let dump = String::from_utf8_lossy(&dump);
    assert!(!dump.contains(&mark), "something of somebody is still in the region's database");
    for person in people.iter() {
        assert!(!dump.contains(&person.subject), "{} is still in the region's database", person.subject);
    }
    drop(dump);
    // Whoever comes now is told so, at either gateway, and leaves nothing.
    for gateway in &gateways {
        for told in batch(gateway, people.iter().map(|person| put(person, &mark))).await.unwrap() {
            assert_eq!(told["status"], 410, "{told}");
        }
    }
    assert_eq!(region.sql(&known).await.unwrap(), [""; 0]);
}

fn put(person: &Person, mark: &str) -> Value {
    json!({"operation": "record.put", "subject": person.subject, "residence": "DE", "collection": "profile",
        "key": "home", "body": {"street": mark}})
}

async fn everybody_has_something(client: &Client, people: &[Person], mark: &str) {
    let lines = people.iter().flat_map(|person| {
        let subject = &person.subject;
        let declaration = json!({"operation": "zero_party.put", "subject": subject, "residence": "DE", "attribute": "wish",
            "body": {"value": mark, "source": "test", "consents": [{"purpose": "recommendations", "granted": true}]}});
        let event = json!({"operation": "event.publish", "subject": subject, "residence": "DE", "body": {
            "specversion": "1.0", "id": subject, "source": "/test", "type": "shop.crowd", "data": {"note": mark}}});
        [put(person, mark), declaration, event]
    });
    for told in batch(client, lines).await.unwrap() {
        assert!(told["status"].as_u64().is_some_and(|status| (200..300).contains(&status)), "{told}");
    }
}

/// Erases everybody, beginning somewhere; whom this very caller erased.
async fn erase(client: Client, people: Arc<Vec<Person>>, from: usize) -> Vec<usize> {
    let mut erased = Vec::new();
    for at in (0..people.len()).map(|step| (from + step) % people.len()) {
        let begun = Instant::now();
        let answer = loop {
            let answer = client.erase(&people[at].subject, false).await.unwrap();
            // A region that is busy says so after some seconds, and then nothing was done.
            if !is_busy(&answer) || begun.elapsed() > PATIENCE {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        match answer.status {
            200 => erased.push(at),
            410 => assert_eq!(answer.code().as_deref(), Some("subject_erased")),
            other => panic!("an erasure was answered {other}: {}", answer.text()),
        }
        people[at].gone.store(true, Ordering::Release);
    }
    erased
}

fn is_busy(answer: &Answer) -> bool {
    answer.status == 503 && answer.code().as_deref() == Some("region_unavailable")
}

/// Writes about everybody in every way until it is told to stop; how often that was accepted, and how often refused.
async fn write(
    client: Client,
    people: Arc<Vec<Person>>,
    mark: String,
    writer: usize,
    stop: Arc<AtomicBool>,
) -> (usize, usize) {
    let (mut accepted, mut refused) = (0, 0);
    for n in (writer * 7..).step_by(WRITERS) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Person { subject, gone } = &people[n * 11 % people.len()];
        let was_gone = gone.load(Ordering::Acquire);
        let answer = match n % 3 {
            0 => client.put_record(subject, "profile", &format!("n-{n}"), &json!({"note": mark})).await,
            1 => client.declare(subject, &format!("wish-{}", n % 5), &json!(mark), "recommendations").await,
            _ => client.publish(subject, "shop.crowd", &format!("{writer}-{n}"), &json!({"note": mark})).await,
        };
        let answer = answer.unwrap();
        if answer.status == 410 {
            refused += 1;
        } else if !is_busy(&answer) {
            assert!(answer.is_success(), "a write was answered {}: {}", answer.status, answer.text());
            assert!(!was_gone, "a write about somebody who had been erased was accepted");
            accepted += 1;
        }
    }
    (accepted, refused)
}

/// Region and directory have a tombstone of each, and each loop closes once: the warehouse has forgotten, the log says
/// so, and the topics' readers were told.
async fn everybody_is_remembered_and_forgotten(world: &Scene, digests: &BTreeSet<String>, quoted: &str) {
    let region = world.region(REGION);
    let filed = format!(
        "SELECT count(*)::text FROM domicile.pins \
         WHERE state = 'erased' AND erased_at IS NOT NULL AND encode(subject_digest, 'hex') IN ({quoted})"
    );
    until("A tombstone of each in the directory", PATIENCE, || async {
        world.directory().sql("directory", &filed).await.is_ok_and(|count| count == [PEOPLE.to_string()])
    })
    .await
    .unwrap();
    let closed = format!(
        "SELECT count(*) || ' ' || count(forwarded_at) FROM domicile.erasures WHERE encode(digest, 'hex') IN ({quoted})"
    );
    until("A tombstone of each in the region, and every loop closed", PATIENCE, || async {
        region.sql(&closed).await.is_ok_and(|counts| counts == [format!("{PEOPLE} {PEOPLE}")])
    })
    .await
    .unwrap();
    let told = format!(
        "SELECT count(*) || ' ' || count(DISTINCT e.key) || ' ' || count(l.seq) || ' ' || count(DISTINCT l.seq) \
         FROM domicile.outbox AS e LEFT JOIN domicile.leaves AS l ON l.line LIKE '%\"k\":\"subject.erased-downstream\"%' \
          AND (l.line::jsonb ->> 'of')::bigint = e.seq \
         WHERE e.event_type = 'domicile.subject-erased' AND encode(e.key, 'hex') IN ({quoted})"
    );
    assert_eq!(
        region.sql(&told).await.unwrap(),
        [format!("{PEOPLE} {PEOPLE} {PEOPLE} {PEOPLE}")],
        "an event for each, and a leaf for each event"
    );
    let rows = region.forwarded_rows().await.unwrap();
    assert!(rows.iter().all(|row| !digests.contains(&row.subject_digest)), "somebody is in Snowflake");
    until("The word to the topics' readers", PATIENCE, || async {
        let messages = region.messages("eu-central.domicile.subject-erased.v1", 10_000).await.unwrap_or_default();
        let told: BTreeSet<String> = messages
            .iter()
            .filter_map(|message| String::from_utf8(message.key.clone()?).ok())
            .filter(|key| digests.contains(key))
            .collect();
        told.len() == PEOPLE
    })
    .await
    .unwrap();
}
