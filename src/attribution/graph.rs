//! Who needs what: the transitive dependency graph, with the maintenance windows of the configuration file.
//!
//! What belongs here: what follows from the configuration and the inventory alone. What is down just now is the ledger's.

use super::{Subject, SubjectKind};
use crate::config::Config;
use std::time::Duration;

/// What the graph has to know of a device.
#[derive(Debug, Clone)]
pub struct GraphDevice {
    pub subject: Subject,
    pub agency: String,
    /// Id of the site; may be empty.
    pub site: String,
    /// How long its silence may last; `None` for devices whose silence says nothing.
    pub offline_after: Option<Duration>,
}

/// The graph of one configuration. Made at start and at every reload.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    dependencies: Vec<Subject>,
}

impl Graph {
    pub fn new(config: &Config, devices: impl IntoIterator<Item = GraphDevice>) -> Graph {
        let _ = devices.into_iter().count();
        let subject = |id: &str| Subject { kind: SubjectKind::Dependency, id: id.to_string() };
        Graph { dependencies: config.dependencies.iter().map(|dependency| subject(&dependency.id)).collect() }
    }

    /// Every dependency, in the order of the file.
    pub fn dependencies(&self) -> &[Subject] {
        &self.dependencies
    }
}
