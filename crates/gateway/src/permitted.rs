//! The extractor that every subject route begins with. Made of headers and path only: when it refuses,
//! not one byte of the body has been read, and on HTTP/1.1 a client that waits for `100 Continue` has
//! not sent one.

use std::net::SocketAddr;

use api::Scope;
use axum::extract::FromRequestParts;
use http::request::Parts;
use residency::{Access, Operation, Permit, Read, Write};
use routing::Routing;
use tokio::runtime::Handle;
use tracing::warn;

use crate::app::App;
use crate::callers::Caller;
use crate::error::Error;
use crate::from_wire::evidence::{Stated, signals};
use crate::from_wire::path::{Itself, OneAttribute, OneCollection, OneRecord, Segments, Target};

/// The peer of a request's connection, as the server saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Proof that this operation may be done, and what it touches.
pub(crate) struct Permitted<O: Op> {
    pub(crate) permit: Held<O::Access>,
    pub(crate) target: O::Target,
}

/// A permit that is accounted for in any case: also when the body that it waits for is no good, or never
/// comes because the client hangs up. Deciding a first write has pinned its subject by then, and neither a
/// pin nor a decision may be without its leaf.
#[must_use = "a permit that is not spent decided nothing"]
pub(crate) struct Held<A: Admit> {
    permit: Option<Permit<A>>,
    app: App,
}

impl<A: Admit> Held<A> {
    pub(crate) fn new(permit: Permit<A>, app: &App) -> Self {
        Self { permit: Some(permit), app: app.clone() }
    }

    /// The permit, to be carried to its region at once.
    ///
    /// # Errors
    /// None that can happen: a permit is spent once.
    pub(crate) fn spend(mut self) -> Result<Permit<A>, Error> {
        self.permit.take().ok_or(Error::Nonsense("a permit"))
    }
}

impl Held<Write> {
    /// The permit, with the body that it was waiting for.
    ///
    /// # Errors
    /// [`Error::Unused`] when the body is no good, as soon as the decision is accounted for; what the region
    /// says when it is not.
    pub(crate) async fn spend_on<T>(self, body: Result<T, Error>) -> Result<(Permit<Write>, T), Error> {
        match body {
            Ok(body) => Ok((self.spend()?, body)),
            Err(error) => {
                let app = self.app.clone();
                let told = Box::new(app.account_for(self.spend()?).await?);
                Err(Error::Unused { told, source: Box::new(error) })
            }
        }
    }
}

impl<A: Admit> Drop for Held<A> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            A::left_over(&self.app, permit);
        }
    }
}

/// One kind of operation: what it needs and what it touches.
pub(crate) trait Op: Send + 'static {
    /// Whether it looks or changes.
    type Access: Admit;
    /// What it touches beside the subject.
    type Target: Target;
    /// Its name in decisions.
    const OPERATION: Operation;
}

/// The scope that an operation needs.
pub(crate) const fn scope(operation: Operation) -> Scope {
    match operation {
        Operation::SubjectRead => Scope::SubjectsRead,
        Operation::SubjectPin => Scope::SubjectsWrite,
        Operation::SubjectErase | Operation::SubjectErasePreview => Scope::SubjectsErase,
        Operation::RecordRead | Operation::RecordList => Scope::RecordsRead,
        Operation::RecordPut | Operation::RecordPatch | Operation::RecordDelete => Scope::RecordsWrite,
        Operation::EventPublish => Scope::EventsWrite,
        Operation::ZeroPartyRead => Scope::ZeroPartyRead,
        Operation::ZeroPartyPut | Operation::ZeroPartyDelete => Scope::ZeroPartyWrite,
    }
}

/// The side of routing that decides this kind of access.
pub(crate) trait Admit: Access + Sized {
    /// Decides.
    fn admit(
        routing: &Routing,
        request: routing::Request,
    ) -> impl Future<Output = Result<Permit<Self>, routing::Error>> + Send;

    /// Nobody waits any more for what a permit allowed.
    fn left_over(app: &App, permit: Permit<Self>);
}

