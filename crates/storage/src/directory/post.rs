//! Where questions for the directory wait and travel together: one task, one connection of its own, and
//! no timer. Whatever has queued while the last batch was on its way makes up the next one.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::Claim;
use super::pins::{self, Entry, Pinned};
use crate::digest::SubjectDigest;
use crate::error::{Cause, Error, Trouble};
use crate::link::{self, Address, Link};

/// A kind of question that many callers ask and one statement answers.
pub(super) trait Work: Send + Sync + 'static {
    /// What is asked.
    type Question: Send + Sync;
    /// What is answered.
    type Answer: Send;
    /// For the log, as the beginning of a sentence.
    const NAME: &'static str;
    /// How the server is to plan it, and how patient it is to be.
    const LINK: link::Work;

    /// Answers all questions, in their order, or none.
    fn perform(
        connection: &mut PgConnection,
        questions: &[Self::Question],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer, Error>>, Trouble>> + Send;
}

/// Finds pins: asked with a subject's digests under every pepper.
#[derive(Debug)]
pub(super) struct Lookups;

impl Work for Lookups {
    type Question = Vec<SubjectDigest>;
    type Answer = Option<Pinned>;
    const NAME: &'static str = "lookups";
    const LINK: link::Work = link::Work::Lookups;

    async fn perform(
        connection: &mut PgConnection,
        questions: &[Self::Question],
    ) -> Result<Vec<Result<Self::Answer, Error>>, Trouble> {
        pins::find(connection, questions).await
    }
}

/// Makes pins, and completes them.
#[derive(Debug)]
pub(super) struct Claims;

impl Work for Claims {
    type Question = Entry;
    type Answer = Option<Claim>;
    const NAME: &'static str = "claims";
    const LINK: link::Work = link::Work::Commits;

    async fn perform(
        connection: &mut PgConnection,
        questions: &[Self::Question],
    ) -> Result<Vec<Result<Self::Answer, Error>>, Trouble> {
        pins::enter(connection, questions).await
    }
}

/// The counter at which questions are handed in.
#[derive(Debug)]
pub(super) struct Office<W: Work> {
    inbox: mpsc::Sender<Letter<W>>,
    answer_timeout: Duration,
}

#[derive(Debug)]
struct Letter<W: Work> {
    question: W::Question,
    answer: Option<oneshot::Sender<Result<W::Answer, Error>>>,
}

impl<W: Work> Letter<W> {
    fn reply(self, answer: Result<W::Answer, Error>) {
        if let Some(waiting) = self.answer {
            // Whoever asked may have gone; that is their right.
            drop(waiting.send(answer));
        }
    }

    fn given_up(&self) -> bool {
        self.answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

impl<W: Work> Office<W> {
    /// Starts the task. It ends when the office is dropped.
    pub(super) fn open(_kind: W, address: Arc<Address>) -> Self {
        let (inbox, letters) = mpsc::channel(address.limits.queue_deeds_max);
        let answer_timeout = address.limits.answer_timeout;
        let link = Link::new(Arc::clone(&address), W::LINK);
        tokio::spawn(Clerk::<W> { letters, address, link, carried: Vec::new(), attempts: 0 }.work());
        Self { inbox, answer_timeout }
    }

    /// Asks, and waits for the answer, but no longer than a caller may have to.
    pub(super) async fn ask(&self, question: W::Question) -> Result<W::Answer, Error> {
        let (answer, answered) = oneshot::channel();
        match self.inbox.try_send(Letter { question, answer: Some(answer) }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(unavailable("its queue is full")),
            Err(TrySendError::Closed(_)) => return Err(unavailable("its task has ended")),
        }
        match timeout(self.answer_timeout, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unavailable("its task has ended")),
            Err(_) => Err(unavailable("it did not answer in time")),
        }
    }

    /// Hands in what nobody waits for; if there is no room, it is dropped.
    pub(super) fn post(&self, question: W::Question) {
        drop(self.inbox.try_send(Letter { question, answer: None }));
    }
}

/// The directory cannot be asked, for a reason that holds no data.
pub(crate) fn unavailable(why: &'static str) -> Error {
    Error::Unavailable { region: None, source: Cause::new(why) }
}

/// Owns a connection and works through the letters.
struct Clerk<W: Work> {
    letters: mpsc::Receiver<Letter<W>>,
    address: Arc<Address>,
    link: Link,
    /// What was on its way when the connection broke. Lookups and claims may safely be sent twice.
    carried: Vec<Letter<W>>,
    /// How often the same letters were tried without an answer.
    attempts: u32,
}

/// Why a clerk stopped serving a connection.
enum Stop {
    Lost(Cause),
    Closed,
}

impl<W: Work> Clerk<W> {
    async fn work(mut self) {
        while self.connect().await {
            match self.serve().await {
                Stop::Lost(reason) => {
                    self.link.cut();
                    warn!(work = W::NAME, %reason, "The directory's connection for {} was lost", W::NAME);
                }
                Stop::Closed => return,
            }
        }
    }

