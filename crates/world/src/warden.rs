//! Processes that a scene starts and that outlive whoever started them, as a deployer's do by design. A warden knows them by
//! the files in which the deployer notes them, and ends them when we die: it is a child like every other of the world,
//! and gets the nursery's last word.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;
use rustix::process::Signal;

use crate::nursery::{Process, Spec};
use crate::world::World;

/// Waits for its last word; then ends the deployer, if one is at work there, and what is noted, again and again until
/// nothing that is noted lives: a deployer may just have started something.
const SCRIPT: &str = r#"
state=$1
number() { sed -n "s/.*\"$2\": *\([0-9][0-9]*\).*/\1/p" "$1" 2>/dev/null | head -n 1; }
# Whether a process lives and is the one that was noted: by when it started, in the kernel's ticks.
lives() {
    [ -n "$1" ] && stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    wanted=$2
    set -- ${stat##*) }
    [ "$1" != Z ] && [ "${20}" = "$wanted" ]
}
end_all() {
    trap '' USR1
    [ -n "$nap" ] && kill "$nap" 2>/dev/null
    rounds=0
    while [ "$rounds" -lt 3 ]; do
        rounds=$((rounds + 1))
        deployer=$(number "$state/lock.json" pid)
        if [ -n "$deployer" ] && tr '\0' ' ' <"/proc/$deployer/cmdline" 2>/dev/null | grep -qF "${state%/.domicile/*}"; then
            kill -9 "$deployer" 2>/dev/null && rounds=0
        fi
        for file in "$state"/processes/*.json; do
            pid=$(number "$file" pid)
            if lives "$pid" "$(number "$file" started)"; then
                kill -9 -- "-$pid" 2>/dev/null || kill -9 "$pid" 2>/dev/null
                rounds=0
            fi
        done
        sleep 0.1
    done
    exit 0
}
trap end_all USR1
while :; do
    sleep 60 &
    nap=$!
    wait "$nap"
done
"#;

/// A warden at work. Dropping it ends what it knows.
pub struct Warden(#[expect(dead_code, reason = "it is there to be dropped")] Process);

impl World {
    /// Sets a warden over what a deployer notes in `state`, its folder for the cell, which need not be there yet.
    ///
    /// # Errors
    /// When the warden cannot be started.
    pub async fn watch_over(&self, state: &Path) -> Result<Warden> {
        let spec = Spec {
            name: "the warden".to_owned(),
            program: Path::new("/bin/sh"),
            args: ["-c".into(), SCRIPT.into(), "warden".into(), OsString::from(state)].into(),
            env: Vec::new(),
            folder: self.layout.root(),
            log: self.layout.root().join("warden.log"),
            run_as: None,
            may_pass: false,
            // A shell cannot trap what was ignored when it began, as QUIT may have been; nobody ignores this one.
            last_word: Signal::USR1,
        };
        Ok(Warden(self.nursery.spawn(spec).await?))
    }
}
