//! Silences: people do not want to hear of some alerts for a time, and say why.
//!
//! The rules are Alertmanager's (its `silence` package): what has begun keeps its start, what is over stays as it was,
//! and whatever else is changed makes a new silence of it. What a silence does to an incident is decided in `life.rs`.

use super::acts::{TEXT, cut};
use super::change::Change;
use super::stage::Incidents;
use crate::matcher::{self, Matcher};
use crate::store::{Doing, Store, StoreError, Tx, from_micros, micros};
use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// How long one that is over is still listed, as in Alertmanager.
const LISTED: SignedDuration = SignedDuration::from_hours(5 * 24);
/// How long it is kept for those who ask who silenced what.
const KEPT: SignedDuration = SignedDuration::from_hours(365 * 24);
/// In memory. More are refused: whoever makes so many is a program gone wrong.
const AT_MOST: usize = 10_000;
/// Of one silence.
const MATCHERS: usize = 100;
/// Bytes of their names and values together.
const MATCHED: usize = 16 * 1024;

/// One silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// A UUID.
    pub id: String,
    /// All must match.
    pub matchers: Vec<Matcher>,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub updated_at: Timestamp,
    pub created_by: String,
    /// The reason.
    pub comment: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SilenceState {
    Active,
    Pending,
    Expired,
}

