//! From an address of the configuration to a stream that can be spoken on: resolve, connect, and TLS where wanted, each
//! noted in the trace. Shared by the protocols over TCP; what they say then stands in their own files.

use super::connect::{connect, resolve};
use super::detail::{Detail, Failure};
use super::outcome::{CheckResult, Phase};
use super::tls::{Anchor, Dress};
use super::trace::Trace;
use super::watch::Watched;
use crate::config::probes::address::Family;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

/// How long an address may take before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// A host of the configuration, borrowed.
pub(super) fn borrowed(host: &Host<String>) -> Host<&str> {
    match host {
        Host::Domain(name) => Host::Domain(name),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    }
}

/// The addresses of a host in one family or both.
pub(super) async fn find(host: &Host<&str>, port: u16, ip: Family) -> Result<Vec<std::net::SocketAddr>, Failure> {
    let mut addresses = resolve(host, port).await?;
    addresses.retain(|address| ip.admits(&address.ip()));
    if addresses.is_empty() {
        let cause = if ip == Family::V4 { "no IPv4 address" } else { "no IPv6 address" };
        return Err(Failure::new(CheckResult::Dns, Detail::Resolve { host: host.to_string(), cause: cause.into() }));
    }
    Ok(addresses)
}

/// A TCP connection whose arrivals the trace knows. Leaves the trace in phase `Connect`.
pub(super) async fn dial(
    host: &Host<&str>,
    port: u16,
    ip: Family,
    trace: &mut Trace,
) -> Result<Watched<TcpStream>, Failure> {
    trace.enter(Phase::Resolve);
    let addresses = find(host, port, ip).await?;
    trace.enter(Phase::Connect);
    let (stream, address) = connect(&addresses, STAGGER).await?;
    trace.address = Some(address);
    let _ = stream.set_nodelay(true);
    trace.connected();
    Ok(Watched::new(stream, trace.raw.clone()))
}

/// The name that a host's certificate must be for.
pub(super) fn server_name(host: &Host<&str>) -> Result<ServerName<'static>, Failure> {
    let own = |_| Failure::new(CheckResult::Error, Detail::Own { cause: "not a TLS name".into() });
    Ok(match host {
        Host::Domain(name) => ServerName::try_from((*name).to_owned()).map_err(own)?,
        Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(*address)),
        Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(*address)),
    })
}

/// A TLS handshake on a stream; the trace learns what the certificates say, also when it fails.
pub(super) async fn secure<S>(
    stream: S,
    name: ServerName<'static>,
    anchor: &Arc<Anchor>,
    dress: &Dress,
    trace: &mut Trace,
) -> Result<TlsStream<S>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    trace.enter(Phase::Tls);
    let (config, recorder) = anchor.connection_as(dress);
    let shaken = TlsConnector::from(config).connect(name, stream).await;
    if let Some(expiry) = recorder.expiry() {
        trace.expiry = Some(trace.expiry.map_or(expiry, |other| expiry.earliest(other)));
    }
    shaken.map_err(|error| {
        let detail = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => recorder.explain(inner),
            None => match error.kind() {
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => {
                    Detail::Reset { phase: Phase::Tls }
                }
                std::io::ErrorKind::UnexpectedEof => Detail::ClosedEarly { phase: Phase::Tls },
                _ => Detail::Handshake { cause: error.to_string() },
            },
        };
        Failure::new(CheckResult::Tls, detail)
    })
}
