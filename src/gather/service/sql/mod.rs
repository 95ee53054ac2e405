//! A query to PostgreSQL or MySQL/MariaDB: one connection, a login, a read-only session, one row.
//!
//! The two protocols are spoken here and not by a database driver: a probe wants to know where the time went, tells
//! silence from refusal, verifies and notes certificates as the other probes do, and reads no more of a hostile answer
//! than it has bounds for. `session.rs` has the bytes, `encrypt.rs` TLS, `postgres.rs` and `mysql.rs` the protocols,
//! `answer.rs` the judgement.

mod answer;
mod encrypt;
mod mysql;
mod mysql_login;
mod postgres;
mod scram;
mod session;
#[cfg(test)]
mod tests;
mod trouble;

pub use trouble::Trouble;

use super::connect::{connect, resolve};
use super::detail::{Detail, Failure};
use super::outcome::{CheckResult, Outcome, Phase};
use super::tls::Anchor;
use super::watch::Watched;
use super::{CompileError, Trust};
use crate::config::probes::sql::{Engine, NewestFrom, SqlProbe, SslMode};
use answer::Answers;
use jiff::{Timestamp, tz::Offset};
use session::Talk;
use std::sync::Arc;
use std::time::Duration;
use url::Host;

/// How long an address may take before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// A [`SqlProbe`] made ready.
#[derive(Debug)]
pub struct SqlCheck {
    probe: SqlProbe,
    /// `None` if the connection is never encrypted.
    anchor: Option<Arc<Anchor>>,
    /// What PostgreSQL made of the password last time.
    salted: scram::Cache,
}

/// By so much longer than we wait may a query run that nobody waits for any more.
const SPARE: Duration = Duration::from_secs(1);

/// What a session is told before the query.
#[derive(Debug, Clone, Copy)]
struct Settings {
    /// After this the server gives the query up by itself.
    statement_timeout: Duration,
    /// The session's time zone; `None` leaves the server's.
    offset: Option<Offset>,
}

impl SqlCheck {
    /// Reads what the probe needs and parses the rest.
    pub async fn new(probe: &SqlProbe, trust: &Trust) -> Result<SqlCheck, CompileError> {
        let anchor = match probe.sslmode {
            SslMode::Disable => None,
            _ => Some(trust.anchor(probe.ca_file.as_deref()).await?),
        };
        Ok(SqlCheck { probe: probe.clone(), anchor, salted: scram::Cache::default() })
    }

    /// Makes the check. Ends after `timeout` at the latest; never fails: a failure is an outcome.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        let mut talk = Talk::new();
        let asked = tokio::time::timeout(timeout, self.ask(&mut talk, timeout)).await;
        let took = talk.trace.started.elapsed();
        talk.trace.phases.add(Phase::Total, took);
        let (mut value, mut newest) = (None, None);
        let (result, detail) = match asked {
            Ok(Ok(answers)) => {
                let judged = answer::judge(&self.probe, &answers, Timestamp::now());
                (value, newest) = (judged.value, judged.newest);
                match (judged.verdict, self.probe.slow_after) {
                    (Err(trouble), _) => (CheckResult::Content, Detail::Sql(trouble)),
                    (Ok(()), Some(limit)) if took > limit => (CheckResult::Slow, Detail::Slow { took, limit }),
                    _ => (CheckResult::Ok, Detail::Fine),
                }
            }
            Ok(Err(failure)) => (failure.result, failure.detail),
            Err(_) => talk.at_deadline(timeout),
        };
        Outcome {
            phases: talk.trace.phases,
            expiry: talk.trace.expiry,
            address: talk.trace.address,
            value,
            newest,
            ..Outcome::new(result, detail)
        }
    }

    async fn ask(&self, talk: &mut Talk, timeout: Duration) -> Result<Answers, Failure> {
        let host = match &self.probe.host {
            Host::Domain(name) => Host::Domain(name.as_str()),
            Host::Ipv4(address) => Host::Ipv4(*address),
            Host::Ipv6(address) => Host::Ipv6(*address),
        };
        talk.trace.enter(Phase::Resolve);
        let addresses = resolve(&host, self.probe.port).await?;
        talk.trace.enter(Phase::Connect);
        let (stream, address) = connect(&addresses, STAGGER).await?;
        talk.trace.address = Some(address);
        let _ = stream.set_nodelay(true);
        talk.trace.connected();
        talk.note_sent();
        let stream = Watched::new(stream, talk.trace.raw.clone());
        let newest = self.probe.newest.as_ref();
        let settings = Settings {
            // Later than we do, so that the verdict is ours, which says where the time went.
            statement_timeout: timeout.saturating_add(SPARE),
            offset: newest.map(|newest| newest.zone.to_offset(Timestamp::now())),
        };
        match self.probe.engine {
            Engine::Postgres => Box::pin(postgres::ask(self, stream, talk, settings)).await,
            Engine::Mysql => Box::pin(mysql::ask(self, stream, talk, settings)).await,
        }
    }

    /// The query for the newest row, if it is one of its own.
    fn newest_query(&self) -> Option<&str> {
        match &self.probe.newest.as_ref()?.from {
            NewestFrom::Query(query) => Some(query),
            NewestFrom::Column(_) => None,
        }
    }
}
