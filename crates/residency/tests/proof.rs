//! What a policy file must prove before it is loaded, and what a check finds. Each proof has a table that fails it.

use residency::policy::Gravity;
use residency::presets::{JURISDICTIONS, LOCATIONS, SHIPPED_POLICY};
use residency::{Outcome, Policy, Problem};

fn parse(text: &str) -> Result<Policy, Vec<Problem>> {
    Policy::parse(text, JURISDICTIONS, LOCATIONS)
}

/// The shipped policy with one text in it replaced.
fn with(from: &str, to: &str) -> String {
    assert!(SHIPPED_POLICY.contains(from), "the shipped policy has `{from}`");
    SHIPPED_POLICY.replacen(from, to, 1)
}

/// The findings of a table that is loaded all the same: `check key`.
fn findings(text: &str) -> Vec<String> {
    let policy = parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let report = policy.check();
    assert_eq!(report.is_sound(), report.findings.is_empty());
    report
        .findings
        .iter()
        .map(|finding| {
            assert!(Policy::CHECKS.contains(&finding.check), "{finding}");
            assert_eq!(finding.gravity, Gravity::Incomplete, "an unlawful table cannot be loaded: {finding}");
            format!("{} {}", finding.check, finding.key)
        })
        .collect()
}

/// The problems of a table that is not loaded: `key: message`.
fn problems(text: &str) -> Vec<String> {
    let problems = parse(text).expect_err("it is not loaded");
    for problem in &problems {
        assert!(!problem.fix.is_empty() && problem.fix.ends_with('.'), "a fix is a sentence: {problem}");
        assert!(problem.message.ends_with('.'), "a message is a sentence: {problem}");
    }
    problems.iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
}

fn only(problems: &[String], expected: &str) {
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].contains(expected), "`{}` says `{expected}`", problems[0]);
}

#[test]
fn the_policy_that_ships_is_sound() {
    let policy = parse(SHIPPED_POLICY).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let report = policy.check();
    assert!(report.is_sound(), "{:#?}", report.findings);
    let countries = report.countries.iter().filter(|c| c.place.subdivision.is_none()).count();
    assert_eq!(countries, 250, "249 codes of ISO 3166-1, and Kosovo");
    assert!(report.countries.iter().all(|c| c.rule.is_some() && !matches!(c.outcome, Outcome::Unresolved(_))));
}

#[test]
fn every_member_of_the_eea_is_at_home_in_the_eu() {
    let policy = parse(SHIPPED_POLICY).expect("it is sound");
    let homes = policy.check().countries;
    for code in "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE IS LI NO".split(' ') {
        let home = homes.iter().find(|c| c.place.to_string() == code).expect("it is listed");
        assert!(
            matches!(&home.outcome, Outcome::Home { jurisdiction, .. } if jurisdiction.as_str() == "eu"),
            "{home:?}"
        );
    }
}

#[test]
fn a_country_without_a_rule_is_found() {
    let text = with("preset = { eu_adequacy = [\"none\"] }", "codes = [\"IN\"]");
    let findings = findings(&text);
    assert!(findings.contains(&"every-country BH".to_owned()), "{findings:?}");
    assert!(findings.iter().all(|finding| finding.starts_with("every-country ")), "{findings:?}");
}

#[test]
fn a_row_lost_from_the_preset_is_found() {
    let csv: String =
        JURISDICTIONS.lines().filter(|line| !line.starts_with("BH,")).map(|line| format!("{line}\n")).collect();
    let policy = Policy::parse(SHIPPED_POLICY, &csv, LOCATIONS).expect("it can be loaded");
    let found: Vec<String> = policy.check().findings.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("BH: ISO 3166-1 has this code"), "{found:?}");
}

#[test]
fn a_dead_rule_is_found() {
    let text = with(
        "[[rule]]\nname = \"uk\"",
        "[[rule]]\nname = \"late\"\npreset = { in_eu = [\"true\"] }\nrefuse = \"Too late.\"\n\n[[rule]]\nname = \"uk\"",
    );
    assert_eq!(findings(&text), ["no-dead-rule rule[6] (late)"]);
}

#[test]
fn a_code_that_an_earlier_rule_decides_is_found() {
    let text = with("codes = [\"AU\", ", "codes = [\"CN\", \"AU\", ");
    assert_eq!(findings(&text), ["no-dead-rule rule[10] (accountable)"]);
}

#[test]
fn a_placement_outside_its_jurisdiction_is_not_loaded() {
    let text = with("location = \"eu-west-3\"", "location = \"us-west-2\"");
    only(&problems(&text), "aws us-west-2 stands in US, outside the jurisdiction eu");
    let text = with("location = \"eu-west-3\"", "location = \"eu-central-2\"");
    only(&problems(&text), "aws eu-central-2 stands in CH, outside the jurisdiction eu");
}

#[test]
fn a_region_that_one_disaster_reaches_is_found() {
    let text = with("  { cloud = \"azure\", location = \"ukwest\" },\n", "");
    assert_eq!(findings(&text), ["second-placement regions.uk-south.placements"]);
}

