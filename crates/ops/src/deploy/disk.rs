//! Files that a crash leaves whole: replaced by renaming, or grown by lines of which the last may be torn.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use serde::de::IgnoredAny;

use crate::exit::Trouble;

/// Writes a file so that after a crash the old one or the new one is there, whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let scratch = folder.join(format!(".{name}.part"));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&scratch)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&scratch, path)?;
    File::open(folder)?.sync_all()
}

/// The same for a file of somebody else: where it is a link, what it leads to is written, and mode and owner stay.
pub(crate) fn rewrite_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let Ok(path) = fs::canonicalize(path) else { return write_whole(path, bytes) };
    let was = fs::metadata(&path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let scratch = folder.join(format!(".{name}.part"));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&scratch)?;
    file.write_all(bytes)?;
    // Whoever may not give it to its owner keeps it.
    let _ = fchown(&file, Some(was.uid()), Some(was.gid()));
    file.set_permissions(was.permissions())?;
    file.sync_all()?;
    fs::rename(&scratch, &path)?;
    File::open(folder)?.sync_all()
}

/// Adds a line and waits until it is on the disk. What a crash left of a torn line is taken away first.
pub(crate) fn append(path: &Path, line: &str) -> Result<(), Trouble> {
    mend_end(path)?;
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// How many bytes at the end are the beginning of a line that was torn while it was written. A whole line that lacks
/// nothing but its end is none.
pub(super) fn torn_end(bytes: &[u8]) -> usize {
    let begins = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let last = &bytes[begins..];
    if serde_json::from_slice::<IgnoredAny>(last).is_ok() { 0 } else { last.len() }
}

/// Takes a torn line away from the end of a file, or gives a whole one its end.
pub(super) fn mend_end(path: &Path) -> Result<(), Trouble> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let torn = torn_end(&bytes);
    let mut file = OpenOptions::new().append(true).open(path)?;
    if torn > 0 {
        file.set_len((bytes.len() - torn) as u64)?;
    } else if bytes.last().is_some_and(|last| *last != b'\n') {
        file.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_of_somebody_else_keeps_its_mode_and_a_link_what_it_leads_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let (shared, link) = (folder.path().join("shared.env"), folder.path().join(".env"));
        fs::write(&shared, "A=1\n").expect("written");
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o644)).expect("its mode");
        std::os::unix::fs::symlink("shared.env", &link).expect("a link");
        rewrite_whole(&link, b"A=2\n").expect("written");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_to_string(&shared).expect("read"), "A=2\n");
        assert_eq!(fs::metadata(&shared).expect("there").permissions().mode() & 0o777, 0o644);
        let new = folder.path().join("new.env");
        rewrite_whole(&new, b"A=3\n").expect("written");
        assert_eq!(fs::metadata(&new).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
