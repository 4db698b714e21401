//! What the operating system asks of us.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A token that is cancelled by TERM or INT. A second signal ends the process at once.
///
/// # Errors
/// When signals cannot be received.
pub(crate) fn stop_token() -> anyhow::Result<CancellationToken> {
    let mut term = listen(SignalKind::terminate())?;
    let mut int = listen(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        for turn in 0..2 {
            let name = tokio::select! {
                _ = term.recv() => "TERM",
                _ = int.recv() => "INT",
            };
            if turn == 0 {
                info!(signal = name, "Told to end");
                stop.cancel();
            }
        }
        warn!("Told to end a second time: at once");
        std::process::exit(130);
    });
    Ok(token)
}

/// HUP: read the policy again.
///
/// # Errors
/// When signals cannot be received.
pub(super) fn hangups() -> anyhow::Result<Signal> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("signals cannot be received")
}
