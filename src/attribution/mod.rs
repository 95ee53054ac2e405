//! The ledger of what was up, down or unknown, since when and because of what.
//!
//! Gatherers report each observed state; the ledger keeps only changes. Every minute of a subject belongs to exactly one
//! interval, and every interval has one cause. The daemon's own absence is unknown.
//!
//! [`graph`] says who needs what, `blame.rs` lays one downtime at a door (the rules stand there), `book.rs` keeps what
//! was seen (of each subject of a `roll.rs` in a `track.rs`) and works causes out again while they can change, `ledger.rs`
//! writes them. What persons add, maintenance and overrides, stands beside in tables of its own.

pub mod availability;
mod blame;
mod book;
mod cause;
mod error;
mod excuse;
pub mod graph;
mod ledger;
mod maintenance;
mod overrides;
mod rewrite;
mod roll;
mod track;

pub use availability::{Availability, AvailabilityQuery};
pub use cause::Cause;
pub use error::AttributionError;
pub use excuse::Excuse;
pub use graph::{Graph, GraphDevice};
pub use ledger::{Interval, Ledger};
pub use maintenance::{Maintenance, NewMaintenance, Scope};
pub use overrides::{NewOverride, Override};

use crate::config::devices::DeviceKind;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// Something whose state is kept: one service, one device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Subject {
    pub kind: SubjectKind,
    /// Shared by whoever speaks of it: there are as many as devices.
    pub id: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectKind {
    Service,
    Camera,
    Hotspot,
    Dependency,
}

impl SubjectKind {
    pub const ALL: [SubjectKind; 4] =
        [SubjectKind::Service, SubjectKind::Camera, SubjectKind::Hotspot, SubjectKind::Dependency];

    pub fn as_str(self) -> &'static str {
        match self {
            SubjectKind::Service => "service",
            SubjectKind::Camera => "camera",
            SubjectKind::Hotspot => "hotspot",
            SubjectKind::Dependency => "dependency",
        }
    }

    /// Not looked at but listened to.
    pub fn is_device(self) -> bool {
        matches!(self, SubjectKind::Camera | SubjectKind::Hotspot)
    }

    pub fn parse(text: &str) -> Option<SubjectKind> {
        SubjectKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl From<DeviceKind> for SubjectKind {
    fn from(kind: DeviceKind) -> SubjectKind {
        match kind {
            DeviceKind::Camera => SubjectKind::Camera,
            DeviceKind::Hotspot => SubjectKind::Hotspot,
        }
    }
}

/// What was observed. Unknown is neither up nor down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Up,
    Down,
    Unknown,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Down => "down",
            State::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        [State::Up, State::Down, State::Unknown].into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
