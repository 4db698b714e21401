//! `domicile init`: founds a Compose cell. Which secrets there are follows from the cell's configuration: every
//! `file:/run/secrets/FOLDER/NAME` in it is a file `secrets/FOLDER/NAME`, because that is how docker-compose.yml mounts them.
//! A database whose host has no dots is a service of the cell, and gets its password here, too.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tlog::{KeyKind, SigningKey};

use super::Failure;
use crate::config::{self, Dsn, raw};
use crate::{cli, print};

/// The superuser of the cell's own databases, as docker-compose.yml makes it.
const OWNER: &str = "domicile_owner";
/// Where the containers see `secrets/`.
const MOUNTED: &str = "file:/run/secrets/";
/// Folders that are mounted whether or not there is something in them.
const FOLDERS: [&str; 6] = ["service", "owner", "signer", "forwarder", "otel", "grafana"];

/// Founds the cell, and says what was made.
pub(crate) fn run(args: &cli::Init) -> Result<ExitCode, Failure> {
    let founded = found(&args.dir, &args.cell)?;
    if args.json {
        print::json(&json!({ "made": founded.made, "kept": founded.kept, "log_keys": founded.log_keys }))?;
        return Ok(ExitCode::SUCCESS);
    }
    tell(&founded);
    if founded.kept > 0 {
        print::note(format!("{} files were there already and stay as they are", founded.kept));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what was made; nothing when nothing was.
pub(crate) fn tell(founded: &Founded) {
    if founded.made.is_empty() {
        return;
    }
    for path in &founded.made {
        print::note(format!("made {path}"));
    }
    print::note("The public keys of the logs, for whoever verifies them:");
    founded.log_keys.iter().for_each(print::line);
    print::note(
        "Keep copies of the pepper and of the log keys where the backups are not: they cannot be made again. \
         Move what is in secrets/offline away from here, and apart: it opens the backups.",
    );
}

/// A failure as one text.
pub(crate) fn in_words(failure: &Failure) -> String {
    match failure {
        Failure::Config(mistakes) => mistakes.to_string(),
        Failure::Deed(error) => format!("{error:#}"),
    }
}

/// What [`found`] did.
#[derive(Debug, Default)]
pub(crate) struct Founded {
    /// Files that were made, relative to the cell's folder.
    pub made: Vec<String>,
    /// How many were there already.
    pub kept: usize,
    /// The public keys of the region logs.
    pub log_keys: Vec<String>,
}

/// Makes what is missing of a cell in `dir`. Doing it again changes nothing.
///
/// # Errors
/// When there is no such cell, its configuration has mistakes, or a file cannot be written.
pub(crate) fn found(dir: &Path, cell: &str) -> Result<Founded, Failure> {
    let settings = settings(dir, cell)?;
    let mut founding = Founding { dir, done: Founded::default() };
    founding.env(cell, &settings)?;
    for folder in FOLDERS {
        founding.folder(&format!("secrets/{folder}"))?;
    }
    let directory = &settings.directory;
    founding.database(
        directory.postgres.as_deref(),
        directory.postgres_password.as_deref(),
        directory.postgres_owner.as_deref(),
    )?;
    for pepper in &directory.peppers {
        founding.random(pepper.secret.as_deref())?;
    }
    for region in settings.regions.values() {
        founding.database(
            region.postgres.as_deref(),
            region.postgres_password.as_deref(),
            region.postgres_owner.as_deref(),
        )?;
        if let (Some(signer), Some(origin)) = (&region.signer, &region.log_origin) {
            founding.log_key(signer.key.as_deref(), origin)?;
        }
    }
    let backups = settings.regions.iter().map(|(name, region)| (name.as_str(), region.backup.as_ref()));
    for (name, backup) in backups.chain([("directory", directory.backup.as_ref())]) {
        if let Some(backup) = backup {
            founding.backup(name, backup)?;
        }
    }
    founding.file("secrets/grafana/password", &random())?;
    founding.state()?;
    Ok(founding.done)
}

/// The cell's configuration as its services see it: the file, and what `migrate` and `signer` are told besides.
fn settings(dir: &Path, cell: &str) -> Result<raw::Root, Failure> {
    let folder = dir.join("config/cells").join(cell);
    if !folder.is_dir() {
        let missing = anyhow::anyhow!("there is no cell {cell}: the folder {} does not exist", folder.display());
        return Err(missing.into());
    }
    let mut variables = BTreeMap::new();
    for name in ["owner.env", "signer.env"] {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        variables.extend(pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())));
    }
    Ok(config::effective_with(&folder.join("domicile.toml"), &variables)?)
}

