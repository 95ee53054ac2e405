//! How many series a configuration can give: for the estimate of the history's memory that `check` prints and the start
//! insists on. What only the work shows (how many error kinds a feed meets, which routes are asked) is taken as many as
//! there can reasonably be; it weighs little beside devices and services.

use crate::config::Config;
use crate::config::devices::DeviceKind;
use crate::config::feeds::Source;
use crate::config::mqtt::{Decode, Field};
use crate::config::probes::Probe;
use crate::config::usage::UsageRows;
use crate::gather::device::Inventory;
use crate::gather::device::inventory::Device;
use crate::history::{Crowd, Estimate, Estimator, Need, Values};
use crate::metrics::{TableId, columns};
use crate::rules::{Rule, RuleSet, may_carry_where};
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

/// Phases of a check, and results of one.
const PHASES: u64 = 6;
const RESULTS: u64 = 11;
/// Certificates of which a check tells the expiry: leaf and chain.
const CERTIFICATES: u64 = 2;
/// Causes by which something can be excused; the same outage seldom has all.
const CAUSES: u64 = 7;
/// Reasons of a feed's failures or rejected rows, results of an MQTT message, and the like.
const REASONS: u64 = 16;
/// Kinds of payment mismatches.
const MISMATCHES: u64 = 8;
/// Sides of a payment by its statuses.
const PAYMENT_ROWS: u64 = 12;
/// Steps of a dossier by channel, and by outcome too, which the two last of five steps have.
const DOSSIER_STEPS: u64 = 10;
const DOSSIER_OUTCOMES: u64 = 18;
/// Kinds of events of an application.
const EVENTS: u64 = 20;
/// Cores and network interfaces of a machine: `check` may run on another.
const CORES: u64 = 64;
const INTERFACES: u64 = 16;
/// Areas by severities.
const INCIDENTS: u64 = 21;
/// Series of the daemon itself: some 60 families, those with buckets among them.
const OWN: u64 = 1_000;
/// Labels of an alert or of a recorded series, about.
const RECORDED_LABELS: usize = 8;
/// A time that our own clock gave.
const LAST_SEEN: &str = "ioc_device_last_seen_timestamp_seconds";
/// What comes by the thousand and is 1 or 0.
const STATES: [&str; 4] = ["ioc_device_up", "ioc_device_usable", "ioc_device_installed", "ioc_device_excused"];

/// What the history may need with this configuration.
pub fn estimate(config: &Config, inventory: &Inventory, rules: &RuleSet, needs: &[Need]) -> Estimate {
    let mut crowds = Crowds { estimator: Estimator::new(&config.history, needs), tick: config.history.tick };
    crowds.services(config);
    crowds.devices(config, inventory);
    crowds.feeds(config);
    crowds.site(config);
    crowds.rules(rules, places(inventory));
    crowds.estimator.finish()
}

struct Crowds {
    estimator: Estimator,
    tick: Duration,
}

impl Crowds {
    /// [`Crowds::some`] of all families of the table.
    fn rows(&mut self, table: TableId, known: &[&str], count: u64, pace: impl Fn(&str) -> Option<Duration>) {
        self.some(table, |_| true, known, count, pace);
    }

    /// The families of a table that `has` accepts. `known`: the values of the table's first labels. `pace` gives the
    /// shortest time between two values of a family, `None` if it never changes.
    fn some(
        &mut self,
        table: TableId,
        has: impl Fn(&str) -> bool,
        known: &[&str],
        count: u64,
        pace: impl Fn(&str) -> Option<Duration>,
    ) {
        let definition = table.definition();
        let values = known.iter().copied().map(Some).chain(std::iter::repeat(None));
        let labels: Vec<(&str, Option<&str>)> = definition.labels.iter().copied().zip(values).collect();
        for family in definition.families.iter().filter(|family| has(family.name)) {
            self.estimator.add(&Crowd {
                metric: family.name,
                labels: labels.clone(),
                is_open: false,
                count,
                every: pace(family.name),
                values: match family.name {
                    LAST_SEEN => Values::Times,
                    name if STATES.contains(&name) => Values::States,
                    _ => Values::Any,
                },
            });
        }
    }

