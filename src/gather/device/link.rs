//! One MQTT connection, version 3.1.1 or 5, behind one face: what is sent is subscriptions, what comes is messages.
//!
//! The session is persistent: the broker keeps QoS 1 and 2 messages while we are away. Packets are acknowledged as they
//! are read: telemetry is state, the next message corrects what a crash loses.

use super::DeviceError;
use crate::config::mqtt::{Broker, Version};
use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5 as packet5;
use rumqttc::{TlsConfiguration, Transport, v5};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::sync::Arc;
use std::time::Duration;

/// What we tell a version 5 broker to withhold, and the largest payload that is looked at.
pub const MAX_PACKET: usize = 64 * 1024;
/// Version 3.1.1 knows no such limit: what is larger than [`MAX_PACKET`] is read and counted, up to this.
const MAX_PACKET_V3: usize = 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a version 5 broker keeps our session while we are away.
const SESSION_EXPIRY_SECONDS: u32 = 7 * 86_400;
/// How many unacknowledged messages a version 5 broker may have under way to us.
const RECEIVE_MAXIMUM: u16 = 1_000;
/// We send subscriptions and now and then a command; the default would reserve megabytes for messages of ours.
const MAX_OUTGOING: u16 = 16;
const REQUESTS: usize = 64;
/// Filters of one request: a broker may refuse large packets.
const FILTERS_AT_ONCE: usize = 100;

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: Bytes,
    pub payload: Bytes,
    pub retain: bool,
}

impl Message {
    /// A copy that keeps no read buffer alive.
    pub fn detached(&self) -> Message {
        let (topic, payload) = (Bytes::copy_from_slice(&self.topic), Bytes::copy_from_slice(&self.payload));
        Message { topic, payload, retain: self.retain }
    }
}