impl SilenceState {
    pub fn as_str(self) -> &'static str {
        match self {
            SilenceState::Active => "active",
            SilenceState::Pending => "pending",
            SilenceState::Expired => "expired",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SilenceError {
    #[error("silence {0} not found")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A matcher as it is kept and sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenMatcher {
    pub name: String,
    pub value: String,
    pub is_regex: bool,
    /// Senders from before 0.22 know no negative matchers.
    #[serde(default = "yes")]
    pub is_equal: bool,
}

fn yes() -> bool {
    true
}

impl From<&Matcher> for WrittenMatcher {
    fn from(matcher: &Matcher) -> WrittenMatcher {
        WrittenMatcher {
            name: matcher.name().to_owned(),
            value: matcher.value().to_owned(),
            is_regex: matcher.is_regex(),
            is_equal: !matcher.is_negative(),
        }
    }
}

impl WrittenMatcher {
    pub fn read(&self) -> Result<Matcher, matcher::MatcherError> {
        Matcher::new(&self.name, &self.value, !self.is_equal, self.is_regex)
    }
}

impl Silence {
    pub fn state(&self, now: Timestamp) -> SilenceState {
        if now < self.starts_at {
            SilenceState::Pending
        } else if now < self.ends_at {
            SilenceState::Active
        } else {
            SilenceState::Expired
        }
    }

    /// For those who ask why they hear nothing.
    pub(super) fn says(&self) -> String {
        format!("{}: {}", self.created_by, self.comment)
    }

    fn check(&self, now: Timestamp) -> Result<(), SilenceError> {
        let refuse = |text: &str| Err(SilenceError::Refused(text.to_owned()));
        if self.matchers.is_empty() {
            return refuse("at least one matcher required");
        }
        if self.matchers.len() > MATCHERS {
            return refuse("too many matchers");
        }
        if self.matchers.iter().map(|matcher| matcher.name().len() + matcher.value().len()).sum::<usize>() > MATCHED {
            return refuse("the matchers are too long");
        }
        if self.matchers.iter().all(Matcher::matches_empty) {
            return refuse("at least one matcher must not match the empty string");
        }
        if self.ends_at <= self.starts_at {
            return refuse("start time must be before end time");
        }
        if self.ends_at <= now {
            return refuse("end time can't be in the past");
        }
        if self.comment.is_empty() {
            return refuse("a comment is needed: say why nobody is to hear of it");
        }
        Ok(())
    }
}

/// The silences that are not long over.
#[derive(Default)]
pub(super) struct Silences {
    by_id: BTreeMap<String, Arc<Silence>>,
}

impl Silences {
    pub async fn load(store: &Store, now: Timestamp) -> Result<Silences, StoreError> {
        const DOING: &str = "reading the silences";
        let since = now.checked_sub(LISTED).unwrap_or(now);
        let rows = sqlx::query(
            "SELECT id, matchers, starts_us, ends_us, updated_us, created_by, comment FROM silences WHERE ends_us > $1",
        )
        .bind(micros(since))
        .fetch_all(store.reader())
        .await
        .doing(DOING)?;
        let mut silences = Silences::default();
        for row in rows {
            let text = |column: &str| row.try_get::<String, _>(column).doing(DOING);
            let time = |column: &str| Ok::<_, StoreError>(from_micros(row.try_get(column).doing(DOING)?));
            let written: Vec<WrittenMatcher> = serde_json::from_str(&text("matchers")?).unwrap_or_default();
            let matchers: Vec<Matcher> = written.iter().filter_map(|matcher| matcher.read().ok()).collect();
            let id = text("id")?;
            // Fewer matchers match more: rather hear too much.
            if matchers.is_empty() || matchers.len() < written.len() {
                tracing::error!(silence.id = id, "a silence that cannot be read is left out");
                continue;
            }
            silences.put(Silence {
                id,
                matchers,
                starts_at: time("starts_us")?,
                ends_at: time("ends_us")?,
                updated_at: time("updated_us")?,
                created_by: text("created_by")?,
                comment: text("comment")?,
            });
        }
        Ok(silences)
    }

    pub fn put(&mut self, silence: Silence) {
        self.by_id.insert(silence.id.clone(), Arc::new(silence));
    }

    /// Forgets what has been over for long.
    pub fn prune(&mut self, now: Timestamp) {
        let since = now.checked_sub(LISTED).unwrap_or(now);
        self.by_id.retain(|_, silence| silence.ends_at > since);
    }

    /// What applies at `now`.
    pub fn active(&self, now: Timestamp) -> Vec<Arc<Silence>> {
        self.by_id.values().filter(|silence| silence.state(now) == SilenceState::Active).cloned().collect()
    }

    /// Another number whenever another set of silences applies.
    pub fn version(&self, now: Timestamp) -> u64 {
        let mut hasher = DefaultHasher::new();
        for silence in self.by_id.values().filter(|silence| silence.state(now) == SilenceState::Active) {
            (&silence.id, silence.updated_at, silence.ends_at).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What is to be written so that `wanted` applies; the last is what it became. `new_id` is for a new one.
    pub fn set(&self, wanted: Silence, new_id: String, now: Timestamp) -> Result<Vec<Silence>, SilenceError> {
        let known = match wanted.id.as_str() {
            "" => None,
            id => Some(self.by_id.get(id).ok_or_else(|| SilenceError::NotFound(id.to_owned()))?),
        };
        let wanted = Silence { updated_at: now, ..wanted };
        wanted.check(now)?;
        if let Some(known) = known
            && may_become(known, &wanted, now)
        {
            return Ok(vec![Silence { starts_at: known.starts_at.min(wanted.starts_at.max(now)), ..wanted }]);
        }
        if self.by_id.len() >= AT_MOST {
            return Err(SilenceError::Refused("too many silences".into()));
        }
        let ended = known.filter(|known| known.state(now) != SilenceState::Expired).map(|known| end(known, now));
        let new = Silence { id: new_id, starts_at: wanted.starts_at.max(now), ..wanted };
        Ok(ended.into_iter().chain([new]).collect())
    }
}

/// Whether the change keeps it the same silence.
fn may_become(known: &Silence, wanted: &Silence, now: Timestamp) -> bool {
    known.matchers == wanted.matchers
        && match known.state(now) {
            SilenceState::Active => known.starts_at.as_second() == wanted.starts_at.as_second(),
            SilenceState::Pending => wanted.starts_at >= now,
            SilenceState::Expired => false,
        }
}

fn end(silence: &Silence, now: Timestamp) -> Silence {
    let starts_at = silence.starts_at.min(now);
    Silence { starts_at, ends_at: now, updated_at: now, ..silence.clone() }
}

impl Incidents {
    /// The silences, those that are over for some days included, in the order of Alertmanager: active ones by their
    /// end, then those to come by their start, then those that are over, the last first.
    pub fn silences(&self, now: Timestamp) -> Vec<Arc<Silence>> {
        let mut silences: Vec<Arc<Silence>> = self.state().silences.by_id.values().cloned().collect();
        silences.sort_by_key(|silence| {
            let state = silence.state(now);
            let place = match state {
                SilenceState::Active => silence.ends_at.as_microsecond(),
                SilenceState::Pending => silence.starts_at.as_microsecond(),
                SilenceState::Expired => -silence.ends_at.as_microsecond(),
            };
            (state, place, silence.id.clone())
        });
        silences
    }

    pub fn silence(&self, id: &str) -> Option<Arc<Silence>> {
        self.state().silences.by_id.get(id).cloned()
    }

    /// Makes a silence, or changes the one whose id `wanted` has; returns the id of what applies then. `allows` is asked
    /// of what it was, if it was there.
    pub async fn set_silence(
        &self,
        wanted: Silence,
        allows: impl Fn(&Silence) -> bool,
        now: Timestamp,
    ) -> Result<String, SilenceError> {
        let wanted = Silence { comment: cut(&wanted.comment), created_by: cut(&wanted.created_by), ..wanted };
        let _turn = self.turn.lock().await;
        if let Some(known) = self.silence(&wanted.id)
            && !allows(&known)
        {
            return Err(SilenceError::NotFound(wanted.id));
        }
        let written = self.state().silences.set(wanted, new_id()?, now)?;
        let id = written.last().map(|silence| silence.id.clone()).unwrap_or_default();
        let mut change = Change::of_silences(written);
        change.write_silences(&self.store).await?;
        prune(change.tx(&self.store).await?, now).await?;
        self.commit(change, now).await?;
        self.state().silences.prune(now);
        Ok(id)
    }

    /// Ends a silence now. One that is over already stays as it is.
    pub async fn end_silence(
        &self,
        id: &str,
        allows: impl Fn(&Silence) -> bool,
        now: Timestamp,
    ) -> Result<(), SilenceError> {
        let _turn = self.turn.lock().await;
        let known = self.silence(id).filter(|known| allows(known));
        let known = known.ok_or_else(|| SilenceError::NotFound(id.to_owned()))?;
        if known.state(now) == SilenceState::Expired {
            return Ok(());
        }
        let mut change = Change::of_silences(vec![end(&known, now)]);
        change.write_silences(&self.store).await?;
        self.commit(change, now).await?;
        Ok(())
    }
}

/// A random UUID (version 4, RFC 9562).
pub(super) fn new_id() -> Result<String, SilenceError> {
    let mut bytes = [0u8; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| SilenceError::Refused("the machine gives no random numbers".into()))?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

impl Change {
    /// Writes its silences to its transaction.
    pub(super) async fn write_silences(&mut self, store: &Store) -> Result<(), StoreError> {
        for silence in self.silences.clone() {
            write(self.tx(store).await?, &silence).await?;
        }
        Ok(())
    }
}

async fn write(tx: &mut Tx, silence: &Silence) -> Result<(), StoreError> {
    let matchers: Vec<WrittenMatcher> = silence.matchers.iter().map(WrittenMatcher::from).collect();
    sqlx::query(
        "INSERT INTO silences (id, matchers, starts_us, ends_us, updated_us, created_by, comment) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (id) DO UPDATE SET starts_us = excluded.starts_us, ends_us = excluded.ends_us, \
         updated_us = excluded.updated_us, created_by = excluded.created_by, comment = excluded.comment",
    )
    .bind(&silence.id)
    .bind(serde_json::to_string(&matchers).unwrap_or_default())
    .bind(micros(silence.starts_at))
    .bind(micros(silence.ends_at))
    .bind(micros(silence.updated_at))
    .bind(&silence.created_by)
    .bind(&silence.comment)
    .execute(&mut **tx)
    .await
    .doing("writing a silence")?;
    Ok(())
}

async fn prune(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    let since = now.checked_sub(KEPT).unwrap_or(now);
    let forget = sqlx::query("DELETE FROM silences WHERE ends_us < $1").bind(micros(since));
    forget.execute(&mut **tx).await.doing("forgetting old silences")?;
    Ok(())
}

const _: () = assert!(TEXT >= 1_000, "a reason has room");

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + 60 * minute).unwrap()
    }

    fn wanted(id: &str, matcher: &str, starts: i64, ends: i64) -> Silence {
        Silence {
            id: id.into(),
            matchers: vec![Matcher::parse(matcher).unwrap()],
            starts_at: at(starts),
            ends_at: at(ends),
            updated_at: at(0),
            created_by: "trực IOC".into(),
            comment: "nâng cấp".into(),
        }
    }

    /// Sets it and says what was written: `id start..end`.
    fn set(silences: &mut Silences, silence: Silence, now: i64) -> String {
        let new = format!("n{now}");
        match silences.set(silence, new, at(now)) {
            Err(error) => error.to_string(),
            Ok(written) => {
                let minute = |time: Timestamp| (time.as_second() - 1_000_000) / 60;
                let said: Vec<String> = written
                    .iter()
                    .map(|s| format!("{} {}..{}", s.id, minute(s.starts_at), minute(s.ends_at)))
                    .collect();
                written.into_iter().for_each(|silence| silences.put(silence));
                said.join(", ")
            }
        }
    }

    #[test]
    fn what_began_keeps_its_start_and_other_changes_make_a_new_one() {
        let mut silences = Silences::default();
        let mut play = |silence, now| set(&mut silences, silence, now);
        assert_eq!(play(wanted("", "a=b", -5, 60), 0), "n0 0..60", "nothing is silenced in the past");
        assert_eq!(play(wanted("n0", "a=b", 0, 90), 10), "n0 0..90", "longer");
        assert_eq!(play(wanted("n0", "a=c", 0, 90), 20), "n0 0..20, n20 20..90", "of something else");
        assert_eq!(play(wanted("n20", "a=c", 5, 90), 30), "n20 20..30, n30 30..90", "another start");
        assert_eq!(play(wanted("", "a=d", 60, 90), 40), "n40 60..90", "later");
        assert_eq!(play(wanted("n40", "a=d", 50, 90), 41), "n40 50..90", "sooner");
        assert_eq!(play(wanted("n0", "a=b", 0, 99), 42), "n42 42..99", "one that is over stays as it was");
        assert_eq!(play(wanted("x", "a=b", 0, 99), 43), "silence x not found");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut silences = Silences::default();
        let rows = [
            (Silence { matchers: Vec::new(), ..wanted("", "a=b", 0, 9) }, "at least one matcher required"),
            (wanted("", "a!=b", 0, 9), "at least one matcher must not match the empty string"),
            (wanted("", "a=~.*", 0, 9), "at least one matcher must not match the empty string"),
            (wanted("", "a=b", 9, 9), "start time must be before end time"),
            (wanted("", "a=b", -9, 0), "end time can't be in the past"),
            (
                Silence { comment: String::new(), ..wanted("", "a=b", 0, 9) },
                "a comment is needed: say why nobody is to hear of it",
            ),
        ];
        for (silence, expected) in rows {
            assert_eq!(set(&mut silences, silence, 0), expected);
        }
    }

    #[test]
    fn time_alone_begins_and_ends_a_silence() {
        let mut silences = Silences::default();
        set(&mut silences, wanted("", "a=b", 10, 20), 0);
        let versions: Vec<u64> = [5, 10, 15, 20].map(|minute| silences.version(at(minute))).into();
        assert!(versions[0] != versions[1] && versions[1] == versions[2] && versions[3] == versions[0]);
        assert_eq!([9, 10, 19, 20].map(|minute| silences.active(at(minute)).len()), [0, 1, 1, 0]);
        silences.prune(at(20 + 5 * 24 * 60));
        assert!(silences.by_id.is_empty());
        let id = new_id().unwrap();
        assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id}");
    }
}
