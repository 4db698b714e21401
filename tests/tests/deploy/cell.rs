//! A cell without containers in a world of its own: releases are little programs that run the real one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};
use world::{Builder, Client, Warden, World, tools};

/// The regions of the scenes: two, so that "and nowhere else" means something.
const REGIONS: [&str; 2] = ["eu-central", "us-east"];

/// The deployer's own folder in the cell's.
const STATE: &str = ".domicile/domicile";

pub(crate) struct Cell {
    // First of all: whatever outlives its deployer ends while everything it uses is there.
    _warden: Warden,
    pub(crate) world: World,
    folder: tempfile::TempDir,
    edge: u16,
    domicile: PathBuf,
    roles: &'static str,
}

/// How `domicile ops` ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
}

impl Ended {
    async fn of(mut command: Command) -> Self {
        let output = command.output().await.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let out = format!("{}{}", text(&output.stdout), text(&output.stderr));
        Self { code: output.status.code().unwrap_or(-1), out }
    }
}

impl Cell {
    pub(crate) async fn new() -> Self {
        Self::with_roles("gateway").await
    }

    /// A cell in which these roles run, too.
    pub(crate) async fn with_roles(roles: &'static str) -> Self {
        Self::with(roles, |builder, _| builder).await
    }

    /// A cell whose regions have a place for their backups.
    pub(crate) async fn with_backups() -> Self {
        let cell = Self::with("gateway", |mut builder, folder| {
            let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
            let recipients: Vec<toml::Value> =
                (0..2).map(|_| toml::Value::from(age::x25519::Identity::generate().to_public().to_string())).collect();
            for region in REGIONS {
                let backup = format!("regions.{region}.backup");
                let place = if region == "us-east" { "aws/us-east-1" } else { "aws/eu-central-1" };
                builder = builder
                    .setting(&format!("{backup}.folder"), path(&format!("backups-{region}")))
                    .setting(&format!("{backup}.location"), place)
                    .setting(&format!("{backup}.recipients"), recipients.clone())
                    .setting(&format!("{backup}.key"), format!("file:{}", path("backup-key")));
            }
            builder.setting("backup.state_folder", path("state"))
        })
        .await;
        let key = cell.folder.path().join("backup-key");
        let made = Command::new(&cell.domicile)
            .args(["audit", "key", "generate", "cell.backup.test", "--out"])
            .arg(key)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await;
        assert!(made.expect("it runs").success(), "the key that signs backups is made");
        cell
    }

    async fn with(roles: &'static str, settings: impl FnOnce(Builder, &Path) -> Builder) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let builder = World::with_regions(REGIONS).gateways_not_started().without_brokers().without_snowflakes();
        let builder = settings(builder, folder.path());
        // Country lookups are not what is tried here, and unpacking the database is half of a start.
        let world = builder.start().await.expect("a world");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let edge = listener.local_addr().expect("an address").port();
        let domicile = tools::domicile().expect("the program is built");
        assert!(
            tools::on_path("haproxy").is_some(),
            "haproxy is needed here: cargo xtask tools, or apt-get install haproxy"
        );
        let warden = world.watch_over(&folder.path().join(STATE)).await.expect("a warden");
        Self { _warden: warden, world, folder, edge, domicile, roles }
    }

