//! Section `payments`. The feeds that it and `usage` read rows from stand in `feeds/`.

mod expect;
mod feed;
mod files;
pub(super) mod http;
mod sql;
mod values;

pub use expect::{Arrival, Expect};
pub use feed::{Feed, Source};
pub use files::{Encoding, Files, Footer, FooterCell, Form};
pub use http::{Http, Next, Paging, Resume};
pub use sql::{Sql, WATERMARK};
pub use values::{AmountScale, Column};

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
    /// How long payments are kept; older rows are not taken. Default 730 d.
    pub keep: Duration,
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

/// Canonical columns of a kind of feed; those of `required` must be given.
pub(super) struct Canonical {
    pub columns: &'static [&'static str],
    pub required: &'static [&'static str],
    /// Words that `status_map` may map to; empty: the feed has no status.
    pub statuses: &'static [&'static str],
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

impl Payments {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Payments> {
        const KEYS: &[&str] =
            &["grace", "settlement_lag", "match_window", "keep", "fees", "dossiers", "portal", "gateway"];
        let section = Section::open(cx, node, "payments", KEYS, &[])?;
        let grace = section.optional(cx, "grace", decode::duration(Duration::ZERO..=7 * DAY)).unwrap_or(15 * MINUTE);
        let lag = section.optional(cx, "settlement_lag", decode::duration(Duration::ZERO..=31 * DAY)).unwrap_or(DAY);
        let window = section.optional(cx, "match_window", decode::duration(Duration::ZERO..=31 * DAY)).unwrap_or(DAY);
        let keep = section.optional(cx, "keep", decode::duration(90 * DAY..=3_650 * DAY)).unwrap_or(730 * DAY);
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
            cx.error(section.place, "payments: \"dossiers\" cannot be pushed; use csv, xlsx, http or sql");
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
            keep,
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
