//! One broker: a thread that reads and a task that works.
//!
//! The reader does nothing but read, acknowledge and queue: a broker that keeps 1,000 messages drops the rest for a slow
//! reader, which of 20,000 a second is a twentieth of a second. Other tasks keep the shared threads for longer now and
//! then, so it has a thread of its own. The worker takes what has gathered in one go, holding the fleet's lock once a
//! batch.

use super::DeviceError;
use super::fleet::{Fleet, Now};
use super::link::{Event, Link, Lost, MAX_PACKET, Message, Sender};
use super::message::{Memory, handle};
use super::outcome::{Counters, Outcome, Tally};
use super::queue::{Pushed, Queue};
use super::topic::Topics;
use crate::config::mqtt::Broker;
use crate::metrics::{Row, columns};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Waits between attempts to connect: doubling from the first to the last, and up to half as much again by chance, so
/// that a fleet of daemons does not return in step.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// A connection that lived this long ends a row of failures.
const STABLE_AFTER: Duration = Duration::from_secs(20);
/// What mosquitto and those like it say of the messages that they dropped.
const DROPPED: &str = "$SYS/broker/publish/messages/dropped";
/// After so many connections that ended before the broker had answered all requests, it is not asked for that any more.
const MAX_UNANSWERED: u32 = 2;
/// The beginning of the topics whose messages count each other.
const SPARKPLUG: &[u8] = b"spBv1.0/";
/// Failures in a row over an unreadable packet, after which the session is thrown away.
const MAX_PACKET_FAILURES: u32 = 2;
/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long the worker lets messages gather: fewer wake-ups, and no one notices.
const GATHER: Duration = Duration::from_millis(5);
/// How often it is looked whether Sparkplug nodes are to be asked for their births.
const ASK: Duration = Duration::from_secs(1);
/// Messages handled under one hold of the fleet's lock, so that the sweep and other brokers come in between.
const BATCH: usize = 512;

/// Reads and works until `shutdown`. Fails only if the configuration cannot be used or there is no thread to be had;
/// connections are tried for ever.
pub async fn run(
    broker: Broker,
    number: usize,
    fleet: Arc<Fleet>,
    shutdown: CancellationToken,
) -> Result<(), DeviceError> {
    let topics = Topics::compile(&broker)?;
    let n_topics = broker.topics.len();
    let queue = Arc::new(Queue::new(fleet.capacity() * n_topics));
    let agency = fleet.site_agency();
    let counters = Arc::new(Counters::new(fleet.metrics(), &agency, &broker.id));
    let reader = Reader::new(&broker, number, fleet.clone(), queue.clone(), counters.clone())?;
    let worker = Worker {
        topics,
        n_topics,
        number,
        fleet: fleet.clone(),
        queue,
        counters,
        sender: reader.link.sender(),
        row: fleet.metrics().table(columns::broker::TABLE).row(&[&agency, &broker.id]),
        tally: Tally::default(),
        memory: Memory::default(),
    };
    let failed = |reason: String| DeviceError::Worker { broker: broker.id.to_string(), reason };
    let (stop_reader, stop_worker) = (shutdown.child_token(), CancellationToken::new());
    // Dropped (also when this task is aborted), they end both.
    let _guards = (stop_reader.clone().drop_guard(), stop_worker.clone().drop_guard());
    let reading = reader.start(stop_reader).map_err(|error| failed(error.to_string()))?;
    let mut working = tokio::spawn(worker.run(stop_worker.clone()));
    let result = tokio::select! {
        result = reading => result.unwrap_or_else(|_| Err(failed("its reader panicked".to_owned()))),
        ended = &mut working => return Err(failed(format!("{ended:?}"))),
    };
    stop_worker.cancel();
    let _ = working.await;
    result
}

struct Reader {
    link: Link,
    broker: Broker,
    filters: Vec<(String, u8)>,
    number: usize,
    fleet: Arc<Fleet>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    row: Row,
    connected_at: Option<Instant>,
    wait: Duration,
    /// Answers to requests to subscribe that are still to come.
    n_answers: usize,
    /// Connections in a row that ended before all of them had come.
    n_unanswered: u32,
    /// Connections in a row that ended over a packet.
    packet_failures: u32,
    /// The next connection begins a new session.
    clearing: bool,
    /// The last reason for failing, so that the same one is told once.
    told: String,
}

