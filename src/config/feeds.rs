//! Sections `payments` and `usage`. The feeds that both read rows from stand in `feeds/`.

mod expect;
mod feed;
mod files;
mod http;
mod sql;
mod values;

pub use expect::{Arrival, Expect};
pub use feed::{Feed, Source};
pub use files::{Encoding, Files, Footer, FooterCell};
pub use http::{Http, Next, Paging, Resume};
pub use sql::{Sql, WATERMARK};
pub use values::{AmountScale, Column};

use super::Id;
use super::decode::{self, Context, DAY, MINUTE, Section};
use super::node::Node;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Payments {
    /// Young differences are not mismatches yet. Default 15 m.
    pub grace: Duration,
    /// How late the gateway's file may be. Default 1 d.
    pub settlement_lag: Duration,
    /// How far apart the two records of one payment may be if a side has no reference. Default 1 d.
    pub match_window: Duration,
    pub fees: Option<FeeTable>,
    /// Registers of dossiers; empty: nobody knows which dossiers there are.
    pub dossiers: Vec<Feed>,
    pub portal: Vec<Feed>,
    pub gateway: Vec<Feed>,
}

/// What procedures cost. The file itself is read by `gather/payment`.
#[derive(Debug, Clone)]
pub struct FeeTable {
    pub file: PathBuf,
    /// The share of the fee that who files online need not pay; `None`: nothing is reduced.
    pub online_reduction: Option<f64>,
}

/// One application whose use is counted.
#[derive(Debug, Clone)]
pub struct UsageSource {
    pub app: Id,
    /// Empty means `all`: the agencies that are expected to use it.
    pub agencies: Vec<Id>,
    pub rows: UsageRows,
}

#[derive(Debug, Clone)]
pub enum UsageRows {
    /// Canonical columns `agency, app, active_users, event, count, from, to`.
    Usage(Feed),
    /// Canonical columns `agency, procedure, step, channel, outcome, count, from, to`.
    Dossiers(Feed),
}

/// Canonical columns of a kind of feed; those of `required` must be given.
struct Canonical {
    columns: &'static [&'static str],
    required: &'static [&'static str],
    /// Words that `status_map` may map to; empty: the feed has no status.
    statuses: &'static [&'static str],
}

const PAYMENT: Canonical = Canonical {
    columns: &[
        "txn_ref",
        "dossier",
        "agency",
        "amount",
        "status",
        "time",
        "channel",
        "procedure",
        "method",
        "refund_of",
    ],
    required: &["amount", "status", "time"],
    statuses: &["paid", "settled", "pending", "failed", "refunded", "reversed"],
};

const REGISTER: Canonical =
    Canonical { columns: &["dossier", "agency", "procedure", "channel"], required: &["dossier"], statuses: &[] };

const USAGE: Canonical = Canonical {
    columns: &["agency", "app", "active_users", "event", "count", "from", "to"],
    required: &["agency"],
    statuses: &[],
};

const DOSSIERS: Canonical = Canonical {
    columns: &["agency", "procedure", "step", "channel", "outcome", "count", "from", "to"],
    required: &["agency", "step"],
    statuses: &[],
};

impl Payments {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Payments> {
        const KEYS: &[&str] = &["grace", "settlement_lag", "match_window", "fees", "dossiers", "portal", "gateway"];
        let section = Section::open(cx, node, "payments", KEYS, &[])?;
        let grace = section.optional(cx, "grace", decode::duration(Duration::ZERO..=7 * DAY)).unwrap_or(15 * MINUTE);
        let lag = section.optional(cx, "settlement_lag", decode::duration(Duration::ZERO..=31 * DAY)).unwrap_or(DAY);
        let window = section.optional(cx, "match_window", decode::duration(Duration::ZERO..=31 * DAY)).unwrap_or(DAY);
        let fees = section.optional(cx, "fees", FeeTable::decode);
        let mut number = 0;
        let dossiers = section.optional(
            cx,
            "dossiers",
            decode::list(|cx: &mut Context<'_>, node| {
                number += 1;
                Feed::decode(cx, node, format!("register-{number}"), &REGISTER)
            }),
        );
        if dossiers.iter().flatten().any(|feed: &Feed| matches!(feed.source, Source::Push)) {
            cx.error(section.place, "payments: \"dossiers\" cannot be pushed; use csv, http or sql");
        }
        let mut side = |name: &'static str| {
            let mut number = 0;
            section.required(
                cx,
                name,
                decode::list(|cx: &mut Context<'_>, node| {
                    number += 1;
                    Feed::decode(cx, node, format!("{name}-{number}"), &PAYMENT)
                }),
            )
        };
        let (portal, gateway) = (side("portal"), side("gateway"));
        for name in ["portal", "gateway"] {
            if section.get(name).is_some_and(|node| node.as_sequence().unwrap_or_default().is_empty()) {
                cx.error(section.place, format!("payments: \"{name}\" is empty, so nothing could be reconciled"));
            }
        }
        Some(Payments {
            grace,
            settlement_lag: lag,
            match_window: window,
            fees,
            dossiers: dossiers.unwrap_or_default(),
            portal: portal?,
            gateway: gateway?,
        })
    }

    /// Of both sides, and the registers'.
    pub fn feeds(&self) -> impl Iterator<Item = &Feed> {
        self.portal.iter().chain(&self.gateway).chain(&self.dossiers)
    }
}

impl FeeTable {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<FeeTable> {
        let section = Section::open(cx, node, "fees", &["file", "online_reduction"], &[])?;
        let file = section.required(cx, "file", decode::readable_file);
        let online_reduction = section.optional(cx, "online_reduction", decode::number(0.0..=1.0));
        Some(FeeTable { file: file?, online_reduction })
    }
}

/// The feeds of all applications.
pub fn usage_feeds(usage: &[UsageSource]) -> impl Iterator<Item = &Feed> {
    usage.iter().map(UsageSource::feed_config)
}

impl UsageSource {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<UsageSource> {
        let section = Section::open(cx, node, "usage", &["app", "agencies", "feed", "dossiers"], &["access_log"])?;
        let app = section.required(cx, "app", decode::id);
        let agencies = section.optional(cx, "agencies", |cx, node| match node.as_text() {
            Some("all") => Some(Vec::new()),
            Some(_) => {
                cx.expected(node, "all, or a list of agency ids");
                None
            }
            None => decode::list(decode::agency)(cx, node),
        });
        let name = app.as_ref().map_or("usage", |app| app.as_str());
        let feed = section
            .optional(cx, "feed", |cx, node| Feed::decode(cx, node, format!("usage-{name}"), &USAGE))
            .map(UsageRows::Usage);
        let dossiers = section
            .optional(cx, "dossiers", |cx, node| Feed::decode(cx, node, format!("dossiers-{name}"), &DOSSIERS))
            .map(UsageRows::Dossiers);
        let given = ["feed", "dossiers", "access_log"].iter().filter(|key| section.get(key).is_some()).count();
        if given != 1 {
            cx.error(section.place, format!("usage: found {given} of \"feed\" and \"dossiers\", expected one of them"));
        }
        Some(UsageSource { app: app?, agencies: agencies.unwrap_or_default(), rows: feed.or(dossiers)? })
    }

    pub fn feed_config(&self) -> &Feed {
        match &self.rows {
            UsageRows::Usage(feed) | UsageRows::Dossiers(feed) => feed,
        }
    }
}
