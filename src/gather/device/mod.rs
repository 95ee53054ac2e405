//! Cameras and hotspots over MQTT.
//!
//! [`inventory`] says what there is; [`Fleet`] knows what is heard of it and shows it in metrics and ledger; each broker
//! is a reading thread and a working task ([`broker`]); a sweep each second turns silence into *offline*.
//!
//! The fleet lives as long as the daemon. At a reload: cancel [`run`], [`Fleet::replace`], [`run`] again; the broker
//! keeps the session meanwhile and nothing known is forgotten.

mod broker;
pub mod decode;
pub mod fleet;
pub mod guest;
pub mod inventory;
mod link;
mod message;
mod outcome;
mod presence;
mod queue;
mod sparkplug;
mod topic;
pub mod usable;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod strangers_tests;

pub use fleet::{Fleet, Now, Settings};
pub use inventory::Inventory;
pub use message::Hearer;
pub use outcome::Outcome;

use crate::config::{Id, mqtt::Broker};
use crate::metrics::columns;
use crate::store::StoreError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often silence is judged.
const SWEEP: Duration = Duration::from_secs(1);
/// How often last-seen times go to the database. After a crash that of a device may be so old, in a fleet of a hundred
/// thousand five times so old.
const FLUSH: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("topic {filter} of broker {broker}: no metric {metric:?}")]
    UnknownMetric { broker: String, filter: String, metric: String },
    #[error("reading {} for broker {broker}: {reason}", file.display())]
    CaFile { broker: String, file: PathBuf, reason: String },
    #[error("preparing TLS for broker {broker}: {reason}")]
    Tls { broker: String, reason: String },
    /// The thread that reads a broker or the task that works on its messages ended, or there was no thread to be had.
    /// Starting again helps.
    #[error("working on the messages of broker {broker}: {reason}")]
    Worker { broker: String, reason: String },
    /// Starting again helps.
    #[error("a task of the device gatherer panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// Starting again helps; what was not written is written then.
    #[error("keeping when devices were last seen")]
    Store(#[source] StoreError),
}

/// Listens to the brokers and sweeps the fleet until `shutdown`. An error means that all of it stopped and may be
/// started again.
pub async fn run(brokers: Vec<Broker>, fleet: Arc<Fleet>, shutdown: CancellationToken) -> Result<(), DeviceError> {
    let ids: Vec<Id> = brokers.iter().map(|broker| broker.id.clone()).collect();
    fleet.configure_links(&ids);
    let site = fleet.site_agency();
    // agency, broker[, result]
    for table in [columns::broker::TABLE, columns::broker_messages::TABLE] {
        fleet.metrics().table(table).retain(|labels| *labels[0] == *site && ids.iter().any(|id| **id == *labels[1]));
    }
    let stop = shutdown.child_token();
    let mut tasks = JoinSet::new();
    for broker in brokers {
        let number = fleet.link(&broker.id);
        tasks.spawn(broker::run(broker, number, fleet.clone(), stop.clone()));
    }
    tasks.spawn(sweep(fleet.clone(), stop.clone()));
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(DeviceError::Panicked).and_then(|ended| ended);
        // One that fails ends the others, so that none is left over when the supervisor starts them again.
        if ended.is_err() {
            stop.cancel();
        }
        result = result.and(ended);
    }
    // The brokers' last messages are in now.
    result.and(fleet.flush(jiff::Timestamp::now()).await.map_err(DeviceError::Store))
}

async fn sweep(fleet: Arc<Fleet>, stop: CancellationToken) -> Result<(), DeviceError> {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut flush = tokio::time::interval(FLUSH);
    flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => fleet.sweep(Now::read()),
            _ = flush.tick() => {
                fleet.forget(Now::read());
                // A database that is away must not stop the listening; what is unwritten is kept.
                match fleet.flush_some(jiff::Timestamp::now()).await {
                    Ok(()) => told = false,
                    Err(error) if !told => {
                        told = true;
                        tracing::error!(error = &error as &dyn std::error::Error, "cannot keep when devices were last seen");
                    }
                    Err(_) => {}
                }
            }
        }
    }
}
