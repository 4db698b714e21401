//! A folder as a target: a disk, or a mounted file system, that stands where the configuration says. Files are
//! written beside their name (`.part`), made durable, and renamed.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Download, OBJECTS_MAX, Object, PIECE_BYTES, SMALL_BYTES_MAX, Target, TargetError, Upload, is_name};

/// What an unfinished file's name ends in.
const PART: &str = ".part";

/// The folder. Only its owner may read what is made in it.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The target in this folder, which is made when something is written.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: &str) -> Result<PathBuf, TargetError> {
        if is_name(name) {
            Ok(self.root.join(name))
        } else {
            Err(self.failed("naming", name)(io::Error::from(io::ErrorKind::InvalidInput)))
        }
    }

    fn failed(&self, what: &'static str, name: &str) -> impl FnOnce(io::Error) -> TargetError + use<> {
        let (target, name) = (self.describe(), name.to_owned());
        move |source| match source.kind() {
            io::ErrorKind::NotFound if what == "reading" => TargetError::Absent { target, name },
            _ => TargetError::Io { target, what, name, source },
        }
    }

    /// Makes the folder of a file, readable by the owner only.
    async fn make_room(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        builder.mode(0o700);
        builder.recursive(true).create(folder).await
    }

    async fn walk(&self, prefix: &str) -> Result<Vec<(String, PathBuf, u64)>, TargetError> {
        let mut found = Vec::new();
        let mut waiting = vec![(prefix.to_owned(), self.path(prefix)?)];
        while let Some((name, path)) = waiting.pop() {
            let mut entries = match fs::read_dir(&path).await {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(self.failed("listing", &name)(error)),
            };
            while let Some(entry) = entries.next_entry().await.map_err(self.failed("listing", &name))? {
                let meta = match entry.metadata().await {
                    Ok(meta) => meta,
                    // Somebody was faster.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(self.failed("listing", &name)(error)),
                };
                let child = format!("{name}/{}", entry.file_name().to_string_lossy());
                if meta.is_dir() {
                    waiting.push((child, entry.path()));
                } else {
                    found.push((child, entry.path(), meta.len()));
                }
                if found.len() + waiting.len() > OBJECTS_MAX {
                    return Err(TargetError::TooLarge { target: self.describe(), name: prefix.to_owned() });
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

#[async_trait]
impl Target for Folder {
    fn describe(&self) -> String {
        format!("the folder {}", self.root.display())
    }

    async fn begin(&self, name: &str) -> Result<Box<dyn Upload>, TargetError> {
        let path = self.path(name)?;
        let part = part_of(&path);
        let open = async {
            self.make_room(&path).await?;
            let mut options = fs::OpenOptions::new();
            #[cfg(unix)]
            options.mode(0o600);
            options.write(true).create(true).truncate(true).open(&part).await
        };
        let file = open.await.map_err(self.failed("writing", name))?;
        Ok(Box::new(Part { folder: self.clone(), name: name.to_owned(), file, part, path, finished: false }))
    }

    async fn put(&self, name: &str, content: &[u8]) -> Result<(), TargetError> {
        let mut upload = self.begin(name).await?;
        upload.write(content).await?;
        upload.finish().await
    }

    async fn get(&self, name: &str) -> Result<Vec<u8>, TargetError> {
        let file = File::open(self.path(name)?).await.map_err(self.failed("reading", name))?;
        let mut content = Vec::new();
        let read = file.take(SMALL_BYTES_MAX as u64 + 1).read_to_end(&mut content).await;
        if read.map_err(self.failed("reading", name))? > SMALL_BYTES_MAX {
            return Err(TargetError::TooLarge { target: self.describe(), name: name.to_owned() });
        }
        Ok(content)
    }

    async fn open(&self, name: &str) -> Result<Box<dyn Download>, TargetError> {
        let file = File::open(self.path(name)?).await.map_err(self.failed("reading", name))?;
        Ok(Box::new(Reading { folder: self.clone(), name: name.to_owned(), file }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>, TargetError> {
        let whole = self.walk(prefix).await?.into_iter().filter(|(name, _, _)| !name.ends_with(PART));
        Ok(whole.map(|(name, _, bytes)| Object { name, bytes }).collect())
    }

    async fn remove(&self, name: &str) -> Result<(), TargetError> {
        let path = self.path(name)?;
        match fs::remove_file(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            outcome => outcome.map_err(self.failed("removing", name))?,
        }
        // The folder of a backup goes with its last file; one that is not empty stays.
        if let Some(parent) = path.parent().filter(|parent| *parent != self.root) {
            drop(fs::remove_dir(parent).await);
        }
        Ok(())
    }

    async fn sweep(&self, prefix: &str) -> Result<usize, TargetError> {
        let mut swept = 0;
        for (name, path, _) in self.walk(prefix).await? {
            if name.ends_with(PART) {
                fs::remove_file(&path).await.map_err(self.failed("removing", &name))?;
                if let Some(parent) = path.parent() {
                    drop(fs::remove_dir(parent).await);
                }
                swept += 1;
            }
        }
        Ok(swept)
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(PART);
    path.with_file_name(name)
}

struct Part {
    folder: Folder,
    name: String,
    file: File,
    part: PathBuf,
    path: PathBuf,
    finished: bool,
}

#[async_trait]
impl Upload for Part {
    async fn write(&mut self, piece: &[u8]) -> Result<(), TargetError> {
        self.file.write_all(piece).await.map_err(self.folder.failed("writing", &self.name))
    }

    async fn finish(mut self: Box<Self>) -> Result<(), TargetError> {
        let work = async {
            self.file.flush().await?;
            self.file.sync_all().await?;
            fs::rename(&self.part, &self.path).await?;
            let folder = self.path.parent().unwrap_or(Path::new("/"));
            File::open(folder).await?.sync_all().await
        };
        let done = work.await.map_err(self.folder.failed("writing", &self.name));
        self.finished = done.is_ok();
        done
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            drop(std::fs::remove_file(&self.part));
        }
    }
}

struct Reading {
    folder: Folder,
    name: String,
    file: File,
}

#[async_trait]
impl Download for Reading {
    async fn read(&mut self) -> Result<Vec<u8>, TargetError> {
        let mut piece = vec![0; PIECE_BYTES];
        let read = self.file.read(&mut piece).await.map_err(self.folder.failed("reading", &self.name))?;
        piece.truncate(read);
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn content(target: &Folder, name: &str) -> Vec<u8> {
        let mut download = target.open(name).await.expect("it opens");
        let mut all = Vec::new();
        loop {
            let piece = download.read().await.expect("it reads");
            if piece.is_empty() {
                return all;
            }
            all.extend(piece);
        }
    }

    #[tokio::test]
    async fn an_object_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().expect("a folder");
        let target = Folder::at(root.path().join("backups"));
        assert_eq!(target.list("eu").await.expect("nothing"), []);
        let mut upload = target.begin("eu/1/dump.age").await.expect("it begins");
        upload.write(b"half").await.expect("it writes");
        assert_eq!(target.list("eu").await.expect("nothing yet"), []);
        drop(upload);
        let mut upload = target.begin("eu/1/dump.age").await.expect("it begins");
        upload.write(b"half").await.expect("it writes");
        upload.write(b" and whole").await.expect("it writes");
        upload.finish().await.expect("it ends");
        assert_eq!(content(&target, "eu/1/dump.age").await, b"half and whole");
        let listed = target.list("eu").await.expect("a listing");
        assert_eq!(listed, [Object { name: "eu/1/dump.age".into(), bytes: 14 }]);
    }

    #[tokio::test]
    async fn what_a_killed_upload_left_is_swept_and_nothing_else() {
        let root = tempfile::tempdir().expect("a folder");
        let target = Folder::at(root.path());
        target.put("eu/1/manifest.note", b"whole").await.expect("it is written");
        std::fs::create_dir_all(root.path().join("eu/2")).expect("a folder");
        std::fs::write(root.path().join("eu/2/dump.age.part"), b"half").expect("a file");
        assert_eq!(target.sweep("eu").await.expect("it sweeps"), 1);
        assert!(!root.path().join("eu/2").exists());
        assert_eq!(target.get("eu/1/manifest.note").await.expect("it is there"), b"whole");
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let target = Folder::at(root.path());
        assert!(target.get("../secret").await.is_err());
        assert!(target.put("a/../../b", b"x").await.is_err());
    }
}
