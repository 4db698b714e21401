//! Who may write into a folder, and until when.

use std::sync::mpsc;

use follow::testing::region;

use super::*;

/// Somebody who remembers nothing.
fn disk(folder: &Path) -> Disk<()> {
    Disk::new(folder, region())
}

async fn setup(disk: &Disk<()>) -> Result<(), Error> {
    disk.setup(Place::Owner, |_, _| Ok(())).await
}

#[tokio::test]
async fn a_folder_has_one_holder_until_it_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (disk(folder.path()), disk(folder.path()));
    setup(&first).await.unwrap();
    setup(&first).await.unwrap();
    assert!(matches!(setup(&second).await, Err(Error::Folder { .. })));
    assert!(matches!(second.write(|_, _, _| Ok(())).await, Err(Error::Folder { .. })));
    first.leave();
    setup(&second).await.unwrap();
    second.write(|_, _, _| Ok(())).await.unwrap();
    assert!(matches!(first.write(|_, _, _| Ok(())).await, Err(Error::Folder { .. })));
    drop(second);
    setup(&first).await.unwrap();
}

#[tokio::test]
async fn work_that_outlives_its_lease_keeps_the_folder_until_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (disk(folder.path()), disk(folder.path()));
    setup(&first).await.unwrap();
    let ((begun, has_begun), (end, may_end)) = (mpsc::channel(), mpsc::channel::<()>());
    let work = first.write(move |_, _, _| {
        begun.send(()).unwrap();
        may_end.recv().unwrap();
        Ok(())
    });
    // Nobody waits for it any more.
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), work).await;
    assert!(given_up.is_err());
    has_begun.recv().unwrap();
    first.leave();
    assert!(matches!(setup(&second).await, Err(Error::Folder { .. })), "somebody is still at work there");
    end.send(()).unwrap();
    while let Err(held) = setup(&second).await {
        assert!(matches!(held, Error::Folder { .. }));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn work_that_begins_after_its_tenure_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    setup(&disk).await.unwrap();
    let (end, may_end) = mpsc::channel::<()>();
    let slow = disk.write(move |_, _, _| {
        may_end.recv().unwrap();
        Ok(())
    });
    let late = disk.write(|_, _, _| Ok(()));
    let next = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        disk.leave();
        end.send(()).unwrap();
        setup(&disk).await
    };
    let (slow, late, next) = tokio::join!(slow, late, next);
    slow.unwrap();
    assert!(matches!(late, Err(Error::Folder { .. })), "it was of the tenure before");
    next.unwrap();
    disk.write(|_, _, _| Ok(())).await.unwrap();
}
