//! The tick of the attribution ledger, and what follows from it: the gauges of what is excused, incidents that are looked
//! at again, and dependencies that come into doubt because devices fell silent.

use super::prepare::Prepared;
use crate::attribution::{Graph, GraphDevice, Ledger, Subject, SubjectKind};
use crate::config::Config;
use crate::gather::device::inventory::{Device, Inventory, Life};
use crate::gather::service::{Doubts, Needs};
use crate::incident::{Incidents, PlacedDevice};
use crate::labels::Labels;
use crate::metrics::{Metrics, columns};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The graph of a configuration and its inventory.
pub fn graph(prepared: &Prepared) -> Graph {
    let config = &prepared.config;
    let default = config.devices.as_ref().and_then(|devices| devices.offline_after);
    let devices = listed(&prepared.inventory).map(|listing| GraphDevice {
        subject: Subject { kind: listing.kind.into(), id: listing.id.shared() },
        agency: listing.agency.shared(),
        site: listing.site.clone(),
        offline_after: listing.offline_after.unwrap_or(default),
    });
    Graph::new(config, devices)
}

/// Where the devices of an inventory stand.
pub fn places(inventory: &Inventory) -> impl Iterator<Item = PlacedDevice> {
    listed(inventory).map(|listing| PlacedDevice {
        subject: Subject { kind: listing.kind.into(), id: listing.id.shared() },
        agency: listing.agency.shared(),
        site: listing.site.clone(),
        village: listing.village.clone(),
    })
}

fn listed(inventory: &Inventory) -> impl Iterator<Item = &Arc<Device>> {
    inventory.devices.iter().filter(|listing| listing.life == Life::Installed)
}

/// What the task works with.
#[derive(Clone)]
pub struct Parts {
    pub config: Arc<Config>,
    pub ledger: Ledger,
    pub metrics: Arc<Metrics>,
    pub incidents: Arc<Incidents>,
    pub doubts: Doubts,
}

/// Lets the ledger settle causes at every tick of the history until `shutdown`.
pub async fn run(parts: Parts, shutdown: CancellationToken) -> Result<(), Infallible> {
    let mut ticks = tokio::time::interval(parts.config.history.tick);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut watch = SilentSites::new(&parts.config);
    let mut shown = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let now = Timestamp::now();
        parts.ledger.tick(now);
        watch.look(&parts.metrics, &parts.doubts);
        let version = parts.ledger.excuses_version();
        if shown != Some(version) {
            show(&parts, now);
            shown = Some(version);
            parts.incidents.wake();
        }
    }
}

/// Brings `ioc_service_excused` and `ioc_device_excused` up to date: a subject that is not excused has no series.
fn show(parts: &Parts, now: Timestamp) {
    let kinds: HashMap<&str, &str> =
        parts.config.services.iter().map(|service| (service.id.as_str(), service.kind.as_str())).collect();
    let excuses = parts.ledger.excuses(now);
    let has_devices = excuses.iter().any(|(subject, _, _)| is_device(subject.kind));
    let sites = if has_devices { sites_of(&parts.metrics) } else { HashMap::new() };
    let (mut services, mut devices) = (HashSet::new(), HashSet::new());
    for (subject, agency, excuse) in excuses {
        let cause = excuse.cause.as_str();
        match subject.kind {
            SubjectKind::Service => {
                if let Some(kind) = kinds.get(&*subject.id) {
                    services.insert([agency, subject.id.to_string(), (*kind).to_owned(), cause.to_owned()]);
                }
            }
            SubjectKind::Camera | SubjectKind::Hotspot => {
                let kind = subject.kind.as_str().to_owned();
                let key = (kind, subject.id.to_string());
                if let Some(site) = sites.get(&key) {
                    let (kind, id) = key;
                    devices.insert([agency, kind, site.clone(), id, cause.to_owned()]);
                }
            }
            SubjectKind::Dependency => {}
        }
    }
    let table = parts.metrics.table(columns::service_excused::TABLE);
    table.retain(|labels| <[String; 4]>::try_from(owned(labels)).is_ok_and(|labels| services.contains(&labels)));
    for labels in &services {
        let values: Vec<&str> = labels.iter().map(String::as_str).collect();
        table.set(table.row(&values), columns::service_excused::EXCUSED, 1.0);
    }
    let table = parts.metrics.table(columns::device_excused::TABLE);
    table.retain(|labels| <[String; 5]>::try_from(owned(labels)).is_ok_and(|labels| devices.contains(&labels)));
    for labels in &devices {
        let values: Vec<&str> = labels.iter().map(String::as_str).collect();
        table.set(table.row(&values), columns::device_excused::EXCUSED, 1.0);
    }
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| label.to_string()).collect()
}

fn is_device(kind: SubjectKind) -> bool {
    matches!(kind, SubjectKind::Camera | SubjectKind::Hotspot)
}

/// The site of every known device, by kind and id.
fn sites_of(metrics: &Metrics) -> HashMap<(String, String), String> {
    let table = metrics.table(columns::device::TABLE);
    let snapshot = table.snapshot();
    let of = |labels: &Labels, name: &str| labels.get(name).to_owned();
    let rows = (0..snapshot.rows()).filter_map(|row| snapshot.labels(row));
    rows.map(|labels| ((of(labels, "kind"), of(labels, "device")), of(labels, "site"))).collect()
}

/// Notices when more devices of a site fall silent: what the site needs is then in doubt.
struct SilentSites {
    /// The dependencies of each site that has some, the own uplink first.
    needs: BTreeMap<String, Vec<String>>,
    silent: HashMap<String, usize>,
}

impl SilentSites {
    fn new(config: &Config) -> SilentSites {
        let needs = Needs::new(&config.dependencies);
        let of = |site: &crate::config::sites::DeviceSite| {
            needs.of(&site.depends_on).into_iter().map(|place| config.dependencies[place].id.to_string()).collect()
        };
        let needs = config.sites.iter().map(|site| (site.id.to_string(), of(site)));
        SilentSites {
            needs: needs.filter(|(_, ids): &(_, Vec<String>)| !ids.is_empty()).collect(),
            silent: HashMap::new(),
        }
    }

    fn look(&mut self, metrics: &Metrics, doubts: &Doubts) {
        if self.needs.is_empty() {
            return;
        }
        let mut silent: HashMap<String, usize> = HashMap::new();
        {
            let table = metrics.table(columns::device::TABLE);
            let snapshot = table.snapshot();
            for row in 0..snapshot.rows() {
                if snapshot.value(row, columns::device::UP) == Some(0.0)
                    && let Some(site) = snapshot.labels(row).map(|labels| labels.get("site"))
                    && self.needs.contains_key(site)
                {
                    *silent.entry(site.to_owned()).or_default() += 1;
                }
            }
        }
        for (site, count) in &silent {
            if self.silent.get(site).is_none_or(|before| before < count) {
                doubts.raise(self.needs[site].iter().map(String::as_str));
            }
        }
        self.silent = silent;
    }
}
