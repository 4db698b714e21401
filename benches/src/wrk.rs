//! The load: `wrk`, a known generator, over keep-alive connections.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// What one load came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Answers per second.
    pub(crate) rate: f64,
    /// Answers in all.
    pub(crate) answers: u64,
    /// The median latency.
    pub(crate) p50: Duration,
    /// What one in a hundred waits longer than.
    pub(crate) p99: Duration,
}

/// What every request of a load is.
pub(crate) struct Shape<'a> {
    pub(crate) url: &'a str,
    pub(crate) token: &'a str,
    /// The body of the Lua function `request`: it may use `s` and `k`, random numbers, and returns `wrk.format(…)`.
    pub(crate) request: &'a str,
    pub(crate) subjects: u64,
    pub(crate) keys: u64,
}

/// Drives `connections` for `load`; every answer must be a success.
pub(crate) async fn drive(shape: &Shape<'_>, connections: u32, load: Duration) -> Result<Load> {
    let script = format!(
        "local n = 0\nfunction setup(thread) thread:set('id', n) n = n + 1 end\n\
         function init() math.randomseed(os.time() * 7 + id) end\n\
         wrk.headers['Authorization'] = 'Bearer {}'\nwrk.headers['Domicile-Residence'] = 'DE'\n\
         wrk.headers['Content-Type'] = 'application/json'\n\
         function request() local s = math.random(1, {}) local k = math.random(0, {}) {} end\n\
         function done(summary, latency, requests)\n\
           io.write(string.format('RESULT %d %d %d %d %d\\n', summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), \
           summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout)) end\n",
        shape.token,
        shape.subjects,
        shape.keys.saturating_sub(1),
        shape.request
    );
    let file = std::env::temp_dir().join(format!("domicile-wrk-{}-{connections}.lua", std::process::id()));
    std::fs::write(&file, script)?;
    let threads = connections.min(2);
    let output = Command::new("wrk")
        .args(["--threads", &threads.to_string(), "--connections", &connections.to_string()])
        .args(["--duration", &format!("{}s", load.as_secs()), "--timeout", "10s", "--script"])
        .arg(&file)
        .arg(shape.url)
        .output()
        .await
        .context("wrk does not run; install the package `wrk`")?;
    let _ = std::fs::remove_file(&file);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line =
        text.lines().find_map(|line| line.strip_prefix("RESULT ")).with_context(|| format!("wrk said: {text}"))?;
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [answers, duration_us, p50_us, p99_us, errors] = numbers[..] else { anyhow::bail!("wrk said: {line}") };
    ensure!(errors == 0, "{errors} of {answers} answers were no success: the figure is void");
    let seconds = Duration::from_micros(duration_us).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok(Load {
        rate: answers as f64 / seconds,
        answers,
        p50: Duration::from_micros(p50_us),
        p99: Duration::from_micros(p99_us),
    })
}
