//! Where people are at home, and the tricks that change nothing.

use reqwest::Method;
use serde_json::json;
use system_tests::{person, shared};

/// Addresses of the bundled database.
const IN_FRANCE: &str = "212.27.40.240";
const IN_THE_US: &str = "8.8.8.8";

#[tokio::test(flavor = "multi_thread")]
async fn residence_decides_and_the_outermost_regions_are_europe() {
    let world = shared().await;
    for (place, region) in [
        ("DE", "eu-central"),
        ("RE", "eu-central"),
        ("GP", "eu-central"),
        ("AX", "eu-central"),
        ("NO", "eu-central"),
        ("ES-CN", "eu-central"),
        ("GB", "uk-south"),
        ("UK", "uk-south"),
        ("US", "us-east"),
        ("us-ca", "us-east"),
        ("PR", "us-east"),
    ] {
        let answer = world.client().residing_in(place).classify(&person("places")).await.unwrap().expect(200).unwrap();
        assert_eq!(answer.json()["region"], region, "{place}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_law_that_demands_another_place_is_451_and_leaves_nothing() {
    let world = shared().await;
    let anna = person("refused");
    let client = world.client().residing_in("RU");
    let answer = client.put_record(&anna, "profile", "x", &json!({})).await.unwrap().expect(451).unwrap();
    assert_eq!(answer.code().as_deref(), Some("residency_refused"));
    world.client().home(&anna).await.unwrap().expect(404).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_evidence_it_is_422_with_the_signals_that_were_seen() {
    let world = shared().await;
    let anna = person("unresolved");
    for address in ["10.1.2.3", "192.0.2.1", "100.64.0.1", "::1", "2001:db8::1"] {
        let client = world.client().seen_from(address);
        let answer = client.put_record(&anna, "profile", "x", &json!({})).await.unwrap().expect(422).unwrap();
        assert_eq!(answer.code().as_deref(), Some("residency_unresolved"));
        let signals = answer.json()["signals"].clone();
        assert_eq!(signals[0]["source"], "geoip", "{signals}");
        assert_eq!(signals[0]["value"], "special_address", "{address}: {signals}");
        assert!(!answer.text().contains(address), "an address is not repeated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_parameters_of_other_worlds_change_nothing() {
    let world = shared().await;
    let client = world.client().seen_from(IN_FRANCE);
    let tricks = [
        ("x-forwarded-for", IN_THE_US),
        ("forwarded", "for=8.8.8.8"),
        ("x-real-ip", IN_THE_US),
        ("true-client-ip", IN_THE_US),
        ("cf-connecting-ip", IN_THE_US),
        ("cf-ipcountry", "US"),
        ("x-region", "us-east"),
        ("domicile-region", "us-east"),
        ("domicile-home", "us-east"),
        ("domicile-decision", "019aa000-0000-7000-8000-000000000000"),
        ("x-tenant", "anything"),
        ("x-original-url", "/v1/subjects/other"),
        ("host", "us.data.example.com"),
    ];
    for (name, value) in tricks {
        let anna = person("tricks");
        let put = client.record(Method::PUT, &anna, "profile", "x").header(name, value).json(&json!({}));
        let answer = client.send(put).await.unwrap();
        // Refused outright is as good as ignored; believed is not.
        if answer.is_success() {
            assert_eq!(answer.region(), Some("eu-central"), "{name} changed the home");
        } else {
            assert!((400..500).contains(&answer.status), "{name}: {}", answer.status);
        }
    }
    for parameter in ["region=us-east", "residence=US", "home=us-east", "client_address=8.8.8.8", "force=true"] {
        let anna = person("parameters");
        let (name, value) = parameter.split_once('=').expect("a pair");
        let put = client.record(Method::PUT, &anna, "profile", "x").query(&[(name, value)]).json(&json!({}));
        let answer = client.send(put).await.unwrap();
        if answer.is_success() {
            assert_eq!(answer.region(), Some("eu-central"), "?{parameter} changed the home");
        } else {
            assert!((400..500).contains(&answer.status), "?{parameter}: {}", answer.status);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_believed_only_about_what_its_scopes_say() {
    let world = shared().await;
    let plain =
        world.create_key("plain", &["classify", "records:read", "records:write", "subjects:read"], None).await.unwrap();
    let client = world.client().with_key(&plain);

    let answer =
        client.seen_from(IN_FRANCE).put_record(&person("unbelieved"), "profile", "x", &json!({})).await.unwrap();
    assert_eq!(answer.status, 422, "a stated address without the scope is no evidence: {}", answer.text());

    let anna = person("pinned-by-residence");
    client.residing_in("GB").put_record(&anna, "profile", "x", &json!({})).await.unwrap().expect(201).unwrap();
    for place in ["US", "DE", "RU"] {
        let again = client.residing_in(place).put_record(&anna, "profile", "x", &json!({})).await.unwrap();
        assert_eq!(again.expect_success().unwrap().region(), Some("uk-south"), "only a relocation changes a pin");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn classify_has_no_side_effect() {
    let world = shared().await;
    let anna = person("classified");
    let client = world.client().residing_in("DE");
    for _ in 0..3 {
        let answer = client.classify(&anna).await.unwrap().expect(200).unwrap().json();
        assert_eq!((answer["region"].as_str(), answer["pinned"].as_bool()), (Some("eu-central"), Some(false)));
    }
    client.home(&anna).await.unwrap().expect(404).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_residence_outweighs_the_address_and_both_are_told() {
    let world = shared().await;
    let client = world.client().seen_from(IN_THE_US).residing_in("FR");
    let answer = client.classify(&person("conflict")).await.unwrap().expect(200).unwrap().json();
    assert_eq!(answer["region"], "eu-central");
    let signals = answer["signals"].as_array().expect("signals");
    let seen: Vec<_> = signals.iter().map(|signal| (signal["source"].as_str(), signal["value"].as_str())).collect();
    assert_eq!(seen, [(Some("declared_residence"), Some("FR")), (Some("geoip"), Some("US"))]);
    assert_eq!(answer["winner"], 0);
}
