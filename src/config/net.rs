//! Addresses, networks and endpoints: parsed forms and their rules. Imports only the error type.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::error::Broken;

/// A network: `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether `address` lies in the network; an IPv4 address in IPv6 clothes counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.prefix) == self.network
    }

    /// Whether it holds every address of its kind.
    pub(super) const fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    pub(super) fn parse(text: &str) -> Result<Self, Broken> {
        const RULE: &str = "a network is `address/prefix length`, such as `10.0.0.0/8`";
        let wrong = || {
            Broken::new(
                RULE,
                "write the network of the TLS proxy, `/32` for one address",
            )
        };
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().ok().ok_or_else(wrong)?;
        let prefix: u8 = super::units::digits(prefix).ok_or_else(wrong)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return Err(wrong());
        }
        let network = masked(address, prefix);
        if network != address {
            return Err(Broken::new(
                "a network has no bits set behind its prefix",
                format!("write `{network}/{prefix}`"),
            ));
        }
        Ok(Self { network, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// The address of a listener: an IP address, not a name, and a port that is not 0.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Broken> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) => Err(Broken::new(
            "a listener needs a fixed port from 1 to 65535",
            "write the port that clients know instead of 0",
        )),
        Err(_) => Err(Broken::new(
            "a listener address is an IP address and a port, such as `127.0.0.1:8080` or `[::1]:8080`",
            "write an address of this machine, `0.0.0.0` for every one; names are not resolved",
        )),
    }
}

/// Whether binding one of them gets in the way of the other.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // A socket bound to `[::]` also takes IPv4 connections.
    let covers = |wild: IpAddr, other: IpAddr| {
        wild.is_unspecified() && (wild.is_ipv6() || other.to_canonical().is_ipv4())
    };
    let (ip_a, ip_b) = (a.ip(), b.ip());
    a.port() == b.port()
        && (ip_a.to_canonical() == ip_b.to_canonical() || covers(ip_a, ip_b) || covers(ip_b, ip_a))
}

/// Whether only this machine can reach the address.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// `host:port` of an upstream.
pub(super) fn endpoint(text: &str) -> Result<String, Broken> {
    let wrong = || {
        Broken::new(
            "an endpoint is `host:port`, the host a DNS name, an IPv4 address or an IPv6 address in brackets",
            "write for example `127.0.0.1:9003`, `orders.internal:80` or `[::1]:9003`; no scheme, no path",
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = super::units::digits(port).ok_or_else(wrong)?;
    if port == 0 || !is_host(host) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// Whether `host` is a DNS name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_host(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok() || is_dns_name(host),
    }
}

/// Letters, digits, hyphens and underscores in labels of at most 63; not something that looks like
/// a mistyped IPv4 address.
pub(super) fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !last_is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_they_should() {
        let ten = Cidr::parse("10.0.0.0/8").unwrap();
        assert!(ten.contains("10.255.0.1".parse().unwrap()));
        assert!(ten.contains("::ffff:10.1.1.1".parse().unwrap()));
        assert!(!ten.contains("11.0.0.1".parse().unwrap()));
        assert!(!ten.contains("a00::".parse().unwrap()));
        assert!(
            Cidr::parse("0.0.0.0/0")
                .unwrap()
                .contains("1.2.3.4".parse().unwrap())
        );
        assert!(
            Cidr::parse("::/0")
                .unwrap()
                .contains("2001:db8::1".parse().unwrap())
        );
        assert!(
            Cidr::parse("2001:db8::/32")
                .unwrap()
                .contains("2001:db8:1::1".parse().unwrap())
        );
        assert_eq!(ten.to_string(), "10.0.0.0/8");
    }

    #[test]
    fn malformed_networks_are_refused() {
        for text in [
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "x/8",
            "/8",
        ] {
            assert!(Cidr::parse(text).is_err(), "{text}");
        }
        let fix = Cidr::parse("10.1.2.3/8").unwrap_err().fix;
        assert_eq!(fix, "write `10.0.0.0/8`");
    }

    #[test]
    fn addresses_overlap_when_one_takes_the_others_connections() {
        let overlapping = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        assert!(overlapping("127.0.0.1:80", "127.0.0.1:80"));
        assert!(overlapping("0.0.0.0:80", "127.0.0.1:80"));
        assert!(overlapping("127.0.0.1:80", "[::]:80"));
        assert!(overlapping("[::ffff:127.0.0.1]:80", "127.0.0.1:80"));
        assert!(!overlapping("0.0.0.0:80", "[::1]:80"));
        assert!(!overlapping("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!overlapping("127.0.0.1:80", "127.0.0.1:81"));
    }

    #[test]
    fn endpoints_are_host_and_port() {
        for good in [
            "127.0.0.1:9003",
            "a.b-c.internal:80",
            "echo:1",
            "[::1]:65535",
            "my_svc:80",
        ] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "http://a:80",
            "a:80/",
            "::1:80",
            "a..b:80",
            "256.0.0.1:80",
            "-a:80",
            "a b:80",
            ":80",
            "a:+80",
            "é:80",
            "[127.0.0.1]:80",
            "u@h:80",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
