//! Listening addresses: can they be had, and how are they spelt for Pingora.
//!
//! Pingora tries to bind an address for 30 s and then panics inside the service task; and with
//! `SO_REUSEPORT`, which the shards need, a second gateway would silently share the port of the
//! first. So [`probe`] binds each address once, exclusively, before the server runs.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

use super::TlsSpec;

/// Most listening sockets of one process. Pingora hands at most 32 descriptors over on an upgrade.
pub const MAX_SOCKETS: usize = 24;

/// Room for all address spellings in Pingora's hand-over message, separators included.
const MAX_NAMES: usize = 2048;

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Internet address and port.
    pub address: SocketAddr,
    /// TLS settings; absent means plain text.
    pub tls: Option<TlsSpec>,
}

/// An address that cannot be listened on (exit code 4).
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket listens there.
    #[error(
        "cannot listen on {address}: another program already does; stop it or configure another \
         address"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address is configured for two listeners.
    #[error(
        "cannot listen on {address}: it is configured twice, also as {other}; give each listener \
         an address of its own"
    )]
    Twice {
        /// The later address.
        address: SocketAddr,
        /// The earlier address that covers it.
        other: SocketAddr,
    },
    /// The operating system refuses.
    #[error("cannot listen on {address}: {source}; {advice}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
        /// What to do about it.
        advice: &'static str,
    },
    /// More sockets than can be handed over on an upgrade.
    #[error(
        "{wanted} listening sockets are more than the {MAX_SOCKETS} allowed; lower the number of \
         workers or of listeners"
    )]
    TooMany {
        /// Sockets that the configuration asks for.
        wanted: usize,
    },
    /// Longer names than can be handed over on an upgrade.
    #[error(
        "the names of the {sockets} listening sockets take {bytes} bytes, more than the \
         {MAX_NAMES} allowed; lower the number of workers or of listeners"
    )]
    NamesTooLong {
        /// Sockets that the configuration asks for.
        sockets: usize,
        /// Bytes of their names, a separator behind each.
        bytes: usize,
    },
}

/// Finds out whether every address can be listened on now, without accepting a connection.
///
/// Skip it when the sockets are taken over from a running gateway.
///
/// # Errors
/// Names the first address that cannot be had, why, and what to do.
pub fn probe(addresses: &[SocketAddr]) -> Result<(), BindError> {
    for (nth, &address) in addresses.iter().enumerate() {
        if let Some(&other) = addresses
            .iter()
            .take(nth)
            .find(|other| overlap(**other, address))
        {
            return Err(BindError::Twice { address, other });
        }
        bind_once(address).map_err(|source| refused(address, source))?;
    }
    Ok(())
}

/// Whether `shards` sockets for each of the `proxies`, and one for each of the `others`, fit into
/// Pingora's table and its hand-over message.
///
/// # Errors
/// When there are more than [`MAX_SOCKETS`], or their names are too long together.
pub fn check_sockets(
    proxies: &[SocketAddr],
    shards: usize,
    others: &[SocketAddr],
) -> Result<(), BindError> {
    let wanted = proxies
        .len()
        .saturating_mul(shards)
        .saturating_add(others.len());
    if wanted > MAX_SOCKETS {
        return Err(BindError::TooMany { wanted });
    }
    let sharded = proxies
        .iter()
        .flat_map(|proxy| (0..shards).map(|zeros| spell(*proxy, zeros)));
    let single = others.iter().map(ToString::to_string);
    fits(wanted, sharded.chain(single))
}

fn fits(sockets: usize, names: impl Iterator<Item = String>) -> Result<(), BindError> {
    let bytes = names.map(|name| name.len() + 1).sum();
    if bytes > MAX_NAMES {
        Err(BindError::NamesTooLong { sockets, bytes })
    } else {
        Ok(())
    }
}

/// `shards` different spellings of one address: Pingora's table of sockets is keyed by the text, so
/// the n-th shard writes the port with n leading zeros (`:8080`, `:08080`, …).
///
/// # Errors
/// As [`check_sockets`].
pub fn shard_addresses(address: SocketAddr, shards: usize) -> Result<Vec<String>, BindError> {
    check_sockets(&[address], shards, &[])?;
    Ok((0..shards).map(|zeros| spell(address, zeros)).collect())
}

fn spell(address: SocketAddr, zeros: usize) -> String {
    let port = address.port();
    match address {
        SocketAddr::V4(v4) => format!("{}:{:0>zeros$}{port}", v4.ip(), ""),
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            format!("[{}%{}]:{:0>zeros$}{port}", v6.ip(), v6.scope_id(), "")
        }
        SocketAddr::V6(v6) => format!("[{}]:{:0>zeros$}{port}", v6.ip(), ""),
    }
}

