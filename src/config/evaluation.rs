//! Section `evaluation`: the weekly scorecard.

use super::decode::{self, Context, DAY, HOUR, Section};
use super::node::{Node, quote};
use super::{Id, devices::DeviceKind, services::ServiceKind};
use jiff::civil::{Time, Weekday};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Site time. Default `Mon 07:00`.
    pub day: Weekday,
    pub time: Time,
    pub recipients: Vec<Id>,
    /// A score (0 to 100) below this is underperforming. Default 60.
    pub underperforming_below: f64,
    /// How long a leader may explain. Default 3 d.
    pub explain_within: Duration,
    /// The profile's indicators with the file's added or overriding, in order.
    pub indicators: Vec<Indicator>,
}

/// One weekly measure of every agency.
#[derive(Debug, Clone)]
pub struct Indicator {
    pub id: Id,
    /// In Vietnamese, and in English if given.
    pub title: String,
    pub title_en: Option<String>,
    pub measure: Measure,
    /// The value that earns full marks.
    pub target: f64,
    /// The value that earns none.
    pub floor: f64,
    /// Of the score; relative to the others.
    pub weight: f64,
    /// A denominator below this is "not evaluated".
    pub min: f64,
}

#[derive(Debug, Clone)]
pub enum Measure {
    /// From the attribution ledger.
    Availability(Subjects),
    /// PromQL, evaluated once at the end of the week; both give one sample an agency.
    Ratio { numerator: String, denominator: String },
    /// PromQL, one sample an agency.
    Value { query: String },
    /// How many payment mismatches were open at the end of the week, from the payment tables.
    OpenMismatches,
    /// Active users of all applications, each the mean of the periods reported within the week, from the usage tables.
    ActiveUsers,
}

/// Whose availability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subjects {
    Services(Option<ServiceKind>),
    Devices(Option<DeviceKind>),
}

impl Evaluation {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Evaluation> {
        const KEYS: &[&str] =
            &["schedule", "recipients", "profile", "underperforming_below", "explain_within", "indicators"];
        let section = Section::open(cx, node, "evaluation", KEYS, &[])?;
        let schedule = section.optional(cx, "schedule", schedule);
        let (day, time) = schedule.unwrap_or((Weekday::Monday, jiff::civil::time(7, 0, 0, 0)));
        let recipients = section.optional(cx, "recipients", decode::list(decode::person)).unwrap_or_default();
        section.optional(cx, "profile", decode::choice(&[("operations", ())]));
        let below = section.optional(cx, "underperforming_below", decode::number(0.0..=100.0)).unwrap_or(60.0);
        let explain = section.optional(cx, "explain_within", decode::duration(HOUR..=31 * DAY)).unwrap_or(3 * DAY);
        let own = section.optional(cx, "indicators", decode::list(Indicator::decode)).unwrap_or_default();
        decode::unique(cx, "indicator", &decode::declared(section.get("indicators"), "id"));
        let mut indicators = operations();
        for indicator in own {
            match indicators.iter_mut().find(|known| known.id == indicator.id) {
                Some(known) => *known = indicator,
                None => indicators.push(indicator),
            }
        }
        if indicators.iter().all(|indicator| indicator.weight <= 0.0) {
            cx.error(section.place, "evaluation: every indicator has the weight 0, so there is no score");
        }
        Some(Evaluation { day, time, recipients, underperforming_below: below, explain_within: explain, indicators })
    }
}

fn schedule(cx: &mut Context<'_>, node: &Node) -> Option<(Weekday, Time)> {
    let found = node.as_text().and_then(|text| {
        let (day, time) = text.trim().split_once(' ')?;
        let day = day.to_lowercase();
        let (_, day) = decode::WEEKDAYS.iter().find(|(word, _)| *word == day)?;
        Some((*day, decode::parse_time(time.trim())?))
    });
    if found.is_none() {
        cx.expected(node, "a day of the week and a time of day such as \"Mon 07:00\"");
    }
    found
}

