//! `deploy.sh`: which program it hands what to, for which cell. Docker and Compose are scripts that write down how they
//! were called.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// A clone with a deployer of an earlier image, and a Docker that has no image and whose plugin is not installed.
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().expect("a folder") };
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let script = fs::read_to_string(top.join("infrastructure/scripts/deploy.sh")).expect("the script");
        scene.program("infrastructure/scripts/deploy.sh", &script);
        let called = scene.path("called");
        let called = called.display();
        scene.program("bin/docker", "#!/bin/sh\nexit 1\n");
        scene.program(
            "bin/docker-compose",
            &format!("#!/bin/sh\necho \"compose $*\" >>'{called}'\ncase $* in *'bad file'*) exit 9 ;; esac\n"),
        );
        scene.program(
            ".domicile/bin/current",
            &format!(
                "#!/bin/sh\n[ \"$1\" = --version ] && echo domicile 0.1.0 && exit\n\
                 echo \"host $* [${{DOMICILE_ENV_FILE-none}}]\" >>'{called}'\n"
            ),
        );
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A child writes it: of a descriptor of ours, whatever another thread starts would have a copy for a moment, and
    /// nobody may run what is open for writing.
    fn program(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let mut sh = Command::new("sh");
        sh.args(["-c", r#"cat >"$1" && chmod 755 "$1""#, "sh"]).arg(&path).stdin(Stdio::piped());
        let mut child = sh.spawn().expect("sh runs");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("handed over");
        assert!(child.wait().expect("it ends").success(), "{name} is written");
    }

    /// What was called for these words, and the exit code.
    fn typed(&self, words: &[&str], env_file: Option<&str>) -> (Vec<String>, i32) {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let mut script = Command::new("sh");
        script.arg(self.path("infrastructure/scripts/deploy.sh")).args(words).env("PATH", path);
        script.env_remove("DOMICILE_BIN").env_remove("DOMICILE_ENV_FILE");
        if let Some(file) = env_file {
            script.env("DOMICILE_ENV_FILE", file);
        }
        let done = script.output().expect("sh runs");
        let called = fs::read_to_string(self.path("called")).unwrap_or_default();
        drop(fs::remove_file(self.path("called")));
        (called.lines().map(str::to_owned).collect(), done.status.code().expect("an exit code"))
    }
}

#[test]
fn what_is_done_to_containers_runs_here_and_what_needs_a_database_in_its_container() {
    let scene = Scene::new();
    for (words, expected) in [
        (&["deploy", "--yes"][..], "host ops deploy --yes [none]"),
        (&["drill", "rollback"], "host ops drill rollback [none]"),
        (&["backup", "create"], "compose run --rm --no-deps -T migrate ops backup create"),
        (&["backup", "check"], "compose run --rm --no-deps -T migrate ops backup check"),
        (
            &["drill", "restore", "--identity", "file:a b"],
            "compose run --rm --no-deps -T restore ops drill restore --identity file:a b",
        ),
    ] {
        assert_eq!(scene.typed(words, None), (vec![expected.to_owned()], 0), "{words:?}");
    }
}

#[test]
fn a_cell_that_is_named_by_nothing_is_no_other_cell() {
    let scene = Scene::new();
    for words in [
        &["rollback", "--env-file"][..],
        &["rollback", "--env-file", ""],
        &["rollback", "--env-file="],
        &["rollback", "--env-file", "--yes"],
        &["--env-file", "", "backup", "create"],
        &["rollback", "--env-file", "eu.env", "--env-file"],
    ] {
        assert_eq!(scene.typed(words, Some("us.env")), (Vec::new(), 2), "{words:?}");
    }
}

#[test]
fn a_cell_is_named_anywhere_in_the_line_or_by_the_variable_for_every_command() {
    let scene = Scene::new();
    let host = |file: &str| (vec![format!("host ops deploy --yes [{file}]")], 0);
    assert_eq!(scene.typed(&["deploy", "--env-file", "a b.env", "--yes"], None), host("a b.env"));
    assert_eq!(scene.typed(&["--env-file=eu.env", "deploy", "--yes"], Some("us.env")), host("eu.env"));
    assert_eq!(scene.typed(&["deploy", "--yes"], Some("us.env")), host("us.env"));
    let made = |files: &[&str]| -> Vec<String> {
        let line = |file: &&str| format!("compose --env-file {file} run --rm --no-deps -T migrate ops backup create");
        files.iter().map(line).collect()
    };
    assert_eq!(scene.typed(&["backup", "create", "--env-file", "eu.env"], None), (made(&["eu.env"]), 0));
    assert_eq!(
        scene.typed(&["backup", "--env-file", "a.env", "create", "--env-file", "b c.env"], None),
        (made(&["a.env", "b c.env"]), 0)
    );
    // One cell's failure keeps no other one from its backup, and is not forgotten.
    assert_eq!(scene.typed(&["backup", "create"], Some("bad file,b.env")), (made(&["bad file", "b.env"]), 9));
}
