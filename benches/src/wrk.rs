//! The load: `wrk`, a known generator, over keep-alive connections.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::process::cpu_of_ended_children;

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
    /// CPU of wrk itself per answer, microseconds.
    pub(crate) client_us: f64,
}

/// What every request of a load is: text whose gaps are filled with a random subject and a random key.
pub(crate) struct Shape {
    /// `http://127.0.0.1:23456`.
    pub(crate) url: String,
    /// The whole request; `{s}` is a subject's number and `{k}` a key's.
    pub(crate) request: String,
    /// Subjects are drawn from 1 to this.
    pub(crate) subjects: u64,
    /// Keys are drawn from 0 to below this.
    pub(crate) keys: u64,
}

impl Shape {
    /// `GET /v1/subjects/{subject}/records/profile/{key}`.
    pub(crate) fn get(url: &str, token: &str, subjects: u64, keys: u64) -> Self {
        let line = "GET /v1/subjects/bench-{s}/records/profile/k{k}";
        Self::new(url, token, line, "Domicile-Residence: DE\r\n", "", subjects, keys)
    }

    /// `PUT` of a record whose key is new: a key is drawn out of a thousand million.
    pub(crate) fn put(url: &str, token: &str, subjects: u64) -> Self {
        const BODY: &str =
            "{\"n\": 1, \"note\": \"about a hundred bytes of somebody's data, as records are in practice\"}";
        let line = "PUT /v1/subjects/bench-{s}/records/profile/w{k}";
        Self::new(url, token, line, "Domicile-Residence: DE\r\n", BODY, subjects, 1_000_000_000)
    }

    /// `POST /v1/classify` of a subject that is pinned.
    pub(crate) fn classify(url: &str, token: &str) -> Self {
        let body = "{\"subject\": \"bench-7\", \"residence\": \"DE\"}";
        Self::new(url, token, "POST /v1/classify", "", body, 1, 1)
    }

    fn new(url: &str, token: &str, line: &str, evidence: &str, body: &str, subjects: u64, keys: u64) -> Self {
        let host = url.trim_start_matches("http://");
        let content = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        };
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{evidence}{content}\r\n{body}"
        );
        Self { url: url.to_owned(), request, subjects, keys }
    }

    /// A Lua program whose request is put together of ready pieces: wrk's own formatting would take more of the
    /// shared cores than pgbench takes for its whole client.
    fn program(&self) -> String {
        let draws = [
            ("{s}", format!("random(1, {})", self.subjects)),
            ("{k}", format!("random(0, {})", self.keys.saturating_sub(1))),
        ];
        let (mut pieces, mut whole, mut rest) = (String::new(), Vec::new(), self.request.as_str());
        while !rest.is_empty() {
            let next = draws.iter().filter_map(|(gap, draw)| Some((rest.find(gap)?, gap.len(), draw.as_str()))).min();
            let (end, gap, draw) = next.unwrap_or((rest.len(), 0, ""));
            let name = format!("p{}", whole.len());
            pieces.push_str(&format!("local {name} = \"{}\"\n", rest[..end].escape_default()));
            whole.push(name);
            whole.extend((gap > 0).then(|| draw.to_owned()));
            rest = &rest[end + gap..];
        }
        format!(
            "local n = 0\nfunction setup(thread) thread:set('id', n) n = n + 1 end\n\
             function init() math.randomseed(os.time() * 7 + id * 7919) end\n\
             local random = math.random\n{pieces}function request() return {} end\n\
             function done(summary, latency, requests)\n\
               io.write(string.format('RESULT %d %d %d %d %d\\n', summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), \
               summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout)) end\n",
            whole.join(" .. ")
        )
    }
}

/// Drives `connections` for `load`; every answer must be a success.
pub(crate) async fn drive(shape: &Shape, connections: u32, load: Duration) -> Result<Load> {
    let file = tempfile::Builder::new().prefix("domicile-").suffix(".lua").tempfile()?;
    std::fs::write(file.path(), shape.program())?;
    let threads = connections.min(2);
    let client = cpu_of_ended_children()?;
    let output = Command::new("wrk")
        .args(["--threads", &threads.to_string(), "--connections", &connections.to_string()])
        .args(["--duration", &format!("{}s", load.as_secs()), "--timeout", "10s", "--script"])
        .arg(file.path())
        .arg(&shape.url)
        .output()
        .await
        .context("wrk does not run; install the package `wrk`")?;
    let client = cpu_of_ended_children()? - client;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = || format!("wrk said: {text}{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT ")).with_context(said)?;
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [answers, duration_us, p50_us, p99_us, errors] = numbers[..] else { anyhow::bail!("wrk said: {line}") };
    ensure!(errors == 0, "{errors} of {answers} answers were no success: the figure is void");
    ensure!(answers > 0, "nothing was answered: the figure is void");
    let seconds = Duration::from_micros(duration_us).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok(Load {
        rate: answers as f64 / seconds,
        answers,
        p50: Duration::from_micros(p50_us),
        p99: Duration::from_micros(p99_us),
        client_us: client.as_secs_f64() * 1e6 / answers as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_put_together_of_pieces_that_are_made_once() {
        let program = Shape::get("http://127.0.0.1:1", "t", 7, 3).program();
        assert!(program.contains("local p0 = \"GET /v1/subjects/bench-\"\n"), "{program}");
        assert!(program.contains("return p0 .. random(1, 7) .. p2 .. random(0, 2) .. p4 end"), "{program}");
        assert!(program.contains("\\r\\n\\r\\n\"\n"), "a head ends with an empty line: {program}");
        let plain = Shape::classify("http://127.0.0.1:1", "t").program();
        assert!(plain.contains("return p0 end") && plain.contains("Content-Length: 41"), "{plain}");
    }
}
