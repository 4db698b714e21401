//! `domicile audit key retire` and `domicile audit key succeed`: a new key is a new log.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use audit::succession::{check, retire, succeed};
use audit::{Memory, Signer};
use residency::Region;
use storage::RegionStore;
use tlog::VerifierKey;

use super::read;
use crate::commands::{Failure, load};
use crate::config::Signer as SignerSettings;
use crate::{cli, print, rooms};

/// Ends a log.
pub(super) async fn end(args: &cli::AuditKeyRetire) -> Result<ExitCode, Failure> {
    let next: VerifierKey = args.next.parse().with_context(|| format!("{} is no public key", args.next))?;
    let (store, settings, owner) = open(&args.config, &args.region)?;
    let key = settings.key.public().clone();
    let log = store.log();
    let done = async {
        check(&key, &next, log.origin())?;
        let size = log.head().await?.size;
        let Some(out) = args.out.as_ref().filter(|_| !args.dry_run) else {
            print::line(format!("The log {} has {size} leaves now, and can be ended:", log.origin()));
            print::line(format!("  its last leaf would say that {next} succeeds {key};"));
            print::line("  its last checkpoint would be signed, and belongs into the file of --out.");
            return Ok(());
        };
        let new = OpenOptions::new().write(true).create_new(true).open(out);
        let mut file = new.with_context(|| format!("{} cannot be made", out.display()))?;
        let mut signer = Signer::new(log.clone(), settings.key, Memory::at(&settings.memory_file), owner);
        let note = match retire(&store, &mut signer, &key, &next, rooms::now_us()).await {
            Ok(note) => note,
            Err(error) => {
                drop(std::fs::remove_file(out)); // an empty checkpoint would only mislead
                return Err(anyhow::Error::from(error));
            }
        };
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        print::line(format!("The log {} has ended. Its last checkpoint is in {}.", log.origin(), out.display()));
        print::note("Keep its database and a pack of it; go on with `domicile audit key succeed`.");
        Ok(())
    };
    let done = Box::pin(done).await;
    store.shutdown().await;
    done.context("the log was not ended")?;
    Ok(ExitCode::SUCCESS)
}

/// Begins its successor.
pub(super) async fn begin(args: &cli::AuditKeySucceed) -> Result<ExitCode, Failure> {
    let was: VerifierKey = args.was.parse().with_context(|| format!("{} is no public key", args.was))?;
    let checkpoint = read(&args.checkpoint)?;
    let (store, settings, _) = open(&args.config, &args.region)?;
    let key = settings.key.public().clone();
    let done = async {
        if args.dry_run {
            check(&key, &was, store.log().origin())?;
            print::line(format!(
                "The first leaf of {} would name {was} and its last checkpoint.",
                store.log().origin()
            ));
            return Ok(());
        }
        let position = succeed(&store, &key, &was, &checkpoint, rooms::now_us()).await?;
        print::line(format!("Entry {} of {} names its predecessor.", position.seq, store.log().origin()));
        print::note(format!("Give auditors and witnesses the new public key: {key}"));
        Ok::<_, anyhow::Error>(())
    };
    let done = Box::pin(done).await;
    store.shutdown().await;
    done.context("the new log was not begun")?;
    Ok(ExitCode::SUCCESS)
}

fn open(config: &cli::ConfigFile, region: &str) -> Result<(RegionStore, SignerSettings, String), Failure> {
    let config = load(config)?;
    let region = Region::new(region).map_err(anyhow::Error::from)?;
    let settings = config.served.get(&region).and_then(|served| served.signer.clone());
    let settings = settings
        .ok_or_else(|| anyhow!("the log of {region} has no key here: [regions.{region}.signer] is not configured"))?;
    let process = rooms::gateway_id(&config)?;
    let store = RegionStore::open(rooms::region(&config, &region, &process)?);
    Ok((store, settings, process.to_string()))
}
