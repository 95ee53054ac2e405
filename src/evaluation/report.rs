//! The weekly report: what is stored of it, and its rendering as page, mail and text. Rendering is a pure function of
//! the stored values, so that a report can be rendered again and compared.

use super::score::{Judged, Measured, Missing, Scorecard, scorecard};
use super::week::Week;
use crate::config::site::Language;
use crate::format;
use minijinja::value::Value;
use minijinja::{Environment, context};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a week was judged by, as it was then: names, targets and weights may change later, a report does not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Profile {
    pub site: String,
    pub external_url: String,
    /// `25/11/2026 07:00`, site time.
    pub evaluated_at: String,
    pub underperforming_below: f64,
    pub indicators: Vec<IndicatorProfile>,
    /// Id and name, in the order of the configuration.
    pub agencies: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndicatorProfile {
    pub id: String,
    pub title: String,
    pub title_en: Option<String>,
    pub target: f64,
    pub floor: f64,
    pub weight: f64,
    pub min: f64,
    pub shape: Shape,
    /// A ratio of counts, to be scored by its Wilson bound.
    pub counted: bool,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Hours up of hours known.
    Hours,
    /// Numerator of denominator.
    Share,
    Number,
}

/// What was measured of one agency.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgencyWeek {
    pub id: String,
    pub name: String,
    /// By indicator.
    pub measured: BTreeMap<String, Measured>,
}

/// One week of all agencies.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub week: Week,
    pub profile: Profile,
    /// In the order of the configuration.
    pub agencies: Vec<AgencyWeek>,
}

#[derive(Debug, thiserror::Error)]
#[error("rendering the report of {week}")]
pub struct RenderError {
    week: Week,
    #[source]
    source: minijinja::Error,
}

impl Report {
    /// The scorecards, in the order of the agencies.
    pub fn scorecards(&self) -> impl Iterator<Item = (&AgencyWeek, Scorecard)> {
        self.agencies.iter().map(|agency| (agency, scorecard(&self.profile, agency)))
    }

    /// The scorecard of one agency, and what each indicator came to in words: title and reason.
    pub fn explained(&self, agency: &str, language: Language) -> Option<(Scorecard, Vec<(String, String)>)> {
        let (week, card) = self.scorecards().find(|(week, _)| week.id == agency)?;
        let words = self.profile.indicators.iter().zip(&card.indicators).map(|(indicator, judged)| {
            let reason = reason(indicator, week.measured.get(&indicator.id), judged, language);
            (title(indicator, language).to_owned(), reason)
        });
        let words = words.collect();
        Some((card, words))
    }

    /// The worst first, then what could not be judged.
    fn ranked(&self) -> Vec<(&AgencyWeek, Scorecard)> {
        let mut cards: Vec<(&AgencyWeek, Scorecard)> = self.scorecards().collect();
        cards.sort_by(|(_, a), (_, b)| {
            let key = |card: &Scorecard| card.score.unwrap_or(f64::INFINITY);
            key(a).total_cmp(&key(b))
        });
        cards
    }

    /// A whole HTML document without anything from outside: page, print and mail alike.
    pub fn html(&self, language: Language) -> Result<String, RenderError> {
        let error = |source| RenderError { week: self.week, source };
        let mut environment = Environment::new();
        environment.add_template("report.html", include_str!("report.html")).map_err(error)?;
        let vi = language == Language::Vi;
        environment.add_function("L", move |vietnamese: String, english: String| if vi { vietnamese } else { english });
        let template = environment.get_template("report.html").map_err(error)?;
        template.render(self.context(language)).map_err(error)
    }