    /// [`Crowds::rows`] of which every family may change at every tick.
    fn brisk(&mut self, table: TableId, known: &[&str], count: u64) {
        let tick = self.tick;
        self.rows(table, known, count, |_| Some(tick));
    }

    fn services(&mut self, config: &Config) {
        for service in &config.services {
            let known = [&*service.agency, &*service.id, service.kind.as_str()];
            let every = |_: &str| Some(service.every);
            self.rows(columns::service::TABLE, &known, 1, every);
            self.rows(columns::service_excused::TABLE, &known, CAUSES, every);
            self.rows(columns::service_phase::TABLE, &known, PHASES, every);
            self.rows(columns::service_checks::TABLE, &known, RESULTS, every);
            match &service.probe {
                Probe::Journey(journey) => {
                    let steps = (journey.steps.len() + journey.finally.len()) as u64;
                    self.rows(columns::service_step::TABLE, &known, steps, every);
                }
                Probe::Sql(_) => self.rows(columns::service_query::TABLE, &known, 1, every),
                Probe::Http(_) | Probe::Tcp(_) | Probe::Tls(_) | Probe::Dns(_) | Probe::Icmp(_) => {}
            }
            self.rows(columns::service_tls::TABLE, &known, CERTIFICATES, every);
        }
        for dependency in &config.dependencies {
            let agency = dependency.agency.as_ref().unwrap_or(&config.site.agency);
            self.brisk(columns::dependency::TABLE, &[agency, &dependency.id], 1);
        }
    }

    fn devices(&mut self, config: &Config, inventory: &Inventory) {
        let topics = config.mqtt.iter().flat_map(|broker| &broker.topics);
        let tells_status = topics.clone().any(|topic| matches!(topic.decode, Decode::Status(_)));
        let usual = config.devices.as_ref().and_then(|devices| devices.offline_after);
        let told: BTreeSet<String> = topics.flat_map(|topic| fields(&topic.decode)).map(full_name).collect();
        for device in &inventory.devices {
            let kind = device.kind;
            let known = [&*device.agency, kind.as_str(), &*device.site, &*device.id];
            let silence = device.offline_after.unwrap_or(usual);
            self.device(&told, &known, kind, 1, if tells_status { None } else { silence });
        }
        // What is discovered may be either; a camera has the more families.
        let discovered = config.devices.as_ref().and_then(|devices| devices.discover_max).unwrap_or(0) as u64;
        self.device(&told, &[], DeviceKind::Camera, discovered, if tells_status { None } else { usual });
        let villages: BTreeSet<(&str, &str)> =
            inventory.devices.iter().map(|device| (&*device.agency, &*device.village)).collect();
        for (agency, village) in villages {
            self.brisk(columns::village::TABLE, &[agency, village], 1);
        }
        let brokers = config.mqtt.len() as u64;
        self.brisk(columns::broker::TABLE, &[], brokers);
        self.brisk(columns::device_flaps::TABLE, &[], config.agencies.len() as u64 * DeviceKind::ALL.len() as u64);
        self.brisk(columns::broker_messages::TABLE, &[], brokers * REASONS);
    }

