//! The addresses that a name may lead to. Pure: resolves nothing and connects to nothing.
//!
//! The owner of a zone can let a name lead anywhere, so the addresses are checked and not the name: only addresses of the public
//! Internet, and those that the operator granted, are allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(first: u16, second: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix)
}

/// The networks that are not the public Internet, after the registry of special-purpose addresses.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 8),       // this network
    v4(10, 0, 0, 8),      // private
    v4(100, 64, 0, 10),   // shared by a carrier's customers; some clouds have their metadata there
    v4(127, 0, 0, 8),     // loopback
    v4(168, 63, 129, 24), // one cloud has its platform's services there, though it is not reserved
    v4(169, 254, 0, 16),  // link-local; most clouds have their metadata there
    v4(172, 16, 0, 12),   // private
    v4(192, 0, 0, 24),    // protocol assignments; one cloud has its metadata there
    v4(192, 0, 2, 24),    // documentation
    v4(192, 88, 99, 24),  // relays of 6to4
    v4(192, 168, 0, 16),  // private
    v4(198, 18, 0, 15),   // benchmarks
    v4(198, 51, 100, 24), // documentation
    v4(203, 0, 113, 24),  // documentation
    v4(224, 0, 0, 4),     // multicast
    v4(240, 0, 0, 4),     // reserved, and broadcast
];

/// The only addresses of version 6 that are assigned to the public Internet.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// The networks among those that have another purpose.
const SPECIAL_V6: [Ipv6Net; 3] = [
    v6(0x2001, 0, 23),      // protocol assignments, Teredo among them
    v6(0x2001, 0x0db8, 32), // documentation
    v6(0x3fff, 0, 20),      // documentation
];

/// Addresses that stand for one of version 4: NAT64 in its last four bytes, 6to4 in bytes 2 to 5.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 16);

/// Returns whether a name may lead to this address: it is public, or in one of the granted networks.
pub(crate) fn allowed(address: IpAddr, granted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    is_public(address) || granted.iter().any(|network| network.contains(&address))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|network| network.contains(&address))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(address) = address.to_ipv4_mapped() {
        return is_public_v4(address);
    }
    let [_, _, b2, b3, b4, b5, .., b12, b13, b14, b15] = address.octets();
    if NAT64.contains(&address) {
        return is_public_v4(Ipv4Addr::new(b12, b13, b14, b15));
    }
    if SIX_TO_FOUR.contains(&address) {
        return is_public_v4(Ipv4Addr::new(b2, b3, b4, b5));
    }
    GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &[&str], expected: bool) {
        for address in addresses {
            assert_eq!(allowed(address.parse().unwrap(), &[]), expected, "{address}");
        }
    }

    #[test]
    fn addresses_of_the_public_internet_are_allowed() {
        check(
            &["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34"],
            true,
        );
        check(
            &["2606:4700:4700::1111", "2a00:1450:4001::1", "2001:200::1", "3ffe::1"],
            true,
        );
    }

    #[test]
    fn the_neighbours_of_refused_networks_are_allowed() {
        check(&["100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"], true);
        check(
            &["169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0"],
            true,
        );
        check(
            &[
                "192.0.1.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
            ],
            true,
        );
        check(&["223.255.255.255"], true);
    }

    #[test]
    fn loopback_is_refused() {
        check(&["127.0.0.1", "127.255.255.255", "127.1.2.3", "::1"], false);
    }

    #[test]
    fn private_networks_are_refused() {
        check(&["10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255"], false);
        check(
            &["192.168.0.0", "192.168.255.255", "fc00::1", "fdff::1", "fec0::1"],
            false,
        );
    }

    #[test]
    fn link_local_addresses_are_refused() {
        check(&["169.254.0.0", "169.254.255.255", "fe80::1", "febf::1"], false);
    }

    #[test]
    fn metadata_of_clouds_is_refused() {
        check(
            &[
                "169.254.169.254",
                "fd00:ec2::254",
                "100.100.100.200",
                "192.0.0.192",
                "168.63.129.16",
            ],
            false,
        );
    }

    #[test]
    fn carrier_grade_nat_is_refused() {
        check(&["100.64.0.0", "100.127.255.255"], false);
    }

    #[test]
    fn unspecified_multicast_broadcast_and_reserved_addresses_are_refused() {
        check(&["0.0.0.0", "0.255.255.255", "224.0.0.1", "239.255.255.255"], false);
        check(
            &["240.0.0.1", "255.255.255.255", "::", "ff02::1", "100::1", "4000::1"],
            false,
        );
    }

    #[test]
    fn documentation_and_benchmark_networks_are_refused() {
        check(
            &[
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "198.18.0.0",
                "198.19.255.255",
            ],
            false,
        );
        check(&["2001:db8::1", "3fff::1", "2001:2::1", "5f00::1"], false);
    }

    #[test]
    fn addresses_that_carry_another_are_as_good_as_that_one() {
        check(&["::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1"], true);
        check(
            &["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"],
            false,
        );
        check(
            &["64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1.1.1.1"],
            false,
        );
        check(&["2002:7f00:1::1", "2002:a9fe:a9fe::1", "2002:c0a8:1::1"], false);
        check(&["::127.0.0.1", "::1.1.1.1", "2001::1", "2001:0:53aa:64c::1"], false);
    }

    #[test]
    fn a_granted_network_is_allowed_and_nothing_beside_it() {
        let granted = ["10.1.0.0/16".parse().unwrap(), "fd00:1::/32".parse().unwrap()];
        for (address, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd00:1::7", true),
            ("10.2.0.1", false),
            ("fd00:2::7", false),
            ("64:ff9b::10.1.2.3", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(allowed(address.parse().unwrap(), &granted), expected, "{address}");
        }
    }
}