    fn context(&self, language: Language) -> Value {
        let agencies: Vec<Value> =
            self.ranked().iter().map(|(agency, card)| self.agency(agency, card, language)).collect();
        let indicators: Vec<Value> = self
            .profile
            .indicators
            .iter()
            .map(|indicator| {
                context! {
                    title => title(indicator, language),
                    target => number(indicator.shape, indicator.target, language),
                    floor => number(indicator.shape, indicator.floor, language),
                    weight => format::decimal(indicator.weight, 0, language),
                }
            })
            .collect();
        let n_below = self.scorecards().filter(|(_, card)| card.underperforming).count();
        let n_judged = self.scorecards().filter(|(_, card)| card.score.is_some()).count();
        context! {
            lang => if language == Language::Vi { "vi" } else { "en" },
            site => &self.profile.site,
            url => format!("{}/reports/{}", self.profile.external_url, self.week),
            week => self.week.to_string(),
            week_number => self.week.monday().iso_week_date().week(),
            from => format::date(self.week.monday()),
            to => format::date(self.week.sunday()),
            evaluated_at => &self.profile.evaluated_at,
            below => format::decimal(self.profile.underperforming_below, 0, language),
            n_below, n_judged, n_agencies => self.agencies.len(),
            agencies, indicators,
        }
    }

    fn agency(&self, agency: &AgencyWeek, card: &Scorecard, language: Language) -> Value {
        let rows: Vec<Value> = self
            .profile
            .indicators
            .iter()
            .zip(&card.indicators)
            .map(|(indicator, judged)| {
                let measured = agency.measured.get(&indicator.id);
                context! {
                    title => title(indicator, language),
                    value => measured.and_then(|m| m.value).filter(|_| judged.points.is_some())
                        .map(|value| number(indicator.shape, value, language)),
                    points => judged.points.map(|points| format::decimal(points, 1, language)),
                    weight => format::decimal(indicator.weight, 0, language),
                    colour => judged.colour.as_str(),
                    reason => reason(indicator, measured, judged, language),
                }
            })
            .collect();
        context! {
            id => &agency.id,
            name => &agency.name,
            score => card.score.map(|score| format::decimal(score, 1, language)),
            colour => card.colour.as_str(),
            underperforming => card.underperforming,
            evaluated_weight => format::decimal(card.evaluated_weight, 0, language),
            total_weight => format::decimal(card.total_weight, 0, language),
            partly => card.evaluated_weight < card.total_weight,
            rows,
        }
    }

    pub fn subject(&self, language: Language) -> String {
        let (week, year) = (self.week.monday().iso_week_date().week(), self.week.monday().iso_week_date().year());
        match language {
            Language::Vi => format!("[{}] Đánh giá tuần {week}/{year}", self.profile.site),
            Language::En => format!("[{}] Weekly evaluation, week {week} of {year}", self.profile.site),
        }
    }

    /// The report in plain text: the mail's other half, and what the command line prints.
    pub fn text(&self, language: Language) -> String {
        let pick = |vi: &'static str, en: &'static str| if language == Language::Vi { vi } else { en };
        let (from, to) = (format::date(self.week.monday()), format::date(self.week.sunday()));
        let mut lines = vec![self.subject(language), format!("{from} – {to}"), String::new()];
        for (agency, card) in self.ranked() {
            let verdict = match card.score {
                None => pick("chưa đủ dữ liệu", "not enough data").to_string(),
                Some(score) => {
                    let score = format::decimal(score, 1, language);
                    if card.underperforming {
                        format!("{score}/100, {}", pick("chưa đạt", "underperforming"))
                    } else {
                        format!("{score}/100")
                    }
                }
            };
            lines.push(format!("{}: {verdict}", agency.name));
            for (indicator, judged) in self.profile.indicators.iter().zip(&card.indicators) {
                let reason = reason(indicator, agency.measured.get(&indicator.id), judged, language);
                lines.push(format!("  - {}: {reason}", title(indicator, language)));
            }
            lines.push(String::new());
        }
        lines.push(format!("{}/reports/{}", self.profile.external_url, self.week));
        lines.push(String::new());
        lines.join("\n")
    }
}

fn title(indicator: &IndicatorProfile, language: Language) -> &str {
    match (language, &indicator.title_en) {
        (Language::En, Some(title)) => title,
        _ => &indicator.title,
    }
}

fn number(shape: Shape, value: f64, language: Language) -> String {
    match shape {
        Shape::Hours | Shape::Share => format::percent(value, language),
        Shape::Number if value.fract() == 0.0 => format::decimal(value, 0, language),
        Shape::Number => format::decimal(value, 2, language),
    }
}

