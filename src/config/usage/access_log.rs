//! `usage: access_log`: a web server's log, whose requests it belongs to and which of them are people's.

use crate::config::Id;
use crate::config::decode::{self, Context, Section};
use crate::config::node::{Node, quote};
use crate::config::probes::journey::expression;
use crate::config::server::Network;
use regex::Regex;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Events that patterns may name, beside the five classes of status: each is a series an agency.
const MAX_EVENTS: usize = 20;

/// Quoted fields that may follow the user agent in a combined line.
const MAX_EXTRA: u64 = 9;

#[derive(Debug, Clone)]
pub struct AccessLog {
    /// `log-APP`: the label value `feed`, and the directory under `rejected/`.
    pub id: String,
    pub file: PathBuf,
    pub format: LogFormat,
    /// By network, the longest prefix first.
    pub agency_of: Vec<(Network, Id)>,
    /// Where a line names its agency by id, code or name; goes before `agency_of`.
    pub agency_field: Option<Field>,
    /// Whose requests are that neither names. Without it they count for no agency.
    pub other: Option<Id>,
    /// Agents that are no people, beside the usual ones ([`AccessLog::ROBOTS`]).
    pub exclude_agents: Vec<Regex>,
    /// Paths that are no use, such as those of health checks.
    pub exclude_paths: Vec<Regex>,
    /// Machines that are no people: a proxy's health checks, a monitoring server.
    pub exclude_networks: Vec<Network>,
    /// Events by name: requests that were answered (status below 400) whose path matches.
    pub events: Vec<(String, Regex)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFormat {
    /// nginx and Apache `combined`; more quoted fields may follow.
    Combined,
    /// One JSON object a line; the keys by canonical name.
    Json(BTreeMap<&'static str, String>),
}

/// Where a line says more than the format has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The n-th quoted field (from 1) after the user agent of a combined line.
    Extra(usize),
    /// A key of a JSON line.
    Key(String),
}

/// What is read of a JSON line, and the key it is expected under (nginx's own names of variables).
const FIELDS: [(&str, &str); 7] = [
    ("address", "remote_addr"),
    ("user", "remote_user"),
    ("time", "time_iso8601"),
    ("request", "request"),
    ("path", "request_uri"),
    ("status", "status"),
    ("agent", "http_user_agent"),
];

impl AccessLog {
    /// Agents that are no people: search engines, monitors (this program's own checks among them), programs.
    pub const ROBOTS: &str = "(?i)bot\\b|bot/|crawl|spider|slurp|^ioc-watch/|prometheus|blackbox|kube-probe|zabbix|nagios|check_http|\
                              uptime|pingdom|healthcheck|health-check|^elb-|^curl/|^wget/|python-requests|python-urllib|\
                              aiohttp|go-http-client|okhttp|^java/|libwww-perl|facebookexternalhit|headlesschrome";

    pub(super) fn decode(cx: &mut Context<'_>, node: &Node, id: String) -> Option<AccessLog> {
        const KEYS: &[&str] = &["file", "format", "fields", "agency_of", "agency_field", "other", "exclude", "events"];
        let section = Section::open(cx, node, "access_log", KEYS, &[])?;
        let file = section.required(cx, "file", decode::path);
        let is_json =
            section.optional(cx, "format", decode::choice(&[("combined", false), ("json", true)])).unwrap_or(false);
        let mut names: BTreeMap<&'static str, String> =
            FIELDS.into_iter().map(|(name, key)| (name, key.to_owned())).collect();
        if let Some(node) = section.get("fields").filter(|_| !is_json) {
            cx.error(node.place, "fields: only lines in the format json have names; give format: json");
        }
        section.optional(cx, "fields", |cx, node| fields(cx, node, &mut names));
        let agency_of = section.optional(cx, "agency_of", networks).unwrap_or_default();
        let agency_field = section.optional(cx, "agency_field", |cx, node| agency_field(cx, node, is_json));
        let other = section.optional(cx, "other", decode::agency);
        if ["agency_of", "agency_field", "other"].iter().all(|key| section.get(key).is_none()) {
            cx.error(
                section.place,
                "access_log: give \"agency_of\", \"agency_field\" or \"other\", or no request would have an agency",
            );
        }
        let mut log = AccessLog {
            id,
            file: PathBuf::new(),
            format: if is_json { LogFormat::Json(names) } else { LogFormat::Combined },
            agency_of,
            agency_field,
            other,
            exclude_agents: Vec::new(),
            exclude_paths: Vec::new(),
            exclude_networks: Vec::new(),
            events: Vec::new(),
        };
        section.optional(cx, "exclude", |cx, node| log.exclude(cx, node));
        log.events = section.optional(cx, "events", events).unwrap_or_default();
        log.file = file?;
        Some(log)
    }

