//! From measured values to points, scores, colours: pure arithmetic. Where the values come from is `inputs.rs`, how
//! they are worded is `report.rs`.

use super::report::{AgencyWeek, IndicatorProfile, Profile};
use serde::{Deserialize, Serialize};

/// What was measured of one agency for one indicator. Stored, so that a report can be rendered again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Hours up for an availability; else what the numerator's query gave.
    pub numerator: Option<f64>,
    /// Hours up or down for an availability; else what the denominator's query gave.
    pub denominator: Option<f64>,
    /// The indicator's value, as counted.
    pub value: Option<f64>,
    /// Share of the time that was observed.
    pub coverage: Option<f64>,
    /// Hours of downtime that are somebody else's; not in the denominator.
    pub excused: Option<f64>,
    /// Why there is no judgement; `None` if there is one.
    pub missing: Option<Missing>,
}

/// Why an indicator is not evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Nothing to measure, or nothing measured.
    NoData,
    /// Observed for less than [`MIN_COVERAGE`] of the week.
    Coverage,
    /// The denominator is below the indicator's `min`.
    Min,
    /// The query could not be evaluated.
    Query,
}

impl Missing {
    pub const ALL: [Missing; 4] = [Missing::NoData, Missing::Coverage, Missing::Min, Missing::Query];

    pub fn as_str(self) -> &'static str {
        match self {
            Missing::NoData => "no_data",
            Missing::Coverage => "coverage",
            Missing::Min => "min",
            Missing::Query => "query",
        }
    }

    pub fn parse(text: &str) -> Option<Missing> {
        Missing::ALL.into_iter().find(|missing| missing.as_str() == text)
    }
}

/// Of the week; what was observed for less is not judged.
pub const MIN_COVERAGE: f64 = 0.8;

/// The traffic light that leaders know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    Red,
    Orange,
    Green,
    /// Cannot be judged.
    None,
}

impl Colour {
    pub fn as_str(self) -> &'static str {
        match self {
            Colour::Red => "red",
            Colour::Orange => "orange",
            Colour::Green => "green",
            Colour::None => "none",
        }
    }

    /// Red below the threshold, green in the upper half of what lies above it.
    fn of(score: Option<f64>, underperforming_below: f64) -> Colour {
        match score {
            None => Colour::None,
            Some(score) if score < underperforming_below => Colour::Red,
            Some(score) if score < underperforming_below.midpoint(100.0) => Colour::Orange,
            Some(_) => Colour::Green,
        }
    }
}

/// One indicator of one agency, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The value that was scored: the counted one, or its Wilson bound.
    pub scored: Option<f64>,
    /// 0 to the indicator's weight.
    pub points: Option<f64>,
    pub colour: Colour,
}

/// One agency's week, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Scorecard {
    /// 0 to 100 over the evaluated indicators; `None` if there are none.
    pub score: Option<f64>,
    pub colour: Colour,
    pub underperforming: bool,
    /// Weight of what was evaluated, and of everything.
    pub evaluated_weight: f64,
    pub total_weight: f64,
    /// In the profile's order.
    pub indicators: Vec<Judged>,
}

pub fn scorecard(profile: &Profile, week: &AgencyWeek) -> Scorecard {
    let indicators: Vec<Judged> = profile
        .indicators
        .iter()
        .map(|indicator| match week.measured.get(&indicator.id) {
            Some(measured) => judge(indicator, measured, profile.underperforming_below),
            None => Judged { scored: None, points: None, colour: Colour::None },
        })
        .collect();
    let mut points = 0.0;
    let mut evaluated_weight = 0.0;
    for (indicator, judged) in profile.indicators.iter().zip(&indicators) {
        if let Some(earned) = judged.points {
            points += earned;
            evaluated_weight += indicator.weight;
        }
    }
    let score = (evaluated_weight > 0.0).then(|| 100.0 * points / evaluated_weight);
    Scorecard {
        score,
        colour: Colour::of(score, profile.underperforming_below),
        underperforming: score.is_some_and(|score| score < profile.underperforming_below),
        evaluated_weight,
        total_weight: profile.indicators.iter().map(|indicator| indicator.weight).sum(),
        indicators,
    }
}

fn judge(indicator: &IndicatorProfile, measured: &Measured, underperforming_below: f64) -> Judged {
    let value = measured.value.filter(|value| measured.missing.is_none() && value.is_finite());
    let Some(value) = value else { return Judged { scored: None, points: None, colour: Colour::None } };
    let scored = match (indicator.counted, measured.denominator) {
        (true, Some(denominator)) => favourable(value, denominator, indicator.target >= indicator.floor),
        _ => value,
    };
    let share = share(scored, indicator.target, indicator.floor);
    Judged {
        scored: Some(scored),
        points: Some(share * indicator.weight),
        colour: Colour::of(Some(share * 100.0), underperforming_below),
    }
}

/// 1 at the target and beyond, 0 at the floor and beyond, linear between. The target may lie below the floor: then less
/// is better.
fn share(value: f64, target: f64, floor: f64) -> f64 {
    if target == floor {
        return if value >= target { 1.0 } else { 0.0 };
    }
    ((value - floor) / (target - floor)).clamp(0.0, 1.0)
}

