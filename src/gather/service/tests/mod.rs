//! Checks against real servers of this process, one behaviour each.

mod extras;
mod http;
mod schedule;
mod servers;
mod tcp;
mod tls;

use super::{Check, Outcome, Trust};
use crate::config::probes::{Probe, http::HttpProbe};
use std::time::Duration;

/// For checks that end by themselves, however busy the machine.
const LONG: Duration = Duration::from_secs(20);
/// For checks that only the deadline ends.
const SHORT: Duration = Duration::from_millis(500);

async fn check(probe: &HttpProbe, timeout: Duration) -> Outcome {
    let check = Check::compile(&Probe::Http(probe.clone()), &Trust::default()).await.unwrap();
    check.run(timeout).await
}