/// Sends messages over a connection that somebody else polls.
pub enum Sender {
    V3(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

impl Sender {
    /// Sends a message at QoS 0, not to be retained. Never waits: `false` if there is no room.
    pub fn send(&self, topic: &str, payload: Vec<u8>) -> bool {
        match self {
            Sender::V3(client) => client.try_publish(topic, rumqttc::QoS::AtMostOnce, false, payload).is_ok(),
            Sender::V5(client) => client.try_publish(topic, v5::mqttbytes::QoS::AtMostOnce, false, payload).is_ok(),
        }
    }
}

/// What a connection reports.
#[derive(Debug)]
pub enum Event {
    Connected {
        session_present: bool,
    },
    Message(Message),
    /// How many subscriptions the broker refused.
    Subscribed {
        n_refused: usize,
    },
    /// Nothing that matters here.
    Other,
}

/// Why a connection ended.
#[derive(Debug)]
pub struct Lost {
    /// A packet was too large or made no sense; once connected, a persistent session will send it again.
    pub is_packet: bool,
    /// Of those, it was too large.
    pub is_oversized: bool,
    pub reason: String,
}

/// A connection and its session.
pub enum Link {
    V3 { client: rumqttc::AsyncClient, events: Box<rumqttc::EventLoop> },
    V5 { client: v5::AsyncClient, events: Box<v5::EventLoop> },
}

impl Link {
    /// Fails if the CA file cannot be used. Connects when first polled.
    pub fn new(broker: &Broker) -> Result<Link, DeviceError> {
        let transport = match broker.tls {
            true => Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls(broker)?))),
            false => Transport::Tcp,
        };
        // rumqttc joins host and port with a colon, so an IPv6 address needs its brackets.
        let host = if broker.host.contains(':') { format!("[{}]", broker.host) } else { broker.host.clone() };
        let password = broker.password.as_ref().map_or("", |password| password.expose());
        Ok(match broker.version {
            Version::V3 => {
                let mut options = rumqttc::MqttOptions::new(&broker.client_id, host, broker.port);
                options.set_transport(transport).set_keep_alive(KEEP_ALIVE).set_clean_session(false);
                options.set_max_packet_size(MAX_PACKET_V3, MAX_PACKET_V3).set_inflight(MAX_OUTGOING);
                if let Some(username) = &broker.username {
                    options.set_credentials(username, password);
                }
                let (client, events) = rumqttc::AsyncClient::new(options, REQUESTS);
                Link::V3 { client, events: Box::new(events) }
            }
            Version::V5 => {
                let mut options = v5::MqttOptions::new(&broker.client_id, host, broker.port);
                options.set_transport(transport).set_keep_alive(KEEP_ALIVE).set_clean_start(false);
                options.set_outgoing_inflight_upper_limit(MAX_OUTGOING);
                options.set_max_packet_size(Some(MAX_PACKET as u32));
                options.set_session_expiry_interval(Some(SESSION_EXPIRY_SECONDS));
                options.set_receive_maximum(Some(RECEIVE_MAXIMUM));
                if let Some(username) = &broker.username {
                    options.set_credentials(username, password);
                }
                let (client, events) = v5::AsyncClient::new(options, REQUESTS);
                Link::V5 { client, events: Box::new(events) }
            }
        })
    }

    /// The next event; connects if need be. After an error the next call connects again: wait before it.
    pub async fn poll(&mut self) -> Result<Event, Lost> {
        match self {
            Link::V3 { events, .. } => events.poll().await.map(event3).map_err(lost3),
            Link::V5 { events, .. } => events.poll().await.map(event5).map_err(lost5),
        }
    }

    /// Asks for the filters, and says how many answers will come, in their order. Never waits: the task that polls must
    /// not.
    pub fn subscribe(&self, filters: &[(String, u8)]) -> Result<usize, String> {
        filters.chunks(FILTERS_AT_ONCE).try_fold(0, |n, filters| self.subscribe_once(filters).map(|()| n + 1))
    }

    fn subscribe_once(&self, filters: &[(String, u8)]) -> Result<(), String> {
        match self {
            Link::V3 { client, .. } => {
                let filters = filters.iter().map(|(filter, qos)| {
                    let qos = match qos {
                        0 => rumqttc::QoS::AtMostOnce,
                        1 => rumqttc::QoS::AtLeastOnce,
                        _ => rumqttc::QoS::ExactlyOnce,
                    };
                    rumqttc::SubscribeFilter::new(filter.clone(), qos)
                });
                client.try_subscribe_many(filters).map_err(|error| error.to_string())
            }
            Link::V5 { client, .. } => {
                let filters = filters.iter().map(|(filter, qos)| {
                    let qos = match qos {
                        0 => v5::mqttbytes::QoS::AtMostOnce,
                        1 => v5::mqttbytes::QoS::AtLeastOnce,
                        _ => v5::mqttbytes::QoS::ExactlyOnce,
                    };
                    packet5::Filter::new(filter.clone(), qos)
                });
                client.try_subscribe_many(filters).map_err(|error| error.to_string())
            }
        }
    }

    /// Whether the next connection throws away the session that the broker keeps.
    pub fn set_clean(&mut self, clean: bool) {
        match self {
            Link::V3 { events, .. } => {
                events.mqtt_options.set_clean_session(clean);
            }
            Link::V5 { events, .. } => {
                events.options.set_clean_start(clean);
            }
        }
    }

    /// The session ends with the connection, also over version 5, whose sessions last for days otherwise.
    pub fn forget_session(&mut self) {
        if let Link::V5 { events, .. } = self {
            events.options.set_session_expiry_interval(None);
        }
    }

    /// Drops the connection. Version 3.1.1 keeps no session for who connected with a clean one, so after clearing it
    /// connects once more.
    pub fn drop_connection(&mut self) {
        match self {
            Link::V3 { events, .. } => events.clean(),
            Link::V5 { events, .. } => events.clean(),
        }
    }

    pub fn sender(&self) -> Sender {
        match self {
            Link::V3 { client, .. } => Sender::V3(client.clone()),
            Link::V5 { client, .. } => Sender::V5(client.clone()),
        }
    }

    pub fn is_v3(&self) -> bool {
        matches!(self, Link::V3 { .. })
    }

    /// Takes leave of the broker, which keeps the session. Poll until it fails.
    pub fn disconnect(&self) {
        // Refused only if the queue of requests is full of subscriptions; then the connection just ends.
        let _ = match self {
            Link::V3 { client, .. } => client.try_disconnect().is_ok(),
            Link::V5 { client, .. } => client.try_disconnect().is_ok(),
        };
    }
}

