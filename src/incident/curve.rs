//! The course of the value that an incident is about, as a small picture for its mails: a PNG that every mail program
//! shows, transparent, in colours that stand on light and on dark ground.

use crate::config::site::Language::{self, En, Vi};
use crate::format;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::Write;

/// Pixels; mails show it at half that size and at most as wide as the reader's screen.
pub const WIDTH: usize = 600;
pub const HEIGHT: usize = 120;
/// Pixels of the line.
const LINE: usize = 4;
/// Pixels above the highest value, so that it can be seen as such.
const ABOVE: usize = 8;

/// Red, green, blue, alpha by index.
const COLOURS: [[u8; 4]; 5] = [
    [255, 255, 255, 0],
    // The line.
    [66, 133, 244, 255],
    // Beneath it.
    [66, 133, 244, 64],
    // The base.
    [154, 160, 166, 255],
    // Since when it fires.
    [217, 48, 37, 255],
];
const NOTHING: u8 = 0;
const CURVE: u8 = 1;
const BENEATH: u8 = 2;
const BASE: u8 = 3;
const SINCE: u8 = 4;

/// What a value is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// 1 up, 0 down.
    Up,
    /// In seconds.
    ResponseTime,
    /// Open differences of payments.
    Mismatches,
    /// Users of an application.
    Users,
    /// A ratio from 0 to 1 of a disk that is free.
    DiskFree,
}

/// Values at equal distances of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    pub measure: Measure,
    pub from: Timestamp,
    /// Of the last value.
    pub to: Timestamp,
    /// At least two; `None` where nothing is known.
    pub values: Vec<Option<f64>>,
}

impl Curve {
    fn known(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().flatten().copied().filter(|value| value.is_finite())
    }

    /// What the picture shows, in one line: its alternative text and its caption.
    pub fn says(&self, language: Language, zone: &TimeZone) -> String {
        let (from, to) = (format::date_time(self.from, zone), format::date_time(self.to, zone));
        let (low, high) = self
            .known()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let last = self.known().last().unwrap_or(0.0);
        let value = |value: f64| self.measure.value(value, language);
        let what = self.measure.name(language);
        match (self.measure, language) {
            (Measure::Up, Vi) => format!("{what} từ {from} đến {to}: cuối cùng {}", value(last)),
            (Measure::Up, En) => format!("{what} from {from} to {to}: last {}", value(last)),
            (_, Vi) => {
                let (low, high, last) = (value(low), value(high), value(last));
                format!("{what} từ {from} đến {to}: thấp nhất {low}, cao nhất {high}, cuối cùng {last}")
            }
            (_, En) => {
                let (low, high, last) = (value(low), value(high), value(last));
                format!("{what} from {from} to {to}: lowest {low}, highest {high}, last {last}")
            }
        }
    }

    /// The picture. `since`: when the alert began to fire, marked if it lies within.
    pub fn png(&self, since: Timestamp) -> Vec<u8> {
        let mut pixels = vec![NOTHING; WIDTH * HEIGHT];
        let mut set = |x: usize, y: usize, colour: u8| {
            if x < WIDTH && y < HEIGHT {
                pixels[y * WIDTH + x] = colour;
            }
        };
        let highest = self.known().fold(f64::NEG_INFINITY, f64::max);
        let lowest = self.known().fold(0.0, f64::min);
        let range = if self.measure == Measure::Up { 1.0 } else { (highest - lowest).max(f64::MIN_POSITIVE) };
        let room = (HEIGHT - ABOVE - LINE) as f64;
        // Down the picture; in it by construction.
        let height = |value: f64| ABOVE + ((1.0 - ((value - lowest) / range).clamp(0.0, 1.0)) * room) as usize;
        let mut before: Option<usize> = None;
        for x in 0..WIDTH {
            let index = x * self.values.len() / WIDTH;
            let value = self.values.get(index).copied().flatten().filter(|value| value.is_finite());
            let Some(y) = value.map(height) else {
                before = None;
                continue;
            };
            (y + LINE..HEIGHT).for_each(|y| set(x, y, BENEATH));
            let (top, bottom) = before.map_or((y, y), |before| (y.min(before), y.max(before)));
            (top..bottom + LINE).for_each(|y| set(x, y, CURVE));
            before = Some(y);
        }
        (0..WIDTH).for_each(|x| (HEIGHT - 2..HEIGHT).for_each(|y| set(x, y, BASE)));
        let whole = self.to.duration_since(self.from).as_secs_f64();
        let at = since.duration_since(self.from).as_secs_f64() / whole;
        if (0.0..1.0).contains(&at) {
            let x = (at * WIDTH as f64) as usize;
            (0..HEIGHT).filter(|y| y % 8 < 5).for_each(|y| (x..x + 2).for_each(|x| set(x, y, SINCE)));
        }
        encode(&pixels)
    }
}