    /// `told`: the families of telemetry that some topic may bring. `known`: agency, kind, site, device. `silence`: how long a device must say nothing to be down; without it, it
    /// may say so itself at any time.
    fn device(
        &mut self,
        told: &BTreeSet<String>,
        known: &[&str],
        kind: DeviceKind,
        count: u64,
        silence: Option<Duration>,
    ) {
        let tick = self.tick;
        // It has to be silent so long to go down, and comes up with one message.
        let flap = silence.map_or(tick, |silence| silence / 2);
        self.rows(columns::device::TABLE, known, count, |family| match family {
            "ioc_device_installed" => None,
            "ioc_device_up" => Some(flap),
            _ => Some(tick),
        });
        self.rows(columns::device_excused::TABLE, known, count, |_| Some(flap));
        self.rows(columns::device_info::TABLE, known, count, |_| None);
        let telemetry = match known[..] {
            [agency, _, site, device] => &[agency, site, device][..],
            _ => &[],
        };
        let table = match kind {
            DeviceKind::Camera => columns::camera::TABLE,
            DeviceKind::Hotspot => columns::hotspot::TABLE,
        };
        self.some(table, |family| told.contains(family), telemetry, count, |_| Some(tick));
    }

    fn feeds(&mut self, config: &Config) {
        let agencies = config.agencies.len() as u64;
        let mut feeds = 0;
        if let Some(payments) = &config.payments {
            feeds += payments.feeds().count() as u64;
            self.brisk(columns::payment_records::TABLE, &[], agencies * PAYMENT_ROWS);
            self.brisk(columns::payment_mismatch::TABLE, &[], agencies * MISMATCHES);
        }
        for source in &config.usage {
            feeds += 1;
            match &source.rows {
                UsageRows::Usage { .. } => {
                    self.brisk(columns::app::TABLE, &[], agencies);
                    self.brisk(columns::app_events::TABLE, &[], agencies * EVENTS);
                }
                UsageRows::AccessLog { .. } => {
                    self.brisk(columns::app::TABLE, &[], agencies);
                    self.brisk(columns::app_events::TABLE, &[], agencies * EVENTS);
                    self.brisk(columns::access_log::TABLE, &[], REASONS);
                    self.brisk(columns::access_log_file::TABLE, &[], 1);
                }
                UsageRows::Dossiers(dossiers) => {
                    // Counts change when rows come; files and pushed rows may come at any time.
                    let every = match &dossiers.feed.source {
                        Source::Http(http) => http.every,
                        Source::Sql(sql) => sql.every,
                        Source::Files(_) | Source::Push => self.tick,
                    };
                    self.rows(columns::dossiers::TABLE, &[], agencies * DOSSIER_OUTCOMES, |_| Some(every));
                    self.brisk(columns::dossier_month::TABLE, &[], agencies * DOSSIER_STEPS);
                    self.brisk(columns::dossier_standing::TABLE, &[], agencies);
                    self.brisk(columns::target::TABLE, &[], agencies * dossiers.targets.len() as u64);
                }
            }
        }
        self.brisk(columns::feed::TABLE, &[], feeds);
        self.brisk(columns::feed_failures::TABLE, &[], feeds * REASONS);
        self.brisk(columns::feed_rejected::TABLE, &[], feeds * REASONS);
    }

