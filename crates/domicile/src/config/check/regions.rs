//! The meaning of `[regions.*]`: each alone, all together, and against the policy.

use std::collections::{BTreeMap, BTreeSet};

use residency::{Jurisdiction, Policy, Region};
use secrecy::ExposeSecret as _;
use tlog::{KeyKind, SigningKey, VerifierKey};

use super::Check;
use super::gateway::served;
use super::stores::Ground;
use crate::config::dsn::{Dsn, is_local_host};
use crate::config::mistake::nearest;
use crate::config::{Destination, Served, Signer, raw};

type Regions = (BTreeMap<Region, Served>, BTreeMap<Region, String>);

impl Check<'_> {
    pub(super) fn regions(
        &mut self,
        raw: &BTreeMap<String, raw::Region>,
        policy: Option<&Policy>,
        directory: &raw::Directory,
    ) -> Option<Regions> {
        if raw.is_empty() && !self.mistakes.mention("regions") {
            self.error("regions", "There is no region.", "Add [regions.<name>] for each region of the policy.");
            return None;
        }
        let mut all_served = BTreeMap::new();
        let mut home_urls = BTreeMap::new();
        let mut complete = true;
        for (name, written) in raw {
            let table = format!("regions.{name}");
            let Some(region) = self.word(&table, name, Region::new) else {
                complete = false;
                continue;
            };
            let home_url = written.home_url.as_ref().map(|url| self.url(&format!("{table}.home_url"), url));
            let jurisdiction = policy.and_then(|policy| self.jurisdiction(&table, &region, written, policy));
            if served(written) {
                match self.served(&table, written, policy, jurisdiction) {
                    Some(served) => drop(all_served.insert(region.clone(), served)),
                    None => complete = false,
                }
            } else {
                self.served_elsewhere(&table, written);
            }
            match home_url {
                Some(Some(url)) => drop(home_urls.insert(region, url)),
                Some(None) => complete = false,
                None => {}
            }
        }
        if let Some(policy) = policy {
            self.missing_regions(raw, policy);
        }
        if !raw.values().any(served) && !raw.is_empty() {
            let fix = "Give at least one region its postgres and log_origin.";
            self.error("regions", "This process serves no region, so it could do nothing.", fix);
        }
        self.shared_databases(&all_served, directory);
        self.shared_across_borders(&all_served);
        complete.then_some((all_served, home_urls))
    }

    /// The policy's jurisdiction of a region, which the file may repeat but not contradict.
    fn jurisdiction(
        &mut self,
        table: &str,
        region: &Region,
        written: &raw::Region,
        policy: &Policy,
    ) -> Option<Jurisdiction> {
        let Some((_, rule)) = policy.regions().find(|(known, _)| *known == region) else {
            let known: Vec<&str> = policy.regions().map(|(known, _)| known.as_str()).collect();
            let fix = match nearest(region.as_str(), known.iter().copied()) {
                Some(near) => format!("Did you mean {near}?"),
                None => format!("Add it to the policy, or remove it; the policy knows {}.", known.join(", ")),
            };
            self.error(table, format!("The policy has no region {region}."), fix);
            return None;
        };
        if let Some(said) = &written.jurisdiction
            && said != rule.jurisdiction.as_str()
        {
            let message = format!("The policy places {region} in the jurisdiction {}.", rule.jurisdiction);
            let fix = "Correct one of the two, and check that the stores below lie where you think they do.";
            self.error(&format!("{table}.jurisdiction"), message, fix);
        }
        if let Some(said) = &written.placement {
            let known: Vec<String> = rule.placements.iter().map(|p| format!("{}/{}", p.cloud, p.location)).collect();
            if !known.contains(said) {
                let message = format!("The policy does not allow {region} to be placed there.");
                let fix = format!("Write one of {}, or add it to the policy.", known.join(", "));
                self.error(&format!("{table}.placement"), message, fix);
            }
        }
        Some(rule.jurisdiction.clone())
    }

    fn served(
        &mut self,
        table: &str,
        raw: &raw::Region,
        policy: Option<&Policy>,
        jurisdiction: Option<Jurisdiction>,
    ) -> Option<Served> {
        let ground = policy.zip(jurisdiction.as_ref()).map(|(policy, jurisdiction)| Ground { policy, jurisdiction });
        let postgres =
            self.postgres(table, raw.postgres.as_ref(), raw.postgres_password.as_ref(), raw.postgres_owner.as_ref());
        let origin_key = format!("{table}.log_origin");
        let fix = "Name the region's audit log for ever, e.g. log_origin = \"eu-central.log.example.com\".";
        let log_origin = self.text(&origin_key, raw.log_origin.as_ref(), fix);
        let log_origin = log_origin.filter(|origin| {
            let fine = origin.len() <= 128 && origin.bytes().all(|b| b.is_ascii_graphic() && b != b'+');
            if !fine {
                let message = "A log's origin is at most 128 visible ASCII characters without spaces or plus signs.";
                self.error(&origin_key, message, "Write it like a URL without its scheme.");
            }
            fine
        });
        let signer = raw.signer.as_ref().map(|raw| self.signer(&format!("{table}.signer"), raw, log_origin.as_deref()));
        let retention = self.retention(table, &raw.retention);
        let law = jurisdiction.as_ref();
        let backup = raw.backup.as_ref().filter(|_| law.is_some());
        let backup = backup.map(|raw| self.backup(&format!("{table}.backup"), raw, policy, law));
        let redpanda = raw.redpanda.as_ref().map(|raw| self.redpanda(&format!("{table}.redpanda"), raw, ground));
        let snowflake = raw.snowflake.as_ref().map(|raw| self.snowflake(&format!("{table}.snowflake"), raw, ground));
        Some(Served {
            jurisdiction: jurisdiction?,
            placement: raw.placement.clone(),
            postgres: postgres?,
            log_origin: log_origin?,
            signer: match signer {
                Some(signer) => Some(signer?),
                None => None,
            },
            audit_reads: raw.audit_reads,
            scrub_leaves_per_s: raw.scrub_leaves_per_s,
            retention,
            reader_connections: raw.reader_connections,
            committer_connections: raw.committer_connections,
            backup: match backup {
                Some(backup) => Some(Box::new(backup?)),
                None => None,
            },
            redpanda: match redpanda {
                Some(redpanda) => Some(redpanda?),
                None => None,
            },
            snowflake: match snowflake {
                Some(snowflake) => Some(snowflake?),
                None => None,
            },
        })
    }

    /// The key must be this very log's: an auditor knows it by the log's name.
    fn signer(&mut self, table: &str, raw: &raw::Signer, log_origin: Option<&str>) -> Option<Signer> {
        let (key_at, memory_at) = (format!("{table}.key"), format!("{table}.memory_file"));
        let fix = "Make one with `domicile audit key generate` and write key = \"file:…\".";
        let secret = self.secret(&key_at, raw.key.as_ref(), fix);
        let fix = "Name a file on a disk that is not the database's, e.g. \"/var/lib/domicile/eu-central.signed\".";
        let memory_file = self.required(&memory_at, raw.memory_file.as_ref(), fix).map(|path| self.path(&path));
        if let Some(folder) = memory_file.as_ref().and_then(|path| path.parent())
            && !folder.is_dir()
        {
            let message = format!("The folder {} is not there.", folder.display());
            self.warn(
                &memory_at,
                message,
                "Create it, writable by the user that runs domicile; until then nothing is signed.",
            );
        }
        let key: SigningKey = match secret?.expose_secret().parse() {
            Ok(key) => key,
            Err(error) => {
                let fix = "Make one with `domicile audit key generate`.";
                self.error(&key_at, format!("This is no private key: {error}."), fix);
                return None;
            }
        };
        let (name, kind) = (key.public().name().to_owned(), key.public().kind());
        if log_origin.is_some_and(|origin| origin != name) || kind != KeyKind::Log {
            let message = format!("The key is for {name}, which is not this region's log.");
            let fix = "A key and a log's origin belong together for ever; make a key for this origin.";
            self.error(&key_at, message, fix);
            return None;
        }
        let witnesses = raw.witnesses.iter().enumerate();
        let witnesses: Vec<_> =
            witnesses.map(|(index, raw)| self.witness(&format!("{table}.witnesses[{index}]"), raw)).collect();
        Some(Signer { key, memory_file: memory_file?, witnesses: witnesses.into_iter().collect::<Option<_>>()? })
    }

    fn witness(&mut self, table: &str, raw: &raw::Witness) -> Option<(VerifierKey, String)> {
        let (key_at, url_at) = (format!("{table}.key"), format!("{table}.url"));
        let text = self.text(&key_at, raw.key.as_ref(), "Write the witness's public key, name+id+base64.");
        let url = self.text(&url_at, raw.url.as_ref(), "Write the witness's submission prefix, https://…");
        let url = url.and_then(|url| self.url(&url_at, &url));
        let key: Option<VerifierKey> = text?.parse().ok();
        let key = key.filter(|key| key.kind() == KeyKind::Witness);
        if key.is_none() {
            let fix = "Write what `domicile audit key generate --witness` printed.";
            self.error(&key_at, "This is not the public key of a witness.", fix);
        }
        Some((key?, url?))
    }

    fn served_elsewhere(&mut self, table: &str, raw: &raw::Region) {
        let key = format!("{table}.home_url");
        if raw.home_url.is_none() && !self.mistakes.mention(&key) {
            let message = "This region is served elsewhere, but it is not said where: callers could not be sent home.";
            self.error(&key, message, "Write home_url = \"https://…\", or postgres and log_origin to serve it here.");
        }
        let handles = [
            ("postgres", raw.postgres.is_some()),
            ("redpanda", raw.redpanda.is_some()),
            ("snowflake", raw.snowflake.is_some()),
        ];
        for (name, _) in handles.into_iter().filter(|(_, present)| *present) {
            let message = "The region is not served here, so this process should not hold a way into its stores.";
            self.warn(&format!("{table}.{name}"), message, "Remove it, or write served = true.");
        }
    }

    fn missing_regions(&mut self, raw: &BTreeMap<String, raw::Region>, policy: &Policy) {
        for (region, _) in policy.regions().filter(|(region, _)| !raw.contains_key(region.as_str())) {
            let key = format!("regions.{region}");
            if !self.mistakes.mention(&key) {
                let message = format!("The policy sends people to {region}, but this file does not say where it is.");
                let fix = format!("Add [regions.{region}] with home_url, or with postgres and log_origin.");
                self.error(&key, message, fix);
            }
        }
    }

    /// Two regions in one database, or two logs of one name, would be one region.
    fn shared_databases(&mut self, served: &BTreeMap<Region, Served>, directory: &raw::Directory) {
        let mut databases: BTreeMap<(String, String), &Region> = BTreeMap::new();
        let mut origins: BTreeMap<&str, &Region> = BTreeMap::new();
        for (region, settings) in served {
            if let Some(dsn) = Dsn::parse(settings.postgres.dsn.expose_secret())
                && let Some(other) = databases.insert((dsn.server, dsn.database), region)
            {
                let message = format!("{region} and {other} would share one database.");
                let fix = "Give each region a database of its own, inside its jurisdiction.";
                self.error(&format!("regions.{region}.postgres"), message, fix);
            }
            if let Some(other) = origins.insert(&settings.log_origin, region) {
                let message = format!("The logs of {region} and {other} would have the same name.");
                let fix = "Give each region's log its own origin, for ever.";
                self.error(&format!("regions.{region}.log_origin"), message, fix);
            }
        }
        let same = |settings: &Served| directory.postgres.as_deref() == Some(settings.postgres.dsn.expose_secret());
        for (region, _) in served.iter().filter(|(_, settings)| same(settings)) {
            let message = format!("The directory and {region} would share one database.");
            self.warn(&format!("regions.{region}.postgres"), message, "Give the directory a database of its own.");
        }
    }

    /// A server, a broker or an account is in one place: it cannot serve two jurisdictions. On this very
    /// machine that is a rehearsal, and only worth a warning.
    fn shared_across_borders(&mut self, served: &BTreeMap<Region, Served>) {
        let mut owners: BTreeMap<(&str, String), (&Region, &Jurisdiction)> = BTreeMap::new();
        let mut said = BTreeSet::new();
        for (region, settings) in served {
            for (store, place, local) in places(settings) {
                let owner = (region, &settings.jurisdiction);
                let (other, jurisdiction) = *owners.entry((store, place)).or_insert(owner);
                if *jurisdiction == settings.jurisdiction || !said.insert((store, region)) {
                    continue;
                }
                let message = format!(
                    "{region} ({}) and {other} ({jurisdiction}) would share one {store}, which is in one place only.",
                    settings.jurisdiction
                );
                let fix = "Give each jurisdiction its own, inside its borders.";
                let key = format!("regions.{region}.{store}");
                if local { self.warn(&key, message, fix) } else { self.error(&key, message, fix) }
            }
        }
    }
}

/// The servers a region's data would rest on: (key, place, whether it is this machine).
fn places(settings: &Served) -> Vec<(&'static str, String, bool)> {
    let mut places = Vec::new();
    if let Some(dsn) = Dsn::parse(settings.postgres.dsn.expose_secret()) {
        let local = dsn.is_local();
        places.push(("postgres", dsn.server, local));
    }
    for broker in settings.redpanda.iter().flat_map(|redpanda| &redpanda.brokers) {
        let host = broker.rsplit_once(':').map_or(broker.as_str(), |(host, _)| host);
        places.push(("redpanda", broker.to_ascii_lowercase(), is_local_host(host)));
    }
    if let Some(Destination::Account(account)) = settings.snowflake.as_ref().map(|snowflake| &snowflake.destination) {
        let local = account.base_url.as_ref().is_some_and(|url| url.starts_with("http://"));
        places.push(("snowflake", account.account.to_ascii_lowercase(), local));
    }
    places
}
