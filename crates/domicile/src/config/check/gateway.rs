//! The meaning of `[gateway]`, `[geoip]` and `[auth.jwt]`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use residency::{Country, Region};

use super::Check;
use crate::config::{Database, Forwarding, Gateway, GeoIp, Jwks, Jwt, raw};

/// Seconds between heartbeats unless the file says otherwise.
const HEARTBEAT_S: u32 = 60;

impl Check<'_> {
    pub(super) fn gateway(&mut self, raw: &raw::Gateway, root: &raw::Root) -> Option<Gateway> {
        let instance = raw.instance.clone().unwrap_or_else(|| "gateway".into());
        let named = (1..=40).contains(&instance.len())
            && instance.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !named {
            let message = "A name of 1 to 40 characters of a-z, 0-9 and hyphens belongs here.";
            self.error("gateway.instance", message, "Rename it, e.g. \"gateway-1\".");
        }
        let listen = self.address("gateway.listen", raw.listen.as_ref(), "127.0.0.1:8080");
        let admin_listen = self.address("gateway.admin_listen", raw.admin_listen.as_ref(), "127.0.0.1:9090");
        if let (Some(listen), Some(admin)) = (listen, admin_listen) {
            if listen == admin && listen.port() != 0 {
                let fix = "Give the admin listener a port of its own.";
                self.error("gateway.admin_listen", "Both listeners have the same address.", fix);
            }
            if !admin.ip().is_loopback() {
                self.warn(
                    "gateway.admin_listen",
                    "The admin listener is reachable from other machines; it asks nobody who they are.",
                    "Listen on 127.0.0.1, or let only the monitoring reach it.",
                );
            }
        }
        let forwarding = self.forwarding(&raw.forwarding);
        let fix = "Name the region in whose log denials without a home are written, e.g. region = \"eu-central\".";
        let region = self.text("gateway.region", raw.region.as_ref(), fix);
        let region = region.and_then(|name| {
            let region = self.word("gateway.region", &name, Region::new)?;
            match root.regions.get(&name) {
                None => {
                    let message = format!("There is no region {region} in this file.");
                    self.error("gateway.region", message, format!("Add [regions.{region}], or name another."));
                }
                Some(written) if !served(written) => {
                    let message = format!("Region {region} is not served by this process, so its log is out of reach.");
                    self.error("gateway.region", message, "Name a region with served = true.");
                }
                Some(_) => {}
            }
            Some(region)
        });
        Some(Gateway {
            instance: named.then_some(instance)?,
            region: region?,
            listen: listen?,
            admin_listen: admin_listen?,
            cookie_secure: raw.cookie_secure.unwrap_or(true),
            heartbeat: Duration::from_secs(raw.heartbeat_s.unwrap_or(HEARTBEAT_S).into()),
            audit_details: details(&raw.audit_details),
            limits: raw.limits.clone(),
            forwarding: forwarding?,
        })
    }

    fn address(&mut self, key: &str, written: Option<&String>, default: &str) -> Option<SocketAddr> {
        let text = written.map_or(default, String::as_str);
        let address = text.parse().ok();
        if address.is_none() {
            let message = "This is not an address and port.";
            self.error(key, message, format!("Write it like \"{default}\" or \"[::1]:8080\"."));
        }
        address
    }

    fn forwarding(&mut self, raw: &raw::Forwarding) -> Option<Forwarding> {
        let mut trusted = Vec::with_capacity(raw.trusted.len());
        let mut sound = true;
        for (index, text) in raw.trusted.iter().enumerate() {
            let key = format!("gateway.forwarding.trusted[{index}]");
            let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            match net {
                Some(net) if net.prefix_len() == 0 => {
                    let message = "This trusts the whole internet: every caller could say where it is.";
                    self.error(&key, message, "Name the networks of your proxies.");
                    sound = false;
                }
                Some(net) => trusted.push(net),
                None => {
                    self.error(&key, "This is not a network.", "Write it like \"10.0.0.0/8\" or \"fd00::/8\".");
                    sound = false;
                }
            }
        }
        let header = raw.header.as_ref().map(|h| h.trim().to_ascii_lowercase());
        let by_header = raw.source == raw::ForwardingSource::Header;
        if by_header && header.as_deref().is_none_or(|h| !is_header_name(h)) {
            let key = "gateway.forwarding.header";
            if !self.mistakes.mention(key) {
                self.error(key, "The name of a header is missing.", "Write header = \"cf-connecting-ip\" or alike.");
            }
            sound = false;
        }
        if !by_header && header.is_some() {
            let fix = "Write source = \"header\", or remove it.";
            self.warn("gateway.forwarding.header", "This is not used with the chosen source.", fix);
        }
        let none = raw.source == raw::ForwardingSource::None;
        if none && !raw.trusted.is_empty() {
            let fix = "Choose a source, or remove the list.";
            self.warn("gateway.forwarding.trusted", "Proxies are trusted, but no header is read.", fix);
        }
        if !none && raw.trusted.is_empty() && !self.mistakes.mention("gateway.forwarding.trusted") {
            self.error(
                "gateway.forwarding.trusted",
                "A forwarding header is to be read, but no proxy is trusted, so it never would be.",
                "List the networks of your proxies, or write source = \"none\".",
            );
            sound = false;
        }
        sound.then_some(Forwarding {
            source: raw.source,
            header: header.filter(|_| by_header),
            trusted,
            peer_is_client: raw.peer_is_client.unwrap_or(true),
        })
    }

    pub(super) fn geoip(&mut self, raw: &raw::GeoIp) -> Option<GeoIp> {
        let fix = "Write path = \"/var/lib/geoip/country.mmdb\", or remove the table [geoip].";
        let path = self.required("geoip.path", raw.path.as_ref(), fix);
        let sha256 = raw.sha256.as_ref().map(|text| {
            let digest = hex::decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            if digest.is_none() {
                let fix = "Write what `sha256sum` prints for the file.";
                self.error("geoip.sha256", "This is not a SHA-256 of 64 hex digits.", fix);
            }
            digest
        });
        let mut canaries = Vec::with_capacity(raw.canaries.len());
        for (address, country) in &raw.canaries {
            let key = format!("geoip.canaries.{address}");
            match (address.parse::<IpAddr>(), Country::new(country)) {
                (Ok(ip), Ok(country)) => canaries.push((ip, country)),
                _ => self.error(&key, "Not an address and a country.", "Write \"2.160.0.1\" = \"DE\"."),
            }
        }
        let sound = canaries.len() == raw.canaries.len();
        let path = path?;
        let database = if path == Path::new("demo") {
            self.warn(
                "geoip.path",
                "The bundled database is for demonstrations: it is old and has known defects.",
                "Name a current country database, e.g. GeoLite2-Country.mmdb.",
            );
            Database::Demo
        } else {
            let path = self.path(&path);
            if !path.is_file() {
                self.error("geoip.path", format!("There is no file {}.", path.display()), "Correct the path.");
                return None;
            }
            Database::File(path)
        };
        let sha256 = match sha256 {
            Some(digest) => Some(digest?),
            None => None,
        };
        let reload_every = (raw.reload_s > 0).then(|| Duration::from_secs(raw.reload_s));
        sound.then_some(GeoIp {
            database,
            sha256,
            age_days_max: raw.age_days_max,
            networks_min: raw.networks_min,
            coverage_percent_min: raw.coverage_percent_min,
            reload_every,
            canaries,
        })
    }

    pub(super) fn jwt(&mut self, raw: &raw::Jwt) -> Option<Jwt> {
        let issuer = self.text("auth.jwt.issuer", raw.issuer.as_ref(), "Write the `iss` of your identity provider.");
        let fix = "Write the `aud` that tokens for this service carry; without it any token of the issuer would do.";
        let audience = self.text("auth.jwt.audience", raw.audience.as_ref(), fix);
        let fix = "Write the URL of the key set (https://…/jwks.json), or \"file:jwks.json\".";
        let jwks = self.text("auth.jwt.jwks", raw.jwks.as_ref(), fix).and_then(|jwks| {
            if let Some(path) = jwks.strip_prefix("file:") {
                let path = self.path(Path::new(path));
                if !path.is_file() {
                    self.error("auth.jwt.jwks", format!("There is no file {}.", path.display()), "Correct the path.");
                    return None;
                }
                return Some(Jwks::File(path));
            }
            self.url("auth.jwt.jwks", &jwks).map(Jwks::Url)
        });
        if raw.algorithms.is_empty() && !self.mistakes.mention("auth.jwt.algorithms") {
            let fix = "Write e.g. [\"ES256\"], or remove the key.";
            self.error("auth.jwt.algorithms", "No algorithm is accepted, so no token is.", fix);
            return None;
        }
        Some(Jwt {
            issuer: issuer?,
            audience: audience?,
            jwks: jwks?,
            algorithms: raw.algorithms.clone(),
            leeway: Duration::from_secs(raw.leeway_s),
            claims: raw.claims.clone(),
        })
    }
}

/// Whether a region is served by this process.
pub(super) fn served(region: &raw::Region) -> bool {
    region.served.unwrap_or(region.postgres.is_some())
}

fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Each kind once.
fn details(raw: &[raw::AuditDetail]) -> Vec<routing::DetailKind> {
    let mut kinds: Vec<_> = raw
        .iter()
        .map(|detail| match detail {
            raw::AuditDetail::Subject => routing::DetailKind::Subject,
            raw::AuditDetail::ClientNetwork => routing::DetailKind::ClientNetwork,
            raw::AuditDetail::Tenant => routing::DetailKind::Tenant,
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
