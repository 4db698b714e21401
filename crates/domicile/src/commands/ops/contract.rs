//! `ops migrate contract`: asks, and does what `ops::deploy` has found nothing against.

use std::io::IsTerminal as _;
use std::sync::atomic::AtomicBool;

use ops::deploy::{Lock, ReleaseId};
use ops::{Exit, Failure as Failed, Trouble};

use super::asked_and_agreed;
use super::cell::Opened;
use crate::{cli, print};

/// Looks whether anybody could still need what would go, asks, and does it.
pub(super) fn run(opened: &Opened, interrupted: &AtomicBool, args: &cli::OpsContract) -> Result<Exit, Failed> {
    let deployer = opened.deployer(interrupted, "migrate contract");
    let unchanged = |trouble: Trouble| deployer.unchanged(trouble);
    let lock = Lock::take(&opened.store, &deployer.holder).map_err(unchanged)?;
    let abandoned: Result<Vec<ReleaseId>, String> = args.abandon.iter().map(|name| name.parse()).collect();
    let abandoned = abandoned.map_err(|what| unchanged(Trouble::of(Exit::Usage, what)))?;
    let Some(contract) = deployer.plan_contract(args.soak_days, &abandoned).map_err(unchanged)? else {
        print::line("No migration of the serving release takes anything away.");
        return Ok(Exit::Done);
    };
    if !args.yes {
        if !std::io::stdin().is_terminal() {
            return Err(unchanged(Trouble::of(Exit::Usage, "this cannot be undone; off a terminal it needs --yes")));
        }
        print::note(format!("{} migrations take something away. This cannot be undone.", contract.held));
        if !asked_and_agreed() {
            return Err(unchanged(Trouble::of(Exit::Aborted, "You did not agree, so nothing was done.")));
        }
    }
    deployer.contract(&lock, &contract)?;
    print::line(format!(
        "{} migrations were applied; releases below the new floor cannot serve any more.",
        contract.held
    ));
    Ok(Exit::Done)
}
