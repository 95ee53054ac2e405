//! The configuration file, typed. One file a section; [`Config`] only composes them.
//!
//! A value of these types is valid: ids exist, addresses and patterns are parsed, secrets are read, relative paths are
//! resolved against the file. Nothing here connects to anything.

mod calendar;
mod decode;
pub mod dependencies;
pub mod devices;
pub mod dkim;
pub mod email;
mod environment;
pub mod escalation;
pub mod evaluation;
pub mod feeds;
pub mod glob;
pub mod heartbeat;
mod id;
pub mod incidents;
pub mod lunar;
pub mod maintenance;
pub mod mask;
pub mod mqtt;
pub mod node;
pub mod organisation;
pub mod probes;
mod problems;
mod secret;
pub mod server;
pub mod services;
pub mod site;
pub mod sites;
pub mod tls;
mod units;
pub mod usage;
pub mod users;
pub mod webhooks;

pub use id::Id;
pub use problems::{Problem, Problems};
pub use secret::Secret;
pub use units::{parse_duration, write_duration};

use decode::{Context, Section};
use node::Node;
use std::path::{Path, PathBuf};

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    pub site: site::Site,
    pub server: server::Server,
    pub data_dir: PathBuf,
    pub state: site::State,
    pub history: site::History,
    pub rules: site::Rules,
    pub people: Vec<organisation::Person>,
    pub agencies: Vec<organisation::Agency>,
    pub calendar: organisation::Calendar,
    pub dependencies: Vec<dependencies::Dependency>,
    pub sites: Vec<sites::DeviceSite>,
    pub maintenance: Vec<maintenance::Maintenance>,
    pub services: Vec<services::Service>,
    pub payments: Option<feeds::Payments>,
    pub usage: Vec<usage::UsageSource>,
    pub mqtt: Vec<mqtt::Broker>,
    pub devices: Option<devices::Devices>,
    pub host: Option<site::Host>,
    pub incidents: incidents::Incidents,
    /// Those of the file, then what holds for the rest.
    pub escalation: Vec<escalation::Policy>,
    pub email: Option<email::Email>,
    pub heartbeat: heartbeat::Heartbeat,
    pub webhooks: Vec<webhooks::Webhook>,
    pub evaluation: Option<evaluation::Evaluation>,
}

/// Reads and checks a configuration file, with the calendar and secret files it names. Reports every problem, not only
/// the first. Rule files and inventories are checked by their own rooms, see [`crate::cli::check`].
pub fn load(file: &Path) -> Result<Config, Vec<Problem>> {
    load_with(file, &|name| std::env::var(name).ok())
}

/// [`load`] with the environment as an argument.
pub fn load_with(file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Problem>> {
    let (config, problems) = load_partly(file, environment);
    finish(config, problems)
}

/// What can be read of a configuration, and what is wrong with it: parts with problems are left out or have their
/// default. For `check` only, which goes on to the files it names; never to be run with unless there is no problem.
pub fn load_partly(file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> (Option<Config>, Problems) {
    let mut problems = Problems::default();
    let config =
        node::read_text(file, &mut problems).and_then(|text| decode_text(file, &text, environment, &mut problems));
    (config, problems)
}

/// [`load`] of a text that was read already; `file` names the problems and is what paths are relative to.
pub fn load_text(
    file: &Path,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    let config = decode_text(file, text, environment, &mut problems);
    finish(config, problems)
}

fn finish(config: Option<Config>, problems: Problems) -> Result<Config, Vec<Problem>> {
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems.into_sorted()),
    }
}

const SECTIONS: &[&str] = &[
    "site",
    "server",
    "data_dir",
    "state",
    "history",
    "rules",
    "people",
    "agencies",
    "calendar",
    "dependencies",
    "sites",
    "maintenance",
    "services",
    "payments",
    "usage",
    "mqtt",
    "devices",
    "host",
    "incidents",
    "escalation",
    "email",
    "heartbeat",
    "webhooks",
    "evaluation",
];

/// Sections that the design names but this version cannot use.
const LATER: &[&str] = &[];

