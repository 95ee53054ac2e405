//! Why a subject answers for nothing just now.

use super::blame::Blocker;
use super::book::{Book, Span};
use super::roll::Member;
use super::{Cause, State, Subject};
use crate::store::from_micros;
use jiff::Timestamp;

/// While a subject has one, its downtime is not its agency's, and no new notification about it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excuse {
    pub cause: Cause,
    /// The dependency that is down; for maintenance empty.
    pub dependency: String,
    /// For people: the dependency's name, or the reason of the maintenance.
    pub by: String,
    pub since: Timestamp,
}

impl Book {
    pub fn excuse(&self, subject: &Subject, now_us: i64) -> Option<Excuse> {
        let mut spans: Vec<Vec<Span>> = vec![Vec::new(); self.graph.dependencies.len()];
        let member = self.roll.get(subject);
        for &need in member.and_then(Member::node).map_or(&[] as &[usize], |node| &node.needs) {
            spans[need] = self.spans(need);
        }
        self.excuse_by(&spans, subject, member, now_us)
    }

    /// No dependency is down or was within memory, and nothing is maintained: no subject has an excuse.
    pub fn excuses_nothing(&self) -> bool {
        self.all_spans().iter().all(Vec::is_empty) && self.windows().next().is_none()
    }

    /// The excuses of all subjects, with their agencies.
    pub fn excuses(&self, now_us: i64) -> Vec<(Subject, String, Excuse)> {
        if self.excuses_nothing() {
            return Vec::new();
        }
        let spans = self.all_spans();
        let excuse = |member: &Member| {
            // Devices that nobody listed can be covered by their agency's maintenance.
            let seen = || member.track.last().filter(|last| last.until_us.is_none()).map(|last| &last.sight.agency);
            let agency = member.node().map(|node| &node.agency).or_else(seen)?;
            let excuse = self.excuse_by(&spans, &member.subject, Some(member), now_us)?;
            Some((member.subject.clone(), agency.to_string(), excuse))
        };
        self.roll.iter().filter_map(excuse).collect()
    }

    /// A site is excused while what it needs is down, and while it or its agency is maintained.
    pub fn excuse_for_site(&self, site: &str, now_us: i64) -> Option<Excuse> {
        let node = self.graph.site(site);
        let blockers = self.blockers(None, &node.agency, Some(&node), &self.all_spans());
        self.in_force(&blockers, now_us, |_| false, node.bound_us)
    }

    /// `member` is the subject's, if it is one.
    fn excuse_by(
        &self,
        spans: &[Vec<Span>],
        subject: &Subject,
        member: Option<&Member>,
        now_us: i64,
    ) -> Option<Excuse> {
        let node = member.and_then(Member::node);
        let last = member.and_then(|member| member.track.last()).filter(|last| last.until_us.is_none());
        let agency = last.map(|last| &*last.sight.agency).or(node.map(|node| &*node.agency)).unwrap_or("");
        let blockers = self.blockers(Some(subject), agency, node, spans);
        // It is not up, and was not looked at since the recovery.
        let waits = |to_us: i64| {
            last.is_some_and(|last| last.sight.state != State::Up && (subject.kind.is_device() || last.seen_us < to_us))
        };
        self.in_force(&blockers, now_us, waits, node.map_or(self.graph.longest_us, |node| node.bound_us))
    }

    /// The first of `blockers` that is in force at `now_us`, or was until so recently that `waits` holds.
    fn in_force(
        &self,
        blockers: &[Blocker],
        now_us: i64,
        waits: impl Fn(i64) -> bool,
        bound_us: i64,
    ) -> Option<Excuse> {
        let found = blockers.iter().find(|blocker| {
            blocker.from_us <= now_us
                && blocker
                    .to_us
                    .is_none_or(|to_us| now_us < to_us || (now_us <= to_us.saturating_add(bound_us) && waits(to_us)))
        })?;
        let is_dependency = found.cause != Cause::Maintenance;
        let name = || {
            let position = self.graph.dependencies().iter().position(|subject| *subject.id == *found.by)?;
            Some(self.graph.dependencies[position].name.to_string())
        };
        Some(Excuse {
            cause: found.cause,
            dependency: if is_dependency { found.by.to_string() } else { String::new() },
            by: is_dependency.then(name).flatten().unwrap_or_else(|| found.by.to_string()),
            since: from_micros(found.from_us),
        })
    }
}
