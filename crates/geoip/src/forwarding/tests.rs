//! Who a client is behind proxies, and what forged headers cannot change.

use proptest::prelude::*;

use super::*;

fn forwarding(source: ForwardingSource) -> Forwarding {
    Forwarding {
        source,
        trusted: vec!["10.0.0.0/8".parse().expect("a net"), "2001:db8:aa::/48".parse().expect("a net")],
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn behind(source: ForwardingSource, peer: &str, values: &[&str]) -> ClientAddress {
    forwarding(source).client_address(ip(peer), values.iter().map(|value| value.as_bytes()))
}

fn xff(peer: &str, values: &[&str]) -> ClientAddress {
    behind(ForwardingSource::XForwardedFor, peer, values)
}

fn forwarded(values: &[&str]) -> ClientAddress {
    behind(ForwardingSource::Forwarded, "10.0.0.1", values)
}

#[test]
fn a_header_from_an_untrusted_peer_changes_nothing() {
    for source in [
        ForwardingSource::None,
        ForwardingSource::XForwardedFor,
        ForwardingSource::Forwarded,
        ForwardingSource::Header("cf-connecting-ip".to_owned()),
    ] {
        let found = behind(source, "9.9.9.9", &["1.1.1.1", "for=1.1.1.1", "garbage"]);
        assert_eq!(found, ClientAddress::Peer(ip("9.9.9.9")));
    }
}

#[test]
fn without_a_configured_header_even_a_trusted_peer_is_the_client() {
    assert_eq!(behind(ForwardingSource::None, "10.0.0.1", &["1.1.1.1"]), ClientAddress::Peer(ip("10.0.0.1")));
}

#[test]
fn the_rightmost_address_that_is_not_ours_is_the_client() {
    assert_eq!(xff("10.0.0.1", &["6.6.6.6, 9.9.9.9, 10.0.0.2"]), ClientAddress::Forwarded(ip("9.9.9.9")));
    assert_eq!(xff("10.0.0.1", &["6.6.6.6", "9.9.9.9 ,\t10.0.0.2"]), ClientAddress::Forwarded(ip("9.9.9.9")));
    assert_eq!(xff("::ffff:10.0.0.1", &["9.9.9.9"]), ClientAddress::Forwarded(ip("9.9.9.9")));
    assert_eq!(xff("10.0.0.1", &["::ffff:9.9.9.9"]), ClientAddress::Forwarded(ip("9.9.9.9")));
    assert_eq!(xff("2001:db8:aa::1", &["2620:fe::fe"]), ClientAddress::Forwarded(ip("2620:fe::fe")));
}

#[test]
fn ports_and_brackets_are_understood() {
    for value in ["9.9.9.9:1234", "9.9.9.9"] {
        assert_eq!(xff("10.0.0.1", &[value]), ClientAddress::Forwarded(ip("9.9.9.9")), "{value}");
    }
    for value in ["2620:fe::fe", "[2620:fe::fe]", "[2620:fe::fe]:443"] {
        assert_eq!(xff("10.0.0.1", &[value]), ClientAddress::Forwarded(ip("2620:fe::fe")), "{value}");
    }
}

#[test]
fn what_cannot_be_read_is_unknown_and_never_the_proxy() {
    for value in [
        "",
        " ",
        ",",
        "unknown",
        "9.9.9",
        "09.9.9.9",
        "9.9.9.9,",
        "\"9.9.9.9\"",
        "9.9.9.9;10.0.0.2",
        "fe80::1%eth0",
        "é",
    ] {
        assert_eq!(xff("10.0.0.1", &[value]), ClientAddress::Malformed, "{value:?}");
    }
    assert_eq!(xff("10.0.0.1", &[]), ClientAddress::Malformed);
    assert_eq!(xff("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), ClientAddress::Malformed, "only our own proxies");
    let invalid: &[u8] = b"\xff\xfe";
    let found = forwarding(ForwardingSource::XForwardedFor).client_address(ip("10.0.0.1"), [invalid].into_iter());
    assert_eq!(found, ClientAddress::Malformed);
}

#[test]
fn what_the_client_wrote_to_the_left_of_itself_is_never_looked_at() {
    assert_eq!(xff("10.0.0.1", &["garbage \"; , 9.9.9.9"]), ClientAddress::Forwarded(ip("9.9.9.9")));
    assert_eq!(xff("10.0.0.1", &["10.0.0.9, 9.9.9.9, 10.0.0.2"]), ClientAddress::Forwarded(ip("9.9.9.9")));
}

#[test]
fn a_chain_longer_than_the_limit_is_malformed() {
    let ours = vec!["10.0.0.2"; HOPS_MAX].join(",");
    assert_eq!(xff("10.0.0.1", &[&format!("9.9.9.9,{ours}")]), ClientAddress::Malformed);
    let ours = vec!["10.0.0.2"; HOPS_MAX - 1].join(",");
    assert_eq!(xff("10.0.0.1", &[&format!("9.9.9.9,{ours}")]), ClientAddress::Forwarded(ip("9.9.9.9")));
}

#[test]
fn forwarded_is_read_as_rfc_7239_writes_it() {
    for value in [
        "for=9.9.9.9",
        "For=\"9.9.9.9:4711\"",
        "for=9.9.9.9;proto=http;by=10.0.0.3",
        "proto=https ; for=9.9.9.9",
        "for=6.6.6.6, for=9.9.9.9",
        "for=_hidden, for=9.9.9.9, for=10.0.0.2",
        "for=\"9.9\\.9.9\"",
        "for=9.9.9.9;ext=\"a, for=1.1.1.1; \\\"b\"",
    ] {
        assert_eq!(forwarded(&[value]), ClientAddress::Forwarded(ip("9.9.9.9")), "{value}");
    }
    assert_eq!(forwarded(&["for=\"[2620:fe::fe]:4711\""]), ClientAddress::Forwarded(ip("2620:fe::fe")));
    assert_eq!(forwarded(&["for=6.6.6.6", "for=9.9.9.9"]), ClientAddress::Forwarded(ip("9.9.9.9")));
}

#[test]
fn forwarded_that_names_no_address_is_unknown() {
    for value in [
        "",
        "9.9.9.9",
        "for=",
        "for=unknown",
        "for=_hidden",
        "for=\"9.9.9.9",
        "for=9.9.9.9;for=1.1.1.1",
        "proto=http",
        "for=2620:fe::fe",
        "for=\"2620:fe::fe\"",
        "for=9.9.9.9,",
        "for=9.9.9.9 for=1.1.1.1",
        "for=9.9.9.9, proto=http",
        // A quote the client left open swallows what the proxy appended: unknown, not the client's invention.
        "for=6.6.6.6;x=\", for=9.9.9.9",
    ] {
        assert_eq!(forwarded(&[value]), ClientAddress::Malformed, "{value}");
    }
}

#[test]
fn a_single_header_holds_one_address_once() {
    let single = |values: &[&str]| behind(ForwardingSource::Header("CF-Connecting-IP".to_owned()), "10.0.0.1", values);
    assert_eq!(single(&["9.9.9.9"]), ClientAddress::Forwarded(ip("9.9.9.9")));
    for values in [&["9.9.9.9", "1.1.1.1"][..], &["9.9.9.9, 1.1.1.1"], &["9.9.9.9:80"], &["10.0.0.2"], &[""], &[]] {
        assert_eq!(single(values), ClientAddress::Malformed, "{values:?}");
    }
    let name = forwarding(ForwardingSource::Header("CF-Connecting-IP".to_owned())).header_name();
    assert_eq!(name.as_deref(), Some("cf-connecting-ip"));
}

proptest! {
    #[test]
    fn no_bytes_whatever_make_it_panic_or_name_a_proxy(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4)) {
        for source in [ForwardingSource::XForwardedFor, ForwardingSource::Forwarded, ForwardingSource::Header("x".to_owned())] {
            let forwarding = forwarding(source);
            let found = forwarding.client_address(ip("10.0.0.1"), values.iter().map(Vec::as_slice));
            match found {
                ClientAddress::Forwarded(client) => prop_assert!(!forwarding.trusts(client)),
                ClientAddress::Malformed => {}
                ClientAddress::Peer(_) => prop_assert!(false, "a trusted peer is never the client"),
            }
        }
    }

    #[test]
    fn whatever_a_client_writes_its_own_address_is_what_counts(forged in "[ -~]{0,60}", client: u32, hops in 0usize..5) {
        let client = std::net::Ipv4Addr::from(client);
        prop_assume!(client.octets()[0] != 10);
        let ours = ", 10.1.2.3".repeat(hops);
        let found = xff("10.0.0.1", &[&format!("{forged}, {client}{ours}")]);
        prop_assert_eq!(found, ClientAddress::Forwarded(client.into()));
    }

    #[test]
    fn whatever_a_client_writes_into_forwarded_it_cannot_become_another(forged in "[ -~]{0,60}", client: u32) {
        let client = std::net::Ipv4Addr::from(client);
        prop_assume!(client.octets()[0] != 10);
        let found = forwarded(&[&format!("{forged}, for={client};proto=https")]);
        prop_assert!(found == ClientAddress::Forwarded(client.into()) || found == ClientAddress::Malformed, "{:?}", found);
    }
}
