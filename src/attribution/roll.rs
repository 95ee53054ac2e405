//! Every subject that the configuration, the inventory or an observation named, and what is held of it. There are as many
//! as devices: they stand close together in one list, and a table of four bytes each finds them.

use super::Subject;
use super::graph::Node;
use super::track::Track;
use crate::lean::push;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// One subject. Somebody knows it, or it is no member.
#[derive(Debug)]
pub(super) struct Member {
    pub subject: Subject,
    /// What was seen of it.
    pub track: Track,
    /// `None` if neither the configuration nor the inventory knows it.
    pub node: Option<Arc<Node>>,
}

impl Member {
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }
}

/// The members, in no order.
#[derive(Default)]
pub(super) struct Roll {
    members: Vec<Member>,
    positions: HashTable<u32>,
    /// Ids come from outside, so the hash is keyed.
    hasher: RandomState,
}

impl Roll {
    pub fn get(&self, subject: &Subject) -> Option<&Member> {
        self.position(subject).map(|position| &self.members[position])
    }

    pub fn get_mut(&mut self, subject: &Subject) -> Option<&mut Member> {
        self.position(subject).map(|position| &mut self.members[position])
    }

    /// The member for a subject, made if there is none.
    pub fn member(&mut self, subject: &Subject) -> &mut Member {
        let position = self.position(subject).unwrap_or_else(|| {
            let position = self.members.len();
            push(&mut self.members, Member { subject: subject.clone(), track: Track::default(), node: None });
            let (members, hasher) = (&self.members, &self.hasher);
            let hash = |position: &u32| hasher.hash_one(&members[*position as usize].subject);
            self.positions.insert_unique(hash(&(position as u32)), position as u32, hash);
            position
        });
        &mut self.members[position]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.iter_mut()
    }

    /// Takes the nodes of a new graph. From then on its texts are the subjects': those that were read from the database, or
    /// of the inventory before, need not be held as well.
    pub fn set_nodes(&mut self, nodes: Vec<(Subject, Arc<Node>)>) {
        self.members.iter_mut().for_each(|member| member.node = None);
        let n_new = nodes.len().saturating_sub(self.members.len());
        self.members.reserve_exact(n_new);
        for (subject, node) in nodes {
            let member = self.member(&subject);
            (member.subject, member.node) = (subject, Some(node));
        }
        self.members.retain(|member| member.node.is_some() || member.track.last().is_some());
        let (members, hasher) = (&self.members, &self.hasher);
        let hash = |position: &u32| hasher.hash_one(&members[*position as usize].subject);
        self.positions = HashTable::with_capacity(members.len());
        for position in 0..members.len() as u32 {
            self.positions.insert_unique(hash(&position), position, hash);
        }
    }

    /// Forgets what was seen of a subject.
    pub fn forget(&mut self, subject: &Subject) {
        let Some(position) = self.position(subject) else { return };
        if self.members[position].node.is_some() {
            self.members[position].track = Track::default();
            return;
        }
        let hash = |subject: &Subject| self.hasher.hash_one(subject);
        if let Ok(entry) = self.positions.find_entry(hash(subject), |known| *known as usize == position) {
            entry.remove();
        }
        self.members.swap_remove(position);
        // The last one has taken its place.
        let before = self.members.len() as u32;
        if let Some(moved) = self.members.get(position)
            && let Some(known) = self.positions.find_mut(hash(&moved.subject), |known| *known == before)
        {
            *known = position as u32;
        }
    }

    fn position(&self, subject: &Subject) -> Option<usize> {
        let is_it = |position: &u32| self.members[*position as usize].subject == *subject;
        self.positions.find(self.hasher.hash_one(subject), is_it).map(|position| *position as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{State, SubjectKind};
    use super::*;

    fn subject(number: usize) -> Subject {
        Subject { kind: SubjectKind::ALL[number % 4], id: (number / 4).to_string().into() }
    }

    fn node() -> Arc<Node> {
        Arc::new(Node { agency: "ioc".into(), site: "".into(), needs: Arc::new([]), bound_us: 1 })
    }

    fn is_member(roll: &Roll, number: usize) -> bool {
        roll.get(&subject(number)).is_some_and(|member| member.subject == subject(number))
    }

    #[test]
    fn who_is_forgotten_is_gone_and_the_others_are_still_found() {
        let mut roll = Roll::default();
        for number in 0..100 {
            roll.member(&subject(number));
        }
        for number in (0..100).step_by(3).chain([99]) {
            roll.forget(&subject(number));
        }
        for number in 0..100 {
            assert_eq!(is_member(&roll, number), number % 3 != 0, "{number}");
        }
        assert_eq!(roll.iter().count(), 66);
    }

    #[test]
    fn a_graph_names_members_and_lends_them_its_texts() {
        let mut roll = Roll::default();
        for number in 0..3 {
            roll.member(&subject(number)).track = Track::seen_for_test(State::Up);
        }
        let new = subject(1);
        roll.set_nodes(vec![(new.clone(), node()), (subject(7), node())]);
        assert_eq!(roll.iter().filter(|member| member.node().is_some()).count(), 2);
        assert!(roll.get(&new).is_some_and(|member| Arc::ptr_eq(&member.subject.id, &new.id)));
        roll.forget(&subject(0));
        roll.forget(&new);
        assert!(!is_member(&roll, 0));
        assert!(roll.get(&new).is_some_and(|member| member.node().is_some() && member.track.last().is_none()));
        roll.set_nodes(Vec::new());
        let left: Vec<bool> = (0..8).map(|number| is_member(&roll, number)).collect();
        assert_eq!(left, [false, false, true, false, false, false, false, false], "it was seen");
    }

    #[test]
    fn a_member_is_small() {
        // For each of 100,000 devices; the table takes 6.6 bytes more.
        assert_eq!(size_of::<Member>(), 56);
    }
}