fn decode_text(
    file: &Path,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Option<Config> {
    let mut root = Node::read(file, text, problems)?;
    let expanded = environment::expand(&mut root, file, environment, problems);
    let mut cx = Context::new(file, problems, site::timezone(&root));
    cx.expanded = expanded;
    let section = Section::open(&mut cx, &root, "configuration", SECTIONS, LATER)?;
    decode_sections(&mut cx, section)
}

fn decode_sections(cx: &mut Context<'_>, root: Section<'_>) -> Option<Config> {
    let ids = |list| decode::declared(root.get(list), "id");
    for (list, what) in [
        ("people", "person id"),
        ("agencies", "agency id"),
        ("dependencies", "dependency id"),
        ("sites", "site id"),
        ("services", "service id"),
        ("mqtt", "broker id"),
        ("webhooks", "webhook id"),
    ] {
        decode::unique(cx, what, &ids(list));
    }
    cx.people = ids("people").into_iter().map(|(id, _)| id.to_owned()).collect();
    cx.agencies = ids("agencies").into_iter().map(|(id, _)| id.to_owned()).collect();
    cx.dependencies = ids("dependencies").into_iter().map(|(id, _)| id.to_owned()).collect();
    cx.services = ids("services").into_iter().map(|(id, _)| id.to_owned()).collect();

    let server = root.optional(cx, "server", server::Server::decode).unwrap_or_default();
    let site = root.required(cx, "site", |cx, node| site::Site::decode(cx, node, &server.url()));
    let data_dir = root.optional(cx, "data_dir", decode::path);
    let state = root.optional(cx, "state", site::State::decode);
    let history = root.optional(cx, "history", site::History::decode);
    let rules = root.optional(cx, "rules", site::Rules::decode);
    let people = root.required(cx, "people", decode::list(organisation::Person::decode));
    let agencies = root.required(cx, "agencies", decode::list(organisation::Agency::decode));
    organisation::check_agencies(cx, root.get("agencies"));
    let calendar = root.optional(cx, "calendar", organisation::Calendar::decode);
    let dependencies = root.optional(cx, "dependencies", decode::list(dependencies::Dependency::decode));
    dependencies::check_cycles(cx, root.get("dependencies"));
    let sites = root.optional(cx, "sites", decode::list(sites::DeviceSite::decode));
    let maintenance = root.optional(cx, "maintenance", decode::list(maintenance::Maintenance::decode));
    let services = root.optional(cx, "services", decode::list(services::Service::decode));
    let payments = root.optional(cx, "payments", feeds::Payments::decode);
    let usage = root.optional(cx, "usage", decode::list(usage::UsageSource::decode)).unwrap_or_default();
    usage::check_sources(cx, root.get("usage"));
    check_feed_ids(cx, &root, payments.as_ref(), &usage);
    let mqtt = root.optional(cx, "mqtt", decode::list(mqtt::Broker::decode));
    let devices = root.optional(cx, "devices", devices::Devices::decode);
    let host = match root.get("host") {
        Some(_) => root.optional(cx, "host", site::Host::decode),
        None => Some(site::Host::default()),
    };
    let incidents = root.optional(cx, "incidents", incidents::Incidents::decode);
    let escalation = root.optional(cx, "escalation", decode::list(escalation::Policy::decode));
    let default = incidents::Incidents::default();
    escalation::check(cx, root.get("escalation"), &incidents.as_ref().unwrap_or(&default).group_by);
    let email = root.optional(cx, "email", email::Email::decode);
    let feeds = payments.iter().flat_map(feeds::Payments::feeds).chain(usage::usage_feeds(&usage));
    let feeds: Vec<String> = feeds.map(|feed| feed.id.clone()).collect();
    let heartbeat = root.optional(cx, "heartbeat", |cx, node| heartbeat::Heartbeat::decode(cx, node, &feeds));
    if let (Some(node), None) = (root.get("heartbeat"), root.get("email")) {
        heartbeat::check_mail(cx, node, heartbeat.as_ref());
    }
    let webhooks = root.optional(cx, "webhooks", decode::list(webhooks::Webhook::decode)).unwrap_or_default();
    escalation::check_matchers(cx, root.get("webhooks"), &incidents.as_ref().unwrap_or(&default).group_by);
    let evaluation = root.optional(cx, "evaluation", evaluation::Evaluation::decode);
    Some(Config {
        file: cx.file.to_path_buf(),
        site: site?,
        server,
        data_dir: data_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR)),
        state: state.unwrap_or(site::State::Sqlite),
        history: history.unwrap_or_default(),
        rules: rules.unwrap_or(site::Rules { files: Vec::new(), evaluate: site::Evaluate::default() }),
        people: people?,
        agencies: agencies?,
        calendar: calendar.unwrap_or_default(),
        dependencies: dependencies.unwrap_or_default(),
        sites: sites.unwrap_or_default(),
        maintenance: maintenance.unwrap_or_default(),
        services: services.unwrap_or_default(),
        payments,
        usage,
        mqtt: mqtt.unwrap_or_default(),
        devices,
        host,
        incidents: incidents.unwrap_or_default(),
        escalation: escalation.unwrap_or_default().into_iter().chain(escalation::defaults()).collect(),
        email,
        heartbeat: heartbeat.unwrap_or_default(),
        webhooks,
        evaluation,
    })
}

/// Where the service's package keeps its state.
const DEFAULT_DATA_DIR: &str = "/var/lib/ioc-watch";

/// A feed's id is a label and a key in the state database: two feeds with one id would mix their positions.
fn check_feed_ids(
    cx: &mut Context<'_>,
    root: &Section<'_>,
    payments: Option<&feeds::Payments>,
    usage: &[usage::UsageSource],
) {
    let mut seen = std::collections::HashSet::new();
    let sides = payments.into_iter().flat_map(feeds::Payments::feeds).map(|feed| ("payments", feed.id.as_str()));
    let all = sides.chain(usage.iter().map(|source| ("usage", source.feed_id())));
    for (section, id) in all {
        if !seen.insert(id) {
            let place = root.get(section).map_or(root.place, |node| node.place);
            cx.error(place, format!("{section}: two feeds have the id \"{id}\"; give one another \"id\""));
        }
    }
}
