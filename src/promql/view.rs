//! The samples of one series in a window, run by run: what the range functions read.

use super::{Run, is_stale};

/// The part of a series whose ticks lie in a window. May hold no sample, if all its runs are stale.
#[derive(Clone, Copy)]
pub struct RangeView<'a> {
    ticks: &'a [i64],
    /// From the run that holds `first` on, to the last that begins before `end`; never empty.
    runs: &'a [Run],
    /// Indices into `ticks`; `end` is exclusive.
    first: u32,
    end: u32,
}

/// Samples of one value on the ticks `first..end`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    pub first: u32,
    pub end: u32,
    pub value: f64,
}

impl Segment {
    pub fn samples(&self) -> u64 {
        u64::from(self.end - self.first)
    }
}

/// The runs of a view that hold samples, ascending.
pub struct Segments<'a> {
    runs: &'a [Run],
    first: u32,
    end: u32,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        loop {
            let [run, rest @ ..] = self.runs else { return None };
            let end = rest.first().map_or(self.end, |next| next.from);
            let segment = Segment { first: run.from.max(self.first), end, value: run.value };
            self.runs = rest;
            if !is_stale(run.value) {
                return Some(segment);
            }
        }
    }
}

impl<'a> RangeView<'a> {
    /// `first..end`: the ticks of the window, as [`Locator`] finds them.
    pub fn new(ticks: &'a [i64], runs: &'a [Run], (first, end): (u32, u32)) -> Option<RangeView<'a>> {
        if first >= end {
            return None;
        }
        // Most windows end with the last run.
        let runs = match runs {
            [.., last] if last.from < end => runs,
            _ => &runs[..runs.partition_point(|run| run.from < end)],
        };
        let runs = &runs[run_index(runs, first).unwrap_or(0)..];
        (!runs.is_empty()).then_some(RangeView { ticks, runs, first, end })
    }

    /// The runs that hold samples, ascending.
    pub fn segments(&self) -> Segments<'a> {
        Segments { runs: self.runs, first: self.first, end: self.end }
    }

    /// About how many runs it has, without looking.
    pub fn cost(&self) -> u64 {
        (self.runs.len() as u64).min(u64::from(self.end - self.first))
    }

    /// Every sample: time in milliseconds, value.
    pub fn samples(&self) -> impl Iterator<Item = (i64, f64)> + 'a {
        let ticks = self.ticks;
        self.segments().flat_map(move |segment| {
            ticks[segment.first as usize..segment.end as usize].iter().map(move |tick| (*tick, segment.value))
        })
    }

    pub fn time(&self, tick: u32) -> i64 {
        self.ticks[tick as usize]
    }
}

/// The run that is in force at a tick.
fn run_index(runs: &[Run], tick: u32) -> Option<usize> {
    // Mostly near the end: looked for in strides that double, so that old runs are not fetched.
    let mut until = runs.len();
    let mut stride = 1;
    loop {
        let from = until.saturating_sub(stride);
        match runs.get(from..until) {
            None | Some([]) => return None,
            Some([first, ..]) if first.from <= tick => {
                return Some(from + runs[from..until].partition_point(|run| run.from <= tick) - 1);
            }
            Some(_) => {}
        }
        until = from;
        stride *= 2;
    }
}

/// The value at a tick; none if it is stale or before the first run.
pub fn value_at(runs: &[Run], tick: u32) -> Option<f64> {
    let value = runs[run_index(runs, tick)?].value;
    (!is_stale(value)).then_some(value)
}

/// Finds the ticks of one window; quick for series that share their ticks.
pub struct Locator {
    after_ms: i64,
    until_ms: i64,
    last: Option<(*const i64, usize, (u32, u32))>,
}

impl Locator {
    /// For the window `(after_ms, until_ms]`.
    pub fn new(after_ms: i64, until_ms: i64) -> Locator {
        Locator { after_ms, until_ms, last: None }
    }

    /// First index and end of the ticks in the window.
    pub fn locate(&mut self, ticks: &[i64]) -> (u32, u32) {
        if let Some((address, length, found)) = self.last
            && address == ticks.as_ptr()
            && length == ticks.len()
        {
            return found;
        }
        let first = ticks.partition_point(|tick| *tick <= self.after_ms) as u32;
        let end = ticks.partition_point(|tick| *tick <= self.until_ms) as u32;
        self.last = Some((ticks.as_ptr(), ticks.len(), (first, end.max(first))));
        (first, end.max(first))
    }
}

#[cfg(test)]
mod tests {
    use super::super::STALE_NAN_BITS;
    use super::*;

    const TICKS: [i64; 6] = [0, 10, 20, 30, 40, 50];

    fn runs(pairs: &[(u32, f64)]) -> Vec<Run> {
        pairs.iter().map(|(from, value)| Run { from: *from, value: *value }).collect()
    }

    #[test]
    fn windows_are_open_to_the_left() {
        let mut locator = Locator::new(10, 40);
        assert_eq!(locator.locate(&TICKS), (2, 5));
        assert_eq!(Locator::new(50, 90).locate(&TICKS), (6, 6));
    }

    #[test]
    fn runs_are_clipped_and_stale_ones_left_out() {
        let runs = runs(&[(1, 5.0), (3, f64::from_bits(STALE_NAN_BITS)), (4, 7.0)]);
        let view = RangeView::new(&TICKS, &runs, (2, 6)).unwrap();
        let samples: Vec<_> = view.samples().collect();
        assert_eq!(samples, [(20, 5.0), (40, 7.0), (50, 7.0)]);
        assert!(RangeView::new(&TICKS, &runs, (0, 1)).is_none());
        assert_eq!(RangeView::new(&TICKS, &runs, (0, 2)).unwrap().segments().count(), 1);
        assert_eq!((value_at(&runs, 0), value_at(&runs, 3), value_at(&runs, 5)), (None, None, Some(7.0)));
    }
}