impl Reader {
    fn new(
        broker: &Broker,
        number: usize,
        fleet: Arc<Fleet>,
        queue: Arc<Queue>,
        counters: Arc<Counters>,
    ) -> Result<Reader, DeviceError> {
        let table = fleet.metrics().table(columns::broker::TABLE);
        let row = table.row(&[&fleet.site_agency(), &broker.id]);
        table.set(row, columns::broker::CONNECTED, 0.0);
        table.set(row, columns::broker::UNLISTED, fleet.n_unlisted(number) as f64);
        table.add(row, columns::broker::REBIRTHS, 0.0);
        Ok(Reader {
            link: Link::new(broker)?,
            broker: broker.clone(),
            filters: fleet.filters(broker),
            number,
            queue,
            counters,
            row,
            fleet,
            connected_at: None,
            wait: FIRST_WAIT,
            n_answers: 0,
            n_unanswered: 0,
            packet_failures: 0,
            clearing: false,
            told: String::new(),
        })
    }

    /// Reads until `shutdown`, on a thread of its own. Gives how it ended; nothing if it panicked.
    fn start(mut self, shutdown: CancellationToken) -> io::Result<oneshot::Receiver<Result<(), DeviceError>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (told, ended) = oneshot::channel();
        std::thread::Builder::new().name("mqtt-reader".to_owned()).spawn(move || {
            let result = runtime.block_on(async {
                let result = self.run(&shutdown).await;
                self.close().await;
                result
            });
            let _ = told.send(result);
        })?;
        Ok(ended)
    }

    async fn run(&mut self, shutdown: &CancellationToken) -> Result<(), DeviceError> {
        let cancelled = shutdown.cancelled();
        tokio::pin!(cancelled);
        loop {
            let event = tokio::select! {
                () = &mut cancelled => return Ok(()),
                event = self.link.poll() => event,
            };
            match event {
                Ok(Event::Message(message)) => self.message(message),
                Ok(Event::Connected { session_present }) => self.connected(session_present),
                Ok(Event::Other) => {}
                Ok(Event::Subscribed { n_refused }) => {
                    // The last answer is about the broker's own word, which it need not give.
                    self.n_answers = self.n_answers.saturating_sub(1);
                    let is_own_word = self.n_answers == 0 && self.asks_for_its_own_word();
                    if is_own_word {
                        self.n_unanswered = 0;
                    }
                    if n_refused == 0 || is_own_word {
                        continue;
                    }
                    for _ in 0..n_refused {
                        self.count(Outcome::SubscribeRefused);
                    }
                    tracing::error!(mqtt.broker = %self.broker.id, n_refused, "the broker refuses subscriptions");
                }
                Err(lost) => {
                    let wait = self.lost(&lost);
                    tokio::select! {
                        () = &mut cancelled => return Ok(()),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    fn message(&mut self, message: Message) {
        if message.topic == DROPPED {
            let count = std::str::from_utf8(&message.payload).ok().and_then(|text| text.trim().parse::<u64>().ok());
            if let Some(count) = count {
                let table = self.fleet.metrics().table(columns::broker::TABLE);
                table.set(self.row, columns::broker::DROPPED, count as f64);
            }
            return;
        }
        if message.payload.len() > MAX_PACKET {
            self.count(Outcome::Oversized);
            return;
        }
        let in_order = message.topic.starts_with(SPARKPLUG);
        match self.queue.push(message, in_order) {
            Pushed::Waits => {}
            Pushed::Overtook => self.count(Outcome::Coalesced),
            Pushed::Dropped => self.count(Outcome::Dropped),
        }
    }

    fn connected(&mut self, session_present: bool) {
        if self.clearing {
            self.clearing = false;
            self.link.set_clean(false);
            if self.link.is_v3() {
                self.link.drop_connection();
                return;
            }
        }
        let own_word: &[(String, u8)] = if self.asks_for_its_own_word() { &[(DROPPED.to_owned(), 0)] } else { &[] };
        let asked = self.link.subscribe(&self.filters).and_then(|n| Ok(n + self.link.subscribe(own_word)?));
        self.n_answers = *asked.as_ref().unwrap_or(&0);
        if let Err(error) = asked {
            // Without subscriptions the connection is useless; the next one tries again.
            tracing::error!(mqtt.broker = %self.broker.id, error, "cannot subscribe");
            self.link.drop_connection();
            return;
        }
        let now = Instant::now();
        self.connected_at = Some(now);
        self.told.clear();
        self.set_connected(1.0);
        self.fleet.link_changed(self.number, true, now);
        tracing::info!(mqtt.broker = %self.broker.id, session_present, "connected to the MQTT broker");
    }

    /// Some brokers hang up on whoever asks for `$SYS`: they are not asked again.
    fn asks_for_its_own_word(&self) -> bool {
        self.n_unanswered < MAX_UNANSWERED
    }

    /// Takes leave of the broker. Messages that still come are acknowledged, so they are queued too.
    async fn close(&mut self) {
        if self.connected_at.is_some() {
            self.link.disconnect();
            let farewell = async {
                while let Ok(event) = self.link.poll().await {
                    if let Event::Message(message) = event {
                        self.message(message);
                    }
                }
            };
            let _ = tokio::time::timeout(FAREWELL, farewell).await;
        }
        self.disconnected();
    }

    fn disconnected(&mut self) {
        self.connected_at = None;
        self.set_connected(0.0);
        self.fleet.link_changed(self.number, false, Instant::now());
    }

    /// Notes the loss and says how long to wait.
    fn lost(&mut self, lost: &Lost) -> Duration {
        let was_stable = self.connected_at.is_some_and(|since| since.elapsed() >= STABLE_AFTER);
        let was_connected = self.connected_at.is_some();
        if was_connected && self.n_answers > 0 && self.asks_for_its_own_word() {
            self.n_unanswered += 1;
            if !self.asks_for_its_own_word() {
                tracing::info!(mqtt.broker = %self.broker.id, "the broker is not asked for {DROPPED} any more");
            }
        }
        // Before the broker's welcome it is not the session that disturbs.
        let is_packet = lost.is_packet && was_connected;
        self.disconnected();
        if was_stable {
            self.packet_failures = 0;
        }
        if was_stable || (was_connected && !is_packet && self.packet_failures == 0) {
            self.wait = FIRST_WAIT;
        }
        if is_packet {
            self.packet_failures += 1;
            self.count(if lost.is_oversized { Outcome::Oversized } else { Outcome::Malformed });
            if self.packet_failures >= MAX_PACKET_FAILURES {
                self.packet_failures = 0;
                self.clearing = true;
                self.link.set_clean(true);
                self.count(Outcome::SessionCleared);
                tracing::error!(
                    mqtt.broker = %self.broker.id,
                    "the broker sends a packet that cannot be read, again and again; its session is thrown away"
                );
            }
        }
        if self.told != lost.reason {
            self.told.clone_from(&lost.reason);
            tracing::warn!(mqtt.broker = %self.broker.id, reason = lost.reason, "no connection to the MQTT broker");
        }
        let wait = self.wait + jitter(self.wait / 2);
        self.wait = (self.wait * 2).min(LAST_WAIT);
        wait
    }

    fn set_connected(&self, value: f64) {
        self.fleet.metrics().table(columns::broker::TABLE).set(self.row, columns::broker::CONNECTED, value);
    }

    fn count(&self, outcome: Outcome) {
        let mut tally = Tally::default();
        tally.count(outcome);
        self.counters.add(self.fleet.metrics(), &mut tally);
    }
}

/// From zero to `limit`, by chance.
fn jitter(limit: Duration) -> Duration {
    // A new RandomState has a new random key, which is chance enough here.
    let share = RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64;
    limit.mul_f64(share)
}

struct Worker {
    topics: Topics,
    n_topics: usize,
    number: usize,
    fleet: Arc<Fleet>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    sender: Sender,
    row: Row,
    tally: Tally,
    memory: Memory,
}

impl Worker {
    async fn run(mut self, stop: CancellationToken) {
        let mut batch = VecDeque::new();
        let mut stopping = false;
        while !stopping {
            tokio::select! {
                () = stop.cancelled() => stopping = true,
                () = self.queue.wait() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(ASK), if self.memory.nodes.is_waiting() => {}
            }
            self.queue.drain(&mut batch, self.fleet.capacity() * self.n_topics);
            while !batch.is_empty() {
                let n_now = batch.len().min(BATCH);
                self.handle(batch.drain(..n_now));
                tokio::task::yield_now().await;
            }
            self.ask();
        }
    }

    /// Asks the Sparkplug nodes that have to be asked for their births.
    fn ask(&mut self) {
        let timestamp = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        for (topic, payload) in self.memory.nodes.requests(Instant::now(), timestamp) {
            // One that finds no room is asked again when its time comes.
            if self.sender.send(&topic, payload) {
                let table = self.fleet.metrics().table(columns::broker::TABLE);
                table.add(self.row, columns::broker::REBIRTHS, 1.0);
            }
        }
    }

    fn handle(&mut self, messages: impl Iterator<Item = Message>) {
        let mut session = self.fleet.session(self.number, Now::read());
        self.memory.nodes.connected(session.connection());
        for message in messages {
            let outcome = handle(&self.topics, &mut self.memory, &mut session, &message);
            self.tally.count(outcome);
        }
        drop(session);
        let metrics = self.fleet.metrics();
        if self.tally.get(Outcome::Unlisted) > 0 {
            let n_unlisted = self.fleet.n_unlisted(self.number) as f64;
            metrics.table(columns::broker::TABLE).set(self.row, columns::broker::UNLISTED, n_unlisted);
        }
        self.counters.add(metrics, &mut self.tally);
    }
}
