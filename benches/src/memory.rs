//! Watching how much memory a process holds while something runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinHandle;

use crate::process::resident_bytes;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(20);

/// A process under observation.
pub(crate) struct Watch {
    before: u64,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins now.
    pub(crate) fn begin(process: u32) -> Result<Self> {
        let before = resident_bytes(process)?;
        let (peak, stop) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn({
            let (peak, stop) = (Arc::clone(&peak), Arc::clone(&stop));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    peak.fetch_max(resident_bytes(process).unwrap_or(0), Ordering::Relaxed);
                    tokio::time::sleep(EVERY).await;
                }
            }
        });
        Ok(Self { before, peak, stop, task })
    }

    /// What it held when the watch began, and the most it held since. Bytes.
    pub(crate) async fn end(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?;
        Ok((self.before, self.peak.load(Ordering::Relaxed)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "for reading")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
