//! `domicile policy check` and `domicile policy explain`: the policy proven and asked, without a server.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use geoip::GeoIp;
use residency::policy::CheckReport;
use residency::{Evidence, EvidenceList, Finding, Origin, Outcome, Place, Policy, Source, Tenant, Verdict, presets};
use serde_json::{Value, json};

use super::{FAILED, Failure, load};
use crate::{cli, print, rooms};

/// Runs one of them.
pub(crate) fn run(command: &cli::Policy) -> Result<ExitCode, Failure> {
    match command {
        cli::Policy::Check(args) => check(args),
        cli::Policy::Explain(args) => explain(args),
    }
}

/// The policy that is meant: a named file, the configuration's, or the one that ships.
fn policy(from: &cli::PolicyFile) -> Result<Policy, Failure> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let or_shipped = |path: Option<&Path>, shipped: &str| path.map_or_else(|| Ok(shipped.to_owned()), read);
    let (policy, jurisdictions, locations) = match &from.file {
        Some(file) => (Some(file.clone()), from.jurisdictions.clone(), from.locations.clone()),
        None => {
            // Only where the policy is: neither secrets nor regions have to be in order to prove it.
            let settings = match from.config.path.exists() {
                true => crate::config::effective(&from.config.path)?.policy,
                false => crate::config::raw::Policy::default(),
            };
            let folder = from.config.path.parent().unwrap_or(Path::new(""));
            let within = |path: Option<std::path::PathBuf>| path.map(|path| folder.join(path));
            (within(settings.file), within(settings.jurisdictions), within(settings.locations))
        }
    };
    let text = or_shipped(policy.as_deref(), presets::SHIPPED_POLICY)?;
    let jurisdictions = or_shipped(jurisdictions.as_deref(), presets::JURISDICTIONS)?;
    let locations = or_shipped(locations.as_deref(), presets::LOCATIONS)?;
    let parsed = Policy::parse(&text, &jurisdictions, &locations);
    parsed.map_err(|problems| {
        let list: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        anyhow!("the policy has {} mistake(s):{}", problems.len(), list.concat()).into()
    })
}

