//! From shape to meaning: every key is read for what it says, alone and together with the others.

mod backup;
mod directory;
mod gateway;
mod regions;
mod retention;
mod stores;
mod telemetry;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use residency::{Policy, presets};
use secrecy::{ExposeSecret as _, SecretString};

use super::dsn::{self, Dsn};
use super::layers::Layered;
use super::mistake::{Gravity, Mistake, Mistakes};
use super::secret::{Secrets, is_reference};
use super::{Backups, Config, Postgres, raw};

/// Checks the meaning of settings whose shape is right; `mistakes` are those of the shape.
pub(super) fn check(
    root: &raw::Root,
    mistakes: Mistakes,
    layered: &Layered,
    file: &Path,
    variables: &BTreeMap<String, String>,
) -> Result<Config, Mistakes> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut check = Check { layered, file, folder, secrets: Secrets { folder, variables }, mistakes };

    let (policy, policy_texts) = check.policy(&root.policy).unzip();
    let gateway = check.gateway(&root.gateway, root);
    let geoip = root.geoip.as_ref().map(|raw| check.geoip(raw));
    let directory = check.directory(&root.directory, policy.as_ref());
    let jwt = root.auth.jwt.as_ref().map(|raw| check.jwt(raw));
    let regions = check.regions(&root.regions, policy.as_ref(), &root.directory);
    let served = regions.as_ref().map(|(served, _)| served);
    let telemetry = check.telemetry(&root.telemetry, policy.as_ref(), served);
    check.events(&root.events, root);

    let mut mistakes = check.mistakes;
    mistakes.0.sort_by_key(|m| m.gravity);
    if mistakes.errors().next().is_some() {
        return Err(mistakes);
    }
    match (gateway, policy.zip(policy_texts), geoip, directory, jwt, regions, telemetry) {
        (
            Some(gateway),
            Some((policy, policy_texts)),
            geoip,
            Some(directory),
            jwt,
            Some((served, home_urls)),
            Some(telemetry),
        ) => Ok(Config {
            gateway,
            policy: Arc::new(policy),
            policy_texts,
            geoip: geoip.flatten(),
            directory,
            jwt: jwt.flatten(),
            served,
            home_urls,
            backup: check_backups(&root.backup, folder),
            events: root.events.clone(),
            telemetry,
            settings: super::fingerprint::of(root),
            warnings: mistakes,
        }),
        _ => {
            // A check that yields nothing has said why; should one ever forget, do not start all the same.
            mistakes.0.push(Mistake {
                gravity: Gravity::Error,
                at: file.display().to_string(),
                key: String::new(),
                message: "The configuration could not be understood.".into(),
                fix: "Compare with the annotated example, config/domicile.toml.".into(),
            });
            Err(mistakes)
        }
    }
}

/// What holds for all backups.
fn check_backups(raw: &raw::Backups, folder: &Path) -> Backups {
    let hours = |hours: u32| std::time::Duration::from_secs(u64::from(hours) * 3_600);
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Backups {
        pg_bin: raw.pg_bin.as_ref().map(|path| folder.join(path)),
        retention: ops::backup::Retention {
            last: count(raw.keep_last),
            daily: count(raw.keep_daily),
            weekly: count(raw.keep_weekly),
            monthly: count(raw.keep_monthly),
            age_days_max: raw.age_days_max,
        },
        run_max: std::time::Duration::from_secs(u64::from(raw.run_minutes_max) * 60),
        verified_age_max: hours(raw.verified_age_hours_max),
        drill_age_max: hours(raw.drill_age_hours_max),
        state_folder: raw.state_folder.as_ref().map(|path| folder.join(path)),
    }
}

/// What a message's headers may need.
const HEADERS_BYTES_MAX: u64 = 64 << 10;

/// What a batch that has waited may need to be merged, in seconds, before somebody is told.
const MERGE_S_MAX: u64 = 60;

/// The check in progress.
struct Check<'a> {
    layered: &'a Layered,
    file: &'a Path,
    folder: &'a Path,
    secrets: Secrets<'a>,
    mistakes: Mistakes,
}

