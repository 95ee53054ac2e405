//! Sections `payments` and `usage`, and the feeds both read rows from.

use super::Id;
use super::decode::{self, Context, DAY, MINUTE, Section};
use super::node::{Node, Place, quote};
use std::collections::BTreeMap;
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

/// Where rows come from and how their columns are named.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Unique; default made of its place (`portal-1`, `usage-qoffice`). The label value `feed`.
    pub id: String,
    pub source: Source,
    /// Canonical name to where its value stands.
    pub columns: BTreeMap<String, Column>,
    /// The feed's word to the canonical one (`paid`, `settled` …). Compared after NFC and case folding.
    pub status_map: BTreeMap<String, String>,
    /// A strftime format; default: ISO 8601.
    pub time_format: Option<String>,
    /// Of times without an offset. Default: the site's.
    pub timezone: jiff::tz::TimeZone,
    pub amount: AmountScale,
}

#[derive(Debug, Clone)]
pub enum Source {
    Csv {
        dir: PathBuf,
        /// A file-name glob (`*`, `?`). Default `*.csv`.
        pattern: String,
        /// Default `,`.
        delimiter: u8,
    },
}

#[derive(Debug, Clone)]
pub enum Column {
    /// The header's text.
    Header(String),
    Const(String),
}

/// Turns the feed's number into đồng.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AmountScale {
    #[default]
    Dong,
    Multiply(u32),
    /// For minor units (a gateway that writes amount × 100). What does not divide evenly is rejected.
    Divide(u32),
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

/// Kinds of feed and of usage that the design names but this version cannot read.
const LATER_SOURCES: &[&str] = &["xlsx", "http", "sql", "push"];

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

    pub(super) fn feed(&self) -> &Feed {
        match &self.rows {
            UsageRows::Usage(feed) | UsageRows::Dossiers(feed) => feed,
        }
    }
}

impl Feed {
    fn decode(cx: &mut Context<'_>, node: &Node, default_id: String, canonical: &Canonical) -> Option<Feed> {
        let section = Section::open(cx, node, "feed", &["id", "csv"], LATER_SOURCES)?;
        let id = section.optional(cx, "id", decode::id).map_or(default_id, |id| id.to_string());
        if LATER_SOURCES.iter().any(|kind| section.get(kind).is_some()) {
            return None;
        }
        section.required(cx, "csv", |cx, node| Feed::csv(cx, node, id, canonical))
    }

    fn csv(cx: &mut Context<'_>, node: &Node, id: String, canonical: &Canonical) -> Option<Feed> {
        const KEYS: &[&str] =
            &["dir", "pattern", "delimiter", "encoding", "columns", "status_map", "time_format", "timezone", "amount"];
        let section = Section::open(cx, node, "csv", KEYS, &[])?;
        let dir = section.required(cx, "dir", decode::path);
        let pattern = section.optional(cx, "pattern", file_pattern).unwrap_or_else(|| "*.csv".to_owned());
        let delimiters = [(",", b','), (";", b';'), ("\t", b'\t'), ("|", b'|')];
        let delimiter = section.optional(cx, "delimiter", decode::choice(&delimiters)).unwrap_or(b',');
        section.optional(cx, "encoding", decode::choice(&[("utf-8", ())]));
        let columns = section.required(cx, "columns", |cx, node| columns(cx, node, canonical));
        let status_map = section.optional(cx, "status_map", |cx, node| status_map(cx, node, canonical));
        let time_format = section.optional(cx, "time_format", time_format);
        let timezone = section.optional(cx, "timezone", timezone).unwrap_or_else(|| cx.zone.clone());
        let amount = section.optional(cx, "amount", amount).unwrap_or_default();
        Some(Feed {
            id,
            source: Source::Csv { dir: dir?, pattern, delimiter },
            columns: columns?,
            status_map: status_map.unwrap_or_default(),
            time_format,
            timezone,
            amount,
        })
    }
}

fn file_pattern(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let pattern = decode::text(cx, node)?;
    if pattern.contains('/') {
        cx.expected(node, "a pattern of file names (* and ?) without a directory");
        return None;
    }
    Some(pattern)
}

