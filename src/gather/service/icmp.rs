//! An echo request (ping). Datagram ICMP sockets need no privilege where the system allows them to our group; raw ones
//! need CAP_NET_RAW. Where neither is allowed nothing is known about the host, which is not the host's fault.

use super::detail::{Detail, Failure};
use super::dial::{borrowed, find};
use super::outcome::{CheckResult, Phase};
use super::trace::Trace;
use super::{CompileError, Outcome, Trust};
use crate::config::probes::icmp::IcmpProbe;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// One lost packet is not an outage: so many requests share the timeout.
const ECHOES: u32 = 3;
/// Marks our requests among those of others on a raw socket, in bytes.
const TOKEN: usize = 16;
/// Type, code, checksum, identifier, sequence.
const HEADER: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum IcmpError {
    #[error(
        "ICMP sockets are not permitted to this process: {0}; set net.ipv4.ping_group_range to include its group \
         (sysctl), or give the systemd unit AmbientCapabilities=CAP_NET_RAW"
    )]
    Forbidden(#[source] io::Error),
}

/// An [`IcmpProbe`] made ready.
#[derive(Debug)]
pub struct IcmpCheck {
    probe: IcmpProbe,
}

/// A socket for echo requests to one address.
struct Pinger {
    socket: UdpSocket,
    address: IpAddr,
    /// A raw socket sees the IP header (IPv4), everybody's messages, and our own requests on loopback.
    raw: bool,
    token: [u8; TOKEN],
}

impl IcmpCheck {
    /// Fails if this process may not send echo requests at all: then nothing can be said about the host.
    pub async fn new(probe: &IcmpProbe, _trust: &Trust) -> Result<IcmpCheck, CompileError> {
        let domain = match probe.host {
            url::Host::Ipv6(_) => Domain::IPV6,
            _ => Domain::IPV4,
        };
        open(domain).map_err(IcmpError::Forbidden)?;
        Ok(IcmpCheck { probe: probe.clone() })
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        let mut trace = Trace::new();
        let checked = match tokio::time::timeout(timeout, self.ping(timeout, &mut trace)).await {
            Err(_) if trace.phase == Phase::Processing => {
                Ok(Err(Failure::new(CheckResult::Timeout, Detail::NoAnswer { limit: timeout })))
            }
            ended => ended,
        };
        trace.outcome(checked, timeout, self.probe.slow_after)
    }

    async fn ping(&self, timeout: Duration, trace: &mut Trace) -> Result<(), Failure> {
        trace.enter(Phase::Resolve);
        // The port only fills the type; ICMP has none.
        let addresses = find(&borrowed(&self.probe.host), 0, self.probe.ip).await?;
        let own = |cause: String| Failure::new(CheckResult::Error, Detail::Own { cause });
        let address = *addresses.first().ok_or_else(|| own("no address".into()))?;
        trace.address = Some(address);
        let pinger = Pinger::open(address).map_err(|error| own(error.to_string()))?;
        trace.enter(Phase::Processing);
        let unreachable = |error: io::Error| {
            Failure::new(CheckResult::Error, Detail::Unreachable { address, cause: error.to_string() })
        };
        pinger.exchange(timeout / ECHOES).await.map_err(unreachable)?;
        trace.enter(Phase::Total);
        Ok(())
    }
}

/// A datagram socket if the system allows it, else a raw one; `true`: raw.
fn open(domain: Domain) -> io::Result<(Socket, bool)> {
    let protocol = if domain == Domain::IPV6 { Protocol::ICMPV6 } else { Protocol::ICMPV4 };
    match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => Ok((socket, false)),
        Err(_) => Socket::new(domain, Type::RAW, Some(protocol)).map(|socket| (socket, true)),
    }
}

impl Pinger {
    fn open(address: SocketAddr) -> io::Result<Pinger> {
        let (socket, raw) = open(Domain::for_address(address))?;
        socket.set_nonblocking(true)?;
        // Connected: the kernel drops what other hosts send.
        socket.connect(&address.into())?;
        // Datagrams are datagrams: the type's send and recv do what is wanted on an ICMP socket too.
        let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
        let mut token = [0; TOKEN];
        for half in token.chunks_mut(8) {
            half.copy_from_slice(&RandomState::new().build_hasher().finish().to_ne_bytes());
        }
        Ok(Pinger { socket, address: address.ip(), raw, token })
    }

    /// Asks every `again` until an answer to any of the requests comes; the caller has the deadline.
    async fn exchange(&self, again: Duration) -> io::Result<()> {
        let mut again = tokio::time::interval(again.max(Duration::from_millis(10)));
        let mut buffer = [0; 512];
        let mut sequence = 0;
        loop {
            tokio::select! {
                _ = again.tick() => {
                    sequence += 1;
                    self.socket.send(&self.request(sequence)).await?;
                }
                read = self.socket.recv(&mut buffer) => {
                    let read = read?;
                    if self.is_reply(&buffer[..read]) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn request(&self, sequence: u16) -> Vec<u8> {
        let kind = if self.address.is_ipv6() { 128 } else { 8 };
        let mut message = vec![kind, 0, 0, 0];
        // The kernel overwrites the identifier of a datagram socket.
        message.extend_from_slice(&self.token[..2]);
        message.extend_from_slice(&sequence.to_be_bytes());
        message.extend_from_slice(&self.token);
        if self.address.is_ipv4() {
            // Of ICMPv6 the kernel makes it: it covers addresses that we do not know yet.
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        message
    }

    fn is_reply(&self, packet: &[u8]) -> bool {
        let message = match (self.raw && self.address.is_ipv4(), packet.first()) {
            (true, Some(first)) => packet.get(usize::from(first & 15) * 4..).unwrap_or_default(),
            _ => packet,
        };
        let kind = if self.address.is_ipv6() { 129 } else { 0 };
        message.first() == Some(&kind) && message.get(HEADER..HEADER + TOKEN) == Some(&self.token)
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_its_checksum_sums_to_zero() {
        let mut message = vec![8, 0, 0, 0, 1, 2, 3, 4, 5];
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        assert_eq!(checksum(&message), 0);
    }

    #[tokio::test]
    async fn loopback_answers_where_the_system_lets_us_ask() {
        for host in ["127.0.0.1", "[::1]", "localhost"] {
            let probe = IcmpProbe::to(url::Host::parse(host).unwrap());
            match IcmpCheck::new(&probe, &Trust::default()).await {
                Ok(check) => {
                    let outcome = check.run(Duration::from_secs(10)).await;
                    // A machine without IPv6 has no route to ::1.
                    let routed = host != "[::1]" || std::net::UdpSocket::bind("[::1]:0").is_ok();
                    assert_eq!(outcome.result == CheckResult::Ok, routed, "{host}: {outcome:?}");
                    assert!(!routed || outcome.phases.get(Phase::Processing).is_some());
                }
                Err(error) => assert!(error.to_string().contains("ping_group_range"), "{error}"),
            }
        }
    }

    #[tokio::test]
    async fn our_own_request_is_no_reply() {
        if open(Domain::IPV4).is_err() {
            return;
        }
        let pinger = Pinger::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut reply = pinger.request(1);
        let header = if pinger.raw { vec![0x45; 20] } else { Vec::new() };
        assert!(!pinger.is_reply(&[header.clone(), reply.clone()].concat()));
        reply[0] = 0;
        assert!(pinger.is_reply(&[header.clone(), reply.clone()].concat()));
        reply[HEADER] ^= 1;
        assert!(!pinger.is_reply(&[header, reply].concat()), "somebody else's");
        assert!(!pinger.is_reply(&[]));
    }
}
