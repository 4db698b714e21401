//! The meaning of `[regions.*.redpanda]` and `[regions.*.snowflake]`.

use std::time::Duration;

use residency::policy::Siting;
use residency::{Jurisdiction, Policy, Purpose};

use super::Check;
use crate::config::dsn::is_local_host;
use crate::config::{Destination, Redpanda, Sasl, SchemaRegistry, Snowflake, SnowflakeAccount, SnowflakeLogin, raw};

/// Where a region's stores have to stand.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) policy: &'a Policy,
    pub(super) jurisdiction: &'a Jurisdiction,
}

impl Check<'_> {
    /// A store's location, which must lie inside the jurisdiction. `what` is the store in words.
    fn location(
        &mut self,
        key: &str,
        location: Option<&String>,
        local: bool,
        what: &str,
        ground: Option<Ground<'_>>,
    ) -> Option<()> {
        // Without a policy or a region of it, that has been said already.
        let Ground { policy, jurisdiction } = ground?;
        let Some(location) = location else {
            if !local && !self.mistakes.mention(key) {
                let fix =
                    "Write location = \"azure/germanywestcentral\": cloud and location as the provider names them.";
                self.error(key, format!("It is not said where {what}, so nothing proves that it is lawful."), fix);
            }
            return local.then_some(());
        };
        match policy.siting(location, jurisdiction) {
            Siting::Inside(_) => Some(()),
            Siting::Outside(country) => {
                let message =
                    format!("{location} stands in {country}, which is outside the jurisdiction {jurisdiction}.");
                self.error(key, message, "Use one inside the region's jurisdiction; nothing is sent to this one.");
                None
            }
            Siting::Unknown => {
                let message = format!("The locations preset has no {location}.");
                let fix =
                    "Write cloud/location, e.g. \"aws/eu-central-1\", or add a row with its country to the preset.";
                self.error(key, message, fix);
                None
            }
        }
    }

    pub(super) fn redpanda(
        &mut self,
        table: &str,
        raw: &raw::Redpanda,
        ground: Option<Ground<'_>>,
    ) -> Option<Redpanda> {
        let key = |name: &str| format!("{table}.{name}");
        let fix = "Write brokers = [\"host:9092\"].";
        if raw.brokers.is_empty() && !self.mistakes.mention(&key("brokers")) {
            self.error(&key("brokers"), "There is no broker.", fix);
        }
        let brokers: Vec<String> = raw.brokers.iter().flat_map(|b| b.split(',')).map(|b| b.trim().to_owned()).collect();
        let mut sound = !brokers.is_empty();
        let mut remote = false;
        for (index, broker) in brokers.iter().enumerate() {
            match broker.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok() => {
                    remote |= !is_local_host(host);
                }
                _ => {
                    self.error(&format!("{table}.brokers[{index}]"), "This is not a host and port.", fix);
                    sound = false;
                }
            }
        }
        // The registry gets no one's data, but schemas are sent there, and they stand beside the brokers.
        let registry_remote = raw.schema_registry.as_ref().is_some_and(|url| !is_local_host(host_of(url)));
        let what = if remote || !registry_remote { "the brokers stand" } else { "the schema registry stands" };
        let local = !remote && !registry_remote;
        sound &= self.location(&key("location"), raw.location.as_ref(), local, what, ground).is_some();
        if raw.security == raw::KafkaSecurity::Plaintext && remote {
            let message = "People's data would travel to the broker in plain text.";
            self.warn(&key("security"), message, "Write security = \"tls\".");
        }
        if raw.security == raw::KafkaSecurity::Plaintext && remote && raw.sasl.is_some() {
            let message = "The broker's password would travel in plain text.";
            self.error(&key("sasl"), message, "Write security = \"tls\".");
            sound = false;
        }
        let ca_file = raw.ca_file.as_deref().map(|path| self.path(path));
        if let Some(path) = ca_file.as_ref().filter(|path| !path.is_file()) {
            self.error(&key("ca_file"), format!("There is no file {}.", path.display()), "Correct the path.");
            sound = false;
        }
        let certificate = raw.client_certificate_file.as_deref().map(|path| self.path(path));
        let private_key = raw.client_key_file.as_deref().map(|path| self.path(path));
        for (name, path) in [("client_certificate_file", &certificate), ("client_key_file", &private_key)] {
            if let Some(path) = path.as_ref().filter(|path| !path.is_file()) {
                self.error(&key(name), format!("There is no file {}.", path.display()), "Correct the path.");
                sound = false;
            }
        }
        if certificate.is_some() != private_key.is_some() {
            let fix = "Write both client_certificate_file and client_key_file, or neither.";
            self.error(&key("client_key_file"), "A certificate and its key belong together.", fix);
            sound = false;
        }
        let sasl = raw.sasl.as_ref().map(|sasl| {
            let user = self.text(&key("sasl.user"), sasl.user.as_ref(), "Write user = \"domicile\".");
            let password = self.secret(&key("sasl.password"), sasl.password.as_ref(), "Write password = \"file:…\".");
            Some(Sasl { mechanism: sasl.mechanism, user: user?, password: password? })
        });
        let sasl = match sasl {
            Some(sasl) => Some(sasl?),
            None => None,
        };
        let schema_registry = match &raw.schema_registry {
            Some(url) => Some(self.schema_registry(table, url, raw)?),
            None => None,
        };
        let hours = |hours: u32| (hours > 0).then(|| Duration::from_secs(u64::from(hours) * 3600));
        let (topic_retention, topics_forget) = (hours(raw.topic_retention_hours), hours(raw.topics_forget_hours_max));
        let creates = raw.missing_topics == raw::MissingTopics::Create;
        if let (true, Some(retention), Some(forget)) = (creates, topic_retention, topics_forget)
            && relay::forgets_within(retention) > forget
        {
            let needed = relay::forgets_within(retention).as_secs().div_ceil(3600);
            let message = format!(
                "A topic that keeps its events for {} h still holds those of an erased person for up to {needed} h, since brokers delete by segment.",
                raw.topic_retention_hours
            );
            let fix = format!("Write topics_forget_hours_max = {needed}, or a shorter topic_retention_hours.");
            self.error(&key("topics_forget_hours_max"), message, fix);
            sound = false;
        }
        if topics_forget.is_none() {
            let message = "Topics may keep what they hold of erased people for ever.";
            self.warn(&key("topics_forget_hours_max"), message, "Write topics_forget_hours_max = 672.");
        }
        sound.then(|| Redpanda {
            brokers,
            security: raw.security,
            ca_file,
            client_certificate: certificate.zip(private_key),
            sasl,
            schema_registry,
            missing_topics: raw.missing_topics,
            topic_partitions: raw.topic_partitions,
            topic_replicas: raw.topic_replicas,
            topic_retention,
            topics_forget,
        })
    }

    fn schema_registry(&mut self, table: &str, url: &str, raw: &raw::Redpanda) -> Option<SchemaRegistry> {
        let key = |name: &str| format!("{table}.schema_registry{name}");
        let url = self.url(&key(""), url);
        let login = match (&raw.schema_registry_user, &raw.schema_registry_password) {
            (None, None) => None,
            (Some(user), Some(password)) => {
                Some((user.clone(), self.secret(&key("_password"), Some(password), "Write \"file:…\".")?))
            }
            _ => {
                let fix = "Write both schema_registry_user and schema_registry_password, or neither.";
                self.error(&key("_user"), "A user and its password belong together.", fix);
                return None;
            }
        };
        Some(SchemaRegistry { url: url?, login })
    }

    pub(super) fn snowflake(
        &mut self,
        table: &str,
        raw: &raw::Snowflake,
        ground: Option<Ground<'_>>,
    ) -> Option<Snowflake> {
        let mut purposes = Vec::with_capacity(raw.purposes.len());
        for (index, purpose) in raw.purposes.iter().enumerate() {
            purposes.extend(self.word(&format!("{table}.purposes[{index}]"), purpose, Purpose::new));
        }
        let budget = forwarder::Budget {
            credits_per_day_max: raw.credits_per_day_max,
            batch_age_stretched_max: Duration::from_secs(raw.batch_s_stretched_max),
        };
        Some(Snowflake { purposes, budget, destination: self.destination(table, raw, ground)? })
    }

    fn destination(&mut self, table: &str, raw: &raw::Snowflake, ground: Option<Ground<'_>>) -> Option<Destination> {
        let key = |name: &str| format!("{table}.{name}");
        if let Some(folder) = &raw.folder {
            if raw.account.is_some() {
                let fix = "Keep the account, or keep the folder.";
                self.error(&key("folder"), "Both an account and a folder are given.", fix);
                return None;
            }
            return Some(Destination::Folder(self.path(folder), raw.folder_format));
        }
        let fix = "Write account = \"myorg-eu\", or folder = \"…\" for files instead.";
        let account = self.text(&key("account"), raw.account.as_ref(), fix);
        let account = account.filter(|account| {
            let fine = account.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            if !fine {
                let fix = "Write the identifier alone, e.g. \"myorg-eu\", without https:// and domain.";
                self.error(&key("account"), "This is not an account identifier.", fix);
            }
            fine
        });
        let user = self.text(&key("user"), raw.user.as_ref(), "Write user = \"DOMICILE\".");
        let warehouse = self.text(&key("warehouse"), raw.warehouse.as_ref(), "Write warehouse = \"DOMICILE\".");
        let database = self.text(&key("database"), raw.database.as_ref(), "Write database = \"DOMICILE\".");
        let base_url = raw.base_url.as_ref().map(|url| self.url(&key("base_url"), url));
        // Plain http is accepted on this machine only.
        let local = raw.base_url.as_ref().is_some_and(|url| url.starts_with("http://"));
        let located = self.location(&key("location"), raw.location.as_ref(), local, "the account stands", ground);
        let login = self.snowflake_login(table, raw);
        let schema = raw.schema.clone().unwrap_or_else(|| "PUBLIC".into());
        let mut sound = true;
        let names = [
            ("warehouse", warehouse.as_ref()),
            ("database", database.as_ref()),
            ("schema", Some(&schema)),
            ("role", raw.role.as_ref()),
        ];
        for (name, value) in names {
            if let Some(value) = value
                && !is_identifier(value)
            {
                let message = "This is not a plain identifier of letters, digits and underscores.";
                self.error(&key(name), message, "Write the name without quotes inside it.");
                sound = false;
            }
        }
        if let (Some(user), Some(_)) = (&user, &raw.role)
            && !is_identifier(user)
        {
            let message = "This is no plain identifier: `domicile snowflake setup` cannot grant the role to it.";
            self.warn(
                &key("user"),
                message,
                "Write the user's name (not a login name that differs), or grant the role yourself.",
            );
        }
        let base_url = match base_url {
            Some(url) => Some(url?),
            None => None,
        };
        sound.then_some(())?;
        located?;
        Some(Destination::Account(Box::new(SnowflakeAccount {
            account: account?,
            location: raw.location.clone(),
            base_url,
            user: user?,
            login: login?,
            role: raw.role.clone(),
            warehouse: warehouse?,
            database: database?,
            schema,
            create: raw.create,
            retention_days: raw.retention_days,
            request_max: Duration::from_secs(raw.request_s_max),
            price: forwarder::Price {
                credits_per_hour: raw.warehouse_credits_per_hour,
                auto_suspend: Duration::from_secs(raw.warehouse_auto_suspend_s),
            },
        })))
    }

    fn snowflake_login(&mut self, table: &str, raw: &raw::Snowflake) -> Option<SnowflakeLogin> {
        let key = |name: &str| format!("{table}.{name}");
        match (&raw.private_key, &raw.password) {
            (Some(_), Some(_)) => {
                let message = "Both a private key and a password are given.";
                self.error(&key("password"), message, "Keep the private key.");
                None
            }
            (Some(key_reference), None) => {
                self.secret(&key("private_key"), Some(key_reference), "").map(SnowflakeLogin::PrivateKey)
            }
            (None, Some(password)) => self.secret(&key("password"), Some(password), "").map(SnowflakeLogin::Password),
            (None, None) => {
                if !self.mistakes.mention(&key("private_key")) && !self.mistakes.mention(&key("password")) {
                    let fix = "Write private_key = \"file:…\" (PKCS#8, PEM), or password = \"file:…\".";
                    self.error(&key("private_key"), "The user has nothing to prove itself with.", fix);
                }
                None
            }
        }
    }
}

/// The host of a URL.
pub(super) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let bare = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    bare.map_or(authority, |(host, _)| host)
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && !text.as_bytes()[0].is_ascii_digit()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'))
}