impl Measure {
    fn name(self, language: Language) -> &'static str {
        match (self, language) {
            (Measure::Up, Vi) => "Hoạt động (cao) hay không (thấp)",
            (Measure::Up, En) => "Up (high) or down (low)",
            (Measure::ResponseTime, Vi) => "Thời gian trả lời",
            (Measure::ResponseTime, En) => "Response time",
            (Measure::Mismatches, Vi) => "Số chênh lệch đang mở",
            (Measure::Mismatches, En) => "Open mismatches",
            (Measure::Users, Vi) => "Số người dùng",
            (Measure::Users, En) => "Users",
            (Measure::DiskFree, Vi) => "Dung lượng đĩa còn trống",
            (Measure::DiskFree, En) => "Free disk space",
        }
    }

    fn value(self, value: f64, language: Language) -> String {
        match (self, language) {
            (Measure::Up, Vi) => if value > 0.5 { "hoạt động" } else { "không hoạt động" }.into(),
            (Measure::Up, En) => if value > 0.5 { "up" } else { "down" }.into(),
            (Measure::ResponseTime, Vi) => format!("{} giây", format::decimal(value, 1, Vi)),
            (Measure::ResponseTime, En) => format!("{} s", format::decimal(value, 1, En)),
            (Measure::Mismatches | Measure::Users, _) => format::decimal(value, 0, language),
            (Measure::DiskFree, _) => format::percent(value, language),
        }
    }
}

/// A PNG of indexed colours with transparency (RFC 2083 and its successor, chunks IHDR, PLTE, tRNS, IDAT, IEND).
fn encode(pixels: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    for side in [WIDTH, HEIGHT] {
        header.extend(u32::try_from(side).unwrap_or(0).to_be_bytes());
    }
    // Eight bits an index, a palette, deflate, the filters that every PNG has, not interlaced.
    header.extend([8, 3, 0, 0, 0]);
    let mut rows = Vec::with_capacity(pixels.len() + HEIGHT);
    for row in pixels.chunks(WIDTH) {
        // No filter.
        rows.push(0);
        rows.extend_from_slice(row);
    }
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail.
    let packed = packed.write_all(&rows).and_then(|()| packed.finish()).unwrap_or_default();
    let colours: Vec<u8> = COLOURS.iter().flat_map(|colour| colour[..3].to_vec()).collect();
    let alphas: Vec<u8> = COLOURS.iter().map(|colour| colour[3]).collect();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in
        [(b"IHDR", header), (b"PLTE", colours), (b"tRNS", alphas), (b"IDAT", packed), (b"IEND", Vec::new())]
    {
        file.extend(u32::try_from(content.len()).unwrap_or(0).to_be_bytes());
        let mut sum = flate2::Crc::new();
        sum.update(name);
        sum.update(&content);
        file.extend(name);
        file.extend(content);
        file.extend(sum.sum().to_be_bytes());
    }
    file
}

