//! What is held of one subject: what it was seen to be, and the rows of the database that say so. There are as many as
//! devices, and a device that is up for weeks has one stretch and one row that say the same: of those a track holds only
//! that, and what many subjects have in common is held once, in a [`Pool`].

use super::{Cause, State};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Fewer values than these are not looked through for what nobody holds any more.
const POOL: usize = 1_024;

/// What was seen, and of whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sight {
    pub state: State,
    pub agency: Arc<str>,
    pub reason: Arc<str>,
}

/// A time in which a subject was seen to be the same.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    pub from_us: i64,
    /// `None` while it lasts.
    pub until_us: Option<i64>,
    /// The last time it was seen so.
    pub seen_us: i64,
    pub sight: Arc<Sight>,
}

/// What was seen, and because of what it is so.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Verdict {
    pub sight: Arc<Sight>,
    pub cause: Cause,
    pub by: Arc<str>,
}

/// One row of `ledger_intervals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub from_us: i64,
    pub until_us: Option<i64>,
    pub verdict: Arc<Verdict>,
}

pub(super) type Stretches = SmallVec<[Stretch; 1]>;
pub(super) type Pieces = SmallVec<[Piece; 1]>;

/// A [`Stretch`] as a reader sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'t> {
    pub from_us: i64,
    /// `None` while it lasts.
    pub until_us: Option<i64>,
    pub seen_us: i64,
    pub sight: &'t Arc<Sight>,
}

#[derive(Debug)]
pub(super) enum Track {
    /// One stretch that lasts, and one row that says so.
    AtRest(Rest),
    /// Whatever else it may be; `None`: nothing was seen.
    Moving(Option<Box<Course>>),
}

/// What one stretch and one row have in common.
#[derive(Debug)]
pub(super) struct Rest {
    from_us: i64,
    seen_us: i64,
    verdict: Arc<Verdict>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Course {
    /// Oldest first, without gaps. The last one lasts, unless the subject was removed.
    pub stretches: Stretches,
    /// The youngest rows in the database, oldest first.
    pub written: Pieces,
}

impl Default for Track {
    fn default() -> Track {
        Track::Moving(None)
    }
}

impl Track {
    /// The last stretch.
    pub fn last(&self) -> Option<View<'_>> {
        match self {
            Track::AtRest(rest) => Some(rest.view()),
            Track::Moving(course) => course.as_ref()?.stretches.last().map(Stretch::view),
        }
    }

    /// Oldest first, without gaps.
    pub fn stretches(&self) -> impl Iterator<Item = View<'_>> {
        let (rest, course) = match self {
            Track::AtRest(rest) => (Some(rest), None),
            Track::Moving(course) => (None, course.as_ref()),
        };
        let course = course.into_iter().flat_map(|course| course.stretches.iter());
        rest.into_iter().map(Rest::view).chain(course.map(Stretch::view))
    }

    /// Everything that is held.
    pub fn course(&self) -> Cow<'_, Course> {
        match self {
            Track::AtRest(rest) => Cow::Owned(rest.course()),
            Track::Moving(Some(course)) => Cow::Borrowed(course),
            Track::Moving(None) => Cow::default(),
        }
    }

    /// Changes it, and lets it come to rest if it then can.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut Course) -> R) -> R {
        let mut course = match std::mem::take(self) {
            Track::AtRest(rest) => Box::new(rest.course()),
            Track::Moving(course) => course.unwrap_or_default(),
        };
        let result = change(&mut course);
        *self = match course.rest() {
            Some(rest) => Track::AtRest(rest),
            None => Track::Moving(Some(course)),
        };
        result
    }

    /// Notes that it was seen at `at_us`, if its last stretch lasts and says the same; else the answer is no.
    pub fn goes_on(&mut self, state: State, agency: &str, at_us: i64) -> bool {
        let is_same =
            |last: View<'_>| last.until_us.is_none() && last.sight.state == state && *last.sight.agency == *agency;
        if !self.last().is_some_and(is_same) {
            return false;
        }
        let seen_us = match self {
            Track::AtRest(rest) => Some(&mut rest.seen_us),
            Track::Moving(course) => {
                course.as_mut().and_then(|course| course.stretches.last_mut()).map(|last| &mut last.seen_us)
            }
        };
        if let Some(seen_us) = seen_us {
            *seen_us = at_us.max(*seen_us);
        }
        true
    }

    /// Drops what can no longer change, see [`Course::forget`]. There is nothing of the kind in one that is at rest.
    pub fn forget(&mut self, old_us: i64) {
        if let Track::Moving(Some(_)) = self {
            self.change(|course| course.forget(old_us));
        }
    }

    /// As if it had been in one state since the beginning of time, and nothing were written.
    #[cfg(test)]
    pub fn seen_for_test(state: State) -> Track {
        let sight = Arc::new(Sight { state, agency: "ioc".into(), reason: "".into() });
        let mut track = Track::default();
        track.change(|course| course.stretches.push(Stretch { from_us: 0, until_us: None, seen_us: 0, sight }));
        track
    }
}

