//! ioc-watch watches what the agencies of a district or province run, exposes it as Prometheus metrics, alerts the
//! leader who is responsible, and evaluates the agencies every week.
//!
//! The map of the house. Arrows point down only: a room may use the rooms listed after `uses`, and no other.
//!
//! | room | what it is | uses |
//! |---|---|---|
//! | [`daemon`] | wires, supervises, reloads, shuts down | everything |
//! | [`cli`] | one file a subcommand | everything |
//! | `demo` | the `demo` command: simulated portals, gateway, devices and mail server | everything |
//! | [`web`] | one axum router: access, metrics, query API, alert API, pages | everything but daemon, cli, demo |
//! | [`evaluation`] | indicators, scorecard, reports | attribution, gather (what it keeps), promql, mail, org, store |
//! | [`incident`] | grouping, suppression, routing, life of an incident | org, attribution, mail, store, metrics |
//! | [`heartbeat`] | the dead man's switch: who has to say that they live, and who is missing | config, metrics, store |
//! | [`mail`] | templates, outbox, SMTP, webhooks | config, store, metrics |
//! | [`rules`] | rule files, annotation templates, the ruler | history, promql, config, store |
//! | [`history`] | step-function store, sampler, what of it outlives a restart, the remote engine | config, http, labels, lean, metrics, promql, store |
//! | [`promql`] | evaluation of parsed PromQL over a `Storage` | labels |
//! | [`gather`] | what is watched, one room each | config, org, attribution, metrics, feed, lean, store |
//! | [`feed`] | rows from files, HTTP, SQL and push | config, org, metrics, store, http, format |
//! | [`attribution`] | the dependency graph, maintenance, and the ledger of up/down/unknown intervals with their cause | config, store |
//! | [`metrics`] | the catalogue, columns for fleets, exposition | labels, lean |
//! | [`org`] | agencies, people, duty, calendar: who answers for what, as of when | config |
//! | [`store`] | the state database and its migrations | config |
//! | [`config`] | the configuration file, typed; every problem with line and column | metrics (its names only), matcher |
//! | [`http`] | asks other servers for data: bounded, verified | nothing |
//! | [`alert`] | an alert as it travels from ruler or API to incidents | labels, matcher |
//! | [`labels`] | label sets, each one text | nothing |
//! | [`matcher`] | matchers of labels, as Alertmanager has them | nothing |
//! | [`lean`] | room in vectors of which a fleet fills the most | nothing |
//! | [`format`] | numbers, dates and durations as Vietnamese and English readers write them | nothing |

/// The helpers that unit tests share with `tests/` call this crate by its name.
#[cfg(test)]
extern crate self as ioc_watch;

pub mod alert;
pub mod attribution;
pub mod cli;
pub mod config;
pub mod daemon;
#[cfg(feature = "demo")]
pub mod demo;
pub mod evaluation;
pub mod feed;
pub mod format;
#[cfg(test)]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;
pub mod gather;
#[cfg(test)]
mod generated;
pub mod heartbeat;
pub mod history;
pub mod http;
pub mod incident;
pub mod labels;
pub mod lean;
pub mod mail;
pub mod matcher;
pub mod metrics;
pub mod org;
pub mod promql;
pub mod rules;
pub mod store;
pub mod web;

/// Makes `ring` the process's one TLS provider. Called first in `main` and in every test that opens TLS; later calls
/// change nothing.
pub fn install_tls_provider() {
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
