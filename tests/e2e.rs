//! The whole daemon against real servers: nginx, mosquitto, an SMTP server, Prometheus, Alertmanager, vmalert, PostgreSQL,
//! MariaDB, amtool. Each test starts its own on free loopback ports. One file a capability under `e2e/`; what is shared stands in `e2e/site.rs`.
//!
//! Tests of one room alone are elsewhere.

#[path = "support/mariadb.rs"]
mod mariadb;
#[allow(dead_code, reason = "other test binaries use the rest")]
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/mod.rs"]
mod support;
#[path = "support/workbooks.rs"]
mod workbooks;

#[path = "e2e/access.rs"]
mod access;
#[path = "e2e/alertmanager.rs"]
mod alertmanager;
#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/crash.rs"]
mod crash;
#[path = "e2e/dashboards.rs"]
mod dashboards;
#[path = "e2e/databases.rs"]
mod databases;
#[path = "e2e/delivery.rs"]
mod delivery;
#[path = "e2e/dependency.rs"]
mod dependency;
#[path = "e2e/durability.rs"]
mod durability;
#[path = "e2e/examples.rs"]
mod examples;
#[path = "e2e/external.rs"]
mod external;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/feeds.rs"]
mod feeds;
#[path = "e2e/heartbeats.rs"]
mod heartbeats;
#[path = "e2e/history.rs"]
mod history;
#[path = "e2e/hostile.rs"]
mod hostile;
#[path = "e2e/hostile_feeds.rs"]
mod hostile_feeds;
#[path = "e2e/hostile_queries.rs"]
mod hostile_queries;
#[allow(dead_code, reason = "other test binaries use the rest")]
#[path = "support/incidents.rs"]
mod incidents;
#[path = "e2e/payments.rs"]
mod payments;
#[path = "e2e/query_api.rs"]
mod query_api;
#[path = "e2e/reload.rs"]
mod reload;
#[path = "e2e/secrets.rs"]
mod secrets;
#[path = "e2e/senders.rs"]
mod senders;
#[path = "e2e/site.rs"]
mod site;
#[path = "e2e/threads.rs"]
mod threads;
#[path = "e2e/webhooks.rs"]
mod webhooks;
