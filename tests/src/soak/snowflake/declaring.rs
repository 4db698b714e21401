//! What people declare while the forwarder's network is bad: they declare, change, withdraw and delete, in order, and
//! some of them are erased meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use world::Client;

use crate::soak::stage::PATIENCE;
use crate::{batch, person, until};

/// Writers at once, each with subjects of its own.
const WRITERS: u64 = 8;
/// Changes of one request.
const LINES: u64 = 200;
/// Subjects of one writer.
const SUBJECTS: u64 = 60;
/// Attributes of one subject.
const ATTRIBUTES: u64 = 5;
/// One subject in so many is erased.
const ERASED_ONE_IN: usize = 10;
/// The one purpose that is forwarded.
pub(super) const PURPOSE: &str = "recommendations";

/// What each attribute is after its last change: by subject and attribute, the change's position in the log, and its
/// number if there is consent. Of erased people there is nothing.
pub(super) type Model = BTreeMap<(String, String), (u64, Option<u64>)>;

/// The declaration of a change, as it comes out of a store.
pub(super) fn value(n: u64) -> Value {
    json!({"n": n, "text": "it's \"so\" \\ ü"})
}

/// The writing, in shares: nobody writes into the next one before it is opened.
pub(super) struct Declaring {
    client: Client,
    people: Vec<Vec<String>>,
    shares: u64,
    /// Changes of one writer.
    changes: u64,
    shared: Arc<Shared>,
    writers: JoinSet<Result<Model>>,
}

#[derive(Default)]
struct Shared {
    /// Changes of all writers, and how far each may go.
    declared: AtomicU64,
    open: AtomicU64,
    erasures: Mutex<Erasures>,
    /// Changes that were answered 410.
    refused: AtomicU64,
    /// Why a writer gave up.
    failed: Mutex<Option<String>>,
}

/// Whose erasure was asked for, and whose was answered.
#[derive(Default)]
struct Erasures {
    begun: BTreeSet<String>,
    done: BTreeSet<String>,
}

/// What came of it.
pub(super) struct Declared {
    pub(super) model: Model,
    /// Changes that came too late: their subject had been erased.
    pub(super) refused: u64,
}

impl Declaring {
    /// Begins, with the first of `shares` open.
    pub(super) fn start(client: Client, changes: u64, shares: u64) -> Self {
        let of_writer = |writer| (0..SUBJECTS).map(|n| person(&format!("declared-{writer}-{n}"))).collect();
        let people: Vec<Vec<String>> = (0..WRITERS).map(of_writer).collect();
        let changes = changes / WRITERS;
        let shared = Arc::new(Shared { open: AtomicU64::new(changes / shares), ..Shared::default() });
        let mut writers = JoinSet::new();
        for people in people.clone() {
            let (client, shared) = (client.clone(), Arc::clone(&shared));
            writers.spawn(async move {
                let written = declare(client, people, changes, &shared).await;
                if let (Err(error), Ok(mut failed)) = (&written, shared.failed.lock()) {
                    *failed = Some(format!("{error:#}"));
                }
                written
            });
        }
        Self { client, people, shares, changes, shared, writers }
    }

    /// Waits until the shares up to this one, counted from 1, are written.
    pub(super) async fn written(&self, share: u64) -> Result<()> {
        let due = self.end_of(share) * WRITERS;
        let failed = || self.shared.failed.lock().ok().and_then(|failed| failed.clone());
        until("The writing to go on", PATIENCE, || async {
            self.shared.declared.load(Ordering::Relaxed) >= due || failed().is_some()
        })
        .await?;
        failed().map_or(Ok(()), |sentence| Err(anyhow!(sentence)))
    }

    /// Opens the shares up to this one.
    pub(super) fn open(&self, share: u64) {
        self.shared.open.store(self.end_of(share), Ordering::Relaxed);
    }

    fn end_of(&self, share: u64) -> u64 {
        if share >= self.shares { self.changes } else { self.changes * share / self.shares }
    }

