//! deploy.sh: short, plain, and without an opinion of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../infrastructure/scripts/deploy.sh")
}

#[test]
fn it_is_short_and_shellcheck_and_dash_have_nothing_to_say() {
    let text = std::fs::read_to_string(script()).expect("it is there");
    assert!(text.lines().count() <= 100, "{} lines", text.lines().count());
    for (program, args) in [("shellcheck", &["--shell=sh"][..]), ("sh", &["-n"][..])] {
        let output = Command::new(program).args(args).arg(script()).output();
        let output = output.unwrap_or_else(|e| panic!("{program} is needed here (cargo xtask tools): {e}"));
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn it_hands_everything_on_to_the_binary_that_is_named() {
    let output = Command::new(script()).args(["rollback", "--to", "rel 7"]).env("DOMICILE_BIN", "/bin/echo").output();
    assert_eq!(String::from_utf8_lossy(&output.expect("it runs").stdout), "ops rollback --to rel 7\n");
}
