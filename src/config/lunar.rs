//! The Vietnamese lunar calendar, as far as public holidays need it: the first day of the year (Tết) and the tenth of the
//! third month (Giỗ Tổ Hùng Vương).
//!
//! A month begins on the day of the new moon at UTC+7, not at China's UTC+8, so that some years begin a day or a month
//! apart. The month with the winter solstice is the eleventh; of thirteen months between two of those, the first in which the
//! sun enters no sign is a leap month. New moons and the sun's longitude are computed by J. Meeus, *Astronomical Algorithms*
//! (2nd edition, chapters 49 and 25), within a minute and 0.01 degrees.

use jiff::ToSpan;
use jiff::civil::{Date, date};

/// Years that are computed: before and after, the difference of dynamical to universal time is a guess.
const YEARS: std::ops::RangeInclusive<i16> = 1950..=2150;

const DAYS_A_MONTH: f64 = 29.530_588_861;
/// Julian day of noon of 1 January 2000, universal time.
const EPOCH: f64 = 2_451_545.0;
/// Of Vietnam, in days.
const OFFSET: f64 = 7.0 / 24.0;
/// Dynamical less universal time, in days: 69 s in 2020, and within 10 s of that in the years above that matter.
const DELTA_T: f64 = 69.0 / 86_400.0;

/// The first day of the lunar year that begins in `year`; `None` for years that are not computed.
pub fn new_year(year: i16) -> Option<Date> {
    let months = Months::of(year)?;
    Some(day(new_moon(months.first)))
}

/// The tenth day of the third lunar month in `year`; `None` for years that are not computed.
pub fn hung_kings(year: i16) -> Option<Date> {
    let months = Months::of(year)?;
    Some(day(new_moon(months.third) + 9))
}

/// The numbers of two months, counted from the new moon of January 2000.
struct Months {
    first: i32,
    third: i32,
}

impl Months {
    fn of(year: i16) -> Option<Months> {
        if !YEARS.contains(&year) {
            return None;
        }
        let (eleventh, next) = (solstice_month(year - 1), solstice_month(year));
        // The months after the eleventh are the twelfth, the first, the second, the third.
        let leap = if next - eleventh == 13 { (1..13).find(|n| !has_principal_term(eleventh + n)) } else { None };
        let nth = |n: i32| eleventh + n + i32::from(leap.is_some_and(|leap| leap <= n));
        Some(Months { first: nth(2), third: nth(4) })
    }
}

/// The month that holds the winter solstice of `year`.
fn solstice_month(year: i16) -> i32 {
    let end = date(year, 12, 31).since(date(2000, 1, 1)).map_or(0, |span| span.get_days());
    let mut month = (f64::from(end) / DAYS_A_MONTH) as i32 + 1;
    // The last month that begins before the sun has reached 270 degrees.
    while sign(new_moon(month)) >= 9 || day(new_moon(month)) > date(year, 12, 31) {
        month -= 1;
    }
    month
}

fn has_principal_term(month: i32) -> bool {
    sign(new_moon(month)) != sign(new_moon(month + 1))
}

/// A day, counted from 1 January 2000.
fn day(number: i32) -> Date {
    date(2000, 1, 1).saturating_add(number.days())
}

/// Which twelfth of the zodiac the sun is in as the day begins in Vietnam.
fn sign(number: i32) -> i32 {
    // Days of the epoch begin half a day before its noon.
    let centuries = (f64::from(number) - 0.5 - OFFSET + DELTA_T) / 36_525.0;
    let t = centuries;
    let anomaly = (357.529_11 + 35_999.050_29 * t - 0.000_153_7 * t * t).to_radians();
    let centre = (1.914_602 - 0.004_817 * t - 0.000_014 * t * t) * anomaly.sin()
        + (0.019_993 - 0.000_101 * t) * (2.0 * anomaly).sin()
        + 0.000_289 * (3.0 * anomaly).sin();
    let node = (125.04 - 1_934.136 * t).to_radians();
    let longitude = 280.466_46 + 36_000.769_83 * t + 0.000_303_2 * t * t + centre - 0.005_69 - 0.004_78 * node.sin();
    (longitude.rem_euclid(360.0) / 30.0) as i32
}

/// The day (counted from 1 January 2000, in Vietnam) of the new moon that is `month` months after that of January 2000.
fn new_moon(month: i32) -> i32 {
    let k = f64::from(month);
    let t = k / 1_236.85;
    let mean = 2_451_550.097_66 + DAYS_A_MONTH * k + 0.000_154_37 * t * t;
    let sun = (2.5534 + 29.105_356_7 * k - 0.000_001_4 * t * t).to_radians();
    let moon = (201.5643 + 385.816_935_28 * k + 0.010_758_2 * t * t).to_radians();
    let latitude = (160.7108 + 390.670_502_84 * k - 0.001_611_8 * t * t).to_radians();
    let node = (124.7746 - 1.563_755_88 * k + 0.002_067_2 * t * t).to_radians();
    let planets = (299.77 + 0.107_408 * k - 0.009_173 * t * t).to_radians();
    let e = 1.0 - 0.002_516 * t - 0.000_007_4 * t * t;
    let corrections = -0.407_20 * moon.sin()
        + 0.172_41 * e * sun.sin()
        + 0.016_08 * (2.0 * moon).sin()
        + 0.010_39 * (2.0 * latitude).sin()
        + 0.007_39 * e * (moon - sun).sin()
        - 0.005_14 * e * (moon + sun).sin()
        + 0.002_08 * e * e * (2.0 * sun).sin()
        - 0.001_11 * (moon - 2.0 * latitude).sin()
        - 0.000_57 * (moon + 2.0 * latitude).sin()
        + 0.000_56 * e * (2.0 * moon + sun).sin()
        - 0.000_42 * (3.0 * moon).sin()
        + 0.000_42 * e * (sun + 2.0 * latitude).sin()
        + 0.000_38 * e * (sun - 2.0 * latitude).sin()
        - 0.000_24 * e * (2.0 * moon - sun).sin()
        - 0.000_17 * node.sin()
        + 0.000_33 * planets.sin();
    let universal = mean + corrections - DELTA_T;
    (universal - EPOCH + 0.5 + OFFSET).floor() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tet_and_the_hung_kings_day_are_those_of_vietnam() {
        // 1968 and 2007: a day before China, whose new moon fell after midnight at UTC+8; 1985: a month before.
        let rows = [
            (1968, date(1968, 1, 29)),
            (1985, date(1985, 1, 21)),
            (2007, date(2007, 2, 17)),
            (2022, date(2022, 2, 1)),
            (2023, date(2023, 1, 22)),
            (2024, date(2024, 2, 10)),
            (2025, date(2025, 1, 29)),
            (2026, date(2026, 2, 17)),
            (2027, date(2027, 2, 6)),
            (2030, date(2030, 2, 2)),
        ];
        for (year, expected) in rows {
            assert_eq!(new_year(year), Some(expected), "{year}");
        }
        let rows = [
            // A leap second month (2023) comes before the third.
            (2022, date(2022, 4, 10)),
            (2023, date(2023, 4, 29)),
            (2024, date(2024, 4, 18)),
            (2025, date(2025, 4, 7)),
            (2026, date(2026, 4, 26)),
            (2027, date(2027, 4, 16)),
        ];
        for (year, expected) in rows {
            assert_eq!(hung_kings(year), Some(expected), "{year}");
        }
        assert_eq!((new_year(1900), hung_kings(3000)), (None, None));
    }
}
