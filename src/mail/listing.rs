//! The outbox as people look at it.

use super::outbox::Outbox;
use crate::store::{Doing, StoreError, from_micros};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

/// Which messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Waiting,
    /// Given up, or sent and come back.
    Failed,
    /// The server took it, and nothing else was heard of it.
    Sent,
}

impl State {
    pub const ALL: [State; 3] = [State::Waiting, State::Failed, State::Sent];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Failed => "failed",
            State::Sent => "sent",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }

    fn condition(self) -> &'static str {
        match self {
            State::Waiting => "sent_us IS NULL AND gave_up_us IS NULL",
            State::Failed => "(gave_up_us IS NOT NULL OR bounced_us IS NOT NULL)",
            State::Sent => "sent_us IS NOT NULL AND bounced_us IS NULL",
        }
    }
}

/// Which of them are asked for.
#[derive(Debug, Clone)]
pub struct Filter {
    pub state: State,
    /// Those with a greater id.
    pub after: i64,
    pub limit: i64,
    /// About one of these; `None`: all, also what is about no agency.
    pub agencies: Option<Vec<String>>,
}

/// A message without its text.
#[derive(Debug, Clone)]
pub struct Listed {
    pub id: i64,
    pub channel: String,
    pub thread: String,
    pub person: String,
    pub recipient: String,
    pub message_id: String,
    pub agency: String,
    pub incident: Option<i64>,
    pub created: Timestamp,
    /// Not before; `None` if it does not wait.
    pub next: Option<Timestamp>,
    pub attempts: i64,
    pub sent: Option<Timestamp>,
    pub gave_up: Option<Timestamp>,
    pub bounced: Option<Timestamp>,
    /// Without whole addresses.
    pub last_error: Option<String>,
}

impl Outbox {
    /// In the order written.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Listed>, StoreError> {
        const DOING: &str = "listing the outbox";
        let sql = format!(
            "SELECT id, channel, thread, person, recipient, message_id, agency, incident, created_us, next_us, attempts, \
             sent_us, gave_up_us, bounced_us, last_error FROM outbox WHERE id > $1 AND {} {} ORDER BY id LIMIT $2",
            filter.state.condition(),
            filter.of_agencies(3)
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(filter.after).bind(filter.limit);
        for agency in filter.agencies.iter().flatten() {
            query = query.bind(agency);
        }
        let rows = query.fetch_all(self.store().reader()).await.doing(DOING)?;
        rows.iter().map(listed).collect::<Result<_, _>>().doing(DOING)
    }

    /// How many mails are held for summaries, see [`super::summary`].
    pub async fn count_held(&self, filter: &Filter) -> Result<i64, StoreError> {
        let sql = format!("SELECT COUNT(*) FROM outbox_held WHERE summary IS NULL {}", filter.of_agencies(1));
        let mut query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        for agency in filter.agencies.iter().flatten() {
            query = query.bind(agency);
        }
        query.fetch_one(self.store().reader()).await.doing("counting the mails held for summaries")
    }

    /// How many there are on all pages.
    pub async fn count(&self, filter: &Filter) -> Result<i64, StoreError> {
        let sql = format!("SELECT COUNT(*) FROM outbox WHERE {} {}", filter.state.condition(), filter.of_agencies(1));
        let mut query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        for agency in filter.agencies.iter().flatten() {
            query = query.bind(agency);
        }
        query.fetch_one(self.store().reader()).await.doing("counting the outbox")
    }
}

impl Filter {
    /// The condition on the agency, with parameters from `$first` on.
    fn of_agencies(&self, first: usize) -> String {
        match &self.agencies {
            None => String::new(),
            // Nothing is in an empty list, which SQL does not know.
            Some(agencies) if agencies.is_empty() => "AND 1 = 0".into(),
            Some(agencies) => {
                let places: Vec<String> = (first..first + agencies.len()).map(|place| format!("${place}")).collect();
                format!("AND agency IN ({})", places.join(", "))
            }
        }
    }
}

fn listed(row: &AnyRow) -> Result<Listed, sqlx::Error> {
    let time = |name: &str| row.try_get::<Option<i64>, _>(name).map(|us| us.map(from_micros));
    let (sent, gave_up) = (time("sent_us")?, time("gave_up_us")?);
    let waits = sent.is_none() && gave_up.is_none();
    Ok(Listed {
        id: row.try_get("id")?,
        channel: row.try_get("channel")?,
        thread: row.try_get("thread")?,
        person: row.try_get("person")?,
        recipient: row.try_get("recipient")?,
        message_id: row.try_get("message_id")?,
        agency: row.try_get("agency")?,
        incident: row.try_get("incident")?,
        created: from_micros(row.try_get("created_us")?),
        next: time("next_us")?.filter(|_| waits),
        attempts: row.try_get("attempts")?,
        sent,
        gave_up,
        bounced: time("bounced_us")?,
        last_error: row.try_get("last_error")?,
    })
}
