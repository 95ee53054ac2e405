//! What the ledger holds in memory: what each subject was recently seen to be, and which rows of the database say so.
//!
//! Observed states are facts; causes follow from them by `blame.rs`, and are worked out again whenever a fact that matters
//! changed, as far back as such a fact can reach ([`Book::horizon_us`]); what is older is final. Rows that differ from what
//! the database holds are written in one transaction. So nothing is split or set back by hand, a failed write is made
//! good by the next one, and a crash leaves rows that fit together.

use super::blame::{Blocker, Downtime, rank, share_out};
use super::graph::{Graph, Node};
use super::maintenance::{Scope, Window};
use super::roll::{Member, Roll};
use super::track::{Piece, Pieces, Pool, Sight, Stretch, Track, Verdict, View, splice};
use super::{Cause, State, Subject, SubjectKind};
use std::collections::HashMap;
use std::sync::Arc;

/// Added to how far back a fact can reach: checks that end late, ticks that come late.
const SLACK_US: i64 = 10 * 60 * 1_000_000;

/// Rows to be changed for one subject: `old` are in the database, `new` shall be.
pub(super) struct Change {
    pub subject: Subject,
    pub old: Pieces,
    pub new: Pieces,
}

/// A time in which a dependency was down, as far as excuses go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    from_us: i64,
    to_us: Option<i64>,
}

#[derive(Default)]
pub(super) struct Book {
    pub graph: Graph,
    /// Announced through the API.
    pub announced: Vec<Window>,
    pub roll: Roll,
    pub sights: Pool<Sight>,
    pub verdicts: Pool<Verdict>,
    /// What changed since it was last written, and from when on.
    pub dirty: HashMap<Subject, i64>,
    /// Something changed that may matter to every subject that is down.
    pub wide: bool,
    pub version: u64,
    pub now_us: i64,
    /// Of the last tick.
    ticked_us: Option<i64>,
    /// The first moment known after a start.
    resumed_us: Option<i64>,
    /// Until when everything was written.
    pub clean_us: i64,
    /// Whether a graph was set: before, causes that the database holds are not doubted.
    pub has_graph: bool,
    /// The last sign of life of the run before, and for how long before it the rows were taken up.
    taken_up: Option<(i64, i64)>,
    /// Subjects that are no longer watched, and since when.
    ended: Vec<(i64, Subject)>,
    /// Until then a recovery may still show its effect.
    settle_us: i64,
    /// When all tracks were last looked through for what can no longer change.
    swept_us: i64,
}

impl Book {
    pub fn observe(&mut self, subject: &Subject, agency: &str, state: State, at_us: i64, reason: &str) {
        self.now_us = self.now_us.max(at_us);
        self.resumed_us.get_or_insert(at_us);
        let track = &mut self.roll.member(subject).track;
        if track.goes_on(state, agency, at_us) {
            return;
        }
        let sight = self.sights.share(Sight { state, agency: agency.into(), reason: reason.into() });
        let from_us = track.change(|course| {
            let mut from_us = at_us;
            if let Some(last) = course.stretches.last_mut() {
                // A clock that went back must not turn an interval around.
                from_us = at_us.max(last.until_us.unwrap_or(last.from_us + 1));
                if last.until_us.is_none() {
                    last.until_us = Some(from_us);
                    last.seen_us = last.seen_us.min(from_us - 1);
                }
            }
            course.stretches.push(Stretch { from_us, until_us: None, seen_us: from_us, sight });
            from_us
        });
        self.touch(subject, from_us);
    }

    /// Ends the last stretch of a subject that is no longer watched.
    pub fn end(&mut self, subject: &Subject, at_us: i64) {
        let Some(track) = self.roll.get_mut(subject).map(|member| &mut member.track) else { return };
        let Some(last) = track.last().filter(|last| last.until_us.is_none()) else { return };
        let until_us = at_us.max(last.from_us + 1);
        track.change(|course| {
            if let Some(last) = course.stretches.last_mut() {
                last.until_us = Some(until_us);
            }
        });
        self.ended.push((until_us, subject.clone()));
        self.touch(subject, until_us);
    }

    pub fn set_graph(&mut self, mut graph: Graph) {
        self.roll.set_nodes(std::mem::take(&mut graph.nodes));
        self.graph = graph;
        self.has_graph = true;
        self.widen();
    }

    fn touch(&mut self, subject: &Subject, from_us: i64) {
        match self.dirty.get_mut(subject) {
            Some(since_us) => *since_us = (*since_us).min(from_us),
            None => {
                self.dirty.insert(subject.clone(), from_us);
            }
        }
        if subject.kind == SubjectKind::Dependency {
            self.widen();
        } else if self.now_us <= self.settle_us {
            self.version += 1;
        }
    }

