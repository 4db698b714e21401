//! `domicile health`: one request to the admin listener, without a shell or curl in the container.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::{FAILED, Failure};
use crate::cli;
use crate::config;
use crate::print;

/// A process that does not answer within this is not well.
const PATIENCE: Duration = Duration::from_secs(2);
/// Deep readiness asks every store, each with a deadline of its own.
const PATIENCE_DEEP: Duration = Duration::from_secs(30);

/// Asks, and says what the answer was.
pub(crate) async fn run(args: &cli::Health) -> Result<ExitCode, Failure> {
    let admin = match &args.admin {
        Some(admin) => admin.clone(),
        None => configured(args)?,
    };
    let path = args.get.as_deref().unwrap_or(if args.ready { "readyz" } else { "healthz" });
    let url = format!("http://{admin}/{}", path.trim_start_matches('/'));
    let patience = if args.get.is_some() { PATIENCE_DEEP } else { PATIENCE };
    let client = reqwest::Client::builder().timeout(patience).no_proxy().build().context("no HTTP client")?;
    if args.get.is_some() {
        let answer = client.get(&url).send().await.with_context(|| format!("{url} did not answer"))?;
        let status = answer.status().as_u16();
        let body = answer.text().await.with_context(|| format!("{url} did not answer to the end"))?;
        print::line(format!("{status}\n{body}"));
        return Ok(ExitCode::SUCCESS);
    }
    match client.get(&url).send().await {
        Ok(answer) if answer.status().is_success() => {
            print::line("well");
            Ok(ExitCode::SUCCESS)
        }
        Ok(answer) => {
            let status = answer.status();
            let body = answer.text().await.unwrap_or_default();
            print::note(format!("{url} answered {status}: {}", body.trim()));
            Ok(ExitCode::from(FAILED))
        }
        Err(error) => {
            print::note(format!("{url} did not answer: {:#}", anyhow::Error::from(error.without_url())));
            Ok(ExitCode::from(FAILED))
        }
    }
}

/// The admin listener of the configuration. Its shape is enough: secrets need not be in reach.
fn configured(args: &cli::Health) -> Result<String, Failure> {
    let settings = config::effective(&args.config.path)?;
    let listen = settings.gateway.admin_listen.unwrap_or_else(|| "127.0.0.1:9090".to_owned());
    Ok(reachable(&listen))
}

/// A listener on every address is asked on this machine's own.
pub(super) fn reachable(listen: &str) -> String {
    match listen.parse::<std::net::SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_asked_on_this_machine() {
        assert_eq!(reachable("0.0.0.0:9090"), "127.0.0.1:9090");
        assert_eq!(reachable("[::]:9090"), "127.0.0.1:9090");
        assert_eq!(reachable("127.0.0.1:1"), "127.0.0.1:1");
    }
}
