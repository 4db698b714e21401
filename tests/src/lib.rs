//! What the system tests and the soaks share: one world for many scenes, people to act in them, and the long
//! acceptance runs themselves.

pub mod runbook;
pub mod soak;

use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::Mutex;
use world::{Client, Gateway, World};

/// The gateway of the shared world that serves every region.
pub const ALL: &str = "all";
/// The gateway of the shared world that serves `eu-central` only.
pub const EU_ONLY: &str = "eu-only";

/// How long a scene waits for what must come about. No test may demand more speed than this of the machine: a bench says
/// how fast something is.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A world that many scenes share. It goes away with the last of them.
pub struct Scene(World);

static SHARED: Mutex<Weak<Scene>> = Mutex::const_new(Weak::new());

/// The shared world: three regions, a gateway for all of them and one for `eu-central` only. Scenes that stop or
/// kill something start a world of their own instead.
///
/// # Panics
/// When it cannot be started: then no scene can be played.
#[expect(clippy::expect_used, reason = "a scene without a world is a failed test")]
pub async fn shared() -> Arc<Scene> {
    let mut shared = SHARED.lock().await;
    if let Some(scene) = shared.upgrade() {
        return scene;
    }
    let regions = ["eu-central", "uk-south", "us-east"];
    let builder = World::with_regions(regions).gateway(ALL, regions).gateway(EU_ONLY, ["eu-central"]);
    let scene = Arc::new(Scene(builder.start().await.expect("the shared world starts")));
    *shared = Arc::downgrade(&scene);
    scene
}

impl Deref for Scene {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Scene {
    /// An application service at the gateway that serves every region.
    ///
    /// # Panics
    /// When no HTTP client can be made.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a scene without a client is a failed test")]
    pub fn client(&self) -> Client {
        self.0.client_of(self.gateway()).expect("an HTTP client can be made")
    }

    /// The gateway that serves every region.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        self.0.gateway(ALL)
    }

    /// The gateway that serves `eu-central` only.
    #[must_use]
    pub fn european(&self) -> &Gateway {
        self.0.gateway(EU_ONLY)
    }
}

/// A subject that nobody else uses, told apart by a label.
#[must_use]
pub fn person(label: &str) -> String {
    format!("person-{label}-{:016x}", rand::random::<u64>())
}

/// A text that chance does not make, to look for.
#[must_use]
pub fn canary() -> String {
    format!("canary-{:032x}", rand::random::<u128>())
}

/// Sends operations as one batch, and returns what became of each, in their order.
///
/// # Errors
/// When the batch was not taken, or not every line was answered.
pub async fn batch(client: &Client, lines: impl IntoIterator<Item = Value>) -> Result<Vec<Value>> {
    let lines: Vec<String> = lines.into_iter().map(|line| line.to_string()).collect();
    let request = client.request(Method::POST, ["v1", "batch"]).header("content-type", "application/x-ndjson");
    let answer = client.send(request.body(lines.join("\n"))).await?.expect(200)?;
    let mut told = answer.text().lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    ensure!(told.len() == lines.len(), "{} of {} lines of a batch were answered", told.len(), lines.len());
    told.sort_by_key(|line| line["line"].as_u64());
    Ok(told)
}

/// Asks until the answer is yes.
///
/// # Errors
/// When it still is no after `patience`; the sentence says what was waited for.
pub async fn until<F: Future<Output = bool>>(
    what: &str,
    patience: Duration,
    mut asked: impl FnMut() -> F,
) -> Result<()> {
    let begun = Instant::now();
    while !asked().await {
        if begun.elapsed() > patience {
            bail!("{what} did not come true within {} s", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
