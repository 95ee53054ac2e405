//! The tasks that depend on the configuration. A reload stops one generation and starts the next; metrics, history,
//! ledger, fleet, incidents and outbox live on.

use super::prepare::Prepared;
use super::pulse::{self, Vitals};
use super::supervisor::Group;
use super::wires::Reports;
use super::{attribution, ruling};
use crate::attribution::{Ledger, SubjectKind};
use crate::config::site::Evaluate;
use crate::evaluation;
use crate::feed;
use crate::gather::device::fleet::{Fleet, Now, Settings};
use crate::gather::{device, host, payment, service, usage};
use crate::heartbeat::Heartbeats;
use crate::history::{History, Keeper};
use crate::incident::Incidents;
use crate::mail::{self, Outbox};
use crate::metrics::{Metrics, columns};
use crate::org::Org;
use crate::rules::RulesBoard;
use crate::store::Store;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often feed directories are looked at, at most; with a fast tick, as often as that.
const FEED_POLL: Duration = Duration::from_secs(5);

/// What outlives reloads.
pub struct Foundation {
    pub metrics: Arc<Metrics>,
    pub store: Store,
    pub ledger: Ledger,
    pub history: Arc<History>,
    pub keeper: Keeper,
    pub history_since: Timestamp,
    pub fleet: Arc<Fleet>,
    pub incidents: Arc<Incidents>,
    pub outbox: Outbox,
    pub heartbeats: Arc<Heartbeats>,
    pub vitals: Vitals,
    /// Where other programs hand rows in.
    pub pushes: feed::push::Pushes,
    pub board: RulesBoard,
}

/// Starts every task of a configuration in `group`.
pub fn start(foundation: &Foundation, prepared: &Prepared, group: &Group) {
    settle(foundation, prepared);
    let doubts = service::Doubts::default();
    spawn_gatherers(foundation, prepared, &doubts, group);
    spawn_attribution(foundation, prepared, doubts, group);
    spawn_ruling(foundation, prepared, group);
    spawn_telling(foundation, prepared, group);
}

/// Applies the configuration to what outlives it.
fn settle(foundation: &Foundation, prepared: &Prepared) {
    let Prepared { config, org, inventory, .. } = prepared;
    foundation.history.set_retention(&config.history, &prepared.needs);
    foundation.fleet.replace(Settings::new(config), inventory, Now::read());
    foundation.ledger.set_graph(attribution::graph(prepared));
    foundation.outbox.set_limit(config.email.as_ref().and_then(|email| email.limit));
    foundation.incidents.configure(config, org.clone());
    foundation.heartbeats.configure(config, Instant::now());
    foundation.incidents.place(attribution::places(inventory));
    feed::retain(&foundation.metrics, &foundation.pushes, config);
    if config.services.is_empty() {
        foundation.ledger.retain(Timestamp::now(), |subject| subject.kind != SubjectKind::Service);
    }
    describe_agencies(&foundation.metrics, org, Timestamp::now());
}

/// Sets `ioc_agency_info`: leaders change with time.
pub fn describe_agencies(metrics: &Metrics, org: &Org, now: Timestamp) {
    use crate::config::organisation::Area;
    let table = metrics.table(columns::agency::TABLE);
    let rows: Vec<[String; 5]> = org
        .agencies()
        .iter()
        .map(|agency| {
            let leader = org.responsible(&agency.id, Area::Own, now).leader;
            [
                agency.id.to_string(),
                agency.name.clone(),
                agency.level.clone().unwrap_or_default(),
                agency.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
                leader.map(|leader| leader.to_string()).unwrap_or_default(),
            ]
        })
        .collect();
    table.retain(|labels| rows.iter().any(|row| row.iter().zip(labels).all(|(a, b)| **a == **b)));
    for row in &rows {
        let values: Vec<&str> = row.iter().map(String::as_str).collect();
        table.set(table.row(&values), columns::agency::INFO, 1.0);
    }
}

fn spawn_attribution(foundation: &Foundation, prepared: &Prepared, doubts: service::Doubts, group: &Group) {
    let parts = attribution::Parts {
        config: prepared.config.clone(),
        ledger: foundation.ledger.clone(),
        metrics: foundation.metrics.clone(),
        incidents: foundation.incidents.clone(),
        doubts,
    };
    group.spawn("attribution", move |stop| attribution::run(parts.clone(), stop));
}