#[test]
fn a_rule_whose_region_lies_in_another_jurisdiction_is_not_loaded() {
    let text = with(
        "jurisdiction = \"eu\"\nregion = \"eu-central\"\nbecause",
        "jurisdiction = \"eu\"\nregion = \"us-east\"\nbecause",
    );
    only(&problems(&text), "means jurisdiction eu, but its region us-east lies in us");
}

#[test]
fn a_european_outside_europe_is_not_loaded() {
    let text = with(
        "[[rule]]\nname = \"eea\"",
        "[[rule]]\nname = \"offshore\"\ncodes = [\"IE\", \"ES-CN\"]\njurisdiction = \"us\"\nregion = \"us-east\"\nbecause = \"Taxes.\"\n\n[[rule]]\nname = \"eea\"",
    );
    let problems = problems(&text);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("ES-CN: It lies in jurisdiction eu"), "{problems:?}");
    assert!(problems[1].starts_with("IE: It lies in jurisdiction eu"), "{problems:?}");
}

#[test]
fn people_placed_abroad_without_a_reason_are_found() {
    let text: String = SHIPPED_POLICY
        .lines()
        .filter(|line| !line.starts_with("because = \"The EU finds"))
        .map(|line| format!("{line}\n"))
        .collect();
    let findings = findings(&text);
    assert!(findings.contains(&"abroad-because CH".to_owned()), "{findings:?}");
    assert!(findings.iter().all(|finding| finding.starts_with("abroad-because ")), "{findings:?}");
}

#[test]
fn data_that_must_stay_in_its_country_is_not_placed_elsewhere() {
    let text = with(
        "[[rule]]\nname = \"must-stay-in-country\"",
        "[[rule]]\nname = \"bold\"\ncodes = [\"RU\", \"CN-BJ\"]\njurisdiction = \"eu\"\nregion = \"eu-central\"\nbecause = \"We dare.\"\n\n[[rule]]\nname = \"must-stay-in-country\"",
    );
    let problems = problems(&text);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.contains("keeps data in the country")), "{problems:?}");
}

#[test]
fn data_that_must_stay_in_its_country_may_be_placed_there() {
    let text = with(
        "[[rule]]\nname = \"must-stay-in-country\"",
        "[[rule]]\nname = \"china\"\ncodes = [\"CN\"]\njurisdiction = \"cn\"\nregion = \"cn-north\"\n\n[[rule]]\nname = \"must-stay-in-country\"",
    ) + "\n[jurisdictions.cn]\ntitle = \"China\"\nlaw = \"PIPL\"\nstrictness = 900\ncodes = [\"CN\"]\n\
           \n[regions.cn-north]\njurisdiction = \"cn\"\nplacements = [{ cloud = \"aws\", location = \"cn-north-1\" }, { cloud = \"aws\", location = \"cn-northwest-1\" }]\n";
    assert_eq!(findings(&text), Vec::<String>::new());
}

#[test]
fn a_doubtful_row_placed_without_its_name_is_found() {
    let text = with(
        "codes = [\"BL\", \"NC\", \"PF\", \"PM\", \"SJ\", \"TF\", \"WF\"]",
        "preset = { gdpr_applies = [\"via-national-law\"] }",
    );
    assert_eq!(findings(&text), ["doubt-is-named SJ"]);
}