    fn exclude(&mut self, cx: &mut Context<'_>, node: &Node) -> Option<()> {
        let section = Section::open(cx, node, "exclude", &["agents", "paths", "networks"], &[])?;
        self.exclude_agents = section.optional(cx, "agents", decode::list(expression)).unwrap_or_default();
        self.exclude_paths = section.optional(cx, "paths", decode::list(expression)).unwrap_or_default();
        self.exclude_networks = section
            .optional(
                cx,
                "networks",
                decode::list(|cx: &mut Context<'_>, node| {
                    let network = node.as_text().and_then(Network::parse);
                    if network.is_none() {
                        cx.expected(node, NETWORK);
                    }
                    network
                }),
            )
            .unwrap_or_default();
        Some(())
    }
}

const NETWORK: &str = "an address or network such as 10.20.0.5 or 10.20.0.0/16";

fn fields(cx: &mut Context<'_>, node: &Node, names: &mut BTreeMap<&'static str, String>) -> Option<()> {
    let known = FIELDS.map(|(name, _)| name);
    let section = Section::open(cx, node, "fields", &known, &[])?;
    for name in known {
        if let Some(key) = section.optional(cx, name, decode::name) {
            names.insert(name, key);
        }
    }
    Some(())
}

/// Networks and the agency each belongs to, the longest prefix first.
fn networks(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(Network, Id)>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping such as {\"10.20.0.0/16\": tam-ky}");
        return None;
    };
    let mut networks: Vec<(Network, Id)> = Vec::with_capacity(entries.len());
    for entry in entries {
        let agency = decode::agency(cx, &entry.value);
        let Some(network) = Network::parse(&entry.key) else {
            cx.error(entry.place, format!("agency_of: found {}, expected {NETWORK}", quote(&entry.key)));
            continue;
        };
        if networks.iter().any(|(known, _)| known.holds_same(&network)) {
            cx.error(entry.place, format!("agency_of: {} is the same network as an earlier one", quote(&entry.key)));
            continue;
        }
        networks.extend(agency.map(|agency| (network, agency)));
    }
    networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix()));
    Some(networks)
}

fn agency_field(cx: &mut Context<'_>, node: &Node, is_json: bool) -> Option<Field> {
    if is_json {
        return decode::name(cx, node).map(Field::Key);
    }
    let place = node.as_text().and_then(|text| text.parse().ok()).filter(|place| (1..=MAX_EXTRA).contains(place));
    let Some(place) = place else {
        cx.expected(node, "the number (1 to 9) of a quoted field after the user agent, or format: json and a key");
        return None;
    };
    usize::try_from(place).ok().map(Field::Extra)
}

fn events(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(String, Regex)>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping such as {nop-ho-so: \"^/ho-so/nop\"}");
        return None;
    };
    if entries.len() > MAX_EVENTS {
        cx.wrong(node, format!("{} events, at most {MAX_EVENTS} are allowed", entries.len()));
    }
    let mut events = Vec::with_capacity(entries.len());
    for entry in entries.iter().take(MAX_EVENTS) {
        let pattern = expression(cx, &entry.value);
        if Id::parse(&entry.key).is_none() {
            cx.error(entry.place, format!("events: found {}, expected an id: {}", quote(&entry.key), Id::ALLOWED));
            continue;
        }
        events.extend(pattern.map(|pattern| (entry.key.clone(), pattern)));
    }
    Some(events)
}