fn event3(event: rumqttc::Event) -> Event {
    use rumqttc::{Packet, SubscribeReasonCode};
    match event {
        rumqttc::Event::Incoming(Packet::Publish(publish)) => Event::Message(Message {
            topic: Bytes::from(publish.topic),
            payload: publish.payload,
            retain: publish.retain,
        }),
        rumqttc::Event::Incoming(Packet::ConnAck(ack)) => Event::Connected { session_present: ack.session_present },
        rumqttc::Event::Incoming(Packet::SubAck(ack)) => {
            let refused = ack.return_codes.iter().filter(|code| matches!(code, SubscribeReasonCode::Failure));
            Event::Subscribed { n_refused: refused.count() }
        }
        _ => Event::Other,
    }
}

fn event5(event: v5::Event) -> Event {
    match event {
        v5::Event::Incoming(packet5::Packet::Publish(publish)) => {
            Event::Message(Message { topic: publish.topic, payload: publish.payload, retain: publish.retain })
        }
        v5::Event::Incoming(packet5::Packet::ConnAck(ack)) => Event::Connected { session_present: ack.session_present },
        v5::Event::Incoming(packet5::Packet::SubAck(ack)) => {
            let granted =
                |code: &&packet5::SubscribeReasonCode| !matches!(code, packet5::SubscribeReasonCode::Success(_));
            Event::Subscribed { n_refused: ack.return_codes.iter().filter(granted).count() }
        }
        _ => Event::Other,
    }
}

fn lost3(error: rumqttc::ConnectionError) -> Lost {
    use rumqttc::{ConnectionError, StateError, mqttbytes::Error};
    let (is_packet, is_oversized) = match &error {
        ConnectionError::MqttState(StateError::Deserialization(error)) => {
            let is_oversized = matches!(error, Error::PayloadSizeLimitExceeded(_));
            // A connection that breaks is also reported as an error of decoding.
            (!matches!(error, Error::InsufficientBytes(_) | Error::Io(_)), is_oversized)
        }
        _ => (false, false),
    };
    Lost { is_packet, is_oversized, reason: chain(&error) }
}

fn lost5(error: v5::ConnectionError) -> Lost {
    use v5::mqttbytes::Error;
    let (is_packet, is_oversized) = match &error {
        v5::ConnectionError::MqttState(v5::StateError::Deserialization(error)) => {
            let is_oversized = matches!(error, Error::PayloadSizeLimitExceeded { .. });
            (!matches!(error, Error::InsufficientBytes(_) | Error::Io(_)), is_oversized)
        }
        _ => (false, false),
    };
    Lost { is_packet, is_oversized, reason: chain(&error) }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

fn tls(broker: &Broker) -> Result<rustls::ClientConfig, DeviceError> {
    let mut roots = rustls::RootCertStore::empty();
    match &broker.ca_file {
        Some(file) => {
            let failed =
                |reason: String| DeviceError::CaFile { broker: broker.id.to_string(), file: file.clone(), reason };
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))? {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(failed("it holds no certificate".into()));
            }
        }
        None => {
            // Single unreadable system certificates are no reason not to connect.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| DeviceError::Tls { broker: broker.id.to_string(), reason: error.to_string() })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