    /// Every excuse may be another one now.
    pub fn widen(&mut self) {
        self.wide = true;
        self.version += 1;
    }

    pub fn tick(&mut self, now_us: i64) {
        let before_us = self.ticked_us.unwrap_or(i64::MIN);
        let crossed = |edge_us: i64| before_us < edge_us && edge_us <= now_us;
        let is_edge = self.windows().any(|window| crossed(window.from_us) || crossed(window.to_us));
        self.now_us = now_us;
        self.ticked_us = Some(now_us);
        self.resumed_us.get_or_insert(now_us);
        if is_edge || before_us <= self.settle_us {
            self.widen();
        }
        let ended = |edge_us: Option<i64>| edge_us.filter(|edge_us| *edge_us <= now_us);
        let spans: Vec<Span> = self.all_spans().into_iter().flatten().collect();
        let edges = spans.iter().map(|span| span.to_us).chain(self.windows().map(|window| Some(window.to_us)));
        self.settle_us =
            edges.filter_map(ended).max().map_or(i64::MIN, |edge_us| edge_us.saturating_add(self.graph.longest_us));
        // A dependency that is held to be down only for so long.
        if spans.iter().any(|span| span.to_us.is_some_and(|to_us| to_us > now_us)) {
            self.settle_us = self.settle_us.max(now_us);
        }
    }

    pub(super) fn all_spans(&self) -> Vec<Vec<Span>> {
        (0..self.graph.dependencies.len()).map(|position| self.spans(position)).collect()
    }

    pub(super) fn windows(&self) -> impl Iterator<Item = &Window> {
        self.graph.windows.iter().chain(&self.announced)
    }

    /// How far back what is learned now can change a cause.
    pub fn horizon_us(&self) -> i64 {
        self.graph
            .longest_dependency_us
            .saturating_mul(3)
            .saturating_add(self.graph.longest_us.saturating_mul(2))
            .saturating_add(SLACK_US)
    }

