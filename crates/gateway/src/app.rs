//! What handlers and extractors share: made once at the start, cheap to clone, without locks of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::HeaderName;
use residency::{Permit, Read, Region, Write};
use routing::{Answered, Clock, Routing};
use storage::{Change, Effect, Found, Lookup};
use tokio::sync::Semaphore;

use crate::callers::Callers;
use crate::docs::Docs;
use crate::error::{Error, Missing, Told};
use crate::layers::{RateLimit, trace};
use crate::places::Places;
use crate::readings::Sittings;
use crate::settings::Settings;
use crate::to_wire;

/// The shared state.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) routing: Routing,
    pub(crate) callers: Callers,
    pub(crate) rate: RateLimit,
    /// The name of each region's log.
    pub(crate) log_origins: BTreeMap<Region, String>,
    /// The header in which trusted proxies forward a client's address.
    pub(crate) forwarded_in: Option<HeaderName>,
    /// Time, for what callers leave out; and request ids.
    pub(crate) clock: Arc<dyn Clock>,
    /// Who is reading which log.
    pub(crate) sittings: Sittings,
    /// Batches under way.
    pub(crate) batches: Places,
    /// Exports under way.
    pub(crate) exports: Places,
    /// Logins under way.
    pub(crate) logins: Semaphore,
    /// Whether a shutdown has begun.
    pub(crate) draining: AtomicBool,
    /// `/openapi.json`.
    pub(crate) openapi: Bytes,
    /// `/docs`.
    pub(crate) docs: Docs,
    /// The events of the topics, to be read.
    pub(crate) event_docs: Docs,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Reads what the permit allows.
    pub(crate) async fn read(&self, permit: Permit<Read>, lookup: Lookup) -> Result<Answered<Found>, Error> {
        let missing = Missing::from(&lookup);
        self.routing.read(permit, lookup).await.map_err(|error| self.not_done(error, missing))
    }

    /// Accounts for a permit whose body was no good. The pin that came with it is durable, so the region
    /// hears of it: an unknown subject is registered, and the decision gets its leaf, of no rows.
    pub(crate) async fn account_for(&self, permit: Permit<Write>) -> Result<Told, Error> {
        let answered = self.write(permit, Change::PinSubject).await?;
        Ok(to_wire::told(self, &answered))
    }

    /// Makes the change that the permit allows, as a part of the trace that this is done in.
    pub(crate) async fn write(&self, permit: Permit<Write>, change: Change) -> Result<Answered<Effect>, Error> {
        let missing = Missing::from(&change);
        let trace = trace::current().map(trace::TraceParent::into_string);
        self.routing.write(permit, change, trace).await.map_err(|error| self.not_done(error, missing))
    }

    /// Erases the subject that the permit names.
    pub(crate) async fn erase(&self, permit: Permit<Write>) -> Result<Answered<Effect>, Error> {
        let trace = trace::current().map(trace::TraceParent::into_string);
        self.routing.erase(permit, trace).await.map_err(|error| self.not_done(error, Missing::Subject))
    }

    /// The name of a region's log, as in checkpoints.
    pub(crate) fn log_origin(&self, region: &Region) -> String {
        self.log_origins.get(region).cloned().unwrap_or_else(|| region.to_string())
    }

    /// A name for a request that came without one.
    pub(crate) fn fresh_id(&self) -> String {
        self.clock.decision_id(self.clock.now_us()).to_string()
    }

    /// Whether a shutdown has begun.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What routing says against a decision, in our words.
    pub(crate) fn not_admitted(&self, error: routing::Error) -> Error {
        self.not_done(error, Missing::Subject)
    }

    /// What routing says against a deed, in our words.
    pub(crate) fn not_done(&self, error: routing::Error, missing: Missing) -> Error {
        match error {
            routing::Error::Denied { denial, position } => {
                let home = match &denial.reason {
                    residency::DenialReason::ElsewhereAtHome(region) => self.home_url(region),
                    residency::DenialReason::Unresolved(_)
                    | residency::DenialReason::Refused { .. }
                    | residency::DenialReason::NotPinned
                    | residency::DenialReason::Moving(_)
                    | residency::DenialReason::Erased(_) => None,
                };
                Error::Denied { audit: Some(to_wire::audit(self, &position)), denial, home }
            }
            routing::Error::Region { region, decision, source } => Error::Region { region, decision, missing, source },
            routing::Error::Unlogged { region, source } => Error::Unaudited { region, source },
            routing::Error::Directory(source) => Error::Directory(source),
            routing::Error::NotServed { region } => Error::NotServed { home: self.home_url(&region), region },
        }
    }

    fn home_url(&self, region: &Region) -> Option<String> {
        self.routing.home_url(region).map(str::to_owned)
    }
}