/// The founding in progress.
struct Founding<'a> {
    dir: &'a Path,
    done: Founded,
}

impl Founding<'_> {
    /// `.env`, from the example, for this cell.
    fn env(&mut self, cell: &str, settings: &raw::Root) -> anyhow::Result<()> {
        let (example, path) = (self.dir.join(".env.example"), self.dir.join(".env"));
        if path.exists() {
            self.done.kept += 1;
            return Ok(());
        }
        let text = fs::read_to_string(&example).with_context(|| format!("{} cannot be read", example.display()))?;
        let hosts_directory = settings.directory.postgres.as_deref().and_then(service).as_deref() == Some("directory");
        let (project, profiles) = match (cell, hosts_directory) {
            ("single", _) => ("domicile".to_owned(), "single"),
            (_, true) => (format!("domicile-{cell}"), "directory"),
            (_, false) => (format!("domicile-{cell}"), ""),
        };
        let ours =
            [("COMPOSE_PROJECT_NAME", project.as_str()), ("COMPOSE_PROFILES", profiles), ("DOMICILE_CELL", cell)];
        let elsewhere = cell != "single" && !hosts_directory;
        let lines = text.lines().map(|line| {
            if elsewhere && line == "#DOMICILE_ELSEWHERE=outside" {
                return line.trim_start_matches('#').to_owned();
            }
            let ours = ours.iter().find(|(name, _)| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
            ours.map_or_else(|| line.to_owned(), |(name, value)| format!("{name}={value}"))
        });
        let text = lines.collect::<Vec<_>>().join("\n") + "\n";
        write_new(&path, text.as_bytes(), 0o644)?;
        self.done.made.push(".env".into());
        Ok(())
    }

    /// The service's password at a database, and what belongs to a database of the cell itself: its superuser's.
    fn database(&mut self, url: Option<&str>, password: Option<&str>, owner: Option<&str>) -> anyhow::Result<()> {
        self.random(password)?;
        let (Some(url), Some(owner)) = (url, owner.and_then(mounted)) else { return Ok(()) };
        let (Some(host), Some(dsn)) = (service(url), Dsn::parse(url)) else { return Ok(()) };
        let chosen = self.file(&format!("secrets/{host}/password"), &random())?;
        let url = format!("postgres://{OWNER}:{chosen}@{}/{}\n", dsn.server, dsn.database);
        self.file(&owner, &url)?;
        Ok(())
    }

    fn random(&mut self, reference: Option<&str>) -> anyhow::Result<()> {
        if let Some(path) = reference.and_then(mounted) {
            self.file(&path, &random())?;
        }
        Ok(())
    }

    fn log_key(&mut self, reference: Option<&str>, origin: &str) -> anyhow::Result<()> {
        let Some(path) = reference.and_then(mounted) else { return Ok(()) };
        let key = SigningKey::new(origin, KeyKind::Log, &rand::random())?;
        let text = self.file(&path, &key.to_secret_text())?;
        let key: SigningKey = text.trim_end().parse().with_context(|| format!("{path} holds no private key"))?;
        self.done.log_keys.push(key.public().to_string());
        Ok(())
    }

    /// The key that signs a database's backups, and the two that open them: these are needed in an emergency only, and are
    /// mounted nowhere.
    fn backup(&mut self, name: &str, backup: &raw::Backup) -> anyhow::Result<()> {
        if let Some(path) = backup.key.as_deref().and_then(mounted) {
            let key = SigningKey::new(&format!("{name}.backup"), KeyKind::Log, &rand::random())?;
            self.file(&path, &key.to_secret_text())?;
        }
        let Some(path) = backup.recipients.first().and_then(|reference| mounted(reference)) else { return Ok(()) };
        if self.dir.join(&path).exists() {
            self.done.kept += 1;
            return Ok(());
        }
        let mut recipients =
            format!("# Who can open the backups of {name}: its verifier, and the key for emergencies.\n");
        for purpose in ["verify", "emergency"] {
            let (private, recipient) = ops::backup::new_pair();
            self.file(&format!("secrets/offline/{name}-backup-{purpose}"), private.expose_secret())?;
            recipients.push_str(&recipient);
            recipients.push('\n');
        }
        self.file(&path, &recipients)?;
        Ok(())
    }

    /// The folder that edge and deployer share. Whoever runs the edge writes into it; what is around it is closed.
    fn state(&self) -> anyhow::Result<()> {
        let env = fs::read_to_string(self.dir.join(".env")).context(".env cannot be read")?;
        let named = env.lines().find_map(|line| line.strip_prefix("COMPOSE_PROJECT_NAME="));
        let project = named.map(str::trim).filter(|name| !name.is_empty()).unwrap_or("domicile");
        self.closed(".domicile")?;
        let edge = self.dir.join(".domicile").join(project).join("edge");
        fs::create_dir_all(&edge).with_context(|| format!("{} cannot be made", edge.display()))?;
        fs::set_permissions(&edge, fs::Permissions::from_mode(0o777))?;
        Ok(())
    }

    /// A folder that nobody else can enter.
    fn closed(&self, path: &str) -> anyhow::Result<()> {
        let folder = self.dir.join(path);
        if !folder.is_dir() {
            DirBuilder::new().mode(0o700).create(&folder).with_context(|| format!("{path} cannot be made"))?;
        }
        Ok(())
    }

    fn folder(&self, path: &str) -> anyhow::Result<()> {
        self.closed("secrets")?;
        let folder = self.dir.join(path);
        if !folder.is_dir() {
            fs::create_dir_all(&folder).with_context(|| format!("{path} cannot be made"))?;
            // Whoever a container runs as must be able to read what is mounted from here.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Writes a file unless it is there; gives what it holds.
    fn file(&mut self, path: &str, content: &str) -> anyhow::Result<String> {
        let whole = self.dir.join(path);
        if whole.exists() {
            self.done.kept += 1;
            let text = fs::read_to_string(&whole).with_context(|| format!("{path} cannot be read"))?;
            return Ok(text.trim_end().to_owned());
        }
        if let Some(folder) = Path::new(path).parent().and_then(Path::to_str) {
            self.folder(folder)?;
        }
        write_new(&whole, format!("{}\n", content.trim_end()).as_bytes(), 0o444)?;
        self.done.made.push(path.to_owned());
        Ok(content.trim_end().to_owned())
    }
}

/// The file below `secrets/` that a reference names, if it names one.
fn mounted(reference: &str) -> Option<String> {
    let rest = reference.strip_prefix(MOUNTED)?;
    let plain = Path::new(rest).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    plain.then(|| format!("secrets/{rest}"))
}

/// The service of the cell that a Postgres URL leads to; hosts with dots are elsewhere.
fn service(url: &str) -> Option<String> {
    let dsn = Dsn::parse(url)?;
    let host = dsn.server.rsplit_once(':').map_or(dsn.server.as_str(), |(host, _)| host);
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (plain && host != "localhost").then(|| host.to_owned())
}

fn random() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = made.with_context(|| format!("{} cannot be made", path.display()))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("{} was not written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with what the repository has of a cell.
    fn clone() -> tempfile::TempDir {
        let (folder, top) =
            (tempfile::tempdir().expect("a folder"), Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        fs::copy(top.join(".env.example"), folder.path().join(".env.example")).expect("copied");
        for cell in ["single", "eu-central", "uk-south", "us-east"] {
            let to = folder.path().join("config/cells").join(cell);
            fs::create_dir_all(&to).expect("a folder");
            for file in ["domicile.toml", "owner.env", "signer.env", "forwarder.env"] {
                fs::copy(top.join("config/cells").join(cell).join(file), to.join(file)).expect("copied");
            }
        }
        folder
    }

    #[test]
    fn a_cell_is_founded_once_and_what_is_there_stays() {
        let folder = clone();
        let first = found(folder.path(), "single").expect("founded");
        assert_eq!(first.log_keys.len(), 3, "{first:?}");
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).expect(path);
        let password = read("secrets/db/password");
        assert_eq!(
            read("secrets/owner/eu-central").trim_end(),
            format!("postgres://domicile_owner:{}@db:5432/domicile", password.trim_end())
        );
        assert!(read("secrets/owner/directory").contains("@directory:5432/directory"));
        assert_ne!(read("secrets/service/uk-south-password"), read("secrets/service/us-east-password"));
        assert!(read(".env").contains("COMPOSE_PROFILES=single\n"));
        let mode = |path: &str| fs::metadata(folder.path().join(path)).expect(path).permissions().mode() & 0o777;
        assert_eq!((mode("secrets"), mode(".domicile"), mode(".domicile/domicile/edge")), (0o700, 0o700, 0o777));
        assert_eq!((mode("secrets/db"), mode("secrets/db/password")), (0o755, 0o444));

        let again = found(folder.path(), "single").expect("founded");
        // The keys that open backups are not looked for: they are meant to be elsewhere by now.
        let stay = first.made.iter().filter(|path| !path.starts_with("secrets/offline/")).count();
        assert_eq!((again.made.len(), again.kept), (0, stay));
        assert_eq!(again.log_keys, first.log_keys);
        assert_eq!(read("secrets/db/password"), password);
    }

    #[test]
    fn every_cell_that_ships_is_complete_with_the_secrets_it_is_founded_with() {
        for cell in ["single", "eu-central", "uk-south", "us-east"] {
            let folder = clone();
            found(folder.path(), cell).expect("founded");
            let config = folder.path().join("config/cells").join(cell).join("domicile.toml");
            let text = fs::read_to_string(&config).expect("there");
            let here =
                |text: &str| text.replace("file:/run/secrets/", &format!("file:{}/secrets/", folder.path().display()));
            let mut variables = BTreeMap::new();
            for name in ["owner.env", "signer.env"] {
                let lines = fs::read_to_string(config.with_file_name(name)).expect("there");
                let pairs = lines.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
                variables.extend(pairs.map(|(name, value)| (name.to_owned(), here(value))));
            }
            let loaded = config::parse(&config, &here(&text), &variables);
            let loaded = loaded.unwrap_or_else(|mistakes| panic!("{cell} is sound, but:\n{mistakes}"));
            assert!(loaded.served.values().all(|served| served.signer.is_some()), "{cell}: every log is signed");
            let env = fs::read_to_string(folder.path().join(".env")).expect("made");
            assert!(env.contains(&format!("DOMICILE_CELL={cell}\n")), "{env}");
        }
    }

    #[test]
    fn a_cell_that_does_not_exist_is_refused_and_nothing_is_made() {
        let folder = clone();
        assert!(found(folder.path(), "atlantis").is_err());
        assert!(!folder.path().join("secrets").exists());
    }

    #[test]
    fn a_reference_leads_nowhere_outside_the_secrets() {
        assert_eq!(mounted("file:/run/secrets/owner/eu").as_deref(), Some("secrets/owner/eu"));
        assert_eq!(mounted("file:/run/secrets/../etc/passwd"), None);
        assert_eq!(mounted("env:PASSWORD"), None);
        assert_eq!(service("postgres://domicile@db:5432/domicile").as_deref(), Some("db"));
        assert_eq!(service("postgres://domicile@db.example.com/domicile"), None);
    }

    #[test]
    fn a_cell_whose_directory_is_elsewhere_may_reach_it_and_others_lead_nowhere() {
        let env = |folder: &tempfile::TempDir, cell: &str| {
            found(folder.path(), cell).expect("founded");
            fs::read_to_string(folder.path().join(".env")).expect("made")
        };
        let closed = "\n#DOMICILE_ELSEWHERE=outside\n";
        assert!(env(&clone(), "single").contains(closed) && env(&clone(), "uk-south").contains(closed));
        let folder = clone();
        let path = folder.path().join("config/cells/uk-south/domicile.toml");
        let there = "postgres://domicile@directory.eu.example.com:5433/directory?sslmode=verify-full";
        let text = fs::read_to_string(&path).expect("a cell");
        fs::write(&path, text.replacen("postgres://domicile@directory:5432/directory", there, 1)).expect("written");
        let env = env(&folder, "uk-south");
        assert!(env.contains("\nDOMICILE_ELSEWHERE=outside\n") && env.contains("COMPOSE_PROFILES=\n"), "{env}");
    }
}