    /// The deployer's own folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join(STATE)
    }

    /// A release: a program that differs from every other one by its name.
    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.program(name, &format!("exec {} \"$@\"", self.domicile.display()))
    }

    /// A release that misbehaves; its requests are counted in the file that is given back.
    pub(crate) fn flawed(&self, flaw: &str) -> (PathBuf, PathBuf) {
        let count = self.folder.path().join(format!("{flaw}.count"));
        let flawed = env!("CARGO_BIN_EXE_flawed");
        let lines = format!(
            "export FLAW={flaw} REAL={} COUNT={}\nexec {flawed} \"$@\"",
            self.domicile.display(),
            count.display()
        );
        (self.program(flaw, &lines), count)
    }

    /// A release with a later expand migration in every database, which the real program knows nothing of.
    pub(crate) fn later(&self, level: u32) -> PathBuf {
        let psql = tools::Postgres::find().expect("PostgreSQL").program("psql");
        let databases = self.world.regions().iter().map(|region| (region.superuser_dsn(), "region"));
        let databases = databases.chain([(self.world.directory_dsn(), "directory")]);
        let mut migrations = String::new();
        for (dsn, set) in databases {
            migrations.push_str(&format!(
                "  {} -q -v ON_ERROR_STOP=1 '{dsn}' -c \"CREATE TABLE domicile.added_{level} (a int)\" \
                 -c \"INSERT INTO domicile.{set}_migrations (version, description, success, checksum, execution_time) \
                 VALUES ({level}, 'from the future', true, '', 0)\" \
                 -c \"UPDATE domicile.schema_level SET level = {level} WHERE migrations = '{set}'\" >&2 || exit 1\n",
                psql.display()
            ));
        }
        let real = self.domicile.display();
        let version =
            format!("{{\"version\":\"9.0.{level}\",\"levels\":{{\"directory\":{level},\"region\":{level}}}}}");
        self.program(
            &format!("later-{level}"),
            &format!(
                "if [ \"$1\" = version ]; then echo '{version}'; exit 0; fi\n\
                 if [ \"$1\" = migrate ] && [ \"$2\" != --dry-run ]; then\n  {real} \"$@\" || exit 1\n{migrations}  exit 0\nfi\n\
                 exec {real} \"$@\""
            ),
        )
    }

    /// A child writes it: of a descriptor of ours, whatever another thread starts would have a copy for a moment, and
    /// nobody may run what is open for writing.
    fn program(&self, name: &str, lines: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", r#"cat >"$1" && chmod 755 "$1""#, "sh"]).arg(&path).stdin(Stdio::piped());
        let mut child = sh.spawn().expect("sh runs");
        let text = format!("#!/bin/sh\n# {name}\n{lines}\n");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("handed over");
        assert!(child.wait().expect("it ends").success(), "{name} is written");
        path
    }

    /// `domicile ops …` in this cell.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let edge_config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infrastructure/edge/haproxy.cfg");
        let mut command = Command::new(&self.domicile);
        command.arg("ops").args(args).args(["--runtime", "process", "--roles", self.roles]);
        command.arg("--folder").arg(self.folder.path()).arg("--config").arg(self.world.gateways()[0].config());
        command.arg("--edge-listen").arg(format!("127.0.0.1:{}", self.edge)).arg("--edge-config").arg(edge_config);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    }

    pub(crate) async fn ops(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args)).await
    }

    /// `domicile ops …` beside the databases, as the one-shot container of a cell runs it.
    pub(crate) async fn beside(&self, args: &[&str]) -> Ended {
        self.with_configuration(&[&["ops"], args].concat()).await
    }

    /// `domicile …` with the cell's configuration.
    pub(crate) async fn with_configuration(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(&self.domicile);
        command.args(args).env("DOMICILE_CONFIG", self.world.gateways()[0].config());
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ended::of(command).await
    }

    /// Deploys quickly: little is watched, and no backup is taken.
    pub(crate) async fn deploy(&self, release: &Path, more: &[&str]) -> Ended {
        self.ops(&quickly("deploy", Some(&release.to_string_lossy()), more)).await
    }

    pub(crate) async fn deploys(&self, release: &Path, more: &[&str]) {
        let ended = self.deploy(release, more).await;
        assert_eq!(ended.code, 0, "{}", ended.out);
    }

    pub(crate) async fn rollback(&self, more: &[&str]) -> Ended {
        self.ops(&quickly("rollback", None, more)).await
    }

    /// What serves: exactly one release, by the edge and by what is written down.
    pub(crate) async fn serving(&self) -> String {
        let ended = self.ops(&["status", "--json"]).await;
        let line: serde_json::Value = serde_json::from_str(ended.out.lines().next().unwrap_or_default()).expect("JSON");
        let status = &line["status"];
        assert_eq!(ended.code, 0, "{}", ended.out);
        let edge = status["edge"].as_array().expect("a list");
        assert_eq!(edge.len(), 1, "exactly one release serves: {status}");
        assert_eq!(edge[0], status["serving"], "{status}");
        edge[0].as_str().expect("a name").to_owned()
    }

    /// How many gateways run, whoever gets requests.
    pub(crate) fn gateways(&self) -> usize {
        let names = fs::read_dir(self.state().join("processes")).expect("a folder").flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().starts_with("web-")).count()
    }

    /// The tags that the processes of a service run from.
    pub(crate) fn tags_of(&self, service: &str) -> Vec<String> {
        let names = fs::read_dir(self.state().join("processes")).expect("a folder").flatten();
        let of_service = names.filter(|entry| entry.file_name().to_string_lossy().starts_with(service));
        let read = |path: PathBuf| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON")
        };
        of_service.map(|entry| read(entry.path())["instance"]["tag"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// An application service that comes in through the edge.
    pub(crate) fn client(&self) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", self.edge), &self.world.keys().service).expect("a client")
    }
}

/// How the scenes deploy: little is watched, and no scene demands speed.
const QUICK: [(&str, &str); 5] = [
    ("--skip-backup", "a scene without anything to lose"),
    ("--bake", "3"),
    ("--steps", "20,100"),
    ("--step-time", "2"),
    ("--max-p99-ratio", "1000"),
];

/// The arguments of an operation: `more` goes before what is usual.
pub(crate) fn quickly<'a>(verb: &'a str, image: Option<&'a str>, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![verb, "--yes", "--json"];
    args.extend(image.iter().flat_map(|image| ["--image", image]));
    args.extend(more);
    let usual = QUICK.iter().filter(|(flag, _)| !more.contains(flag) && (image.is_some() || *flag != "--skip-backup"));
    args.extend(usual.flat_map(|(flag, value)| [*flag, *value]));
    args
}

impl Drop for Cell {
    fn drop(&mut self) {
        // Releases outlive the deployer by design; here they end with the scene.
        if let Err(trouble) = ops::runtime::process::end_all(&self.state()) {
            eprintln!("processes of a cell may be left over: {trouble}");
        }
    }
}