fn columns(cx: &mut Context<'_>, node: &Node, canonical: &Canonical) -> Option<BTreeMap<String, Column>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping such as {txn_ref: \"Mã GD\"}");
        return None;
    };
    let mut columns = BTreeMap::new();
    for entry in entries {
        if !canonical.columns.contains(&entry.key.as_str()) {
            unknown_column(cx, entry.place, &entry.key, canonical);
            continue;
        }
        let column = if entry.value.as_mapping().is_some() {
            Section::open(cx, &entry.value, "column", &["const"], &[])
                .and_then(|section| section.required(cx, "const", decode::text))
                .map(Column::Const)
        } else {
            decode::name(cx, &entry.value).map(Column::Header)
        };
        if let Some(column) = column {
            columns.insert(entry.key.clone(), column);
        }
    }
    let has = |name: &str| node.get(name).is_some();
    if canonical.columns.contains(&"txn_ref") && !has("txn_ref") && !has("dossier") {
        cx.error(node.place, "columns: neither \"txn_ref\" nor \"dossier\" is given, so no payment could be matched");
    }
    for name in canonical.required {
        if node.get(name).is_none() {
            cx.error(node.place, format!("columns: the column \"{name}\" is missing"));
        }
    }
    Some(columns)
}

fn unknown_column(cx: &mut Context<'_>, place: Place, key: &str, canonical: &Canonical) {
    let near = decode::nearest(key, canonical.columns);
    let allowed = canonical.columns.join(", ");
    cx.error(place, format!("columns: unknown column {}{near} (allowed: {allowed})", quote(key)));
}

fn status_map(cx: &mut Context<'_>, node: &Node, canonical: &Canonical) -> Option<BTreeMap<String, String>> {
    if canonical.statuses.is_empty() {
        cx.wrong(node, "this feed has no status; only payment feeds have");
        return None;
    }
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping such as {\"Thành công\": paid}");
        return None;
    };
    let words: Vec<(&str, &str)> = canonical.statuses.iter().map(|word| (*word, *word)).collect();
    let read = decode::choice(&words);
    let pairs = entries.iter().filter_map(|entry| Some((entry.key.clone(), read(cx, &entry.value)?.to_owned())));
    Some(pairs.collect())
}

fn time_format(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let format = decode::text(cx, node)?;
    let sample = jiff::civil::date(2026, 1, 31).at(13, 45, 59, 0).to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let sound = sample.is_ok_and(|sample| {
        let Ok(text) = jiff::fmt::strtime::format(&format, &sample) else { return false };
        // A format that cannot read back what it wrote would reject every row.
        jiff::fmt::strtime::parse(&format, &text).is_ok_and(|broken| broken.to_date().is_ok())
    });
    if !sound {
        cx.expected(node, "a strftime format with year, month and day, such as \"%d/%m/%Y %H:%M:%S\"");
        return None;
    }
    Some(format)
}

fn timezone(cx: &mut Context<'_>, node: &Node) -> Option<jiff::tz::TimeZone> {
    let zone = node.as_text().and_then(|name| jiff::tz::TimeZone::get(name).ok());
    if zone.is_none() {
        cx.expected(node, "an IANA time zone such as Asia/Ho_Chi_Minh");
    }
    zone
}

fn amount(cx: &mut Context<'_>, node: &Node) -> Option<AmountScale> {
    let section = Section::open(cx, node, "amount", &["multiply", "divide"], &[])?;
    let factor = decode::integer(1..=1_000_000);
    let read = |number: u64| u32::try_from(number).unwrap_or(1);
    let multiply = section.optional(cx, "multiply", &factor).map(read);
    let divide = section.optional(cx, "divide", &factor).map(read);
    match (multiply, divide) {
        (Some(_), Some(_)) => {
            cx.error(section.place, "amount: found both \"multiply\" and \"divide\", expected one of them");
            None
        }
        (Some(factor), None) => Some(AmountScale::Multiply(factor)),
        (None, Some(factor)) => Some(AmountScale::Divide(factor)),
        (None, None) => Some(AmountScale::Dong),
    }
}