/// A made-up course, to show what mails look like.
pub fn sample() -> (Curve, Timestamp) {
    let to = Timestamp::from_second(1_648_341_600).unwrap_or_default();
    let from = to - jiff::SignedDuration::from_hours(6);
    let wave = |index: u32| 0.6 + 0.25 * f64::from(index).mul_add(0.37, 0.0).sin().abs();
    let value = |index: u32| match index {
        40..48 => None,
        132.. => Some(9.7),
        _ => Some(wave(index)),
    };
    let values = (0..144).map(value).collect();
    (Curve { measure: Measure::ResponseTime, from, to, values }, to - jiff::SignedDuration::from_mins(30))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn curve(measure: Measure, values: &[Option<f64>]) -> Curve {
        let (from, to) = (Timestamp::from_second(0).unwrap(), Timestamp::from_second(3_600).unwrap());
        Curve { measure, from, to, values: values.to_vec() }
    }

    /// Chunks by name, with their sums checked; the pixels unpacked.
    fn read(png: &[u8]) -> (Vec<String>, Vec<u8>) {
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        let (mut rest, mut names, mut pixels) = (&png[8..], Vec::new(), Vec::new());
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let mut sum = flate2::Crc::new();
            sum.update(&rest[4..8 + length]);
            assert_eq!(sum.sum().to_be_bytes(), rest[8 + length..12 + length]);
            names.push(String::from_utf8(rest[4..8].to_vec()).unwrap());
            if names.last().unwrap() == "IDAT" {
                let mut rows = Vec::new();
                flate2::read::ZlibDecoder::new(&rest[8..8 + length]).read_to_end(&mut rows).unwrap();
                assert_eq!(rows.len(), (WIDTH + 1) * HEIGHT);
                pixels = rows.chunks(WIDTH + 1).flat_map(|row| row[1..].to_vec()).collect();
            }
            rest = &rest[12 + length..];
        }
        (names, pixels)
    }

    #[test]
    fn the_picture_is_high_where_the_value_is_and_open_where_nothing_is_known() {
        let half_an_hour = Timestamp::from_second(1_800).unwrap();
        let png = curve(Measure::Up, &[Some(1.0), None, Some(0.0)]).png(half_an_hour);
        assert!(png.len() < 2_000, "{} bytes", png.len());
        let (names, pixels) = read(&png);
        assert_eq!(names, ["IHDR", "PLTE", "tRNS", "IDAT", "IEND"]);
        let at = |x: usize, y: usize| pixels[y * WIDTH + x];
        assert_eq!((at(10, ABOVE), at(10, 60)), (CURVE, BENEATH));
        assert_eq!((at(250, ABOVE), at(250, 60)), (NOTHING, NOTHING), "a gap");
        assert_eq!((at(590, 60), at(590, HEIGHT - LINE)), (NOTHING, CURVE));
        assert_eq!(at(WIDTH / 2, 0), SINCE);
    }

    #[test]
    fn odd_values_draw_something_and_never_fail() {
        for values in [
            vec![Some(0.0), Some(0.0)],
            vec![Some(f64::NAN), Some(f64::INFINITY)],
            vec![Some(-5.0), Some(1e300)],
            vec![None, None],
        ] {
            read(&curve(Measure::ResponseTime, &values).png(Timestamp::MIN));
            assert!(!curve(Measure::Users, &values).says(Vi, &TimeZone::UTC).is_empty());
        }
    }

    #[test]
    fn what_it_shows_is_said_too() {
        let one = curve(Measure::ResponseTime, &[Some(0.26), Some(9.71)]);
        assert_eq!(
            one.says(Vi, &TimeZone::UTC),
            "Thời gian trả lời từ 01/01/1970 00:00 đến 01/01/1970 01:00: thấp nhất 0,3 giây, cao nhất 9,7 giây, \
             cuối cùng 9,7 giây"
        );
        let up = curve(Measure::Up, &[Some(1.0), Some(0.0)]);
        assert_eq!(
            up.says(En, &TimeZone::UTC),
            "Up (high) or down (low) from 01/01/1970 00:00 to 01/01/1970 01:00: last down"
        );
    }
}
