//! Each kind of mistake is found, named by file and key, and comes with its fix; all of them at once.

mod environment;
mod example;
mod gateway;
mod regions;
mod secrets;
mod shape;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;

use super::*;

const PEPPER: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const PASSWORD: &str = "wachtwoord-uit-het-bestand";

/// A sound configuration; each test breaks it in its own way.
const SOUND: &str = r#"
[gateway]
region = "eu-central"

[directory]
postgres = "postgres://domicile@db.internal/directory"
postgres_password = "file:password"

[[directory.peppers]]
key_id = 1
secret = "file:pepper"

[regions.eu-central]
postgres = "file:eu-dsn"
log_origin = "eu.log.example.com"

[regions.eu-central.redpanda]
brokers = ["broker.eu.internal:9092"]
location = "azure/germanywestcentral"

[regions.eu-central.snowflake]
account = "example-eu"
location = "aws/eu-central-1"
user = "DOMICILE"
password = "env:SNOWFLAKE_PASSWORD"
warehouse = "W"
database = "D"

[regions.uk-south]
home_url = "https://uk.example.com"

[regions.us-east]
home_url = "https://us.example.com/"
"#;

struct Scene {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    text: String,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Self { folder, variables: BTreeMap::new(), text: SOUND.to_owned() };
        scene.file("password", PASSWORD, 0o600);
        scene.file("pepper", PEPPER, 0o600);
        scene.file("eu-dsn", "postgres://domicile:geheim@db.eu.internal/eu\n", 0o600);
        scene.variable("SNOWFLAKE_PASSWORD", "sneeuw")
    }

    fn file(&self, name: &str, content: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Replaces a piece of the sound text, which must be there.
    fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "the sound text holds {old}");
        self.text = self.text.replacen(old, new, 1);
        self
    }

    fn and(mut self, more: &str) -> Self {
        self.text.push_str(more);
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("domicile.toml")
    }

    fn load(&self) -> Result<Config, Mistakes> {
        parse(&self.path(), &self.text, &self.variables)
    }

    fn sound(&self) -> Config {
        self.load().unwrap_or_else(|mistakes| panic!("sound, but:\n{mistakes}"))
    }

    fn mistakes(&self) -> Mistakes {
        self.load().expect_err("a mistake is found")
    }

    /// The one error there is, which must have this key and say this in its message or fix.
    fn refused(&self, key: &str, says: &str) {
        let mistakes = self.mistakes();
        let errors: Vec<_> = mistakes.errors().collect();
        assert_eq!(errors.len(), 1, "exactly one error:\n{mistakes}");
        assert_eq!(errors[0].key, key, "{mistakes}");
        assert!(errors[0].message.contains(says) || errors[0].fix.contains(says), "{says} is said:\n{mistakes}");
        assert!(!errors[0].fix.is_empty(), "there is a fix:\n{mistakes}");
    }

    fn warned(&self, key: &str, says: &str) {
        let warnings = self.sound().warnings;
        let found = warnings.0.iter().any(|w| w.key == key && (w.message.contains(says) || w.fix.contains(says)));
        assert!(found, "{key} is warned of:\n{warnings}");
    }
}
