//! `domicile audit key`: the keys that logs and witnesses sign with.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use tlog::{KeyKind, SigningKey};

use crate::commands::Failure;
use crate::{cli, print};

/// Makes a key.
pub(super) fn generate(args: &cli::AuditKeyGenerate) -> Result<ExitCode, Failure> {
    let kind = if args.witness { KeyKind::Witness } else { KeyKind::Log };
    let key = SigningKey::new(&args.name, kind, &rand::random()).map_err(anyhow::Error::from)?;
    write_new(&args.out, key.to_secret_text().as_bytes())
        .with_context(|| format!("the key was not written to {}", args.out.display()))?;
    let what = if args.witness { "witness" } else { "log" };
    print::note(format!("The private key of the {what} {} is in {}.", args.name, args.out.display()));
    print::note("Its public key, for whoever verifies:");
    print::line(key.public().to_string());
    Ok(ExitCode::SUCCESS)
}

/// Shows the public half of one.
pub(super) fn show(args: &cli::AuditKeyShow) -> Result<ExitCode, Failure> {
    print::line(read(&args.file)?.public().to_string());
    Ok(ExitCode::SUCCESS)
}

/// Reads a private key from its file.
pub(in crate::commands) fn read(file: &Path) -> anyhow::Result<SigningKey> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    text.trim_end().parse().with_context(|| format!("{} holds no private key", file.display()))
}

/// A key that is there already is never overwritten: without it its log could not be signed any more.
fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_once_for_its_owner_only_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("key");
        let args = cli::AuditKeyGenerate { name: "eu.log.example.com".into(), out: out.clone(), witness: false };
        generate(&args).expect("a key");
        let key = read(&out).expect("readable");
        assert_eq!((key.public().name(), key.public().kind()), ("eu.log.example.com", KeyKind::Log));
        assert!(generate(&args).is_err(), "a key is never overwritten");
        assert_eq!(read(&out).expect("still there").public(), key.public());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&out).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_name_that_cannot_stand_under_a_checkpoint_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["", "two words", "a+b"] {
            let args = cli::AuditKeyGenerate { name: name.into(), out: folder.path().join("key"), witness: true };
            assert!(generate(&args).is_err(), "{name:?}");
        }
        assert!(!folder.path().join("key").exists());
    }
}
