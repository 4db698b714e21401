//! Addresses that say nothing about where anybody is: private, shared, tunnelled, reserved. They are recognised
//! before any database is asked, since databases do list some of them (a Teredo address finds the tunnel's server).
//!
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its successors).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is no evidence, as a stable name such as `private` or `teredo`; `None` for ordinary public addresses.
///
/// An IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`) is judged as the IPv4 address it is.
#[must_use]
pub fn special(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

/// Narrow ranges before the wide ones they lie in.
const V4: [([u8; 4], u8, &str); 21] = [
    ([0, 0, 0, 0], 32, "unspecified"),
    ([0, 0, 0, 0], 8, "this_network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "shared"), // carrier-grade NAT, RFC 6598
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link_local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "protocol_assignment"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "as112"),
    ([192, 52, 193, 0], 24, "amt"),
    ([192, 88, 99, 0], 24, "6to4"), // its relays, RFC 7526
    ([192, 168, 0, 0], 16, "private"),
    ([192, 175, 48, 0], 24, "as112"),
    ([198, 18, 0, 0], 15, "benchmark"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([233, 252, 0, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([255, 255, 255, 255], 32, "broadcast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let ip = u32::from(ip);
    V4.iter()
        .find(|(net, length, _)| (ip ^ u32::from(Ipv4Addr::from(*net))) >> (32 - length) == 0)
        .map(|(_, _, name)| *name)
}

/// Narrow ranges before the wide ones they lie in; first the ends of the space, then what lies inside global unicast.
const V6: [([u16; 8], u8, &str); 24] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, "v4_compatible"), // deprecated, RFC 4291
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "nat64"),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "nat64"),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard"),
    ([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "discard"),
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment_routing"),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique_local"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link_local"),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site_local"), // deprecated, RFC 3879
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "teredo"),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmark"),
    ([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, "amt"),
    ([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, "as112"),
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "orchid"),
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "orchid"),
    ([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, "drone_remote_id"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "protocol_assignment"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "as112"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
];

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let bits = u128::from(ip);
    let within = |net: &[u16; 8], length: u8| (bits ^ u128::from(Ipv6Addr::from(*net))) >> (128 - length) == 0;
    if let Some((_, _, name)) = V6.iter().find(|(net, length, _)| within(net, *length)) {
        return Some(name);
    }
    // Global unicast is 2000::/3 (RFC 4291); nothing else has been given to anybody.
    let global_unicast = within(&[0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
    (!global_unicast).then_some("reserved")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Option<&'static str> {
        special(text.parse().expect("an address"))
    }

    #[test]
    fn every_special_range_is_recognised_at_both_ends() {
        for (text, expected) in [
            ("0.0.0.0", "unspecified"),
            ("0.255.255.255", "this_network"),
            ("10.0.0.0", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.0", "shared"),
            ("100.127.255.255", "shared"),
            ("127.0.0.1", "loopback"),
            ("169.254.169.254", "link_local"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.8", "protocol_assignment"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "6to4"),
            ("192.168.255.255", "private"),
            ("198.18.0.0", "benchmark"),
            ("198.19.255.255", "benchmark"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::102:304", "v4_compatible"),
            ("::ffff:10.1.2.3", "private"),
            ("::ffff:127.0.0.1", "loopback"),
            ("64:ff9b::1.2.3.4", "nat64"),
            ("64:ff9b:1::1", "nat64"),
            ("100::1", "discard"),
            ("2001::1", "teredo"),
            ("2001:0:53aa:64c:0:7fff:fe00:1", "teredo"),
            ("2001:2::1", "benchmark"),
            ("2001:20::1", "orchid"),
            ("2001:1ff:ffff::1", "protocol_assignment"),
            ("2001:db8::1", "documentation"),
            ("2002:c000:204::1", "6to4"),
            ("3fff:fff::1", "documentation"),
            ("fc00::1", "unique_local"),
            ("fdff::1", "unique_local"),
            ("fe80::1", "link_local"),
            ("fec0::1", "site_local"),
            ("ff02::1", "multicast"),
            ("1::1", "reserved"),
            ("4000::1", "reserved"),
        ] {
            assert_eq!(name(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn public_addresses_beside_special_ranges_are_ordinary() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2a00:1450::1",
            "3ffe:ffff::1",
            "2620:fe::fe",
        ] {
            assert_eq!(name(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_the_address_it_is(bits: u32) {
            let plain = Ipv4Addr::from(bits);
            prop_assert_eq!(special(IpAddr::V6(plain.to_ipv6_mapped())), special(IpAddr::V4(plain)));
        }

        #[test]
        fn nothing_that_std_calls_special_is_taken_for_ordinary(bits: u128, short: u32) {
            let (v6, v4) = (Ipv6Addr::from(bits), Ipv4Addr::from(short));
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_documentation() {
                prop_assert!(special(v4.into()).is_some());
            }
            if v6.is_loopback() || v6.is_multicast() || v6.is_unique_local() || v6.is_unicast_link_local() {
                prop_assert!(special(v6.into()).is_some());
            }
        }
    }
}