impl Check<'_> {
    fn note(&mut self, gravity: Gravity, key: &str, message: impl fmt::Display, fix: impl fmt::Display) {
        let at = self.layered.place_of(self.file, key);
        let (message, fix) = (message.to_string(), fix.to_string());
        self.mistakes.0.push(Mistake { gravity, at, key: key.to_owned(), message, fix });
    }

    fn error(&mut self, key: &str, message: impl fmt::Display, fix: impl fmt::Display) {
        self.note(Gravity::Error, key, message, fix);
    }

    fn warn(&mut self, key: &str, message: impl fmt::Display, fix: impl fmt::Display) {
        self.note(Gravity::Warning, key, message, fix);
    }

    /// A value that must be there. Silent about a key whose shape was already wrong.
    fn required<T: Clone>(&mut self, key: &str, value: Option<&T>, fix: &str) -> Option<T> {
        if value.is_none() && !self.mistakes.mention(key) {
            self.error(key, "This is missing.", fix);
        }
        value.cloned()
    }

    /// A text that must be there and not be empty.
    fn text(&mut self, key: &str, value: Option<&String>, fix: &str) -> Option<String> {
        let value = self.required(key, value, fix)?;
        if value.trim().is_empty() {
            self.error(key, "This is empty.", fix);
            return None;
        }
        Some(value)
    }

    /// A word of the domain.
    fn word<T>(&mut self, key: &str, text: &str, new: fn(&str) -> Result<T, residency::Malformed>) -> Option<T> {
        new(text).map_err(|malformed| self.error(key, format!("Not accepted: {malformed}."), "Rename it.")).ok()
    }

    /// A secret by reference, which must be there.
    fn secret(&mut self, key: &str, reference: Option<&String>, fix: &str) -> Option<SecretString> {
        let reference = self.required(key, reference, fix)?;
        match self.secrets.resolve(&reference) {
            Ok(found) => {
                if let Some(exposed) = found.exposed {
                    self.warn(key, exposed.message, exposed.fix);
                }
                Some(found.secret)
            }
            Err(trouble) => {
                self.error(key, trouble.message, trouble.fix);
                None
            }
        }
    }

    /// A Postgres URL: by reference, or written without a password.
    fn dsn(&mut self, key: &str, written: &String, password: Option<(&str, &String)>) -> Option<SecretString> {
        let fix = "Write a reference, or postgres://user@host:5432/database.";
        let url = if is_reference(written) { self.secret(key, Some(written), fix)? } else { written.clone().into() };
        let Some(dsn) = Dsn::parse(url.expose_secret()) else {
            self.error(key, "This is not the URL of a Postgres database.", fix);
            return None;
        };
        if dsn.password.is_some() && !is_reference(written) {
            self.error(
                key,
                "A password stands here in plain text.",
                "Move the URL to a file and write \"file:…\", or move the password to postgres_password; then change \
                 it, it has been seen.",
            );
            return None;
        }
        let Some((password_key, reference)) = password else { return Some(url) };
        if dsn.password.is_some() {
            self.error(password_key, "The URL already holds a password.", "Remove one of the two.");
            return None;
        }
        let password = self.secret(password_key, Some(reference), "")?;
        let url = dsn::with_password(url.expose_secret(), password.expose_secret());
        if url.is_none() {
            self.error(key, "A password is given, but the URL names no user.", "Write postgres://user@host/database.");
        }
        url.map(Into::into)
    }

    /// A database with its two ways in.
    fn postgres(
        &mut self,
        table: &str,
        url: Option<&String>,
        password: Option<&String>,
        owner: Option<&String>,
    ) -> Option<Postgres> {
        let key = format!("{table}.postgres");
        let password_key = format!("{table}.postgres_password");
        let owner_key = format!("{table}.postgres_owner");
        let owner_dsn = owner.map(|owner| self.dsn(&owner_key, owner, None));
        let url = self.required(&key, url, "Write postgres = \"file:…\", or postgres://user@host:5432/database.")?;
        let dsn = self.dsn(&key, &url, password.map(|p| (password_key.as_str(), p)))?;
        if let Some(Some(owner)) = &owner_dsn {
            let named = |dsn: &SecretString| Dsn::parse(dsn.expose_secret()).map(|d| d.database);
            if named(owner) != named(&dsn) {
                self.error(&owner_key, "The owner's URL names another database.", "Name the same database in both.");
            }
        }
        let owner_dsn = match owner_dsn {
            Some(owner) => owner?,
            None => dsn.clone(),
        };
        Some(Postgres { dsn, owner_dsn })
    }

    /// A URL that is reached over TLS, unless it is on this machine, and that holds no login.
    fn url(&mut self, key: &str, url: &str) -> Option<String> {
        if !self.without_login(key, url) {
            return None;
        }
        let host = stores::host_of(url);
        let fine = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(_), _) => !host.is_empty(),
            (_, Some(_)) => dsn::is_local_host(host),
            _ => false,
        };
        if !fine {
            self.error(key, "This is not an https URL.", "Write https://…; http is accepted on this machine only.");
        }
        fine.then(|| url.trim_end_matches('/').to_owned())
    }

    /// A URL is shown, logged and sent in places where no password may be.
    fn without_login(&mut self, key: &str, url: &str) -> bool {
        let holds = dsn::holds_login(url);
        if holds {
            self.error(
                key,
                "A login stands in this URL.",
                "Remove what stands before the @, and change the password, it has been seen; where a login is needed, there \
                 are keys of their own for it.",
            );
        }
        !holds
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The policy, and the texts that it was read from.
    fn policy(&mut self, raw: &raw::Policy) -> Option<(Policy, [String; 3])> {
        let mut text = |key: &str, file: &Option<PathBuf>, shipped: &str| match file {
            None => Some(shipped.to_owned()),
            Some(path) => std::fs::read_to_string(self.path(path))
                .map_err(|error| {
                    let message = format!("{} cannot be read: {error}.", path.display());
                    self.error(key, message, "Correct the path; it is relative to this file.");
                })
                .ok(),
        };
        let policy = text("policy.file", &raw.file, presets::SHIPPED_POLICY);
        let jurisdictions = text("policy.jurisdictions", &raw.jurisdictions, presets::JURISDICTIONS);
        let locations = text("policy.locations", &raw.locations, presets::LOCATIONS);
        let texts = [policy?, jurisdictions?, locations?];
        let parsed = Policy::parse(&texts[0], &texts[1], &texts[2]);
        let at = match &raw.file {
            Some(path) => self.path(path).display().to_string(),
            None => "the built-in policy".to_owned(),
        };
        let mistake = |problem: residency::policy::Problem| Mistake {
            gravity: Gravity::Error,
            at: at.clone(),
            key: problem.key,
            message: problem.message,
            fix: problem.fix,
        };
        let policy = parsed.map_err(|problems| self.mistakes.0.extend(problems.into_iter().map(mistake))).ok()?;
        Some((policy, texts))
    }

    /// Names of event types, and beginnings of them; whether everything that is accepted can be sent.
    fn events(&mut self, raw: &raw::Events, root: &raw::Root) {
        let body = root.gateway.limits.body_bytes_max;
        let sent = root.regions.values().any(|region| region.redpanda.is_some());
        if sent && body.saturating_add(HEADERS_BYTES_MAX) > raw.message_bytes_max {
            let needed = body.saturating_add(HEADERS_BYTES_MAX);
            let message = format!(
                "A request's body may have {body} bytes (gateway.limits.body_bytes_max), which with {HEADERS_BYTES_MAX} for \
                 headers no message holds: its event would be a dead letter."
            );
            let fix = format!(
                "Lower gateway.limits.body_bytes_max, or write message_bytes_max = {needed} and raise max.message.bytes of the topics."
            );
            self.error("events.message_bytes_max", message, fix);
        }
        self.patience(raw, root);
        let fix = "Write \"shop.order-placed\", or \"shop.*\" for every type of a domain.";
        for (index, pattern) in raw.types.iter().flatten().enumerate() {
            let name = pattern.strip_suffix(".*").unwrap_or(pattern);
            let fine = !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
            if !fine {
                self.error(&format!("events.types[{index}]"), "This is neither an event type nor a domain.", fix);
            }
        }
    }

    /// What waits for the sake of a budget waits honestly: that is to raise no alarm.
    fn patience(&mut self, raw: &raw::Events, root: &raw::Root) {
        let alarm_s = raw.forwarder_lag_alarm_s;
        for (name, region) in &root.regions {
            let Some(snowflake) = region.snowflake.as_ref().filter(|raw| raw.credits_per_day_max.is_some()) else {
                continue;
            };
            let wait_s = snowflake.batch_s_stretched_max;
            if wait_s.saturating_add(MERGE_S_MAX) <= alarm_s {
                continue;
            }
            let message = format!(
                "A change may wait for {wait_s} s and then be merged, but events.forwarder_lag_alarm_s = {alarm_s} raises an alarm before."
            );
            let fix = match alarm_s.checked_sub(MERGE_S_MAX).filter(|longest_s| *longest_s > 0) {
                Some(longest_s) => format!("Write batch_s_stretched_max = {longest_s}, or a later alarm."),
                None => "Write a later alarm.".to_owned(),
            };
            self.error(&format!("regions.{name}.snowflake.batch_s_stretched_max"), message, fix);
        }
    }
}