impl Stretch {
    fn view(&self) -> View<'_> {
        let Stretch { from_us, until_us, seen_us, ref sight } = *self;
        View { from_us, until_us, seen_us, sight }
    }
}

impl Rest {
    fn view(&self) -> View<'_> {
        View { from_us: self.from_us, until_us: None, seen_us: self.seen_us, sight: &self.verdict.sight }
    }

    fn course(&self) -> Course {
        let Rest { from_us, seen_us, ref verdict } = *self;
        let stretch = Stretch { from_us, until_us: None, seen_us, sight: verdict.sight.clone() };
        let piece = Piece { from_us, until_us: None, verdict: verdict.clone() };
        Course { stretches: std::iter::once(stretch).collect(), written: std::iter::once(piece).collect() }
    }
}

impl Course {
    /// What is left of it if it is one stretch and one row that say the same.
    fn rest(&self) -> Option<Rest> {
        let ([stretch], [piece]) = (&self.stretches[..], &self.written[..]) else { return None };
        let is_same = stretch.from_us == piece.from_us && stretch.sight == piece.verdict.sight;
        let lasts = stretch.until_us.is_none() && piece.until_us.is_none();
        let rest = || Rest { from_us: piece.from_us, seen_us: stretch.seen_us, verdict: piece.verdict.clone() };
        (is_same && lasts).then(rest)
    }

    /// Drops from the beginning what can no longer change, of a track that is written: what ended before `old_us`, and
    /// what ended and was not down, since its cause hangs on nothing.
    pub fn forget(&mut self, old_us: i64) {
        let is_old = |until_us: i64| until_us <= old_us;
        let is_settled = |stretch: &&Stretch| {
            stretch.until_us.is_some_and(|until_us| is_old(until_us) || stretch.sight.state != State::Down)
        };
        let n_settled = self.stretches.iter().take_while(is_settled).count();
        self.stretches.drain(..n_settled.min(self.stretches.len().saturating_sub(1)));
        let first_us = self.stretches.first().map_or(i64::MIN, |stretch| stretch.from_us);
        let is_done = |piece: &&Piece| piece.until_us.is_some_and(|until_us| is_old(until_us) || until_us <= first_us);
        let n_done = self.written.iter().take_while(is_done).count();
        self.written.drain(..n_done.min(self.written.len().saturating_sub(1)));
        self.stretches.shrink_to_fit();
        self.written.shrink_to_fit();
    }
}

/// `new` rows from `settled_us` on, and before it the rows that the database holds.
pub(super) fn splice(written: &[Piece], new: Pieces, settled_us: i64) -> Pieces {
    let Some(base_us) = written.first().map(|piece| piece.from_us) else { return new };
    let mut pieces = Pieces::new();
    let mut add = |piece: &Piece, from_us: i64, until_us: Option<i64>| {
        if until_us.is_some_and(|until_us| until_us <= from_us) {
            return;
        }
        match pieces.last_mut() {
            // What two observations saw stays apart only where they differ.
            Some(last) if last.until_us == Some(from_us) && last.verdict == piece.verdict => last.until_us = until_us,
            _ => pieces.push(Piece { from_us, until_us, ..piece.clone() }),
        }
    };
    // Of what lies before the first stretch that is still held, the rows know more than `new`.
    let held_us = new.first().map_or(i64::MIN, |piece| piece.from_us);
    let cut_us = settled_us.max(base_us).max(held_us);
    let clip =
        |until_us: Option<i64>, limit_us: i64| Some(until_us.map_or(limit_us, |until_us| until_us.min(limit_us)));
    for piece in written.iter().filter(|piece| piece.from_us < cut_us) {
        add(piece, piece.from_us, clip(piece.until_us, cut_us));
    }
    for piece in new.iter().filter(|piece| piece.until_us.is_none_or(|until_us| until_us > cut_us)) {
        add(piece, piece.from_us.max(cut_us), piece.until_us);
    }
    pieces
}

/// Values of which one is held for all who have the same.
#[derive(Debug)]
pub(super) struct Pool<T> {
    held: HashSet<Arc<T>>,
    /// With so many, those that nobody has any more are dropped.
    full: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool { held: HashSet::new(), full: POOL }
    }
}

