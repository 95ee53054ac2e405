//! The demo's MQTT broker: rumqttd inside this process. It has no shutdown and does not say which port it got, so it is
//! for the demo only; it ends with the process.

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Attempts to find a port that is still free when the broker takes it.
const ATTEMPTS: usize = 5;
const START_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("looking for a free port for the demo's broker")]
    Port(#[source] std::io::Error),
    #[error("starting the demo's broker thread")]
    Thread(#[source] std::io::Error),
    #[error("the demo's broker does not listen after {ATTEMPTS} attempts")]
    NotListening,
}

/// Starts a broker for MQTT 3.1.1 on a free loopback port and waits until it listens. Blocks for a moment.
pub fn start() -> Result<u16, BrokerError> {
    for _ in 0..ATTEMPTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BrokerError::Port)?;
        let address = listener.local_addr().map_err(BrokerError::Port)?;
        drop(listener);
        if listens(address)? {
            return Ok(address.port());
        }
    }
    Err(BrokerError::NotListening)
}

fn listens(address: SocketAddr) -> Result<bool, BrokerError> {
    let mut broker = Broker::new(config(address));
    let thread = std::thread::Builder::new()
        .name("demo-broker".into())
        .spawn(move || {
            if let Err(error) = broker.start() {
                tracing::debug!(%error, "the demo's broker ended");
            }
        })
        .map_err(BrokerError::Thread)?;
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline && !thread.is_finished() {
        if TcpStream::connect(address).is_ok() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Somebody else took the port in between.
    Ok(false)
}

fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 64 * 1024,
        max_inflight_count: 500,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server =
        ServerSettings { name: "demo-mqtt".into(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = RouterConfig {
        max_connections: 100,
        max_outgoing_packet_count: 200,
        max_segment_size: 1024 * 1024,
        max_segment_count: 10,
        ..RouterConfig::default()
    };
    Config { router, v4: Some(HashMap::from([("demo".to_string(), server)])), ..Config::default() }
}
