//! Telling whoever waits what is happening, without knowing whether that is a terminal, a log or a test.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// What happened to one step of starting the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The step named `what` began.
    Began {
        /// What is being done, e.g. `PostgreSQL of eu-central`.
        what: String,
    },
    /// The step named `what` is done.
    Done {
        /// The same words it began with.
        what: String,
        /// What came of it, e.g. `port 23101`. May be empty.
        note: String,
        /// How long it took.
        took: Duration,
    },
    /// Something worth saying that is not a step, e.g. which stand-in is used.
    Said {
        /// One sentence.
        what: String,
    },
}

/// A cheap handle to whoever listens. The default one listens to nothing.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(Step) + Send + Sync>);

impl Default for Progress {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl Progress {
    /// Calls `listener` for every step, from whichever task takes it; it must not block.
    pub fn new(listener: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Says one sentence.
    pub fn say(&self, what: impl Into<String>) {
        (self.0)(Step::Said { what: what.into() });
    }

    /// Runs one step and reports its beginning and, when it went well, its end.
    ///
    /// # Errors
    /// Those of `work`, unchanged.
    pub async fn step<T>(
        &self,
        what: impl Into<String>,
        work: impl Future<Output = anyhow::Result<(T, String)>>,
    ) -> anyhow::Result<T> {
        let what = what.into();
        let began = Instant::now();
        (self.0)(Step::Began { what: what.clone() });
        let (value, note) = work.await?;
        (self.0)(Step::Done { what, note, took: began.elapsed() });
        Ok(value)
    }
}
