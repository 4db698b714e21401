//! Where a backup may rest: proven by the table of cloud locations, never by the look of a name.

use residency::policy::Siting;
use residency::{Jurisdiction, Policy};

use super::Refusal;

/// A place proven to lie inside a jurisdiction. There is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    location: String,
    replicas: Vec<String>,
    jurisdiction: Jurisdiction,
}

impl Place {
    /// Proves that `location` and every place that its provider copies to (`replicas`: a storage account's pair, a
    /// bucket's replication rules) lie inside the jurisdiction.
    ///
    /// # Errors
    /// [`Refusal::OutsideJurisdiction`] or [`Refusal::UnknownLocation`], of the first that does not.
    pub fn prove(
        policy: &Policy,
        jurisdiction: &Jurisdiction,
        location: &str,
        replicas: &[String],
    ) -> Result<Self, Refusal> {
        for one in std::iter::once(location).chain(replicas.iter().map(String::as_str)) {
            match policy.siting(one, jurisdiction) {
                Siting::Inside(_) => {}
                Siting::Outside(country) => {
                    return Err(Refusal::OutsideJurisdiction {
                        location: one.to_owned(),
                        country: country.to_string(),
                        jurisdiction: jurisdiction.to_string(),
                    });
                }
                Siting::Unknown => return Err(Refusal::UnknownLocation { location: one.to_owned() }),
            }
        }
        Ok(Self { location: location.to_owned(), replicas: replicas.to_vec(), jurisdiction: jurisdiction.clone() })
    }

    /// Cloud and location, e.g. `aws/eu-central-1`.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Where its provider copies to.
    #[must_use]
    pub fn replicas(&self) -> &[String] {
        &self.replicas
    }

    /// The jurisdiction it was proven to lie in.
    #[must_use]
    pub fn jurisdiction(&self) -> &Jurisdiction {
        &self.jurisdiction
    }
}

#[cfg(test)]
mod tests {
    use residency::presets;

    use super::*;

    fn policy() -> Policy {
        Policy::parse(presets::SHIPPED_POLICY, presets::JURISDICTIONS, presets::LOCATIONS).expect("the shipped policy")
    }

    fn refused(location: &str, replicas: &[&str]) -> Option<&'static str> {
        let replicas: Vec<String> = replicas.iter().map(|&one| one.to_owned()).collect();
        let eu = Jurisdiction::new("eu").expect("a jurisdiction");
        Place::prove(&policy(), &eu, location, &replicas).err().map(|refusal| refusal.name())
    }

    #[test]
    fn a_place_outside_the_jurisdiction_is_refused_however_european_its_name_looks() {
        assert_eq!(refused("aws/eu-central-1", &[]), None);
        assert_eq!(refused("aws/us-east-1", &[]), Some("outside_jurisdiction"));
        // London and Zurich begin with `eu-` and are not the EU.
        assert_eq!(refused("aws/eu-west-2", &[]), Some("outside_jurisdiction"));
        assert_eq!(refused("aws/eu-central-2", &[]), Some("outside_jurisdiction"));
        assert_eq!(refused("aws/eu-central-99", &[]), Some("unknown_location"));
        assert_eq!(refused("", &[]), Some("unknown_location"));
    }

    #[test]
    fn a_place_whose_provider_copies_abroad_is_refused() {
        assert_eq!(refused("azure/germanywestcentral", &["azure/francecentral"]), None);
        assert_eq!(refused("azure/germanywestcentral", &["azure/eastus"]), Some("outside_jurisdiction"));
    }
}