/// Of a ratio of counts, the best value that the counts do not contradict: the Wilson bound (90 %, two-sided) on the
/// agency's side. Of two dossiers one late is no proof of 50 %; of two thousand it is, and the bound says so.
fn favourable(ratio: f64, denominator: f64, more_is_better: bool) -> f64 {
    const Z: f64 = 1.644_853_626_951_472_2;
    if !(0.0..=1.0).contains(&ratio) || denominator <= 0.0 {
        return ratio;
    }
    let z2 = Z * Z / denominator;
    let centre = ratio + z2 / 2.0;
    let half = Z * (ratio * (1.0 - ratio) / denominator + z2 / (4.0 * denominator)).sqrt();
    let bound = if more_is_better { centre + half } else { centre - half } / (1.0 + z2);
    bound.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indicator(target: f64, floor: f64, weight: f64, counted: bool) -> IndicatorProfile {
        IndicatorProfile {
            id: format!("i{weight}"),
            title: "Chỉ tiêu".into(),
            title_en: None,
            target,
            floor,
            weight,
            min: 0.0,
            shape: super::super::report::Shape::Share,
            counted,
        }
    }

    fn value(value: f64) -> Measured {
        Measured { value: Some(value), ..Measured::default() }
    }

    #[test]
    fn points_are_linear_between_floor_and_target() {
        let rows = [
            ("at the target", 0.995, 0.995, 0.95, 25.0),
            ("above the target", 1.0, 0.995, 0.95, 25.0),
            ("at the floor", 0.95, 0.995, 0.95, 0.0),
            ("below the floor", 0.2, 0.995, 0.95, 0.0),
            ("half way", 0.6, 1.0, 0.2, 12.5),
            ("less is better, at the target", 0.0, 0.0, 10.0, 25.0),
            ("less is better, half way", 5.0, 0.0, 10.0, 12.5),
            ("less is better, beyond the floor", 40.0, 0.0, 10.0, 0.0),
            ("target and floor alike, reached", 1.0, 1.0, 1.0, 25.0),
            ("target and floor alike, missed", 0.9, 1.0, 1.0, 0.0),
        ];
        for (name, measured, target, floor, points) in rows {
            let judged = judge(&indicator(target, floor, 25.0, false), &value(measured), 60.0);
            assert!((judged.points.unwrap() - points).abs() < 1e-9, "{name}: {judged:?}");
        }
    }

    #[test]
    fn what_was_not_measured_earns_nothing_and_costs_nothing() {
        let missing = Measured { value: Some(0.0), missing: Some(Missing::Coverage), ..Measured::default() };
        for measured in [missing, Measured::default(), value(f64::NAN)] {
            let judged = judge(&indicator(1.0, 0.0, 25.0, false), &measured, 60.0);
            assert_eq!((judged.points, judged.colour), (None, Colour::None), "{measured:?}");
        }
    }

    #[test]
    fn small_counts_are_scored_by_their_wilson_bound() {
        let rows = [
            // ratio, of how many, more is better, scored
            (0.5, 2.0, true, 0.8791),
            (0.5, 2.0, false, 0.1209),
            (0.5, 2_000.0, true, 0.5184),
            (1.0, 3.0, true, 1.0),
            (0.0, 3.0, false, 0.0),
            (3_234.0 / 15_147.0, 15_147.0, true, 0.219_04),
            // No share at all: as counted.
            (1.5, 2.0, true, 1.5),
        ];
        for (ratio, denominator, more_is_better, expected) in rows {
            let scored = favourable(ratio, denominator, more_is_better);
            assert!((scored - expected).abs() < 5e-4, "{ratio} of {denominator}: {scored}");
        }
    }

    #[test]
    fn the_score_is_over_what_was_evaluated() {
        let rows: [(&str, [Option<f64>; 3], Option<f64>, Colour, bool); 6] = [
            ("all full", [Some(1.0), Some(1.0), Some(1.0)], Some(100.0), Colour::Green, false),
            ("one missing", [Some(1.0), None, Some(0.5)], Some(62.5), Colour::Orange, false),
            ("none", [None, None, None], None, Colour::None, false),
            ("all zero", [Some(0.0), Some(0.0), Some(0.0)], Some(0.0), Colour::Red, true),
            ("at the threshold", [Some(0.6), Some(0.6), Some(0.6)], Some(60.0), Colour::Orange, false),
            ("upper half", [Some(0.8), Some(0.8), Some(0.8)], Some(80.0), Colour::Green, false),
        ];
        for (name, values, score, colour, underperforming) in rows {
            let indicators = vec![
                indicator(1.0, 0.0, 10.0, false),
                indicator(1.0, 0.0, 20.0, false),
                indicator(1.0, 0.0, 30.0, false),
            ];
            let measured = indicators
                .iter()
                .zip(values)
                .filter_map(|(indicator, measured)| Some((indicator.id.clone(), value(measured?))))
                .collect();
            let profile = Profile { indicators, underperforming_below: 60.0, ..Profile::default() };
            let card = scorecard(&profile, &AgencyWeek { measured, ..AgencyWeek::default() });
            assert_eq!(card.score.map(|s| (s * 1e6).round() / 1e6), score, "{name}");
            assert_eq!((card.colour, card.underperforming), (colour, underperforming), "{name}");
        }
    }
}