    /// Those who are to be erased in a round, of so many, counted from 1. All of them declare from the beginning.
    pub(super) fn doomed(&self, round: u64, rounds: u64) -> Vec<String> {
        let of_round = |at: usize| at as u64 % rounds == round - 1;
        let doomed = |of_writer: &Vec<String>| {
            let some = of_writer.iter().skip(3).step_by(ERASED_ONE_IN).enumerate();
            some.filter(|(at, _)| of_round(*at)).map(|(_, subject)| subject.clone()).collect::<Vec<_>>()
        };
        self.people.iter().flat_map(doomed).collect()
    }

    /// Erases people, while the writers go on writing about them.
    pub(super) async fn erase(&self, people: &[String]) -> Result<()> {
        for subject in people {
            self.shared.erasures(|erasures| erasures.begun.insert(subject.clone()))?;
            self.client.erase(subject, false).await?.expect(200)?;
            self.shared.erasures(|erasures| erasures.done.insert(subject.clone()))?;
        }
        Ok(())
    }

    /// Waits for the last change.
    pub(super) async fn end(mut self) -> Result<Declared> {
        let mut model = Model::new();
        while let Some(writer) = self.writers.join_next().await {
            model.extend(writer??);
        }
        let erased = self.shared.erasures(|erasures| erasures.done.clone())?;
        model.retain(|(subject, _), _| !erased.contains(subject));
        Ok(Declared { model, refused: self.shared.refused.load(Ordering::Relaxed) })
    }
}

impl Shared {
    fn erasures<T>(&self, look: impl FnOnce(&mut Erasures) -> T) -> Result<T> {
        let mut erasures = self.erasures.lock().ok().context("a writer has panicked")?;
        Ok(look(&mut erasures))
    }
}

/// A writer: by batches, in order.
async fn declare(client: Client, people: Vec<String>, changes: u64, shared: &Shared) -> Result<Model> {
    let mut model = Model::new();
    let mut n = 0;
    while n < changes {
        let open = shared.open.load(Ordering::Relaxed);
        if n >= open {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let some: Vec<u64> = (n..open.min(n + LINES)).collect();
        n += some.len() as u64;
        let gone = shared.erasures(|erasures| erasures.done.clone())?;
        let told = batch(&client, some.iter().map(|n| line(&people, *n))).await?;
        let going = shared.erasures(|erasures| erasures.begun.clone())?;
        for (n, told) in some.iter().zip(told) {
            let place = place(&people, *n);
            let status = told["status"].as_u64().unwrap_or_default();
            if status == 410 {
                ensure!(going.contains(&place.0), "somebody is erased whom nobody erased: {told}");
                shared.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            ensure!(!gone.contains(&place.0), "a change of somebody who had been erased was answered {told}");
            if deletes(*n) && status == 404 {
                continue; // it had not been declared
            }
            ensure!((200..300).contains(&status), "a change was not accepted: {told}");
            let seq = told["audit"]["seq"].as_u64().context("a change has its receipt")?;
            model.insert(place, (seq, consented(*n).then_some(*n)));
        }
        shared.declared.fetch_add(some.len() as u64, Ordering::Relaxed);
    }
    Ok(model)
}

/// Whose attribute a change is about.
fn place(people: &[String], n: u64) -> (String, String) {
    let subject = people[usize::try_from(n * 7 % SUBJECTS).unwrap_or_default()].clone();
    (subject, format!("wish-{}", n / SUBJECTS % ATTRIBUTES))
}

fn deletes(n: u64) -> bool {
    n.is_multiple_of(13)
}

/// Consent for the forwarded purpose is withdrawn now and then; for another one it stays.
fn consented(n: u64) -> bool {
    !deletes(n) && n % 13 != 5
}

fn line(people: &[String], n: u64) -> Value {
    let (subject, attribute) = place(people, n);
    let mut line = json!({"subject": subject, "residence": "DE", "attribute": attribute});
    if deletes(n) {
        line["operation"] = "zero_party.delete".into();
    } else {
        line["operation"] = "zero_party.put".into();
        line["body"] = json!({"value": value(n), "source": "soak", "consents": [
            {"purpose": PURPOSE, "granted": consented(n), "notice_version": "3"},
            {"purpose": "research", "granted": true, "notice_version": "3"},
        ]});
    }
    line
}