/// A count without decimals if it has none; `increase()` may interpolate.
fn count(value: f64, language: Language) -> String {
    format::decimal(value, if (value - value.round()).abs() < 0.005 { 0 } else { 2 }, language)
}

/// Why the points are what they are, with what they were computed from.
fn reason(indicator: &IndicatorProfile, measured: Option<&Measured>, judged: &Judged, language: Language) -> String {
    let pick = |vi: &'static str, en: &'static str| if language == Language::Vi { vi } else { en };
    let none = Measured { missing: Some(Missing::NoData), ..Measured::default() };
    let measured = measured.unwrap_or(&none);
    let (numerator, denominator) = (measured.numerator.unwrap_or(0.0), measured.denominator.unwrap_or(0.0));
    if let Some(missing) = measured.missing {
        return not_evaluated(missing, indicator, measured, language);
    }
    let Some(value) = measured.value else {
        return not_evaluated(Missing::NoData, indicator, measured, language);
    };
    let written = number(indicator.shape, value, language);
    let mut text = match indicator.shape {
        Shape::Hours => {
            let hours = |value| format::decimal(value, 1, language);
            let (up, known) = (hours(numerator), hours(denominator));
            let excused = measured.excused.filter(|excused| *excused >= 0.05).map(hours);
            let mut text = format!("{written} ({up}/{known} {})", pick("giờ", "hours"));
            if let Some(excused) = excused {
                let note = pick("giờ không tính do nguyên nhân bên ngoài", "hours excused by outside causes");
                text.push_str(&format!("; {excused} {note}"));
            }
            if let Some(coverage) = measured.coverage.filter(|coverage| *coverage < 0.9995) {
                let note = pick("quan sát được", "observed");
                text.push_str(&format!("; {note} {}", format::percent(coverage, language)));
            }
            text
        }
        Shape::Share => format!("{written} ({}/{})", count(numerator, language), count(denominator, language)),
        Shape::Number => written.clone(),
    };
    if let Some(scored) = judged.scored {
        let scored = number(indicator.shape, scored, language);
        if scored != written {
            let bound = pick("tính điểm theo cận Wilson", "scored by its Wilson bound,");
            text.push_str(&format!("; {bound} {scored}"));
        }
    }
    text
}

