//! The configuration file, typed. One file a section; [`Config`] only composes them.
//!
//! A value of these types is valid: ids exist, addresses and patterns are parsed, secrets are read, relative paths are
//! resolved against the file. Nothing here connects to anything.

pub mod devices;
pub mod email;
pub mod evaluation;
pub mod feeds;
mod id;
pub mod incidents;
pub mod mqtt;
pub mod node;
pub mod organisation;
mod problems;
mod secret;
pub mod services;
pub mod site;

pub use id::Id;
pub use problems::{Problem, Problems};
pub use secret::Secret;

use std::path::{Path, PathBuf};

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    pub site: site::Site,
    pub server: site::Server,
    pub data_dir: PathBuf,
    pub state: site::State,
    pub history: site::History,
    pub rules: site::Rules,
    pub people: Vec<organisation::Person>,
    pub agencies: Vec<organisation::Agency>,
    pub calendar: organisation::Calendar,
    pub services: Vec<services::Service>,
    pub payments: Option<feeds::Payments>,
    pub usage: Vec<feeds::UsageSource>,
    pub mqtt: Vec<mqtt::Broker>,
    pub devices: Option<devices::Devices>,
    pub host: Option<site::Host>,
    pub incidents: incidents::Incidents,
    pub email: Option<email::Email>,
    pub evaluation: Option<evaluation::Evaluation>,
}

/// Reads and checks a configuration file, with the calendar and secret files it names. Reports every problem, not only
/// the first. Rule files and inventories are checked by their own rooms, see [`crate::cli::check`].
pub fn load(file: &Path) -> Result<Config, Vec<Problem>> {
    let _ = file;
    todo!("config decoding")
}
