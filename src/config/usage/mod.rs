//! Section `usage`: what is counted of applications and dossiers, one element a source.
//!
//! Feeds of rows are in `feeds.rs`; access logs and targets have a file each here.

pub mod access_log;
pub mod targets;

pub use access_log::AccessLog;
pub use targets::{Period, Target};

use super::Id;
use super::decode::{self, Context, DAY, HOUR, MINUTE, Section};
use super::feeds::{Canonical, Feed};
use super::node::Node;
use std::time::Duration;

/// One application, and where its counts come from.
#[derive(Debug, Clone)]
pub struct UsageSource {
    pub app: Id,
    /// Empty means `all`: the agencies that are expected to use it.
    pub agencies: Vec<Id>,
    pub rows: UsageRows,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a handful, made once when the configuration is read")]
pub enum UsageRows {
    /// Users and events by period. Canonical columns `agency, app, active_users, event, count, from, to, updated`.
    Usage {
        feed: Feed,
        unused_after: u32,
    },
    /// Users and events from a web server's log.
    AccessLog {
        log: Box<AccessLog>,
        unused_after: u32,
    },
    Dossiers(Box<Dossiers>),
}

/// How far dossiers have come.
#[derive(Debug, Clone)]
pub struct Dossiers {
    pub feed: Feed,
    pub grain: Grain,
    /// How long after its submission a dossier may be without a receipt slip, by the clock on the wall: the slip is the
    /// system's answer, at night too. Default 30 m.
    pub receipt_within: Duration,
    /// Working time before the due date from which on a dossier is due soon. Default 8 h. For single dossiers.
    pub due_soon: Duration,
    /// Working time before the due date by which an unfinished dossier owes its citizen a letter of apology. Default 0: from
    /// the due date on. Provinces differ. For single dossiers.
    pub apology_before: Duration,
    pub targets: Vec<Target>,
}

/// What a row of a dossier feed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// How many dossiers took a step in a period. Canonical columns
    /// `agency, procedure, step, channel, outcome, count, from, to, updated`.
    Counts,
    /// One dossier as it stands now. Canonical columns `dossier, agency, procedure, channel, submitted, receipted, due,
    /// processed, paid, returned, apology, processed_channel, paid_channel, returned_channel, updated`.
    Single,
}

/// Whole working days without a user.
const UNUSED_AFTER: u32 = 3;

const USAGE: Canonical = Canonical {
    columns: &["agency", "app", "active_users", "event", "count", "from", "to", "updated"],
    required: &["agency"],
    statuses: &[],
};

const DOSSIERS: Canonical = Canonical {
    columns: &["agency", "procedure", "step", "channel", "outcome", "count", "from", "to", "updated"],
    required: &["agency", "step"],
    statuses: &[],
};

const DOSSIER_LIST: Canonical = Canonical {
    columns: &[
        "dossier",
        "agency",
        "procedure",
        "channel",
        "submitted",
        "receipted",
        "due",
        "processed",
        "paid",
        "returned",
        "apology",
        "processed_channel",
        "paid_channel",
        "returned_channel",
        "updated",
    ],
    required: &["dossier", "submitted"],
    statuses: &[],
};

/// The keys of which a source has exactly one.
const KINDS: [&str; 4] = ["feed", "access_log", "dossiers", "dossier_list"];
/// Keys of applications, of all dossier feeds, and of single dossiers.
const APPLICATION: [&str; 1] = ["unused_after"];
const DOSSIER: [&str; 2] = ["receipt_within", "targets"];
const SINGLE: [&str; 2] = ["due_soon", "apology_before"];

/// The feeds of all applications.
pub fn usage_feeds(usage: &[UsageSource]) -> impl Iterator<Item = &Feed> {
    usage.iter().filter_map(UsageSource::feed_config)
}

impl UsageSource {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<UsageSource> {
        let keys: Vec<&str> =
            ["app", "agencies"].into_iter().chain(KINDS).chain(APPLICATION).chain(DOSSIER).chain(SINGLE).collect();
        let section = Section::open(cx, node, "usage", &keys, &[])?;
        let app = section.required(cx, "app", decode::id);
        let agencies = section.optional(cx, "agencies", |cx, node| match node.as_text() {
            Some("all") => Some(Vec::new()),
            Some(_) => {
                cx.expected(node, "all, or a list of agency ids");
                None
            }
            None => decode::list(decode::agency)(cx, node),
        });
        let given: Vec<&str> = KINDS.into_iter().filter(|key| section.get(key).is_some()).collect();
        if given.len() != 1 {
            let names = KINDS.map(|name| format!("\"{name}\"")).join(", ");
            cx.error(section.place, format!("usage: found {} of {names}, expected one of them", given.len()));
            return None;
        }
        let name = app.as_ref().map_or("usage", |app| app.as_str());
        let rows = match given[0] {
            "feed" | "access_log" => application(cx, section, name),
            _ => dossiers(cx, section, name).map(|dossiers| UsageRows::Dossiers(Box::new(dossiers))),
        };
        Some(UsageSource { app: app?, agencies: agencies.unwrap_or_default(), rows: rows? })
    }

