//! `ops lease`: holds the deployer's lease in every database while somebody gives signs of life on standard input. It
//! runs where the databases can be reached; the deployer itself may be elsewhere and know no connection string.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use ops::Exit;
use serde_json::json;
use storage::admin::{Lease, LeaseError};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};

use super::super::migrate::deployment;
use super::super::{Failure, load};
use crate::{cli, print};

/// How long a lease lasts unless it is renewed.
const LASTS: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Silence on standard input after which the deployer counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Holds it to the end.
pub(super) async fn run(args: &cli::OpsLease) -> Result<ExitCode, Failure> {
    let config = load(&args.config)?;
    let deployment = deployment(&config);
    let mut leases = Vec::new();
    let mut whole = true;
    for database in deployment.databases() {
        match Lease::take(database.owner_dsn(), &args.holder, LASTS).await {
            Ok(Some(lease)) => leases.push(lease),
            Ok(None) => whole = false,
            Err(error) => {
                let name = database.name();
                let refused = matches!(error, LeaseError::Held { .. });
                let by = format!("{name}: {error}");
                print::line(match refused {
                    true => json!({ "lease": "refused", "by": by }).to_string(),
                    false => json!({ "lease": "lost", "why": by }).to_string(),
                });
                give_back(leases).await;
                return Ok(ExitCode::from(if refused { Exit::Locked.code() } else { Exit::Unreachable.code() }));
            }
        }
    }
    let token = match at_one_token(&mut leases).await {
        Ok(token) => token,
        Err(error) => {
            print::line(json!({ "lease": "lost", "why": error.to_string() }).to_string());
            give_back(leases).await;
            return Ok(ExitCode::from(Exit::Unreachable.code()));
        }
    };
    print::line(json!({ "lease": "held", "token": token, "whole": whole }).to_string());

    let mut signs = signs_of_life();
    let mut renewals = interval(RENEW_EVERY);
    let mut silent_at = Instant::now() + SILENCE_MAX;
    loop {
        tokio::select! {
            sign = signs.recv() => match sign {
                Some(()) => silent_at = Instant::now() + SILENCE_MAX,
                None => break,
            },
            () = sleep_until(silent_at) => break,
            _ = renewals.tick() => {
                for lease in &mut leases {
                    if let Err(error) = lease.renew().await {
                        print::line(json!({ "lease": "lost", "why": error.to_string() }).to_string());
                        give_back(leases).await;
                        return Ok(ExitCode::from(Exit::Locked.code()));
                    }
                }
            }
        }
    }
    give_back(leases).await;
    Ok(ExitCode::SUCCESS)
}

/// One token for all databases, the highest of theirs: migrations are told one only.
async fn at_one_token(leases: &mut [Lease]) -> Result<Option<i64>, LeaseError> {
    let Some(token) = leases.iter().map(Lease::token).max() else { return Ok(None) };
    for lease in leases {
        lease.raise(token).await?;
    }
    Ok(Some(token))
}

async fn give_back(leases: Vec<Lease>) {
    for lease in leases {
        // What is not given back runs out by itself.
        drop(lease.release().await);
    }
}

/// A word for each thing that comes in; ends when the other side does.
fn signs_of_life() -> mpsc::Receiver<()> {
    let (sign, signs) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut byte = [0_u8; 64];
        while std::io::stdin().read(&mut byte).is_ok_and(|read| read > 0) {
            if sign.blocking_send(()).is_err() {
                return;
            }
        }
    });
    signs
}