impl Admit for Read {
    async fn admit(routing: &Routing, request: routing::Request) -> Result<Permit<Self>, routing::Error> {
        routing.admit_read(request).await
    }

    /// Nothing was disclosed, and a read pins nobody.
    fn left_over(_: &App, _: Permit<Self>) {}
}

impl Admit for Write {
    async fn admit(routing: &Routing, request: routing::Request) -> Result<Permit<Self>, routing::Error> {
        routing.admit_write(request).await
    }

    fn left_over(app: &App, permit: Permit<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let app = app.clone();
        runtime.spawn(async move {
            if let Err(error) = app.account_for(permit).await {
                warn!(
                    code = error.problem().code,
                    "A decision whose request was given up could not be logged: {error}"
                );
            }
        });
    }
}

impl<O: Op> FromRequestParts<App> for Permitted<O> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let caller = parts.extensions.get::<Caller>().cloned().ok_or(Error::Unauthenticated)?;
        caller.may(scope(O::OPERATION))?;
        let segments = Segments::of(parts).await?;
        let (subject, target) = (segments.subject()?, O::Target::read(&segments)?);
        caller.may_act_for(&subject)?;
        let stated = Stated::in_headers(&parts.headers)?;
        let connection = parts.extensions.get::<Peer>().map(|Peer(peer)| (*peer, &parts.headers));
        let signals = signals(app, &caller, stated, &subject, connection)?;
        let request = routing::Request {
            subject,
            operation: O::OPERATION,
            resource: target.resource(),
            actor: caller.actor,
            signals,
        };
        let permit = O::Access::admit(&app.routing, request).await.map_err(|error| app.not_admitted(error))?;
        Ok(Self { permit: Held::new(permit, app), target })
    }
}

/// The operations.
pub(crate) mod op {
    use super::{Itself, OneAttribute, OneCollection, OneRecord, Op, Operation, Read, Write};

    macro_rules! operations {
        ($($name:ident: $access:ty, $target:ty, $operation:ident;)+) => {
            $(
                pub(crate) struct $name;

                impl Op for $name {
                    type Access = $access;
                    type Target = $target;
                    const OPERATION: Operation = Operation::$operation;
                }
            )+
        };
    }

    operations! {
        SubjectRead: Read, Itself, SubjectRead;
        SubjectPin: Write, Itself, SubjectPin;
        SubjectErase: Write, Itself, SubjectErase;
        SubjectErasePreview: Read, Itself, SubjectErasePreview;
        RecordRead: Read, OneRecord, RecordRead;
        RecordList: Read, OneCollection, RecordList;
        RecordPut: Write, OneRecord, RecordPut;
        RecordPatch: Write, OneRecord, RecordPatch;
        RecordDelete: Write, OneRecord, RecordDelete;
        EventPublish: Write, Itself, EventPublish;
        ZeroPartyRead: Read, OneAttribute, ZeroPartyRead;
        ZeroPartyList: Read, Itself, ZeroPartyRead;
        ZeroPartyPut: Write, OneAttribute, ZeroPartyPut;
        ZeroPartyDelete: Write, OneAttribute, ZeroPartyDelete;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access_matches<O: Op>() -> bool {
        O::OPERATION.writes() == <O::Access as Access>::WRITES
    }

    #[test]
    fn an_operation_that_changes_needs_a_permit_to_change() {
        assert!(access_matches::<op::SubjectRead>() && access_matches::<op::SubjectPin>());
        assert!(access_matches::<op::SubjectErase>() && access_matches::<op::SubjectErasePreview>());
        assert!(access_matches::<op::RecordRead>() && access_matches::<op::RecordList>());
        assert!(access_matches::<op::RecordPut>() && access_matches::<op::RecordPatch>());
        assert!(access_matches::<op::RecordDelete>() && access_matches::<op::EventPublish>());
        assert!(access_matches::<op::ZeroPartyRead>() && access_matches::<op::ZeroPartyList>());
        assert!(access_matches::<op::ZeroPartyPut>() && access_matches::<op::ZeroPartyDelete>());
    }
}
