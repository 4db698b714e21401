//! Where a subject is at home, and the explicit pin.

use api::{SubjectHome, paths};
use axum::extract::State;
use storage::{Change, Lookup};

use crate::app::App;
use crate::error::{Error, Missing};
use crate::from_wire::conditions::Held;
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