    fn site(&mut self, config: &Config) {
        let agencies = config.agencies.len() as u64;
        self.rows(columns::agency::TABLE, &[], agencies, |_| None);
        self.brisk(columns::agency_score::TABLE, &[], agencies);
        let indicators = config.evaluation.as_ref().map_or(0, |evaluation| evaluation.indicators.len() as u64);
        self.brisk(columns::agency_indicator::TABLE, &[], agencies * indicators);
        self.brisk(columns::incidents::TABLE, &[], agencies * INCIDENTS);
        self.brisk(columns::heartbeat::TABLE, &[], config.heartbeat.r#in.len() as u64);
        if let Some(host) = &config.host {
            let every = |_: &str| Some(host.every);
            self.rows(columns::host::TABLE, &[&config.site.agency], 1, every);
            self.rows(columns::host_core::TABLE, &[&config.site.agency], CORES, every);
            self.rows(columns::host_disk::TABLE, &[&config.site.agency], host.disks.len() as u64, every);
            self.rows(columns::host_network::TABLE, &[&config.site.agency], INTERFACES, every);
        }
        let (metric, every) = ("the daemon's own", Some(self.tick));
        self.estimator.add(&Crowd {
            metric,
            labels: unknown(2),
            is_open: true,
            count: OWN,
            every,
            values: Values::Any,
        });
    }

    /// What rules record. A result has at most as many series as the largest metric that its expression reads, or as there are
    /// places of devices if it does not tell these apart; of a subject one alert at a time is counted.
    fn rules(&mut self, rules: &RuleSet, places: u64) {
        let tables = [columns::device::TABLE, columns::device_info::TABLE, columns::device_excused::TABLE];
        let tables = tables.into_iter().chain([columns::camera::TABLE, columns::hotspot::TABLE]);
        let families = tables.flat_map(|table| table.definition().families);
        let mut of_devices: BTreeSet<String> = families.map(|family| family.name.to_owned()).collect();
        let mut recorded: HashSet<String> = HashSet::new();
        // Of the rule that may have most alerts, and how long these are pending at least.
        let (mut alerts, mut hold) = (0, Duration::ZERO);
        for group in &rules.groups {
            for rule in &group.rules {
                let (query, limit) = match rule {
                    Rule::Recording(rule) => (&rule.query, rule.limit as u64),
                    Rule::Alerting(rule) => (&rule.query, rule.limit as u64),
                };
                // What was recorded before without that label does not bring it.
                let may_have_it = |metric: &str| of_devices.contains(metric) || !recorded.contains(metric);
                let tells_devices = may_carry_where(query.text(), "device", &may_have_it);
                let needs = Need::of(query, "");
                let read = needs.iter().map(|need| {
                    let count = self.estimator.count(&need.matchers);
                    let is_of_devices = need.metric().is_some_and(|metric| of_devices.contains(metric));
                    if is_of_devices && !tells_devices { count.min(places) } else { count }
                });
                let count = read.max().unwrap_or(1).max(1).min(if limit > 0 { limit } else { u64::MAX });
                if let Rule::Recording(rule) = rule {
                    recorded.insert(rule.name.clone());
                    if tells_devices {
                        of_devices.insert(rule.name.clone());
                    }
                }
                match rule {
                    Rule::Recording(rule) => self.estimator.add(&Crowd {
                        metric: &rule.name,
                        labels: unknown(RECORDED_LABELS),
                        is_open: true,
                        count,
                        every: Some(group.interval),
                        values: Values::Any,
                    }),
                    Rule::Alerting(rule) if count > alerts => (alerts, hold) = (count, rule.hold),
                    Rule::Alerting(rule) if count == alerts => hold = hold.min(rule.hold),
                    Rule::Alerting(_) => {}
                }
            }
        }
        let every = rules.groups.iter().map(|group| group.interval).min();
        // It may be pending now and then not at every evaluation, but fires only after it was pending for long enough.
        let fires = every.map(|every| every + hold);
        for (metric, every, values) in [
            ("ALERTS", every, Values::States),
            ("ALERTS", fires, Values::States),
            ("ALERTS_FOR_STATE", every, Values::Times),
        ] {
            self.estimator.add(&Crowd {
                metric,
                labels: unknown(RECORDED_LABELS),
                is_open: true,
                count: alerts,
                every,
                values,
            });
        }
    }
}

/// How many agencies, sites and villages with devices of either kind there are.
fn places(inventory: &Inventory) -> u64 {
    let place = |device: &Device| (device.agency.clone(), device.kind, device.site.clone(), device.village.clone());
    inventory.devices.iter().map(|device| place(device)).collect::<HashSet<_>>().len() as u64
}

/// What a decoder feeds.
fn fields(decode: &Decode) -> &[Field] {
    match decode {
        Decode::Json { fields, .. } | Decode::Value { fields } | Decode::Sparkplug { fields, .. } => fields,
        Decode::Status(_) => &[],
    }
}

fn full_name(field: &Field) -> String {
    format!("ioc_{}", field.metric)
}

/// So many labels of which nothing is known.
fn unknown(count: usize) -> Vec<(&'static str, Option<&'static str>)> {
    vec![("", None); count]
}
