//! Secrets are named, never written: `file:/run/secrets/name` or `env:NAME`. A secret is read once and
//! then held in a type that does not show it.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::SecretString;

/// A secret longer than this is not a secret but a mistaken path, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Where a container has its secrets. Who may read them is decided by what is mounted there: Compose hands out neither
/// owner nor mode, so they say nothing.
const MOUNTED: &str = "/run/secrets";

/// Where secrets are looked up.
pub(crate) struct Secrets<'a> {
    /// Relative `file:` references begin here.
    pub folder: &'a Path,
    /// The environment.
    pub variables: &'a BTreeMap<String, String>,
}

/// Why a secret could not be had, with the fix.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// A sentence.
    pub message: String,
    /// A sentence.
    pub fix: String,
}

/// A secret, and what is to be said about the way it is kept.
pub(crate) struct Found {
    /// The secret.
    pub secret: SecretString,
    /// A warning, when others may read it.
    pub exposed: Option<Trouble>,
}

/// Whether a text is meant as a reference.
pub(crate) fn is_reference(text: &str) -> bool {
    text.starts_with("file:") || text.starts_with("env:")
}

impl Secrets<'_> {
    /// Reads what a reference names.
    pub(crate) fn resolve(&self, reference: &str) -> Result<Found, Trouble> {
        if let Some(path) = reference.strip_prefix("file:") {
            self.read_file(&self.folder.join(path))
        } else if let Some(name) = reference.strip_prefix("env:") {
            self.read_variable(name)
        } else {
            Err(Trouble {
                message: "A secret stands here in plain text.".into(),
                fix: "Move it to a file and write \"file:/run/secrets/…\", or \"env:NAME\"; then change it, it has \
                      been seen."
                    .into(),
            })
        }
    }

    fn read_file(&self, path: &Path) -> Result<Found, Trouble> {
        let unreadable = |message: String| Trouble {
            message,
            fix: "Create the file, or correct the path; it must be readable by the user that runs domicile.".into(),
        };
        let meta = std::fs::metadata(path)
            .map_err(|e| unreadable(format!("The secret file {} cannot be read: {e}.", path.display())))?;
        if !meta.is_file() || meta.len() > SECRET_BYTES_MAX {
            return Err(unreadable(format!("{} is not a file of at most 64 KiB.", path.display())));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|e| unreadable(format!("The secret file {} cannot be read: {e}.", path.display())))?;
        let secret = text.trim_end_matches(['\n', '\r']).to_owned();
        if secret.is_empty() {
            return Err(unreadable(format!("The secret file {} is empty.", path.display())));
        }
        Ok(Found { secret: secret.into(), exposed: exposed(path, &meta) })
    }

    fn read_variable(&self, name: &str) -> Result<Found, Trouble> {
        match self.variables.get(name).filter(|value| !value.is_empty()) {
            Some(value) => Ok(Found { secret: value.clone().into(), exposed: None }),
            None => Err(Trouble {
                message: format!("The environment variable {name} is not set or empty."),
                fix: format!("Set {name}, or use a \"file:…\" reference."),
            }),
        }
    }
}

#[cfg(unix)]
fn exposed(path: &Path, meta: &std::fs::Metadata) -> Option<Trouble> {
    use std::os::unix::fs::PermissionsExt as _;
    if path.starts_with(MOUNTED) {
        return None;
    }
    let mode = meta.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| Trouble {
        message: format!("Others may read the secret file {} (mode {mode:03o}).", path.display()),
        fix: format!("chmod 600 {}", path.display()),
    })
}

#[cfg(not(unix))]
fn exposed(_path: &Path, _meta: &std::fs::Metadata) -> Option<Trouble> {
    None
}