/// Whether sockets on both addresses would take the same connections, in either order.
fn overlap(first: SocketAddr, second: SocketAddr) -> bool {
    first.port() == second.port() && (covers(first, second) || covers(second, first))
}

fn covers(first: SocketAddr, second: SocketAddr) -> bool {
    match first.ip() {
        // `[::]` takes IPv4 connections too, as Linux has it by default.
        any if any.is_unspecified() => any.is_ipv6() || second.is_ipv4(),
        one => one == second.ip(),
    }
}

/// `SO_REUSEADDR` lets connections in TIME_WAIT pass but not a listening socket; without
/// `listen` no client can get into the queue of a socket that is closed a moment later.
fn bind_once(address: SocketAddr) -> io::Result<()> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

fn refused(address: SocketAddr, source: io::Error) -> BindError {
    let advice = match source.kind() {
        io::ErrorKind::AddrInUse => return BindError::InUse { address },
        io::ErrorKind::AddrNotAvailable => "configure an address that this machine has",
        io::ErrorKind::PermissionDenied => {
            "use a port from 1024 up, or grant the CAP_NET_BIND_SERVICE capability"
        }
        _ => "check the address and the limits of this process",
    };
    BindError::Refused {
        address,
        source,
        advice,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_in_use_is_refused_at_once_and_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let started = Instant::now();
        let error = probe(&[address]).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(1));
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        drop(taken);
        probe(&[address]).unwrap();
    }

    #[test]
    fn the_same_address_twice_is_named_as_our_own_mistake() {
        // Free on every address of the machine a moment ago.
        let held = [(); 2].map(|()| TcpListener::bind("[::]:0").unwrap());
        let [port, other] = held.map(|socket| socket.local_addr().unwrap().port());
        for (first, second) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0"),
            ("[::]", "127.0.0.1"),
            ("0.0.0.0", "[::]"),
        ] {
            let at = |host: &str| address(&format!("{host}:{port}"));
            let error = probe(&[at(first), at(second)]).unwrap_err();
            assert!(
                matches!(error, BindError::Twice { .. }),
                "{first} {second}: {error:?}"
            );
        }
        let [here, beside, next] = [
            ("127.0.0.1", port),
            ("127.0.0.2", port),
            ("127.0.0.1", other),
        ]
        .map(|(host, port)| address(&format!("{host}:{port}")));
        probe(&[here, beside]).unwrap();
        probe(&[here, next]).unwrap();
    }

    #[test]
    fn a_foreign_address_says_what_to_do() {
        let error = probe(&[address("192.0.2.1:21081")]).unwrap_err();
        assert!(
            error.to_string().contains("configure an address"),
            "{error}"
        );
    }

    #[test]
    fn shards_are_spelt_differently_and_mean_the_same_address() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "0.0.0.0:1",
            "[2001:db8::1]:65535",
        ] {
            let wanted = address(text);
            let spelt = shard_addresses(wanted, MAX_SOCKETS).unwrap();
            assert_eq!(spelt.first().unwrap(), text);
            let mut names = spelt.clone();
            names.dedup();
            assert_eq!(names.len(), MAX_SOCKETS);
            for name in spelt {
                assert_eq!(address(&name), wanted, "{name}");
            }
        }
    }

    #[test]
    fn more_sockets_than_an_upgrade_can_hand_over_are_refused() {
        let error = shard_addresses(address("127.0.0.1:8080"), MAX_SOCKETS + 1).unwrap_err();
        assert!(
            error.to_string().contains("25 listening sockets"),
            "{error}"
        );
        let [one, two, three] =
            [8080, 8081, 8082].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert!(check_sockets(&[one, two], 11, &[two, three]).is_ok());
        assert!(check_sockets(&[one, two], 11, &[one, two, three]).is_err());
    }

    /// Not reachable with the addresses of today: the longest 24 names take 1,968 bytes.
    #[test]
    fn the_names_of_all_sockets_fit_into_the_hand_over_message() {
        let longest = address("[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535");
        assert!(check_sockets(&[longest], MAX_SOCKETS, &[]).is_ok());
        let names = |count: usize| std::iter::repeat_n("x".repeat(99), count);
        assert!(fits(20, names(20)).is_ok());
        let error = fits(21, names(21)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("21 listening sockets take 2100 bytes, more than the 2048"),
            "{error}"
        );
    }
}
