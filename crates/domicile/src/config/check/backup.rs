//! The meaning of `[directory.backup]` and `[regions.*.backup]`. Keys are named here and read only by the command that
//! needs them: a gateway holds no key of a backup.

use ops::backup::{Place, Recipients, Refusal};
use residency::{Jurisdiction, Policy};
use secrecy::ExposeSecret as _;

use super::Check;
use crate::config::secret::is_reference;
use crate::config::{Backup, raw};

impl Check<'_> {
    /// `jurisdiction` is the region's; the directory names its own.
    pub(super) fn backup(
        &mut self,
        table: &str,
        raw: &raw::Backup,
        policy: Option<&Policy>,
        jurisdiction: Option<&Jurisdiction>,
    ) -> Option<Backup> {
        let key = |name: &str| format!("{table}.{name}");
        let fix = "Name a folder on a disk that is not the database's: folder = \"/var/lib/domicile/backups\".";
        let folder = self.required(&key("folder"), raw.folder.as_ref(), fix).map(|path| self.path(&path));
        let jurisdiction = match (jurisdiction, &raw.jurisdiction) {
            (Some(known), Some(said)) if known.as_str() != said => {
                let message = format!("The region lies in the jurisdiction {known}.");
                self.error(&key("jurisdiction"), message, "Remove the key.");
                None
            }
            (Some(known), _) => Some(known.clone()),
            (None, said) => {
                let fix = "Write the jurisdiction that the directory stands in, e.g. jurisdiction = \"eu\".";
                let said = self.required(&key("jurisdiction"), said.as_ref(), fix);
                said.and_then(|said| self.word(&key("jurisdiction"), &said, Jurisdiction::new))
            }
        };
        let fix = "Write location = \"aws/eu-central-1\": cloud and location as the provider names them.";
        let location = self.text(&key("location"), raw.location.as_ref(), fix);
        let place = match (policy, &jurisdiction, location) {
            (Some(policy), Some(jurisdiction), Some(location)) => {
                let proven = Place::prove(policy, jurisdiction, &location, &raw.replicated_to);
                proven.map_err(|refusal| self.misplaced(table, &location, &refusal)).ok()
            }
            _ => None,
        };
        let recipients = Recipients::parse(&self.recipients(table, raw)?).map_err(|refusal| {
            let fix = "Make two pairs of keys with age-keygen, keep the private ones apart, write recipients = [\"age1…\", \"age1…\"].";
            if !self.mistakes.mention(&key("recipients")) {
                self.error(&key("recipients"), format!("{}.", sentence(&refusal)), fix);
            }
        });
        let fix =
            "Make one with `domicile audit key generate eu-central.backup.example.com` and write key = \"file:…\".";
        let signer = self.required(&key("key"), raw.key.as_ref(), fix);
        let signer = signer.filter(|reference| {
            let fine = is_reference(reference);
            if !fine {
                let fix = "Move it to a file and write key = \"file:…\"; then make another one, it has been seen.";
                self.error(&key("key"), "A secret stands here in plain text.", fix);
            }
            fine
        });
        Some(Backup {
            folder: folder?,
            jurisdiction: jurisdiction?,
            place: place?,
            recipients: recipients.ok()?,
            key: signer?,
            scratch_postgres: raw.scratch_postgres.clone(),
            settings_folder: self.folder.to_owned(),
        })
    }

    /// Recipients as they stand here, or as the file has them that is named instead: a line each.
    fn recipients(&mut self, table: &str, raw: &raw::Backup) -> Option<Vec<String>> {
        let mut recipients = Vec::with_capacity(raw.recipients.len());
        for (index, written) in raw.recipients.iter().enumerate() {
            if !is_reference(written) {
                recipients.push(written.clone());
                continue;
            }
            match self.secrets.resolve(written) {
                Ok(found) => {
                    let lines = found.secret.expose_secret().lines().map(str::trim);
                    recipients
                        .extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
                }
                Err(trouble) => {
                    self.error(&format!("{table}.recipients[{index}]"), trouble.message, trouble.fix);
                    return None;
                }
            }
        }
        Some(recipients)
    }

    fn misplaced(&mut self, table: &str, location: &str, refusal: &Refusal) {
        let at = match refusal {
            Refusal::OutsideJurisdiction { location: found, .. } | Refusal::UnknownLocation { location: found }
                if found != location =>
            {
                "replicated_to"
            }
            _ => "location",
        };
        let fix = "Keep backups, and what their provider copies, inside the jurisdiction; the table is presets/locations.csv.";
        self.error(&format!("{table}.{at}"), format!("{}.", sentence(refusal)), fix);
    }
}

/// An error's words as a sentence's beginning.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().collect::<String>() + characters.as_str()).unwrap_or_default()
}
