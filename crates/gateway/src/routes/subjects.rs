//! Where a subject is at home, the explicit pin, and the erasure.

use std::time::Duration;

use api::{SubjectErasure, SubjectHome, paths};
use axum::extract::{FromRequestParts, State};
use http::request::Parts;
use storage::{Change, Lookup};
use tokio::time::timeout;

use crate::app::App;
use crate::error::{Error, Missing};
use crate::from_wire::conditions::Held;
use crate::from_wire::query::Query;
use crate::permitted::{Permitted, op};
use crate::reply::{self, Reply};

/// Where the subject is at home, as its region knows it.
#[utoipa::path(
    get, path = paths::SUBJECT, tag = "subjects", operation_id = "subject_read",
    params(("subject" = String, Path, description = "The subject, 1 to 256 bytes")),
    responses((status = 200, description = "The subject's home", body = SubjectHome))
)]
pub(crate) async fn read(
    State(app): State<App>,
    Permitted { permit, .. }: Permitted<op::SubjectRead>,
) -> Result<Reply, Error> {
    let answered = app.read(permit.spend()?, Lookup::Subject).await?;
    reply::found(&app, answered, Missing::Subject, &Held::Nothing)
}

/// Pins the subject to the home that the evidence says; a pinned subject stays where it is.
#[utoipa::path(
    put, path = paths::SUBJECT, tag = "subjects", operation_id = "subject_pin",
    params(("subject" = String, Path, description = "The subject, 1 to 256 bytes")),
    responses(
        (status = 200, description = "The subject was pinned before", body = SubjectHome),
        (status = 201, description = "The subject is pinned now", body = SubjectHome),
    )
)]
pub(crate) async fn pin(
    State(app): State<App>,
    Permitted { permit, .. }: Permitted<op::SubjectPin>,
) -> Result<Reply, Error> {
    let answered = app.write(permit.spend()?, Change::PinSubject).await?;
    reply::effect(&app, answered)
}

/// The permit for an erasure, or for counting what it would take away. The query is read first, so that a misspelt
/// `dry_run` erases nobody.
pub(crate) enum Erasing {
    /// Erase.
    Now(Permitted<op::SubjectErase>),
    /// Only count.
    Dry(Permitted<op::SubjectErasePreview>),
}

impl FromRequestParts<App> for Erasing {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let query = Query::read(&parts.uri, &["dry_run"])?;
        match query.flag("dry_run")? {
            None | Some(false) => Permitted::from_request_parts(parts, app).await.map(Self::Now),
            Some(true) => Permitted::from_request_parts(parts, app).await.map(Self::Dry),
        }
    }
}

/// Erases the subject, for ever: records, declared data and its history, the content of its events, and the secret that
/// ties the log's entries to it. The answer says what went. From then on every request about the subject is answered
/// `410`, and so is this one when it is repeated; a person who comes back needs a new identifier. The region's Snowflake and the
/// topics' readers are told by the event `domicile.subject-erased`.
#[utoipa::path(
    delete, path = paths::SUBJECT, tag = "subjects", operation_id = "subject_erase",
    params(
        ("subject" = String, Path, description = "The subject, 1 to 256 bytes"),
        ("dry_run" = Option<bool>, Query, description = "`true`: only count what would go, and change nothing"),
    ),
    responses((status = 200, description = "What went, or with `dry_run` what would go", body = SubjectErasure))
)]
pub(crate) async fn erase(State(app): State<App>, erasing: Erasing) -> Result<Reply, Error> {
    match erasing {
        Erasing::Now(Permitted { permit, .. }) => reply::effect(&app, app.erase(permit.spend()?).await?),
        Erasing::Dry(Permitted { permit, .. }) => {
            let counting = app.read(permit.spend()?, Lookup::Extent);
            let answered = counted(app.settings.limits.request_max, counting).await??;
            reply::found(&app, answered, Missing::Subject, &Held::Nothing)
        }
    }
}

/// Waits for a count a little shorter than for the request, so that its reason is heard. Of a large subject it may take
/// longer than any request has.
async fn counted<T>(request_max: Duration, counting: impl Future<Output = T>) -> Result<T, Error> {
    let patience = request_max * 9 / 10;
    timeout(patience, counting).await.map_err(|_| Error::PreviewTooLong { seconds: patience.as_secs() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_preview_that_takes_longer_than_a_request_says_what_to_do() {
        let error = counted(Duration::from_millis(10), std::future::pending::<()>()).await.expect_err("it never ends");
        let problem = error.problem();
        assert_eq!((problem.code.as_str(), problem.status), ("deadline_exceeded", 504));
        assert!(problem.detail.contains("could not be counted within"), "{problem:?}");
        assert!(problem.next_step.contains("Erase without counting"), "{problem:?}");
        assert!(matches!(counted(Duration::from_secs(60), async { 7 }).await, Ok(7)));
    }
}
