//! From a host name to a connected socket: addresses in the resolver's order, families in turn, each next one started a
//! moment after the one before it if that has not answered yet.

use super::detail::{Detail, Failure};
use super::outcome::CheckResult;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use url::Host;

/// More addresses of one name are not tried.
const ADDRESSES_MAX: usize = 8;

/// The addresses of a host, alternating between the families, beginning with the resolver's first.
pub(super) async fn resolve(host: &Host<&str>, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let name = match host {
        Host::Ipv4(address) => return Ok(vec![SocketAddr::new(IpAddr::V4(*address), port)]),
        Host::Ipv6(address) => return Ok(vec![SocketAddr::new(IpAddr::V6(*address), port)]),
        Host::Domain(name) => *name,
    };
    let fail = |cause: String| Failure::new(CheckResult::Dns, Detail::Resolve { host: name.into(), cause });
    let found = tokio::net::lookup_host((name, port)).await.map_err(|error| fail(error.to_string()))?;
    let addresses = interleave(found.collect());
    if addresses.is_empty() { Err(fail("no record".into())) } else { Ok(addresses) }
}

fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(v6_first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == v6_first);
    let mut second = second.into_iter();
    let mut mixed = Vec::new();
    for address in first {
        mixed.push(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed.truncate(ADDRESSES_MAX);
    mixed
}

/// The first connection that stands. The next address is tried after `stagger`, or as soon as one has failed.
pub(super) async fn connect(addresses: &[SocketAddr], stagger: Duration) -> Result<(TcpStream, SocketAddr), Failure> {
    if let [address] = addresses {
        let stream = TcpStream::connect(address).await.map_err(|error| failure(*address, &error))?;
        return Ok((stream, *address));
    }
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut worst: Option<Failure> = None;
    loop {
        let next = waiting.next();
        if let Some(&address) = next {
            attempts.push(async move { (address, TcpStream::connect(address).await) });
        }
        let ended = if waiting.len() == 0 {
            attempts.next().await
        } else {
            tokio::select! {
                ended = attempts.next() => ended,
                () = tokio::time::sleep(stagger) => continue,
            }
        };
        match ended {
            Some((address, Ok(stream))) => return Ok((stream, address)),
            Some((address, Err(error))) => {
                let failed = failure(address, &error);
                // A refusal says more about the service than a family that has no route here.
                if worst.as_ref().is_none_or(|worst| worst.result != CheckResult::Refused) {
                    worst = Some(failed);
                }
            }
            None => {
                let nothing = || Failure::new(CheckResult::Error, Detail::Own { cause: "no address".into() });
                return Err(worst.unwrap_or_else(nothing));
            }
        }
    }
}

fn failure(address: SocketAddr, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        Failure::new(CheckResult::Refused, Detail::Refused { address })
    } else {
        Failure::new(CheckResult::Error, Detail::Unreachable { address, cause: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_alternate_beginning_with_the_resolvers_first() {
        let mixed = interleave(addresses(&["[::1]:1", "[::2]:1", "127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"]));
        assert_eq!(mixed, addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "127.0.0.3:1"]));
    }

    #[tokio::test]
    async fn a_refusing_address_does_not_delay_the_next_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = closed_address().await;
        let begin = Instant::now();
        let (_, used) = connect(&[closed, open], Duration::from_secs(30)).await.unwrap();
        assert_eq!(used, open);
        assert!(begin.elapsed() < Duration::from_secs(10));
        let failed = connect(&[closed, closed], Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(failed.result, CheckResult::Refused);
    }

    async fn closed_address() -> SocketAddr {
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }
}
