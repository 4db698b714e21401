//! The meaning of `[regions.*.redpanda]` and `[regions.*.snowflake]`.

use std::time::Duration;

use residency::Purpose;

use super::Check;
use crate::config::dsn::is_local_host;
use crate::config::{Destination, Redpanda, Sasl, Snowflake, SnowflakeAccount, SnowflakeLogin, raw};

impl Check<'_> {
    pub(super) fn redpanda(&mut self, table: &str, raw: &raw::Redpanda) -> Option<Redpanda> {
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
        let hours = u64::from(raw.topic_retention_hours);
        sound.then(|| Redpanda {
            brokers,
            security: raw.security,
            ca_file,
            client_certificate: certificate.zip(private_key),
            sasl,
            missing_topics: raw.missing_topics,
            topic_partitions: raw.topic_partitions,
            topic_replicas: raw.topic_replicas,
            topic_retention: (hours > 0).then(|| Duration::from_secs(hours * 3600)),
        })
    }

    pub(super) fn snowflake(&mut self, table: &str, raw: &raw::Snowflake) -> Option<Snowflake> {
        let mut purposes = Vec::with_capacity(raw.purposes.len());
        for (index, purpose) in raw.purposes.iter().enumerate() {
            purposes.extend(self.word(&format!("{table}.purposes[{index}]"), purpose, Purpose::new));
        }
        Some(Snowflake { purposes, destination: self.destination(table, raw)? })
    }

    fn destination(&mut self, table: &str, raw: &raw::Snowflake) -> Option<Destination> {
        let key = |name: &str| format!("{table}.{name}");
        if let Some(folder) = &raw.folder {
            if raw.account.is_some() {
                let fix = "Keep the account, or keep the folder.";
                self.error(&key("folder"), "Both an account and a folder are given.", fix);
                return None;
            }
            return Some(Destination::Folder(self.path(folder)));
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
        let base_url = match base_url {
            Some(url) => Some(url?),
            None => None,
        };
        sound.then_some(())?;
        Some(Destination::Account(Box::new(SnowflakeAccount {
            account: account?,
            base_url,
            user: user?,
            login: login?,
            role: raw.role.clone(),
            warehouse: warehouse?,
            database: database?,
            schema,
            create: raw.create,
            retention_days: raw.retention_days,
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

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && !text.as_bytes()[0].is_ascii_digit()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'))
}
