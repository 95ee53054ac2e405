//! What queries read of the series.

use super::{Runs, Store};
use crate::labels::LabelsRef;
use crate::promql::{self, Locator, STALE_NAN_BITS, Series};
use promql_parser::label::{MatchOp, Matchers};

impl Store {
    /// See [`crate::promql::Storage::select`].
    pub fn select<'s>(&'s self, matchers: &Matchers, from_ms: i64, to_ms: i64, each: &mut dyn FnMut(Series<'s>)) {
        let mut window = Locator::new(from_ms, to_ms);
        self.visit(matchers, &mut |labels, runs| {
            let ticks = self.ticks(self.lives[usize::from(runs.mark)].clock);
            let (first, end) = window.locate(ticks);
            let Some(last) = runs.last() else { return };
            let ended_early = last.from < first && last.value.to_bits() == STALE_NAN_BITS;
            if ended_early || runs.begins() >= end {
                return;
            }
            let single = last.from <= first || runs.is_single();
            let runs = if single { promql::Runs::One([last]) } else { promql::Runs::Made(runs.iter().collect()) };
            each(Series { labels, ticks, runs });
        });
    }

    /// See [`crate::promql::Storage::select_latest`].
    pub fn select_latest<'s>(
        &'s self,
        matchers: &Matchers,
        from_ms: i64,
        to_ms: i64,
        each: &mut dyn FnMut(LabelsRef<'s>, i64, f64),
    ) {
        let mut window = Locator::new(from_ms, to_ms);
        self.visit(matchers, &mut |labels, runs| {
            let ticks = self.ticks(self.lives[usize::from(runs.mark)].clock);
            let (first, end) = window.locate(ticks);
            let Some(last) = runs.last().filter(|_| first < end) else { return };
            let run = if last.from < end { Some(last) } else { runs.iter().take_while(|run| run.from < end).last() };
            if let Some(run) = run.filter(|run| run.value.to_bits() != STALE_NAN_BITS) {
                each(labels, ticks[(end - 1) as usize], run.value);
            }
        });
    }

    /// Calls `each` with every series that matches.
    fn visit<'s>(&'s self, matchers: &Matchers, each: &mut dyn FnMut(LabelsRef<'s>, &'s Runs)) {
        let (of_name, of_labels): (Vec<_>, Vec<_>) =
            matchers.matchers.iter().partition(|matcher| matcher.name == "__name__");
        let mut matching = |labels: LabelsRef<'s>, runs: &'s Runs| {
            if of_labels.iter().all(|matcher| matcher.is_match(labels.get(&matcher.name))) {
                each(labels, runs);
            }
        };
        let is_meant = |name: &str| of_name.iter().all(|matcher| matcher.is_match(name));
        let equal = of_name.iter().find(|matcher| matches!(matcher.op, MatchOp::Equal));
        if equal.is_none_or(|equal| is_meant(&equal.value)) {
            let is_meant = |name: &str| equal.map_or_else(|| is_meant(name), |equal| equal.value == name);
            self.sheets.iter().for_each(|sheet| sheet.visit(&is_meant, &mut matching));
        }
        let mut of_ids = |ids: &'s [u32]| {
            for stored in ids.iter().filter_map(|id| self.series[*id as usize].as_ref()) {
                matching(stored.labels.view(), &stored.runs);
            }
        };
        if let Some(equal) = equal {
            if let Some(ids) = self.by_name.get(equal.value.as_str()).filter(|_| is_meant(&equal.value)) {
                of_ids(ids);
            }
            return;
        }
        for (_, ids) in self.by_name.iter().filter(|(name, _)| is_meant(name)) {
            of_ids(ids);
        }
    }
}
