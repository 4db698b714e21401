//! A witness of an auditor's own: the program `domicile witness`, and a gateway that asks it.

use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use world::{Gateway, World};

/// A witness of one region's log.
pub(crate) struct Witness {
    folder: TempDir,
    port: u16,
    log: String,
    /// Its public key.
    pub(crate) key: String,
    process: Option<Child>,
}

impl Witness {
    /// A witness that has seen nothing yet, running.
    pub(crate) async fn of(world: &World, region: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Command::new(world::tools::domicile().unwrap())
            .args(["audit", "key", "generate", "witness.test/w1", "--witness", "--out"])
            .arg(folder.path().join("w1.key"))
            .output()
            .await
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let (port, log) = (world::free_port().unwrap(), world.log_key(region).unwrap());
        let mut witness = Self { folder, port, log, key, process: None };
        witness.start("seen");
        witness
    }

    /// Starts it, on what it remembers in the folder of this name.
    pub(crate) fn start(&mut self, memory: &str) {
        let process = Command::new(world::tools::domicile().unwrap())
            .arg("witness")
            .arg("--key")
            .arg(self.folder.path().join("w1.key"))
            .args(["--log", &self.log, "--listen", &format!("127.0.0.1:{}", self.port), "--state"])
            .arg(self.memory(memory))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// Ends it.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.unwrap();
        }
    }

    /// Where it is asked.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts a gateway again, which then asks it.
    pub(crate) async fn is_asked_by(&self, gateway: &Gateway, region: &str) {
        let mut config: toml::Table = std::fs::read_to_string(gateway.config()).unwrap().parse().unwrap();
        let witness: toml::Table = format!("key = \"{}\"\nurl = \"{}\"", self.key, self.url()).parse().unwrap();
        let witnesses = toml::Value::Array(vec![toml::Value::Table(witness)]);
        config["regions"][region]["signer"].as_table_mut().unwrap().insert("witnesses".to_owned(), witnesses);
        std::fs::write(gateway.config(), toml::to_string(&config).unwrap()).unwrap();
        gateway.terminate().await.unwrap();
        gateway.start_again().await.unwrap();
    }

    fn memory(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
