//! One feed: where its rows come from, what their columns are called and how values are written.

use super::values::{self, AmountScale, Column};
use super::{Canonical, Expect, Files, Http, Sql};
use crate::config::decode::{self, Context, Section};
use crate::config::node::Node;
use std::collections::BTreeMap;

/// Where rows come from and how their columns are named.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Unique; default made of its place (`portal-1`, `usage-qoffice`). The label value `feed`.
    pub id: String,
    pub source: Source,
    /// Canonical name to where its value stands. What is not named stands under its canonical name.
    pub columns: BTreeMap<String, Column>,
    /// Rows are taken only where each of these columns (header or pointer) has one of the words. Compared after NFC and
    /// case folding.
    pub only: Vec<(String, Vec<String>)>,
    /// The feed's word to the canonical one (`paid`, `settled` …). Compared after NFC and case folding.
    pub status_map: BTreeMap<String, String>,
    /// A strftime format; default: ISO 8601.
    pub time_format: Option<String>,
    /// Of times without an offset. Default: the site's.
    pub timezone: jiff::tz::TimeZone,
    pub amount: AmountScale,
    /// When rows are due; `None`: whenever they come.
    pub expect: Option<Expect>,
}

#[derive(Debug, Clone)]
pub enum Source {
    Files(Files),
    Http(Box<Http>),
    Sql(Box<Sql>),
    /// `POST /api/ioc/v1/payments/{portal|gateway}` or `/api/ioc/v1/usage`.
    Push,
}

/// The kinds of feed, by the key that names them.
const KINDS: [&str; 5] = ["csv", "xlsx", "http", "sql", "push"];
/// Keys that every kind has.
const SHARED: [&str; 6] = ["columns", "only", "status_map", "time_format", "timezone", "amount"];

impl Feed {
    pub(in crate::config) fn decode(
        cx: &mut Context<'_>,
        node: &Node,
        default_id: String,
        canonical: &Canonical,
    ) -> Option<Feed> {
        let keys = [&["id", "expect"], KINDS.as_slice()].concat();
        let section = Section::open(cx, node, "feed", &keys, &[])?;
        let id = section.optional(cx, "id", decode::id).map_or(default_id, |id| id.to_string());
        let expect = section.optional(cx, "expect", Expect::decode);
        let given: Vec<&str> = KINDS.into_iter().filter(|kind| section.get(kind).is_some()).collect();
        let &[kind] = given.as_slice() else {
            let found = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
            cx.error(section.place, format!("feed: found {found}, expected one of {}", KINDS.join(", ")));
            return None;
        };
        section.optional(cx, kind, |cx, node| Feed::of_kind(cx, node, kind, id, expect, canonical))
    }

    fn of_kind(
        cx: &mut Context<'_>,
        node: &Node,
        kind: &'static str,
        id: String,
        expect: Option<Expect>,
        canonical: &Canonical,
    ) -> Option<Feed> {
        let own = match kind {
            "csv" => Files::CSV_KEYS,
            "xlsx" => Files::XLSX_KEYS,
            "http" => Http::KEYS,
            "sql" => Sql::KEYS,
            _ => &[],
        };
        let section = Section::open(cx, node, kind, &[own, SHARED.as_slice()].concat(), &[])?;
        let source = match kind {
            "csv" => Files::csv(cx, &section).map(Source::Files),
            "xlsx" => Files::xlsx(cx, &section).map(Source::Files),
            "http" => Http::decode(cx, &section).map(|http| Source::Http(Box::new(http))),
            "sql" => Sql::decode(cx, &section).map(|sql| Source::Sql(Box::new(sql))),
            _ => Some(Source::Push),
        };
        // Who writes the query, or the program that pushes, can name the columns as we do.
        let columns = match kind {
            "sql" | "push" if section.get("columns").is_none() => Some(BTreeMap::new()),
            "sql" | "push" => section.optional(cx, "columns", |cx, node| values::columns(cx, node, canonical, false)),
            _ => section.required(cx, "columns", |cx, node| values::columns(cx, node, canonical, true)),
        };
        let only = section.optional(cx, "only", values::only).unwrap_or_default();
        let status_map = section.optional(cx, "status_map", |cx, node| values::status_map(cx, node, canonical));
        let time_format = section.optional(cx, "time_format", values::time_format);
        let timezone = section.optional(cx, "timezone", values::timezone).unwrap_or_else(|| cx.zone.clone());
        let amount = section.optional(cx, "amount", values::amount).unwrap_or_default();
        Some(Feed {
            id,
            source: source?,
            columns: columns?,
            only,
            status_map: status_map.unwrap_or_default(),
            time_format,
            timezone,
            amount,
            expect,
        })
    }
}
