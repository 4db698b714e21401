//! Trying a place of backups before it is needed: a small object is written, read back, compared and removed.

use std::io::ErrorKind;
use std::time::Duration;

use super::target::TargetError;
use super::{BackupId, Error, Refusal, Source};

/// How long one place may take.
const CHECK_MAX: Duration = Duration::from_secs(30);
/// What a check that was killed left behind is removed by a later one, after so long.
const LEFT_BEHIND: time::Duration = time::Duration::hours(1);
/// The folder of these objects at a target: beside those of the databases.
const FOLDER: &str = "check";

/// Tries the place of a database's backups, and whether it is inside the database's jurisdiction.
///
/// # Errors
/// Why no backup could rest there; see [`fix`].
pub async fn check(source: &Source) -> Result<(), Error> {
    source.check_place()?;
    tokio::time::timeout(CHECK_MAX, attempt(source)).await.unwrap_or(Err(Error::TooLong { limit: CHECK_MAX }))
}

async fn attempt(source: &Source) -> Result<(), Error> {
    let (target, now) = (&source.target, (source.clock)());
    let prefix = format!("{FOLDER}/{}", source.database);
    let id = BackupId::new(now);
    let name = format!("{prefix}/{id}");
    // Of no meaning, and different each time: an old object, or an empty one, is noticed.
    let content = format!("{id} was here\n").into_bytes();
    target.put(&name, &content).await?;
    let read = target.get(&name).await;
    let listed = target.list(&prefix).await;
    target.remove(&name).await?;
    if read? != content {
        return Err(TargetError::Differs { target: target.describe(), name }.into());
    }
    for object in listed? {
        let made = object.name.rsplit('/').next().and_then(|id| id.parse::<BackupId>().ok());
        if made.and_then(|id| id.taken_at()).is_some_and(|at| now - at > LEFT_BEHIND) {
            target.remove(&object.name).await?;
        }
    }
    match target.get(&name).await {
        Err(TargetError::Absent { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(TargetError::Stays { target: target.describe(), name }.into()),
    }
}

/// What would mend it, as an order to whoever operates.
#[must_use]
pub fn fix(error: &Error) -> &'static str {
    match error {
        Error::Refused(Refusal::OutsideJurisdiction { .. }) => {
            "let the backups rest inside the jurisdiction: another backup.folder, and its true backup.location"
        }
        Error::Target(TargetError::Io { source, .. }) => match source.kind() {
            ErrorKind::PermissionDenied => {
                "let the user that makes backups write there: chown -R 65532:65532 (in a container), or its own user"
            }
            ErrorKind::ReadOnlyFilesystem => "mount it so that it can be written to",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "make room: deploy.sh backup prune, or a larger disk"
            }
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "name a folder in backup.folder, and not a file",
            _ => "look at the disk or the mount that backup.folder names",
        },
        Error::Target(TargetError::Differs { .. } | TargetError::Stays { .. }) => {
            "it does not keep what it is told: use another disk or mount"
        }
        Error::TooLong { .. } => "it hangs: look at the mount that backup.folder names",
        _ => "deploy.sh backup list says more",
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn every_failure_of_a_disk_says_what_to_do() {
        let failed = |kind: ErrorKind| {
            Error::Target(TargetError::Io {
                target: "the folder /b".into(),
                what: "writing",
                name: "check/eu".into(),
                source: io::Error::from(kind),
            })
        };
        assert!(fix(&failed(ErrorKind::PermissionDenied)).contains("65532"));
        assert!(fix(&failed(ErrorKind::StorageFull)).contains("make room"));
        assert!(fix(&failed(ErrorKind::ReadOnlyFilesystem)).contains("mount"));
        assert!(fix(&Error::TooLong { limit: CHECK_MAX }).contains("hangs"));
    }
}
