//! Sections `payments` and `usage`, and the feeds both read rows from.

use super::Id;
use std::collections::BTreeMap;
use std::path::PathBuf;
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