impl Indicator {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Indicator> {
        const KEYS: &[&str] = &[
            "id",
            "title",
            "title_en",
            "availability",
            "numerator",
            "denominator",
            "query",
            "target",
            "floor",
            "weight",
            "min",
        ];
        let section = Section::open(cx, node, "indicator", KEYS, &["evidence"])?;
        let id = section.required(cx, "id", decode::id);
        let title = section.required(cx, "title", decode::name);
        let title_en = section.optional(cx, "title_en", decode::name);
        let measure = measure(cx, &section);
        let any = || decode::number(f64::MIN..=f64::MAX);
        let target = section.required(cx, "target", any());
        let floor = section.required(cx, "floor", any());
        let weight = section.required(cx, "weight", decode::number(0.0..=1_000_000.0));
        let min = section.optional(cx, "min", decode::number(0.0..=f64::MAX)).unwrap_or(0.0);
        if let (Some(target), Some(floor)) = (target, floor)
            && target == floor
        {
            cx.error(section.place, format!("indicator: target and floor are both {target}, so nothing lies between"));
        }
        Some(Indicator {
            id: id?,
            title: title?,
            title_en,
            measure: measure?,
            target: target?,
            floor: floor?,
            weight: weight?,
            min,
        })
    }
}

/// Exactly one of `availability`, `query`, and `numerator` with `denominator`.
fn measure(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Measure> {
    let has = |key: &str| section.get(key).is_some();
    let ratio = has("numerator") || has("denominator");
    let given = [has("availability"), has("query"), ratio].into_iter().filter(|given| *given).count();
    if given != 1 {
        let message = "indicator: expected exactly one of \"availability\", \"query\", or \"numerator\" with \
                       \"denominator\"";
        cx.error(section.place, message);
    }
    if has("availability") {
        return section.optional(cx, "availability", subjects).map(Measure::Availability);
    }
    if ratio {
        let numerator = section.required(cx, "numerator", decode::text);
        let denominator = section.required(cx, "denominator", decode::text);
        return Some(Measure::Ratio { numerator: numerator?, denominator: denominator? });
    }
    section.optional(cx, "query", decode::text).map(|query| Measure::Value { query })
}

fn subjects(cx: &mut Context<'_>, node: &Node) -> Option<Subjects> {
    let section = Section::open(cx, node, "availability", &["of", "kind"], &[])?;
    if section.required(cx, "of", decode::choice(&[("service", true), ("device", false)]))? {
        let kinds = ServiceKind::ALL.map(|kind| (kind.as_str(), kind));
        Some(Subjects::Services(section.optional(cx, "kind", decode::choice(&kinds))))
    } else {
        let kinds = DeviceKind::ALL.map(|kind| (kind.as_str(), kind));
        Some(Subjects::Devices(section.optional(cx, "kind", decode::choice(&kinds))))
    }
}

/// The built-in profile: what an operations centre can judge without any file of its own.
fn operations() -> Vec<Indicator> {
    let row = |id: &str, title: &str, title_en: &str, measure, (target, floor, weight): (f64, f64, f64)| {
        Id::parse(id).map(|id| Indicator {
            id,
            title: title.to_owned(),
            title_en: Some(title_en.to_owned()),
            measure,
            target,
            floor,
            weight,
            min: 0.0,
        })
    };
    let rows = [
        row(
            "portal_availability",
            "Tỷ lệ sẵn sàng của cổng dịch vụ công",
            "Availability of the public-service portals",
            Measure::Availability(Subjects::Services(Some(ServiceKind::Portal))),
            (0.995, 0.95, 40.0),
        ),
        row(
            "payment_mismatches",
            "Chênh lệch thanh toán chưa xử lý",
            "Open payment mismatches",
            Measure::OpenMismatches,
            (0.0, 10.0, 25.0),
        ),
        row(
            "usable_devices",
            "Tỷ lệ sẵn sàng của thiết bị",
            "Availability of the devices",
            Measure::Availability(Subjects::Devices(None)),
            (0.95, 0.5, 20.0),
        ),
        row(
            "active_users",
            "Số người dùng ứng dụng bình quân",
            "Active users of the applications, on average",
            Measure::ActiveUsers,
            (10.0, 0.0, 15.0),
        ),
    ];
    rows.into_iter().flatten().collect()
}

/// Where the PromQL of the file's indicators stands is not kept; a checker names the indicator instead.
impl Indicator {
    /// The indicator's PromQL expressions, with the key each stands under.
    pub fn queries(&self) -> Vec<(&'static str, &str)> {
        match &self.measure {
            Measure::Availability(_) | Measure::OpenMismatches | Measure::ActiveUsers => Vec::new(),
            Measure::Ratio { numerator, denominator } => vec![("numerator", numerator), ("denominator", denominator)],
            Measure::Value { query } => vec![("query", query)],
        }
    }

    /// How messages call it.
    pub fn label(&self) -> String {
        format!("indicator {}", quote(&self.id))
    }
}