#[test]
fn every_mistake_is_reported_at_once_with_its_key_and_a_fix() {
    let text = r#"
        version = 7
        colour = "blue"

        [conflict]
        rule = "loudest"
        weighty = ["geoip", "mood", "geoip"]

        [jurisdictions.eu]
        title = "Europe"
        strictness = -1
        codes = ["DE", "de", "QQ", "Germany", "XX", 7]
        preset = { gdpr_applies = ["perhaps"], moon = ["full"], confidence = "high" }

        [jurisdictions.Us]
        title = "x"

        [regions.all]
        jurisdiction = "eu"

        [regions.eu-central]
        jurisdiction = "mars"
        placements = [
          { cloud = "azure", location = "atlantis" },
          { cloud = "abacus", location = "desk" },
          { cloud = "aws", location = "eu-central-1" },
          { cloud = "aws", location = "eu-central-1", floor = 3 },
          "aws",
        ]

        [[rule]]
        codes = ["DE"]
        region = "eu-central"

        [[rule]]
        name = "Two Words"
        region = "nowhere"
        jurisdiction = "nowhere"

        [[rule]]
        name = "both"
        codes = ["FR"]
        jurisdiction = "eu"
        region = "eu-central"
        refuse = "No."

        [[rule]]
        name = "both"
        codes = ["FR"]

        [[rule]]
        name = "empty"
        codes = ["FR"]
        refuse = " "

        [[tenant]]
        name = "a b"

        [[tenant]]
        name = "acme"
        region = "eu-central"

        [[tenant]]
        name = "acme"
        region = "us-east"

        [default]
        region = "us-east"
    "#;
    let problems = problems(text);
    let expected = [
        "version: This is a whole number, not a text",
        "colour: Nobody knows this key",
        "conflict.rule: Nobody knows the rule `loudest`",
        "conflict.weighty[2]: `mood` is no source",
        "conflict.weighty[3]: `geoip` is there twice",
        "jurisdictions.eu.law: This key is missing",
        "jurisdictions.eu.strictness: This is a whole number, not a degree from 0 to 1000",
        "jurisdictions.eu.codes[2]: `de` is there twice",
        "jurisdictions.eu.codes[3]: The jurisdictions preset has no `QQ`",
        "jurisdictions.eu.codes[4]: `Germany` does not do",
        "jurisdictions.eu.codes[5]: `XX` is no country",
        "jurisdictions.eu.codes[6]: This is a whole number, not a text",
        "jurisdictions.eu.preset.gdpr_applies[1]: No row of the preset has `perhaps`",
        "jurisdictions.eu.preset.moon: The jurisdictions preset has no such column",
        "jurisdictions.eu.preset.confidence: This is not a list",
        "jurisdictions.Us: `Us` does not do",
        "regions.all: `all` does not do",
        "regions.eu-central.jurisdiction: The policy has no jurisdiction `mars`",
        "regions.eu-central.placements[1].location: The locations preset has no `atlantis` of `azure`",
        "regions.eu-central.placements[2].location: The locations preset has no `desk` of `abacus`",
        "regions.eu-central.placements[4].location: This placement is there twice",
        "regions.eu-central.placements[4].floor: Nobody knows this key",
        "regions.eu-central.placements[5]: This is a text, not a table",
        "rule[1].name: This key is missing",
        "rule[1].jurisdiction: A rule that names a region also names the jurisdiction",
        "rule[2] (Two Words).name: A rule's name is",
        "rule[2] (Two Words).codes: It means no place",
        "rule[2] (Two Words).region: The policy has no region `nowhere`",
        "rule[2] (Two Words).jurisdiction: The policy has no jurisdiction `nowhere`",
        "rule[3] (both).refuse: The rule both places and refuses",
        "rule[4] (both).name: Two rules are called `both`",
        "rule[4] (both).region: The rule neither places nor refuses",
        "rule[5] (empty).refuse: A sentence has 1 to 400 bytes",
        "tenant[1].name: `a b` does not do",
        "tenant[1].region: This key is missing",
        "tenant[3].name: The tenant `acme` is there twice",
        "tenant[3].region: The policy has no region `us-east`",
        "default.region: The policy has no region `us-east`",
    ];
    for expected in expected {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}\n{problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "and nothing is reported for another's sake:\n{problems:#?}");
}

#[test]
fn a_file_that_is_no_toml_says_on_which_line() {
    only(&problems("version = \"1\"\n[conflict\n"), "policy line 2: This is not TOML");
    let problems = problems("");
    for key in ["version:", "conflict:", "jurisdictions:", "regions:", "rule:"] {
        assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} {problems:?}");
    }
}

#[test]
fn mistakes_in_presets_are_reported_with_their_line() {
    let of = |jurisdictions: &str, locations: &str| {
        let problems = Policy::parse(SHIPPED_POLICY, jurisdictions, locations).expect_err("the preset is broken");
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let has = |problems: &[String], start: &str| {
        assert!(problems.iter().any(|p| p.starts_with(start)), "{start} {problems:#?}");
    };

    let twice = format!("{JURISDICTIONS}DE,country,Germany,,true,true,yes,no,member,,x,none,,,high,,2025\n");
    let line = twice.lines().count();
    has(&of(&twice, LOCATIONS), &format!("jurisdictions.csv line {line}: The code `DE` has two rows."));
    has(&of(&JURISDICTIONS.replace("DE,country", "Germany,country"), LOCATIONS), "jurisdictions.csv line ");
    has(&of(&JURISDICTIONS.replace("DE,country", "DE,land"), LOCATIONS), "jurisdictions.csv line ");
    has(
        &of(
            &JURISDICTIONS.replace("\nUK,alias,United Kingdom (exceptionally reserved),GB", "\nUK,alias,x,QQ"),
            LOCATIONS,
        ),
        "jurisdictions.csv line ",
    );
    has(
        &of(&JURISDICTIONS.replace("gdpr_applies", "gdpr"), LOCATIONS),
        "jurisdictions.csv: The header lacks: gdpr_applies.",
    );
    has(&of("", LOCATIONS), "jurisdictions.csv: The header lacks");
    has(&of(JURISDICTIONS, &format!("{LOCATIONS}aws,eu-central-1,DE,Frankfurt,x\n")), "locations.csv line ");
    has(&of(JURISDICTIONS, &format!("{LOCATIONS}own,cellar,Germany,Bonn,x\n")), "locations.csv line ");
    has(&of(JURISDICTIONS, &format!("{LOCATIONS}own,cellar\n")), "locations.csv line ");
}
