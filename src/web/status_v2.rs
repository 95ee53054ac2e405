//! `GET /api/v2/status`: what programs that know Alertmanager ask before they trust a server to be one.
//!
//! Grafana, karma and `amtool config routes` read the configuration in it as Alertmanager's: so it says in
//! Alertmanager's words how alerts become incidents here. Who is told, and when again, has no words there.

use super::access::Identity;
use super::alerts_v2::{AlertsApi, RECEIVER};
use crate::incident::Routing;
use crate::matcher::Matcher;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::fmt::Write;

pub(super) async fn status(State(api): State<AlertsApi>, Extension(identity): Extension<Identity>) -> Response {
    let mut routing = api.incidents.routing();
    if identity.visible().is_some() {
        // Rules may name the agencies of others.
        routing.inhibit = Vec::new().into();
    }
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({
        "cluster": {"status": "disabled", "peers": []},
        "config": {"original": config(&routing)},
        "uptime": api.started,
        "versionInfo": {
            "branch": "", "buildDate": "", "buildUser": "", "goVersion": "", "revision": "", "version": version,
        },
    }))
    .into_response()
}

/// As a configuration file of Alertmanager. Texts are JSON's, which is YAML.
fn config(routing: &Routing) -> String {
    let list = |texts: Vec<String>| Value::from(texts).to_string();
    let mut text = format!(
        "global:\n  resolve_timeout: {}\nroute:\n  receiver: {RECEIVER}\n  group_by: {}\n  group_wait: {}\n  \
         group_interval: {}\nreceivers:\n- name: {RECEIVER}\n",
        duration(routing.resolve_timeout),
        list(routing.group_by.clone()),
        duration(routing.group_wait),
        duration(routing.group_interval),
    );
    if !routing.inhibit.is_empty() {
        text.push_str("inhibit_rules:\n");
    }
    let matchers = |matchers: &[Matcher]| list(matchers.iter().map(ToString::to_string).collect());
    for rule in routing.inhibit.iter() {
        let _ = write!(
            text,
            "- source_matchers: {}\n  target_matchers: {}\n  equal: {}\n",
            matchers(&rule.source),
            matchers(&rule.target),
            list(rule.equal.clone()),
        );
    }
    text
}

/// As Prometheus writes durations.
fn duration(duration: SignedDuration) -> String {
    match duration.as_millis() {
        millis if millis % 1_000 == 0 => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::incidents::Inhibit;

    #[test]
    fn the_configuration_is_one_of_alertmanager() {
        let matcher = |text| vec![Matcher::parse(text).unwrap()];
        let rule = Inhibit {
            source: matcher("alertname=\"BrokerDown\""),
            target: matcher("area=~\"camera|hotspot\""),
            equal: vec!["agency".into()],
        };
        let routing = Routing {
            group_by: vec!["agency".into(), "area".into()],
            group_wait: SignedDuration::from_secs(30),
            group_interval: SignedDuration::from_millis(1_500),
            resolve_timeout: SignedDuration::from_mins(5),
            inhibit: vec![rule].into(),
        };
        let expected = "global:\n  resolve_timeout: 300s\nroute:\n  receiver: responsible\n  \
            group_by: [\"agency\",\"area\"]\n  group_wait: 30s\n  group_interval: 1500ms\nreceivers:\n- name: responsible\n\
            inhibit_rules:\n- source_matchers: [\"alertname=\\\"BrokerDown\\\"\"]\n  \
            target_matchers: [\"area=~\\\"camera|hotspot\\\"\"]\n  equal: [\"agency\"]\n";
        assert_eq!(config(&routing), expected);
    }
}
