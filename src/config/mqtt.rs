//! Section `mqtt`: brokers, topics and how their payloads are decoded.

use super::{Id, Secret};
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct Broker {
    pub id: Id,
    pub host: String,
    pub port: u16,
    /// `mqtts://`.
    pub tls: bool,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub version: Version,
    /// Stable, so that the broker keeps the session. Default `ioc-watch-` and the broker's id.
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub topics: Vec<Topic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    V3,
    #[default]
    V5,
}

#[derive(Debug, Clone)]
pub struct Topic {
    pub pattern: Vec<Segment>,
    /// 0, 1 or 2; default 1.
    pub qos: u8,
    pub decode: Decode,
    /// Whether a retained message counts as state; never as telemetry, never as last seen.
    pub retained_status: bool,
}

impl Topic {
    /// The MQTT filter: captures become `+`.
    pub fn filter(&self) -> String {
        let segments: Vec<&str> = self
            .pattern
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text,
                Segment::Agency | Segment::Kind | Segment::Device | Segment::Any => "+",
                Segment::Rest => "#",
            })
            .collect();
        segments.join("/")
    }
}

/// One level of a topic pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Literal(String),
    /// `{agency}`
    Agency,
    /// `{kind}`
    Kind,
    /// `{device}`
    Device,
    /// `+`
    Any,
    /// `#`, last only
    Rest,
}

#[derive(Debug, Clone)]
pub enum Decode {
    /// A JSON object; each field feeds a metric of the catalogue.
    Json { fields: Vec<Field> },
    /// The payload is one of two words.
    Status { online: String, offline: String },
}

/// A JSON field and the metric it feeds.
#[derive(Debug, Clone)]
pub struct Field {
    /// A key, or a JSON pointer when it starts with `/`.
    pub key: String,
    /// Without the `ioc_` prefix: `camera_frames_per_second`, or `device_up`.
    pub metric: String,
    /// Default 1.
    pub multiply: f64,
}
