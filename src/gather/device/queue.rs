//! Between the thread that reads a broker and the task that works: bounded, and never in the reader's way.
//!
//! When it is full, messages of one topic overtake each other: telemetry is state, the newest wins. What waits there is
//! bounded by the number of listed topics and by its size; what does not fit is dropped and counted. Messages that count
//! each other (Sparkplug's) never overtake: they wait in order beside the others, bounded by their size.

use super::link::Message;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Messages that wait in order.
const MAX_WAITING: usize = 16 * 1024;
/// Bytes that wait, in each of the three stores. Read buffers are kept alive by what lies in them.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// What became of a pushed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Waits,
    /// It took the place of an older message of its topic.
    Overtook,
    /// No room.
    Dropped,
}

pub struct Queue {
    inner: Mutex<Inner>,
    ready: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    /// The newest of each topic, copied out of the read buffers. Younger than everything in `waiting`.
    newest: HashMap<Bytes, Message>,
    newest_bytes: usize,
    /// Those that must not overtake, copied out of the read buffers. Younger than everything in `waiting`.
    ordered: VecDeque<Message>,
    ordered_bytes: usize,
    max_topics: usize,
}

impl Queue {
    /// `max_topics` bounds the topics that wait when the queue is full.
    pub fn new(max_topics: usize) -> Queue {
        Queue { inner: Mutex::new(Inner { max_topics, ..Inner::default() }), ready: Notify::new() }
    }

    /// `in_order`: no message of its topic may be left out, if there is any room.
    pub fn push(&self, message: Message, in_order: bool) -> Pushed {
        let (pushed, was_empty) = {
            let mut inner = self.lock();
            let was_empty = inner.waiting.is_empty();
            (inner.push(message, in_order), was_empty)
        };
        if was_empty {
            self.ready.notify_one();
        }
        pushed
    }

    /// Waits until there is something.
    pub async fn wait(&self) {
        self.ready.notified().await;
    }

    /// Moves everything into `batch`, oldest first. `max_topics` as in [`Queue::new`], as of now.
    pub fn drain(&self, batch: &mut VecDeque<Message>, max_topics: usize) {
        batch.clear();
        let mut inner = self.lock();
        std::mem::swap(&mut inner.waiting, batch);
        batch.extend(inner.newest.drain().map(|(_, message)| message));
        batch.append(&mut inner.ordered);
        inner.waiting_bytes = 0;
        inner.newest_bytes = 0;
        inner.ordered_bytes = 0;
        inner.max_topics = max_topics;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, message: Message, in_order: bool) -> Pushed {
        let size = message.topic.len() + message.payload.len();
        let has_room = self.waiting.len() < MAX_WAITING && self.waiting_bytes + size <= MAX_BYTES;
        if self.newest.is_empty() && self.ordered.is_empty() && has_room {
            self.waiting_bytes += size;
            self.waiting.push_back(message);
            return Pushed::Waits;
        }
        if in_order {
            if self.ordered_bytes + size + size_of::<Message>() > MAX_BYTES {
                return Pushed::Dropped;
            }
            self.ordered_bytes += size + size_of::<Message>();
            self.ordered.push_back(message.detached());
            return Pushed::Waits;
        }
        let old = self.newest.get(&message.topic).map(|old| old.topic.len() + old.payload.len());
        let fits = self.newest_bytes - old.unwrap_or(0) + size <= MAX_BYTES;
        if !fits || (old.is_none() && self.newest.len() >= self.max_topics) {
            return Pushed::Dropped;
        }
        let message = message.detached();
        self.newest_bytes = self.newest_bytes - old.unwrap_or(0) + size;
        self.newest.insert(message.topic.clone(), message);
        if old.is_some() { Pushed::Overtook } else { Pushed::Waits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &[u8]) -> Message {
        let topic = Bytes::copy_from_slice(topic.as_bytes());
        Message { topic, payload: Bytes::copy_from_slice(payload), retain: false }
    }

    #[test]
    fn a_full_queue_keeps_the_newest_of_each_topic_and_is_bounded() {
        let queue = Queue::new(2);
        for _ in 0..MAX_WAITING {
            assert_eq!(queue.push(message("old", b"0"), false), Pushed::Waits);
        }
        assert_eq!(queue.push(message("a", b"1"), false), Pushed::Waits);
        assert_eq!(queue.push(message("a", b"2"), false), Pushed::Overtook);
        assert_eq!(queue.push(message("b", b"1"), false), Pushed::Waits);
        assert_eq!(queue.push(message("c", b"1"), false), Pushed::Dropped, "a third topic");
        assert_eq!(queue.push(message("b", &vec![0; MAX_BYTES]), false), Pushed::Dropped, "too many bytes");
        let mut batch = VecDeque::new();
        queue.drain(&mut batch, 2);
        assert_eq!(batch.len(), MAX_WAITING + 2);
        let last: Vec<_> = batch.iter().skip(MAX_WAITING).map(|m| (m.topic.clone(), m.payload.clone())).collect();
        assert!(last.contains(&(Bytes::from("a"), Bytes::from("2"))), "the newest won");
        queue.drain(&mut batch, 2);
        assert!(batch.is_empty());
    }

    #[test]
    fn messages_that_count_each_other_are_all_kept_in_their_order() {
        let queue = Queue::new(2);
        for _ in 0..MAX_WAITING {
            queue.push(message("old", b"0"), false);
        }
        for number in 0..1_000_u32 {
            assert_eq!(queue.push(message("node", &number.to_le_bytes()), true), Pushed::Waits);
            queue.push(message("a", b"1"), false);
        }
        assert_eq!(queue.push(message("node", &vec![0; MAX_BYTES]), true), Pushed::Dropped, "not without bound");
        let mut batch = VecDeque::new();
        queue.drain(&mut batch, 2);
        let numbers =
            batch.iter().filter(|m| m.topic == "node").map(|m| u32::from_le_bytes(m.payload[..].try_into().unwrap()));
        assert!(numbers.eq(0..1_000));
    }
}
