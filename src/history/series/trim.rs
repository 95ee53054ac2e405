//! Forgetting what is older than it is kept.

use super::{Clock, Life, Runs, Sheet, Store, oldest};

impl Store {
    /// Forgets what is older than its retention, counted from its clock's last tick; an ended series goes by the
    /// newest tick of all, because its clock may have stopped. A series that has not ended is never dropped: the
    /// sampler and the owners remember its id.
    pub fn trim(&mut self) {
        let newest = self.clocks.iter().filter_map(|clock| clock.ticks.last()).max().copied().unwrap_or(0);
        // By clock: the first tick that some series still needs.
        let mut needed: Vec<Option<u32>> = vec![None; self.clocks.len()];
        let Store { clocks, series, sheets, lives, runs: bytes, n_cells, .. } = self;
        // False if nothing is left.
        let mut trim = |runs: &mut Runs| {
            let Life { clock, retention_ms } = lives[usize::from(runs.mark)];
            let ended = runs.ended();
            let first = oldest(&clocks[clock.0 as usize].ticks, retention_ms, ended.map(|_| newest));
            if ended.is_some_and(|tick| tick < first) {
                return false;
            }
            *bytes -= runs.heap();
            runs.forget(runs.n_outlived(first));
            *bytes += runs.heap();
            let needed = &mut needed[clock.0 as usize];
            *needed = Some(needed.map_or(first, |known| known.min(first)));
            true
        };
        let mut dropped = Vec::new();
        for (id, stored) in series.iter_mut().enumerate() {
            if stored.as_mut().is_some_and(|stored| !trim(&mut stored.runs)) {
                dropped.push(id as u32);
            }
        }
        let mut freed = 0;
        for runs in sheets.iter_mut().flat_map(Sheet::runs_mut) {
            if !trim(runs) {
                freed += runs.heap();
                *n_cells -= 1;
                *runs = Runs::new();
            }
        }
        *bytes -= freed;
        self.drop_series(&dropped);
        self.trim_clocks(&needed);
        if self.bytes() < self.max_memory {
            self.refused = false;
        }
    }

    fn trim_clocks(&mut self, needed: &[Option<u32>]) {
        // Renumbering touches every run, so it waits until it is worth it.
        let shift = |clock: &Clock, needed: Option<u32>| match needed {
            None => clock.ticks.len().saturating_sub(1),
            Some(first) if first as usize * 4 > clock.ticks.len() => first as usize,
            Some(_) => 0,
        };
        let shifts: Vec<usize> = self.clocks.iter().zip(needed).map(|(clock, needed)| shift(clock, *needed)).collect();
        for (clock, shift) in self.clocks.iter_mut().zip(&shifts) {
            clock.ticks.drain(..shift);
            clock.ticks.shrink_to(clock.ticks.len() * 2);
        }
        self.each_runs(|life, runs| {
            let shift = shifts[life.clock.0 as usize] as u32;
            if shift > 0 {
                runs.shift(shift);
            }
        });
    }
}