impl<T: Eq + Hash> Pool<T> {
    pub fn share(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.held.get(&value) {
            return known.clone();
        }
        if self.held.len() >= self.full {
            self.held.retain(|held| Arc::strong_count(held) > 1);
            self.full = (self.held.len() * 2).max(POOL);
        }
        let new = Arc::new(value);
        self.held.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(from_us: i64, until_us: Option<i64>, state: State) -> Stretch {
        let sight = Sight { state, agency: "ioc".into(), reason: "".into() };
        Stretch { from_us, until_us, seen_us: from_us, sight: Arc::new(sight) }
    }

    fn piece(from_us: i64, until_us: Option<i64>, state: State) -> Piece {
        let sight = stretch(from_us, until_us, state).sight;
        let verdict = Verdict { sight, cause: Cause::Own, by: "".into() };
        Piece { from_us, until_us, verdict: Arc::new(verdict) }
    }

    #[test]
    fn what_can_no_longer_change_is_forgotten_and_leaves_nothing_allocated() {
        use State::{Down, Unknown, Up};
        let course = |times: &[(i64, Option<i64>, State)]| Course {
            stretches: times.iter().map(|&(from, until, state)| stretch(from, until, state)).collect(),
            written: times.iter().map(|&(from, until, state)| piece(from, until, state)).collect(),
        };
        let rows: [(&[_], i64, usize); 5] = [
            (&[(10, Some(20), Unknown), (20, None, Up)], 0, 1),
            (&[(10, Some(20), Up), (20, Some(30), Down), (30, None, Up)], 0, 2),
            (&[(10, Some(20), Up), (20, Some(30), Down), (30, None, Up)], 30, 1),
            (&[(10, Some(20), Down), (20, Some(30), Up), (30, Some(40), Down)], 25, 1),
            (&[(10, Some(20), Up)], 30, 1),
        ];
        for (times, old_us, left) in rows {
            let mut course = course(times);
            course.forget(old_us);
            assert_eq!((course.stretches.len(), course.written.len()), (left, left), "{times:?} {old_us}");
            assert_eq!((course.stretches.spilled(), course.written.spilled()), (left > 1, left > 1));
            assert_eq!(course.stretches[0].from_us, course.written[0].from_us);
        }
    }

    #[test]
    fn a_row_that_began_before_the_first_stretch_that_is_held_keeps_its_beginning() {
        use State::{Down, Up};
        let written = [piece(10, None, Up)];
        let new = [piece(11, Some(12), Up), piece(12, None, Down)].into_iter().collect();
        let rows = splice(&written, new, 10);
        let rows: Vec<_> = rows.iter().map(|row| (row.from_us, row.until_us, row.verdict.sight.state)).collect();
        assert_eq!(rows, [(10, Some(12), Up), (12, None, Down)]);
    }

    #[test]
    fn a_pool_holds_one_of_each_and_only_what_somebody_has() {
        let mut pool = Pool::default();
        let kept = pool.share("kept".to_owned());
        for number in 0..10 * POOL {
            pool.share(number.to_string());
        }
        assert!(pool.held.len() <= POOL, "{}", pool.held.len());
        assert!(Arc::ptr_eq(&kept, &pool.share("kept".to_owned())));
    }

    #[test]
    fn one_stretch_with_one_row_comes_to_rest_and_loses_nothing() {
        use State::{Down, Up};
        let rows: [(&[_], &[_], bool); 6] = [
            (&[(10, None, Up)], &[(10, None, Up)], true),
            (&[(10, None, Up)], &[], false),
            (&[(10, None, Up)], &[(9, None, Up)], false),
            (&[(10, None, Up)], &[(10, None, Down)], false),
            (&[(10, Some(20), Up)], &[(10, Some(20), Up)], false),
            (&[(10, Some(20), Up), (20, None, Down)], &[(20, None, Down)], false),
        ];
        for (stretches, written, rests) in rows {
            let mut track = Track::default();
            track.change(|course| {
                course.stretches = stretches.iter().map(|&(from, until, state)| stretch(from, until, state)).collect();
                course.written = written.iter().map(|&(from, until, state)| piece(from, until, state)).collect();
            });
            assert_eq!(matches!(track, Track::AtRest(_)), rests, "{stretches:?} {written:?}");
            if rests {
                track.forget(i64::MAX);
            }
            let last = track.last().map(|last| (last.from_us, last.until_us, last.sight.state));
            assert_eq!(last, stretches.last().copied());
            assert_eq!(track.stretches().count(), stretches.len());
            let course = track.course();
            assert_eq!((course.stretches.len(), course.written.len()), (stretches.len(), written.len()));
            assert_eq!(course.stretches[0].seen_us, stretches[0].0);
        }
    }

    #[test]
    fn what_goes_on_is_noted_in_motion_and_at_rest() {
        let mut track = Track::seen_for_test(State::Up);
        let verdict = |track: &Track| {
            let sight = track.last().map_or_else(|| panic!("it was seen"), |last| last.sight.clone());
            Arc::new(Verdict { sight, cause: Cause::Own, by: "".into() })
        };
        for at_rest in [false, true] {
            assert_eq!(matches!(track, Track::AtRest(_)), at_rest);
            assert!(track.goes_on(State::Up, "ioc", 9) && track.goes_on(State::Up, "ioc", 7));
            assert_eq!(track.last().map(|last| last.seen_us), Some(9), "a clock that went back says nothing");
            assert!(!track.goes_on(State::Down, "ioc", 10) && !track.goes_on(State::Up, "tam-ky", 10));
            let verdict = verdict(&track);
            track.change(|course| {
                course.written = std::iter::once(Piece { from_us: 0, until_us: None, verdict }).collect()
            });
        }
        track.change(|course| course.stretches[0].until_us = Some(11));
        assert!(!track.goes_on(State::Up, "ioc", 12), "it has ended");
    }

    #[test]
    fn a_track_is_small() {
        // For each of 100,000 devices.
        assert_eq!((size_of::<Track>(), size_of::<Course>()), (24, 88));
    }
}