    /// Connects, as often as it takes. Whoever asks while the server is known to be away is told so at
    /// once. `false` when nobody can ask any more.
    async fn connect(&mut self) -> bool {
        let mut failures = 0_u64;
        while !(self.letters.is_closed() && self.letters.is_empty()) {
            let Err(reason) = self.connect_once().await else {
                if failures == 0 {
                    debug!(work = W::NAME, "The directory is connected for {}", W::NAME);
                } else {
                    info!(work = W::NAME, failures, "The directory is connected again for {}", W::NAME);
                }
                return true;
            };
            if failures == 0 {
                warn!(work = W::NAME, %reason, "The directory cannot be reached; it will be tried again");
            }
            failures += 1;
            if !self.refuse_for_a_while(&reason).await {
                return false;
            }
        }
        false
    }

    async fn connect_once(&mut self) -> Result<(), Cause> {
        let patience = self.address.patience();
        let connection = self.link.connection().await.map_err(|trouble| trouble.cause())?;
        // A database that is no directory, or none yet, is found out here and not by the first caller.
        let look = sqlx::query("SELECT FROM domicile.pins LIMIT 0").execute(connection);
        let looked = link::within(patience, async { Ok(look.await?) }).await;
        looked.map(drop).map_err(|trouble| {
            self.link.cut();
            self.address.health.fails(&trouble.cause());
            trouble.cause()
        })
    }

    /// Refuses what waits, and what arrives until the next attempt; `false` when nobody can ask any more.
    async fn refuse_for_a_while(&mut self, reason: &Cause) -> bool {
        let refusal = || Error::Unavailable { region: None, source: reason.clone() };
        self.attempts = 0;
        for letter in self.carried.drain(..) {
            letter.reply(Err(refusal()));
        }
        let pause = self.link.pause();
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return true,
                letter = self.letters.recv() => match letter {
                    Some(letter) => letter.reply(Err(refusal())),
                    None => return false,
                },
            }
        }
    }

    async fn serve(&mut self) -> Stop {
        let limits = self.address.limits.clone();
        loop {
            let mut batch = std::mem::take(&mut self.carried);
            if batch.is_empty() {
                let arrived = self.letters.recv_many(&mut batch, limits.batch_lookups_max);
                match timeout(limits.idle_check_interval, arrived).await {
                    Ok(0) => return Stop::Closed,
                    Ok(_) => {}
                    Err(_) => match self.link.ping().await {
                        Ok(()) => continue,
                        Err(trouble) => return Stop::Lost(trouble.cause()),
                    },
                }
            }
            batch.retain(|letter| !letter.given_up());
            if let Err(reason) = self.answer(batch).await {
                return Stop::Lost(reason);
            }
        }
    }

    /// Answers a batch. A question that the database refuses fails alone: the batch is halved until it is
    /// found. When the connection breaks, what is unanswered is carried over to the next one.
    async fn answer(&mut self, batch: Vec<Letter<W>>) -> Result<(), Cause> {
        histogram!("domicile_directory_batch_questions", "work" => W::NAME).record(batch.len() as f64);
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let (questions, waiting): (Vec<_>, Vec<_>) =
                part.into_iter().map(|letter| (letter.question, letter.answer)).unzip();
            let outcome = self.ask_database(&questions).await;
            let letters = questions.into_iter().zip(waiting);
            let mut part: Vec<_> = letters.map(|(question, answer)| Letter { question, answer }).collect();
            let trouble = match outcome {
                Ok(answers) => {
                    self.attempts = 0;
                    part.into_iter().zip(answers).for_each(|(letter, answer)| letter.reply(answer));
                    continue;
                }
                Err(trouble) => trouble,
            };
            counter!("domicile_directory_retries_total", "work" => W::NAME).increment(1);
            self.attempts += 1;
            let again = self.attempts < self.address.limits.attempts_max;
            match &trouble {
                Trouble::Conflict(_) if again => {
                    let short = self.address.limits.reconnect_pause_min;
                    sleep(short.mul_f64(rand::random_range(0.0..1.0))).await;
                    parts.push(part);
                }
                Trouble::Lost(reason) if again => {
                    self.carried = part;
                    self.carried.extend(parts.into_iter().rev().flatten());
                    return Err(reason.clone());
                }
                Trouble::Refused { .. } | Trouble::Internal(_) if part.len() > 1 => {
                    self.attempts = 0;
                    let back = part.split_off(part.len() / 2);
                    parts.extend([back, part]);
                }
                _ => {
                    self.attempts = 0;
                    let refusal = trouble.into_error(None);
                    part.into_iter().for_each(|letter| letter.reply(Err(refusal.clone())));
                }
            }
        }
        Ok(())
    }

    async fn ask_database(&mut self, questions: &[W::Question]) -> Result<Vec<Result<W::Answer, Error>>, Trouble> {
        let patience = self.address.patience();
        let connection = self.link.connection().await?;
        let outcome = link::within(patience, W::perform(connection, questions)).await;
        self.link.settle(outcome)
    }
}
