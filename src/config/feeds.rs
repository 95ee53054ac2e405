//! Section `payments`. The feeds that it and `usage` read rows from stand in `feeds/`.

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

use super::decode::{self, Context, DAY, MINUTE, Section};
use super::node::Node;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Payments {
    /// Young differences are not mismatches yet. Default 15 m.
    pub grace: Duration,
    /// How late the gateway's file may be. Default 1 d.
    pub settlement_lag: Duration,
    pub portal: Vec<Feed>,
    pub gateway: Vec<Feed>,
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
    required: &["txn_ref", "amount", "status", "time"],
    statuses: &["paid", "settled", "pending", "failed", "refunded", "reversed"],
};

impl Payments {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Payments> {
        const KEYS: &[&str] = &["grace", "settlement_lag", "portal", "gateway"];
        let section = Section::open(cx, node, "payments", KEYS, &["fees"])?;
        let grace = section.optional(cx, "grace", decode::duration(Duration::ZERO..=7 * DAY)).unwrap_or(15 * MINUTE);
        let lag = section.optional(cx, "settlement_lag", decode::duration(Duration::ZERO..=31 * DAY)).unwrap_or(DAY);
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
        Some(Payments { grace, settlement_lag: lag, portal: portal?, gateway: gateway? })
    }

    /// Of both sides.
    pub(super) fn feeds(&self) -> impl Iterator<Item = &Feed> {
        self.portal.iter().chain(&self.gateway)
    }
}