fn check(args: &cli::PolicyCheck) -> Result<ExitCode, Failure> {
    let policy = policy(&args.policy)?;
    let report = policy.check();
    if args.json {
        print::json(&report_json(&policy, &report))?;
    } else {
        print_report(&policy, &report, args.countries);
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn print_report(policy: &Policy, report: &CheckReport, countries: bool) {
    if countries {
        let rows = report.countries.iter().map(|country| {
            let rule = country.rule.as_ref().map_or("-", |rule| rule.as_str());
            let (home, why) = outcome(&country.outcome);
            vec![country.place.to_string(), country.name.to_string(), home, rule.to_owned(), why]
        });
        print::line(print::table(&["place", "name", "home", "rule", "because"], rows));
    } else {
        let rows = summary(report).into_iter().map(|(home, places)| vec![home, places.len().to_string()]);
        print::line(print::table(&["home", "countries and subdivisions"], rows));
    }
    print::line("");
    for finding in &report.findings {
        print::line(format!("{}: {}\n  {}\n  fix: {}\n", finding.check, finding.key, finding.message, finding.fix));
    }
    let (places, findings) = (report.countries.len(), report.findings.len());
    let verdict = match findings {
        0 => format!("is sound: {} proofs hold for {places} places", Policy::CHECKS.len()),
        1 => "is not sound: 1 finding".to_owned(),
        _ => format!("is not sound: {findings} findings"),
    };
    print::line(format!("Policy {} ({}) {verdict}.", policy.version(), &policy.hash_hex()[..12]));
}

fn report_json(policy: &Policy, report: &CheckReport) -> Value {
    let findings = report.findings.iter().map(|finding| {
        json!({
            "check": finding.check, "key": finding.key, "message": finding.message, "fix": finding.fix,
            "gravity": format!("{:?}", finding.gravity).to_lowercase(),
        })
    });
    let countries = report.countries.iter().map(|country| {
        let (home, why) = outcome(&country.outcome);
        let rule = country.rule.as_ref().map(|rule| rule.as_str());
        json!({ "place": country.place.to_string(), "name": &*country.name, "home": home, "rule": rule, "because": why })
    });
    json!({
        "version": policy.version(), "hash": policy.hash_hex(), "sound": report.is_sound(),
        "checks": Policy::CHECKS, "findings": findings.collect::<Vec<_>>(),
        "summary": summary(report).into_iter().map(|(home, places)| (home, places.len())).collect::<BTreeMap<_, _>>(),
        "countries": countries.collect::<Vec<_>>(),
    })
}

/// Which places go where.
fn summary(report: &CheckReport) -> BTreeMap<String, Vec<Place>> {
    let mut homes: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for country in &report.countries {
        homes.entry(outcome(&country.outcome).0).or_default().push(country.place);
    }
    homes
}

/// A home in a word, and why there is none.
fn outcome(outcome: &Outcome) -> (String, String) {
    match outcome {
        Outcome::Home { region, .. } => (region.to_string(), String::new()),
        Outcome::Refused { reason, .. } => ("(refused)".into(), reason.to_string()),
        Outcome::Unresolved(unresolved) => ("(unresolved)".into(), unresolved.code().to_owned()),
    }
}

fn explain(args: &cli::PolicyExplain) -> Result<ExitCode, Failure> {
    let policy = policy(&args.policy)?;
    let geoip = match args.client_address {
        Some(_) => database(args)?,
        None => GeoIp::empty(),
    };
    let verdict = policy.classify(evidence(args, &policy, &geoip)?);
    if args.json {
        print::json(&verdict_json(&policy, &verdict, &geoip))?;
    } else {
        print_verdict(&policy, &verdict);
    }
    let home = matches!(verdict.outcome, Outcome::Home { .. });
    Ok(if home { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// The configured database, or the bundled one, marked as such.
fn database(args: &cli::PolicyExplain) -> Result<GeoIp, Failure> {
    if args.policy.config.path.exists()
        && let Ok(config) = load(&args.policy.config)
        && config.geoip.is_some()
    {
        return Ok(rooms::geoip(&config)?);
    }
    print::note("No configured GeoIP database: the bundled one for demonstrations is asked.");
    Ok(rooms::demo_geoip()?)
}

fn evidence(args: &cli::PolicyExplain, policy: &Policy, geoip: &GeoIp) -> anyhow::Result<EvidenceList> {
    let place = |text: &str| Place::new(text).with_context(|| format!("{text} is not a place"));
    let mut list = EvidenceList::new();
    if let Some(tenant) = &args.tenant {
        let finding = policy.tenant_home(&Tenant::new(tenant)?);
        list.push(Evidence { source: Source::TenantPin, origin: Origin::Header, finding });
    }
    if let Some(claim) = &args.claim {
        let finding = Finding::Place(place(claim)?);
        list.push(Evidence { source: Source::VerifiedClaim, origin: Origin::Token, finding });
    }
    if let Some(residence) = &args.residence {
        let finding = Finding::Place(place(residence)?);
        list.push(Evidence { source: Source::DeclaredResidence, origin: Origin::Header, finding });
    }
    if let Some(address) = args.client_address {
        list.push(Evidence { source: Source::GeoIp, origin: Origin::Header, finding: geoip.find(address) });
    }
    Ok(list)
}

fn print_verdict(policy: &Policy, verdict: &Verdict) {
    let rows = verdict.evidence.iter().enumerate().map(|(index, evidence)| {
        let won = verdict.winner.is_some_and(|winner| usize::from(winner) == index);
        let says = finding(&evidence.finding);
        vec![evidence.source.name().into(), evidence.source.weight().to_string(), says, mark(won)]
    });
    print::line(print::table(&["evidence", "weight", "says", ""], rows));
    let (home, why) = outcome(&verdict.outcome);
    let sentence = match &verdict.outcome {
        Outcome::Home { jurisdiction, .. } => format!("At home in {home} ({jurisdiction})"),
        Outcome::Refused { place, .. } => format!("Refused for {place}: {why}"),
        Outcome::Unresolved(_) => format!("Unresolved: {why}"),
    };
    print::line(format!(
        "\n{}, by rule {} of policy {}.",
        sentence.trim_end_matches('.'),
        verdict.rule,
        policy.version()
    ));
}

fn mark(won: bool) -> String {
    if won { "decides".into() } else { String::new() }
}

fn finding(finding: &Finding) -> String {
    match finding {
        Finding::Place(place) => place.to_string(),
        Finding::Home(region) => region.to_string(),
        Finding::Nothing(why) => format!("nothing ({})", why.name()),
    }
}

fn verdict_json(policy: &Policy, verdict: &Verdict, geoip: &GeoIp) -> Value {
    let evidence = verdict.evidence.iter().map(|evidence| {
        json!({
            "source": evidence.source.name(), "weight": evidence.source.weight(), "says": finding(&evidence.finding),
        })
    });
    let (home, why) = outcome(&verdict.outcome);
    json!({
        "home": match &verdict.outcome { Outcome::Home { .. } => Some(home), _ => None },
        "because": why, "rule": verdict.rule.as_str(), "winner": verdict.winner,
        "evidence": evidence.collect::<Vec<_>>(),
        "policy": { "version": policy.version(), "hash": policy.hash_hex() },
        "geoip_built_s": geoip.built_s(),
    })
}