    /// The label value `feed` and the key of its positions.
    pub fn feed_id(&self) -> &str {
        match &self.rows {
            UsageRows::Usage { feed, .. } => &feed.id,
            UsageRows::AccessLog { log, .. } => &log.id,
            UsageRows::Dossiers(dossiers) => &dossiers.feed.id,
        }
    }

    /// `None` for an access log.
    pub fn feed_config(&self) -> Option<&Feed> {
        match &self.rows {
            UsageRows::Usage { feed, .. } => Some(feed),
            UsageRows::Dossiers(dossiers) => Some(&dossiers.feed),
            UsageRows::AccessLog { .. } => None,
        }
    }

    /// Whole working days without a user after which the application counts as unused. Default 3.
    pub fn unused_after(&self) -> Option<u32> {
        match &self.rows {
            UsageRows::Usage { unused_after, .. } | UsageRows::AccessLog { unused_after, .. } => Some(*unused_after),
            UsageRows::Dossiers(_) => None,
        }
    }
}

fn application(cx: &mut Context<'_>, section: Section<'_>, name: &str) -> Option<UsageRows> {
    refuse(cx, section, &DOSSIER, "of \"dossiers\" and \"dossier_list\"");
    refuse(cx, section, &SINGLE, "of \"dossier_list\"");
    let days = section.optional(cx, "unused_after", decode::integer(1..=250));
    let unused_after = days.and_then(|days| u32::try_from(days).ok()).unwrap_or(UNUSED_AFTER);
    if section.get("feed").is_some() {
        let feed = section.optional(cx, "feed", |cx, node| Feed::decode(cx, node, format!("usage-{name}"), &USAGE));
        return Some(UsageRows::Usage { feed: feed?, unused_after });
    }
    let log = section.optional(cx, "access_log", |cx, node| AccessLog::decode(cx, node, format!("log-{name}")));
    Some(UsageRows::AccessLog { log: Box::new(log?), unused_after })
}

fn dossiers(cx: &mut Context<'_>, section: Section<'_>, name: &str) -> Option<Dossiers> {
    refuse(cx, section, &APPLICATION, "of \"feed\" and \"access_log\"");
    let (key, grain, canonical) = match section.get("dossiers") {
        Some(_) => ("dossiers", Grain::Counts, &DOSSIERS),
        None => ("dossier_list", Grain::Single, &DOSSIER_LIST),
    };
    if grain == Grain::Counts {
        refuse(cx, section, &SINGLE, "of \"dossier_list\"");
    }
    let feed = section.optional(cx, key, |cx, node| Feed::decode(cx, node, format!("dossiers-{name}"), canonical));
    let receipt_within = section.optional(cx, "receipt_within", decode::duration(MINUTE..=31 * DAY));
    let working = || decode::duration(Duration::ZERO..=31 * DAY);
    let due_soon = section.optional(cx, "due_soon", working());
    let apology_before = section.optional(cx, "apology_before", working());
    let targets = section.optional(cx, "targets", targets::decode);
    Some(Dossiers {
        feed: feed?,
        grain,
        receipt_within: receipt_within.unwrap_or(30 * MINUTE),
        due_soon: due_soon.unwrap_or(8 * HOUR),
        apology_before: apology_before.unwrap_or_default(),
        targets: targets.unwrap_or_default(),
    })
}

/// Reports keys that mean nothing in this kind of source.
fn refuse(cx: &mut Context<'_>, section: Section<'_>, keys: &[&str], whose: &str) {
    for key in keys {
        if let Some(node) = section.get(key) {
            cx.error(node.place, format!("usage: \"{key}\" is a key {whose} only"));
        }
    }
}

/// The users of an application come from one log, for those of two could not be told apart from the same ones counted twice;
/// and its dossiers are counts or single ones, for the single ones are counted as well.
pub(super) fn check_sources(cx: &mut Context<'_>, node: Option<&Node>) {
    let elements = node.and_then(Node::as_sequence).unwrap_or_default();
    let app = |element: &Node| element.get("app").and_then(Node::as_text).map(str::to_owned);
    let rules = [
        ("access_log", ["access_log", "feed"], "has an access log and another source of users"),
        ("dossier_list", ["dossier_list", "dossiers"], "has a dossier_list and another source of dossiers"),
    ];
    for (key, rivals, message) in rules {
        for element in elements.iter().filter(|element| element.get(key).is_some()) {
            let Some(name) = app(element) else { continue };
            let is_rival = |other: &&Node| rivals.iter().any(|rival| other.get(rival).is_some());
            if elements.iter().filter(is_rival).filter(|other| app(other).as_ref() == Some(&name)).count() > 1 {
                cx.error(element.place, format!("usage: \"{name}\" {message}; give one of them another app"));
            }
        }
    }
}
