//! The cell in the clone: its variables, what is typed into its terminal, what its edge counts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::task::JoinHandle;
use world::free_port;

/// What the callers of the scenes may do.
const SCOPES: &str = "classify,subjects:read,subjects:write,records:read,records:write";
/// How often the edge is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A cell of the bundle, in a clean clone.
pub(super) struct Cell {
    clone: PathBuf,
    project: String,
    port: u16,
    key: OnceLock<String>,
    /// The releases' tags that were there before.
    tags: Vec<String>,
}

impl Cell {
    /// Gives the clone's cell a name and ports of its own, so that it can stand beside others.
    pub(super) fn prepare(clone: &Path) -> Result<Self> {
        let project = format!("domicile-runbook-{}", std::process::id());
        let (port, grafana) = (free_port()?, free_port()?);
        let path = clone.join(".env");
        let text = fs::read_to_string(&path).context("the clone has no .env")?;
        let ours = [
            ("COMPOSE_PROJECT_NAME", project.clone()),
            ("DOMICILE_ADDRESS", "127.0.0.1".into()),
            ("DOMICILE_PORT", port.to_string()),
            ("GRAFANA_PORT", grafana.to_string()),
        ];
        let kept = text.lines().filter(|line| !ours.iter().any(|(name, _)| line.starts_with(&format!("{name}="))));
        let mut lines: Vec<String> = kept.map(str::to_owned).collect();
        lines.extend(ours.iter().map(|(name, value)| format!("{name}={value}")));
        fs::write(&path, lines.join("\n") + "\n")?;
        let tags = release_tags()?;
        Ok(Self { clone: clone.to_owned(), project, port, key: OnceLock::new(), tags })
    }

    /// Where callers come in.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Types a line into a terminal of its own in the clone, answers what it asks, and expects its exit code.
    #[expect(clippy::print_stderr, reason = "a long run says what it is doing")]
    pub(super) fn typed(&self, line: &str, answer: &str, expected: i32) -> Result<String> {
        eprintln!("» {line}");
        let begun = Instant::now();
        // `script` is the terminal: what asks before it acts asks nobody else.
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--command", line, "/dev/null"]).current_dir(&self.clone);
        terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = terminal.spawn().context("`script`, of util-linux, does not run")?;
        let mut input = child.stdin.take().context("it has an input")?;
        let mut output = child.stdout.take().context("it has an output")?;
        let answer = answer.to_owned();
        let answering = std::thread::spawn(move || {
            // A terminal gives what was typed ahead to whoever reads next; an end of input would be an end of the call.
            drop(input.write_all(answer.as_bytes()).and_then(|()| input.flush()));
            input
        });
        let mut said = Vec::new();
        output.read_to_end(&mut said)?;
        let status = child.wait()?;
        drop(answering.join());
        let said = String::from_utf8_lossy(&said).into_owned();
        eprintln!("  exit code {} after {:.0} s", status.code().unwrap_or(-1), begun.elapsed().as_secs_f32());
        ensure!(status.code() == Some(expected), "`{line}` ended with {status} and not {expected}:\n{said}");
        Ok(said)
    }

    /// Builds `myapp:prod` as the runbook has it. To work on the runbook itself, DOMICILE_RUNBOOK_IMAGE names an image that
    /// is there already; that is said, since the Dockerfile is not tested then.
    #[expect(clippy::print_stderr, reason = "what is left out is said")]
    pub(super) fn build(&self, label: &str) -> Result<()> {
        let Ok(ready) = std::env::var("DOMICILE_RUNBOOK_IMAGE") else {
            return self.typed(&format!("docker build -t myapp:prod {label}."), "", 0).map(drop);
        };
        eprintln!("NOT RUN: docker build. {ready} is taken for the image");
        self.build_on(&ready, "myapp:prod", &format!("LABEL runbook=\"{label}\""))
    }

