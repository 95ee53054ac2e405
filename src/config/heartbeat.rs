//! Section `heartbeat`: the dead man's switch. `out` tells others that this daemon works; `in` are those who have to
//! tell us that they do.

use super::Id;
use super::decode::{self, Context, DAY, MINUTE, SECOND, Section};
use super::node::{Node, quote};
use super::probes::http::HttpProbe;
use crate::matcher::Matcher;
use jiff::civil::Time;
use std::time::Duration;

/// How long a watcher may take to answer, at most; never longer than `every`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Both directions. Empty by default.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat {
    pub out: Vec<Out>,
    pub r#in: Vec<In>,
}

/// One watcher that is told that this daemon works.
#[derive(Debug, Clone)]
pub struct Out {
    /// The metrics' label.
    pub id: Id,
    pub way: Way,
}

/// How a watcher is told.
#[derive(Debug, Clone)]
pub enum Way {
    /// A request every so often, which ends after `timeout`.
    Http { http: Box<HttpProbe>, every: Duration, timeout: Duration },
    /// A mail a day to a person, at a time of the site.
    Mail { person: Id, at: Time },
}

/// One who has to be heard of.
#[derive(Debug, Clone)]
pub struct In {
    /// In the address it is posted to, and the metrics' label.
    pub id: Id,
    /// Who answers for it; default the site agency.
    pub agency: Option<Id>,
    /// Silence longer than this is an incident.
    pub within: Duration,
    pub sign: Sign,
}

/// What counts as a sign of life.
#[derive(Debug, Clone)]
pub enum Sign {
    /// A request to `/api/ioc/v1/heartbeats/ID`.
    Posted,
    /// An alert that all of these match is posted firing: the Watchdog of a Prometheus.
    Alert(Vec<Matcher>),
    /// The feed of this id brings rows.
    Feed(String),
}

impl Heartbeat {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node, feeds: &[String]) -> Option<Heartbeat> {
        let section = Section::open(cx, node, "heartbeat", &["out", "in"], &[])?;
        for direction in ["out", "in"] {
            decode::unique(cx, "heartbeat id", &decode::declared(section.get(direction), "id"));
        }
        let out = section.optional(cx, "out", decode::list(Out::decode)).unwrap_or_default();
        let r#in = section.optional(cx, "in", decode::list(|cx, node| In::decode(cx, node, feeds)));
        Some(Heartbeat { out, r#in: r#in.unwrap_or_default() })
    }
}

/// A daily mail needs a section `email`.
pub(super) fn check_mail(cx: &mut Context<'_>, node: &Node, heartbeat: Option<&Heartbeat>) {
    if heartbeat.is_some_and(|heartbeat| heartbeat.out.iter().any(|out| matches!(out.way, Way::Mail { .. }))) {
        cx.error(node.place, "heartbeat: a daily mail needs the section email");
    }
}

impl Out {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Out> {
        let section = Section::open(cx, node, "heartbeat out", &["id", "every", "http", "mail", "at"], &[])?;
        let id = section.required(cx, "id", decode::id);
        let way = match (section.get("http"), section.get("mail")) {
            (Some(_), None) => {
                let every = section.optional(cx, "every", decode::duration(10 * SECOND..=DAY)).unwrap_or(MINUTE);
                let timeout = TIMEOUT.min(every);
                if let Some(node) = section.get("at") {
                    cx.error(node.place, "heartbeat out: \"at\" is for mail; a request is made \"every\" so often");
                }
                let http = section.required(cx, "http", |cx, node| HttpProbe::decode(cx, node, timeout));
                http.map(|http| Way::Http { http: Box::new(http), every, timeout })
            }
            (None, Some(_)) => {
                let person = section.required(cx, "mail", decode::person);
                let at = section.required(cx, "at", decode::time_of_day);
                if let Some(node) = section.get("every") {
                    cx.error(
                        node.place,
                        "heartbeat out: \"every\" is for http; a mail is written once a day, \"at\" a time",
                    );
                }
                person.zip(at).map(|(person, at)| Way::Mail { person, at })
            }
            (both, _) => {
                let found = if both.is_some() { "both" } else { "none" };
                cx.error(section.place, format!("heartbeat out: exactly one of http, mail is wanted, found {found}"));
                None
            }
        };
        Some(Out { id: id?, way: way? })
    }
}

impl In {
    fn decode(cx: &mut Context<'_>, node: &Node, feeds: &[String]) -> Option<In> {
        const KEYS: &[&str] = &["id", "agency", "within", "alert", "feed"];
        let section = Section::open(cx, node, "heartbeat in", KEYS, &[])?;
        let id = section.required(cx, "id", decode::id);
        let agency = section.optional(cx, "agency", decode::agency);
        let within = section.required(cx, "within", decode::duration(10 * SECOND..=30 * DAY));
        let matchers = section.optional(cx, "alert", decode::list(super::incidents::matcher));
        let feed = section.optional(cx, "feed", |cx, node| feed(cx, node, feeds));
        let sign = match (section.get("alert"), section.get("feed")) {
            (None, None) => Sign::Posted,
            (Some(node), None) => {
                let matchers = matchers?;
                if matchers.is_empty() {
                    cx.error(node.place, "alert: without a matcher every alert would be a sign of life");
                }
                Sign::Alert(matchers)
            }
            (None, Some(_)) => Sign::Feed(feed?),
            (Some(_), Some(_)) => {
                cx.error(section.place, "heartbeat in: only one of alert, feed is wanted (none: it is posted)");
                return None;
            }
        };
        Some(In { id: id?, agency, within: within?, sign })
    }
}

fn feed(cx: &mut Context<'_>, node: &Node, feeds: &[String]) -> Option<String> {
    let id = decode::text(cx, node)?;
    if feeds.contains(&id) {
        return Some(id);
    }
    let near = decode::nearest(&id, feeds);
    cx.wrong(node, format!("no feed has the id {}{near}", quote(&id)));
    None
}