    /// When the dependency was down. Where nobody looked (we were not running) it is held to be down until its first check
    /// afterwards, at most for its bound.
    pub(super) fn spans(&self, position: usize) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let Some(member) = self.graph.dependencies().get(position).and_then(|subject| self.roll.get(subject)) else {
            return spans;
        };
        let bound_us = self.graph.dependencies[position].bound_us;
        for stretch in member.track.stretches() {
            let follows = spans.last().is_some_and(|span| span.to_us == Some(stretch.from_us));
            let to_us = match stretch.sight.state {
                State::Up => continue,
                State::Down => stretch.until_us,
                State::Unknown if !follows => continue,
                State::Unknown => {
                    let limit_us = self.resumed_us.map(|start_us| start_us.max(stretch.from_us) + bound_us);
                    [stretch.until_us, limit_us].into_iter().flatten().min()
                }
            };
            match spans.last_mut() {
                Some(span) if follows => span.to_us = to_us,
                _ => spans.push(Span { from_us: stretch.from_us, to_us }),
            }
        }
        spans
    }

    /// What excuses, or excused, a subject, by precedence. `node` is the subject's, or a site's.
    pub(super) fn blockers(
        &self,
        subject: Option<&Subject>,
        agency: &str,
        node: Option<&Node>,
        spans: &[Vec<Span>],
    ) -> Vec<Blocker> {
        let needs = node.map_or(&[] as &[usize], |node| &node.needs);
        let mut blockers: Vec<Blocker> = Vec::new();
        for &need in needs {
            let dependency = &self.graph.dependencies[need];
            let by: Arc<str> = self.graph.dependencies()[need].id.clone();
            blockers.extend(spans[need].iter().map(|span| Blocker {
                from_us: span.from_us,
                to_us: span.to_us,
                cause: Cause::Dependency(dependency.cause),
                by: by.clone(),
                reach_us: dependency.bound_us.saturating_mul(2),
            }));
        }
        for window in self.windows() {
            let covers = match subject {
                Some(subject) => self.graph.covers(window, subject, agency, node),
                None => {
                    window.agencies.contains(agency) || node.is_some_and(|node| self.graph.covers_place(window, node))
                }
            };
            if covers {
                blockers.push(Blocker {
                    from_us: window.from_us,
                    to_us: Some(window.to_us),
                    cause: Cause::Maintenance,
                    by: window.reason.clone(),
                    reach_us: 0,
                });
            }
        }
        blockers.sort_by_key(|blocker| (rank(blocker.cause), blocker.from_us));
        blockers
    }

    /// Takes the changes that wait, with the causes as they follow from what is known now.
    pub fn take_changes(&mut self) -> (Vec<Change>, HashMap<Subject, i64>) {
        if std::mem::take(&mut self.wide) {
            let old_us = self.now_us.saturating_sub(self.horizon_us());
            let is_down = |track: &Track| {
                let may_change = |stretch: &View<'_>| stretch.until_us.is_none_or(|until_us| until_us > old_us);
                track.stretches().any(|stretch| stretch.sight.state == State::Down && may_change(&stretch))
            };
            for member in self.roll.iter().filter(|member| is_down(&member.track)) {
                self.dirty.entry(member.subject.clone()).or_insert(i64::MAX);
            }
        }
        let dirty = std::mem::take(&mut self.dirty);
        let spans = self.all_spans();
        let settled_us = self.settled_us();
        let mut verdicts = std::mem::take(&mut self.verdicts);
        let changes = dirty.iter().filter_map(|(subject, since_us)| {
            let member = self.roll.get(subject)?;
            let course = member.track.course();
            let pieces = self.pieces(subject, member.node(), &course.stretches, &spans, &mut verdicts);
            let new = splice(&course.written, pieces, settled_us.min(*since_us));
            (new != course.written).then(|| Change { subject: subject.clone(), old: course.written.clone(), new })
        });
        let changes = changes.collect();
        self.verdicts = verdicts;
        (changes, dirty)
    }

    /// What is older keeps the cause that the database holds.
    fn settled_us(&self) -> i64 {
        if !self.has_graph {
            return self.clean_us;
        }
        let horizon_us = self.horizon_us();
        let settled_us = self.now_us.saturating_sub(horizon_us).min(self.clean_us);
        // Of the run before only the last hours were taken up; what those were judged by lies before them.
        let known_us = self.taken_up.map(|(alive_us, length_us)| alive_us.min(alive_us - length_us + horizon_us));
        settled_us.max(known_us.unwrap_or(i64::MIN))
    }

    /// After the rows of the run before were taken up, of which `length_us` before its last sign of life are complete:
    /// since that sign everything is unknown.
    pub fn resume(&mut self, alive_us: Option<i64>, length_us: i64) {
        let open: Vec<(Subject, Arc<str>, i64)> = self
            .roll
            .iter()
            .filter_map(|member| {
                let course = member.track.course();
                let last = course.stretches.last()?;
                let from_us = course.written.last().map_or(last.from_us, |piece| piece.from_us);
                let is_open = last.until_us.is_none() && last.sight.state != State::Unknown;
                let at_us = alive_us.unwrap_or(from_us).max(from_us + 1);
                is_open.then(|| (member.subject.clone(), last.sight.agency.clone(), at_us))
            })
            .collect();
        for (subject, agency, at_us) in open {
            self.observe(&subject, &agency, State::Unknown, at_us, "ioc-watch was not running");
        }
        self.taken_up = alive_us.map(|alive_us| (alive_us, length_us));
        self.now_us = self.now_us.max(alive_us.unwrap_or(0));
        self.resumed_us = None;
        self.clean_us = i64::MAX;
    }

    /// The changes are in the database.
    pub fn written(&mut self, changes: Vec<Change>, dirty: &HashMap<Subject, i64>, now_us: i64) {
        for change in changes {
            if let Some(member) = self.roll.get_mut(&change.subject) {
                member.track.change(|course| course.written = change.new);
            }
        }
        self.clean_us = now_us;
        let old_us = now_us.saturating_sub(self.horizon_us().saturating_mul(2));
        let Book { roll, graph, announced, dirty: waiting, has_graph, .. } = &mut *self;
        let windows = graph.windows.iter().chain(&*announced);
        let recent: Vec<&Window> = windows.filter(|window| window.from_us <= now_us && old_us < window.to_us).collect();
        for subject in dirty.keys().filter(|subject| !waiting.contains_key(subject)) {
            if let Some(member) = roll.get_mut(subject) {
                let is_final = *has_graph && hangs_on_nothing(member, graph, &recent);
                let old_us = if is_final { i64::MAX } else { old_us };
                member.track.forget(old_us);
            }
        }
        if now_us.saturating_sub(self.swept_us) >= self.horizon_us() {
            // Who did not change since keeps nothing of the past either.
            self.swept_us = now_us;
            let waiting = &self.dirty;
            let moving = self.roll.iter_mut().filter(|member| matches!(member.track, Track::Moving(_)));
            let unchanged = moving.filter(|member| !waiting.contains_key(&member.subject));
            unchanged.for_each(|member| member.track.forget(old_us));
        }
        // Kept for a while: a dependency's end may still matter, and a subject may come back.
        let (roll, waiting) = (&mut self.roll, &self.dirty);
        self.ended.retain(|(until_us, subject)| {
            if *until_us > old_us || waiting.contains_key(subject) {
                return true;
            }
            // It may have come back since, and have ended again only just now.
            let is_old = |until_us: i64| until_us <= old_us;
            let is_over = |track: &Track| track.last().is_none_or(|last| last.until_us.is_some_and(is_old));
            if roll.get(subject).is_some_and(|member| is_over(&member.track)) {
                roll.forget(subject);
            }
            false
        });
    }

    /// The changes could not be written: they wait on.
    pub fn not_written(&mut self, dirty: HashMap<Subject, i64>) {
        for (subject, from_us) in dirty {
            let since_us = self.dirty.entry(subject).or_insert(from_us);
            *since_us = (*since_us).min(from_us);
        }
    }

    /// The rows that a subject's stretches and the present knowledge make.
    fn pieces(
        &self,
        subject: &Subject,
        node: Option<&Node>,
        stretches: &[Stretch],
        spans: &[Vec<Span>],
        verdicts: &mut Pool<Verdict>,
    ) -> Pieces {
        let mut blockers: Option<(Arc<str>, Vec<Blocker>)> = None;
        let mut pieces = Pieces::new();
        for (index, stretch) in stretches.iter().enumerate() {
            let mut add = |from_us, until_us, cause, by| {
                let verdict = verdicts.share(Verdict { sight: stretch.sight.clone(), cause, by });
                pieces.push(Piece { from_us, until_us, verdict });
            };
            match stretch.sight.state {
                State::Up => add(stretch.from_us, stretch.until_us, Cause::Own, Arc::default()),
                State::Unknown => add(stretch.from_us, stretch.until_us, Cause::Unknown, Arc::default()),
                State::Down => {
                    let agency = &stretch.sight.agency;
                    if blockers.as_ref().is_none_or(|(of, _)| of != agency) {
                        blockers = Some((agency.clone(), self.blockers(Some(subject), agency, node, spans)));
                    }
                    let later = &stretches[index + 1..];
                    let down = Downtime {
                        from_us: stretch.from_us,
                        until_us: stretch.until_us,
                        seen_us: stretch.seen_us,
                        up_us: later.iter().find(|later| later.sight.state == State::Up).map(|later| later.from_us),
                        bound_us: node.map_or(self.graph.longest_us, |node| node.bound_us),
                        is_silence: subject.kind.is_device(),
                    };
                    let found = blockers.as_ref().map_or(&[] as &[Blocker], |(_, found)| found);
                    let shares = share_out(down, found, self.base(subject), self.now_us);
                    for share in shares {
                        add(share.from_us, share.until_us, share.cause, share.by);
                    }
                }
            }
        }
        pieces
    }

    /// Whether `window` is about a subject, see [`Graph::covers`].
    pub fn covers(&self, window: &Window, subject: &Subject, agency: &str) -> bool {
        let node = self.roll.get(subject).and_then(|member| member.node());
        self.graph.covers(window, subject, agency, node)
    }

    /// The first id of a scope that nobody knows. Sites and devices may be discovered: any is taken.
    pub fn unknown_in<'s>(&self, scope: &'s Scope) -> Option<&'s String> {
        let is_known = |kind, id: &str| {
            self.roll.get(&Subject { kind, id: id.into() }).is_some_and(|member| member.node().is_some())
        };
        let of = |kind, ids: &'s [String]| ids.iter().find(|id| !is_known(kind, id));
        of(SubjectKind::Service, &scope.services).or_else(|| of(SubjectKind::Dependency, &scope.dependencies))
    }

    /// Whose downtime is when nothing excuses it. A dependency's is what it is configured to be: who looks after the line
    /// to the national portal does not run that portal.
    fn base(&self, subject: &Subject) -> (Cause, Arc<str>) {
        if subject.kind == SubjectKind::Dependency
            && let Some(position) = self.graph.dependencies().iter().position(|dependency| dependency == subject)
        {
            return (Cause::Dependency(self.graph.dependencies[position].cause), subject.id.clone());
        }
        (Cause::Own, Arc::default())
    }
}

/// Whether nothing could become the cause of what ended: the subject needs nothing, and none of `windows` is about it. Of a
/// fleet that comes and goes the past of twenty minutes would be held otherwise.
fn hangs_on_nothing(member: &Member, graph: &Graph, windows: &[&Window]) -> bool {
    let Member { subject, track, .. } = member;
    let node = member.node();
    let is_about =
        |window: &&Window| track.stretches().any(|stretch| graph.covers(window, subject, &stretch.sight.agency, node));
    subject.kind != SubjectKind::Dependency
        && node.is_none_or(|node| node.needs.is_empty())
        && !windows.iter().any(is_about)
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