    /// An image with one more line.
    pub(super) fn build_on(&self, base: &str, tag: &str, line: &str) -> Result<()> {
        let mut build = Command::new("docker");
        build.args(["build", "-q", "-t", tag, "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut build = build.spawn()?;
        let mut input = build.stdin.take().context("it has an input")?;
        input.write_all(format!("FROM {base}\n{line}\n").as_bytes())?;
        drop(input);
        ensure!(build.wait()?.success(), "{tag} could not be built");
        Ok(())
    }

    /// The image that the running gateway has, by its tag.
    pub(super) fn serving(&self) -> Result<String> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let listed = output(Command::new("docker").args(["ps", "--filter", &project]).args([
            "--filter",
            "label=com.docker.compose.service=web",
            "--format",
            "{{.Image}}",
        ]))?;
        let images: Vec<&str> = listed.split_whitespace().collect();
        match images[..] {
            [image] => Ok(image.to_owned()),
            _ => bail!("exactly one gateway serves, and not {images:?}"),
        }
    }

    /// A key for the callers, made at the first call.
    ///
    /// # Panics
    /// When it cannot be made: then nothing can be asked.
    #[expect(clippy::expect_used, reason = "a scene without a key is a failed test")]
    pub(super) fn key(&self) -> &str {
        self.key.get_or_init(|| {
            let mut run = Command::new("docker-compose");
            run.args(["run", "--rm", "-T", "migrate", "keys", "create", "runbook", "--scopes", SCOPES]);
            let said = output(run.current_dir(&self.clone)).expect("a key is made");
            let key = said.split_whitespace().find(|word| word.starts_with("dom_"));
            key.expect("the key is printed").to_owned()
        })
    }

    /// Counts requests that the edge sends to an address for which no gate has been passed.
    pub(super) fn watch_the_gate(&self) -> Result<Watch> {
        let state = self.clone.join(".domicile").join(&self.project);
        let socket = state.join("edge/haproxy.sock");
        let known = requests_by_address(&socket)?;
        let journals_before = gates(&state.join("journal"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watching = tokio::task::spawn_blocking(move || {
            let mut ungated = 0;
            while !stopped.load(Ordering::Relaxed) {
                // First what was counted, then the journal: a gate that is passed in between is in it.
                let counted = requests_by_address(&socket)?;
                if gates(&state.join("journal")) <= journals_before {
                    let new = counted.iter().filter(|(address, _)| !known.contains_key(*address));
                    ungated = ungated.max(new.map(|(_, requests)| requests).sum());
                }
                std::thread::sleep(LOOK_EVERY);
            }
            Ok(ungated)
        });
        Ok(Watch { stop, watching })
    }

    /// What the containers said last, for whoever looks into a failure.
    pub(super) fn last_words(&self) {
        let mut logs = Command::new("docker-compose");
        drop(logs.args(["logs", "--no-color", "--tail", "15"]).current_dir(&self.clone).status());
    }

    /// Removes containers, volumes and the releases' tags; images of others stay.
    pub(super) fn remove(&self) {
        let mut down = Command::new("docker-compose");
        down.args(["down", "--volumes", "--remove-orphans", "--timeout", "5"]).current_dir(&self.clone);
        drop(down.stdout(Stdio::null()).stderr(Stdio::null()).status());
        let made = release_tags().unwrap_or_default().into_iter().filter(|tag| !self.tags.contains(tag));
        let tags: Vec<String> = made.chain(["myapp:bad".to_owned()]).collect();
        let mut rmi = Command::new("docker");
        drop(rmi.arg("rmi").args(tags).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// Somebody who looks at the edge.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    watching: JoinHandle<Result<u64>>,
}

impl Watch {
    /// How many requests went to an address before its gate was passed.
    pub(super) async fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.watching.await?
    }
}

/// How many gates have been passed, by the deployer's journals.
fn gates(journals: &Path) -> usize {
    let entries = fs::read_dir(journals).into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.contains("\"done\"") && line.contains("\"gate\"")).count()).sum()
}

/// How many requests the edge has sent to each address of a gateway.
fn requests_by_address(socket: &Path) -> Result<BTreeMap<String, u64>> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("no edge at {}", socket.display()))?;
    stream.write_all(b"show stat\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column =
        |name: &str| header.iter().position(|field| *field == name).with_context(|| format!("no column {name}"));
    let (proxy, server, address, requests) = (column("pxname")?, column("svname")?, column("addr")?, column("stot")?);
    let mut counted = BTreeMap::new();
    for cells in lines.map(|line| line.split(',').collect::<Vec<_>>()) {
        if cells.get(proxy) == Some(&"web") && cells.get(server).is_some_and(|name| *name != "BACKEND") {
            let asked: u64 = cells.get(requests).and_then(|text| text.parse().ok()).unwrap_or(0);
            if let Some(place) = cells.get(address).filter(|_| asked > 0) {
                *counted.entry((*place).to_owned()).or_insert(0) += asked;
            }
        }
    }
    Ok(counted)
}

fn release_tags() -> Result<Vec<String>> {
    let listed = output(Command::new("docker").args(["images", "--format", "{{.Repository}}:{{.Tag}}", "myapp"]))?;
    Ok(listed.lines().filter(|tag| tag.starts_with("myapp:rel-")).map(str::to_owned).collect())
}

fn output(command: &mut Command) -> Result<String> {
    let said = command.stderr(Stdio::inherit()).output().context("it does not run")?;
    ensure!(said.status.success(), "{:?} ended with {}", command.get_program(), said.status);
    Ok(String::from_utf8(said.stdout)?)
}