fn not_evaluated(missing: Missing, indicator: &IndicatorProfile, measured: &Measured, language: Language) -> String {
    let vi = language == Language::Vi;
    match missing {
        Missing::NoData if vi => "chưa đủ dữ liệu: không có số liệu".into(),
        Missing::NoData => "not enough data: nothing was measured".into(),
        Missing::Query if vi => "chưa đánh giá: không tính được chỉ tiêu".into(),
        Missing::Query => "not evaluated: the indicator's query failed".into(),
        Missing::Coverage => {
            let share = format::percent(measured.coverage.unwrap_or(0.0), language);
            let least = format::decimal(super::score::MIN_COVERAGE * 100.0, 0, language);
            if vi {
                format!("chưa đủ dữ liệu: chỉ quan sát được {share} thời gian trong tuần (cần {least} %)")
            } else {
                format!("not enough data: only {share} of the week was observed ({least} % needed)")
            }
        }
        Missing::Min => {
            let found = count(measured.denominator.unwrap_or(0.0), language);
            let least = count(indicator.min, language);
            if vi {
                format!("chưa đủ dữ liệu: mẫu số {found}, cần ít nhất {least}")
            } else {
                format!("not enough data: denominator {found}, at least {least} needed")
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Report {
        let indicator = |id: &str, title: &str, title_en: &str, target, floor, weight, shape| IndicatorProfile {
            id: id.into(),
            title: title.into(),
            title_en: Some(title_en.into()),
            target,
            floor,
            weight,
            min: 30.0,
            shape,
            counted: shape == Shape::Share,
        };
        let indicators = vec![
            indicator("portal", "Tỷ lệ sẵn sàng của cổng", "Portal availability", 0.995, 0.95, 25.0, Shape::Hours),
            indicator("online", "Tỷ lệ hồ sơ trực tuyến", "Online share", 1.0, 0.2, 15.0, Shape::Share),
            indicator("mismatch", "Chênh lệch thanh toán", "Payment mismatches", 0.0, 10.0, 20.0, Shape::Number),
        ];
        let hours = |up: f64, coverage: f64| Measured {
            numerator: Some(up),
            denominator: Some(168.0),
            value: Some(up / 168.0),
            coverage: Some(coverage),
            excused: Some(0.5),
            missing: (coverage < 0.8).then_some(Missing::Coverage),
        };
        let share = |numerator: f64, denominator: f64| Measured {
            numerator: Some(numerator),
            denominator: Some(denominator),
            value: Some(numerator / denominator),
            missing: (denominator < 30.0).then_some(Missing::Min),
            ..Measured::default()
        };
        let number = |value| Measured { value: Some(value), ..Measured::default() };
        let agency = |id: &str, name: &str, values: Vec<(&str, Measured)>| AgencyWeek {
            id: id.into(),
            name: name.into(),
            measured: values.into_iter().map(|(id, measured)| (id.to_string(), measured)).collect(),
        };
        let agencies = vec![
            agency(
                "tam-ky",
                "UBND TP. Tam Kỳ",
                vec![("portal", hours(160.0, 1.0)), ("online", share(3_234.0, 15_147.0)), ("mismatch", number(4.0))],
            ),
            agency(
                "hoi-an",
                "UBND TP. <Hội An>",
                vec![("portal", hours(168.0, 1.0)), ("online", share(60.0, 60.0)), ("mismatch", number(0.0))],
            ),
            agency("phu-ninh", "UBND huyện Phú Ninh", vec![("portal", hours(168.0, 0.5)), ("online", share(3.0, 4.0))]),
        ];
        Report {
            week: Week::parse("2026-W47").unwrap(),
            profile: Profile {
                site: "IOC huyện Thăng Bình".into(),
                external_url: "http://127.0.0.1:9470".into(),
                evaluated_at: "23/11/2026 07:00".into(),
                underperforming_below: 60.0,
                indicators,
                agencies: agencies.iter().map(|agency| (agency.id.clone(), agency.name.clone())).collect(),
            },
            agencies,
        }
    }

    #[test]
    fn reasons_print_what_the_value_was_computed_from() {
        let text = sample().text(Language::Vi);
        for expected in [
            "UBND TP. Tam Kỳ: ",
            "95,24 % (160,0/168,0 giờ); 0,5 giờ không tính do nguyên nhân bên ngoài",
            "21,35 % (3.234/15.147); tính điểm theo cận Wilson 21,90 %",
            "chưa đủ dữ liệu: chỉ quan sát được 50,00 % thời gian trong tuần (cần 80 %)",
            "chưa đủ dữ liệu: mẫu số 4, cần ít nhất 30",
            "UBND huyện Phú Ninh: chưa đủ dữ liệu",
            "16/11/2026 – 22/11/2026",
            "chưa đạt",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        let text = sample().text(Language::En);
        assert!(text.contains("21.35 % (3,234/15,147); scored by its Wilson bound, 21.90 %"), "{text}");
    }

    #[test]
    fn the_page_stands_alone_escapes_names_and_is_the_same_every_time() {
        for language in [Language::Vi, Language::En] {
            let html = sample().html(language).unwrap();
            assert!(html.contains("&lt;Hội An&gt;"));
            assert!(!html.contains("<script") && !html.contains("src="));
            assert_eq!(html, sample().html(language).unwrap());
            // Red first, what cannot be judged last.
            let place = |name: &str| html.find(name).unwrap();
            assert!(place("Tam Kỳ") < place("Hội An") && place("Hội An") < place("Phú Ninh"));
        }
        if let Ok(dir) = std::env::var("IOC_WATCH_PAGES") {
            std::fs::write(format!("{dir}/report.html"), sample().html(Language::Vi).unwrap()).unwrap();
        }
    }
}