fn spawn_gatherers(foundation: &Foundation, prepared: &Prepared, doubts: &service::Doubts, group: &Group) {
    let Prepared { config, org, .. } = prepared;
    let (metrics, ledger) = (&foundation.metrics, &foundation.ledger);
    {
        let (targets, doubts) = (service::Targets::of(config), doubts.clone());
        let (metrics, ledger) = (metrics.clone(), ledger.clone());
        group.spawn("services", move |stop| {
            service::run_all(targets.clone(), metrics.clone(), ledger.clone(), doubts.clone(), stop)
        });
    }
    {
        let (brokers, fleet) = (config.mqtt.clone(), foundation.fleet.clone());
        group.spawn("devices", move |stop| device::run(brokers.clone(), fleet.clone(), stop));
    }
    let place = feed::Place {
        store: foundation.store.clone(),
        metrics: metrics.clone(),
        org: org.clone(),
        data_dir: config.data_dir.clone(),
        pushes: foundation.pushes.clone(),
        workbooks: Arc::default(),
    };
    let every = config.history.tick.min(FEED_POLL);
    if let Some(payments) = config.payments.clone() {
        let (place, fees, zone) = (place.clone(), Arc::clone(&prepared.fees), config.site.timezone.clone());
        group.spawn("payments", move |stop| {
            payment::run(payments.clone(), fees.clone(), zone.clone(), place.clone(), every, stop)
        });
    }
    if !config.usage.is_empty() {
        let sources = config.usage.clone();
        group.spawn("usage", move |stop| usage::run(sources.clone(), place.clone(), every, stop));
    }
    if let Some(config_host) = config.host.clone() {
        let (agency, metrics) = (config.site.agency.clone(), metrics.clone());
        group.spawn("host", move |stop| host::run(config_host.clone(), agency.clone(), metrics.clone(), stop));
    }
}

fn spawn_ruling(foundation: &Foundation, prepared: &Prepared, group: &Group) {
    let config = &prepared.config;
    let (sampled, receiver) = watch::channel(0);
    {
        let (history, metrics, tick) = (foundation.history.clone(), foundation.metrics.clone(), config.history.tick);
        group.spawn("sampler", move |stop| {
            ruling::sample(history.clone(), metrics.clone(), tick, sampled.clone(), stop)
        });
    }
    if config.rules.evaluate == Evaluate::External {
        foundation.board.show(None);
    }
    if config.rules.evaluate == Evaluate::Embedded {
        let parts = ruling::Parts {
            rules: prepared.rules.clone(),
            external_url: config.site.external_url.clone(),
            site_agency: config.site.agency.to_string(),
            history: foundation.history.clone(),
            remote: config.history.remote.clone(),
            history_since: foundation.history_since,
            store: foundation.store.clone(),
            incidents: foundation.incidents.clone(),
            metrics: foundation.metrics.clone(),
            vitals: foundation.vitals.clone(),
            board: foundation.board.clone(),
        };
        group.spawn("ruler", move |stop| ruling::rule(parts.clone(), receiver.clone(), stop));
    }
}

fn spawn_telling(foundation: &Foundation, prepared: &Prepared, group: &Group) {
    let Prepared { config, org, .. } = prepared;
    {
        let incidents = foundation.incidents.clone();
        group.spawn("incidents", move |stop| {
            let incidents = incidents.clone();
            async move { incidents.run(stop).await }
        });
    }
    let (outbox, webhooks): (_, Arc<[_]>) = (foundation.outbox.clone(), config.webhooks.clone().into());
    group.spawn("webhooks", move |stop| mail::webhook::run(outbox.clone(), webhooks.clone(), stop));
    if let Some(email) = config.email.clone() {
        let outbox = foundation.outbox.clone();
        let (held, config) = (outbox.clone(), config.clone());
        group.spawn("summaries", move |stop| mail::summary::run(held.clone(), mail::summary::Desk::new(&config), stop));
        group.spawn("mail", move |stop| mail::send::run(outbox.clone(), email.clone(), stop));
    }
    spawn_heartbeats(foundation, prepared, group);
    let parts = evaluation::Parts {
        config: config.clone(),
        metrics: foundation.metrics.clone(),
        history: foundation.history.clone(),
        store: foundation.store.clone(),
        ledger: foundation.ledger.clone(),
        deliver: Arc::new(Reports::new(config, org.clone(), foundation.outbox.clone())),
    };
    group.spawn("evaluation", move |stop| evaluation::run(parts.clone(), stop));
}

fn spawn_heartbeats(foundation: &Foundation, prepared: &Prepared, group: &Group) {
    let heartbeats = foundation.heartbeats.clone();
    group.spawn("heartbeats", move |stop| {
        let heartbeats = heartbeats.clone();
        async move { heartbeats.run(stop).await }
    });
    if prepared.config.heartbeat.out.is_empty() {
        return;
    }
    let parts = pulse::Parts {
        config: prepared.config.clone(),
        org: prepared.org.clone(),
        metrics: foundation.metrics.clone(),
        store: foundation.store.clone(),
        outbox: foundation.outbox.clone(),
        incidents: foundation.incidents.clone(),
        vitals: foundation.vitals.clone(),
        interval: prepared.rules.groups.iter().map(|group| group.interval).max().unwrap_or_default(),
    };
    group.spawn("signs-of-life", move |stop| {
        let parts = parts.clone();
        async move { pulse::run(parts, stop).await }
    });
}
