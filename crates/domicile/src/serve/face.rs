//! The HTTP face: from the configuration to the gateway's own settings, and running it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use console::Console;
use gateway::{Algorithm, ClaimNames, EventTypes, Gateway, JwksSource, JwtSettings, Limits, NotReady, Parts, Settings};
use routing::{Routing, SystemClock};

use crate::config::{self, Config, Jwks, raw};
use crate::rooms;
use crate::telemetry::Metrics;

/// Wires the HTTP face and listens.
///
/// # Errors
/// When an address cannot be listened on, or the key set of the identity provider cannot be used.
pub(super) async fn bind(config: &Config, routing: Routing, metrics: Metrics) -> Result<Gateway, NotReady> {
    let pages = Console::new(routing.regions().cloned(), {
        let routing = routing.clone();
        move || routing.policy()
    });
    let parts = Parts {
        keys: Arc::new(routing.directory().keys()),
        log_origins: config.served.iter().map(|(region, served)| (region.clone(), served.log_origin.clone())).collect(),
        clock: Arc::new(SystemClock),
        metrics: Arc::new(move || metrics.render()),
        console: Some(console::router(pages)),
        doorstep: Some(console::doorstep()),
        routing,
    };
    gateway::describe_metrics();
    Gateway::bind(settings(config), parts).await
}

fn settings(config: &Config) -> Settings {
    let gateway = &config.gateway;
    Settings {
        listen: gateway.listen,
        admin_listen: gateway.admin_listen,
        forwarding: rooms::forwarding(&gateway.forwarding),
        peer_address: gateway.forwarding.peer_is_client,
        jwt: config.jwt.as_ref().map(tokens),
        cookie_secure: gateway.cookie_secure,
        event_types: config.events.types.clone().map_or_else(EventTypes::default, EventTypes::only),
        topics_forget: config
            .served
            .iter()
            .filter_map(|(region, served)| Some((region.clone(), served.redpanda.as_ref()?.topics_forget?)))
            .collect(),
        limits: limits(&gateway.limits),
    }
}

fn limits(limits: &raw::Limits) -> Limits {
    let fits = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let body_bytes_max = fits(limits.body_bytes_max);
    Limits {
        body_bytes_max,
        batch_line_bytes_max: body_bytes_max,
        batch_bytes_max: limits.batch_body_bytes_max,
        head_bytes_max: fits(limits.head_bytes_max),
        request_max: Duration::from_millis(limits.request_ms_max),
        requests_max: fits(limits.requests_at_once_max.into()),
        connections_max: fits(limits.connections_max.into()),
        caller_requests_per_s_max: NonZeroU32::new(limits.caller_requests_per_s_max),
        caller_burst_max: NonZeroU32::new(limits.caller_burst_max).unwrap_or(NonZeroU32::MIN),
        drain_notice: Duration::from_secs(limits.drain_notice_s),
        drain_max: Duration::from_secs(limits.drain_s_max),
        ..Limits::default()
    }
}

fn tokens(jwt: &config::Jwt) -> JwtSettings {
    JwtSettings {
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        jwks: match &jwt.jwks {
            Jwks::Url(url) => JwksSource::Url(url.clone()),
            Jwks::File(path) => JwksSource::File(path.clone()),
        },
        algorithms: jwt.algorithms.iter().map(algorithm).collect(),
        leeway_s: jwt.leeway.as_secs(),
        claims: ClaimNames {
            subject: jwt.claims.subject.clone(),
            scopes: jwt.claims.scopes.clone(),
            residence: jwt.claims.residence.clone(),
            tenant: jwt.claims.tenant.clone(),
        },
    }
}

fn algorithm(written: &raw::Algorithm) -> Algorithm {
    match written {
        raw::Algorithm::ES256 => Algorithm::Es256,
        raw::Algorithm::ES384 => Algorithm::Es384,
        raw::Algorithm::RS256 => Algorithm::Rs256,
        raw::Algorithm::RS384 => Algorithm::Rs384,
        raw::Algorithm::RS512 => Algorithm::Rs512,
        raw::Algorithm::PS256 => Algorithm::Ps256,
        raw::Algorithm::PS384 => Algorithm::Ps384,
        raw::Algorithm::PS512 => Algorithm::Ps512,
        raw::Algorithm::EdDSA => Algorithm::EdDsa,
    }
}
