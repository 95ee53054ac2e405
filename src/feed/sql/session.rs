//! One connection to the database that is read: read-only, with a time limit for each statement, every value as text.
//!
//! The simple protocol gives the values of all types as the database writes them, so NUMERIC and TIMESTAMPTZ come exact
//! and no type is unknown; which kind of value each is, its column says.

use crate::config::feeds::Sql;
use crate::config::probes::sql::{Engine, SslMode};
use crate::feed::FeedError;
use crate::feed::columns::Value;
use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Row, TypeInfo, raw_sql};
use std::time::Duration;

/// Of one answer: whoever writes long texts into a table must not fill our memory. Bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Beside the database's own limit, for a server that no longer answers.
const SLACK: Duration = Duration::from_secs(5);

pub enum Session {
    Postgres(PgConnection),
    Mysql(MySqlConnection),
}

/// Rows and the names of their columns (empty if there are no rows).
#[derive(Debug, Default)]
pub struct Answer {
    pub names: Vec<String>,
    pub rows: Vec<Vec<Field>>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// As the database writes it; empty for NULL.
    pub text: String,
    pub kind: FieldKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    Text,
    Number,
    /// With or without an offset.
    Time,
    /// In UTC without saying so.
    Utc,
}

impl Field {
    pub fn value(&self) -> Value<'static> {
        match self.kind {
            FieldKind::Text => Value::Text(self.text.clone().into()),
            FieldKind::Number => Value::Number(self.text.clone().into()),
            FieldKind::Time => Value::Time(self.text.clone().into()),
            FieldKind::Utc if self.text.is_empty() => Value::EMPTY,
            FieldKind::Utc => Value::Time(format!("{}Z", self.text).into()),
        }
    }
}

impl Session {
    /// Connects and sees to it that nothing is written and nothing takes longer than the feed's timeout.
    pub async fn open(sql: &Sql) -> Result<Session, FeedError> {
        let opened = tokio::time::timeout(sql.timeout + SLACK, Session::connect(sql)).await;
        opened.unwrap_or(Err(FeedError::SqlTimeout(sql.timeout)))
    }

    async fn connect(sql: &Sql) -> Result<Session, FeedError> {
        match sql.engine {
            Engine::Postgres => {
                let connection = postgres_options(sql).connect().await.map_err(FeedError::Sql)?;
                let mut session = Session::Postgres(connection);
                session.execute("BEGIN READ ONLY").await?;
                Ok(session)
            }
            Engine::Mysql => {
                let connection = mysql_options(sql).connect().await.map_err(FeedError::Sql)?;
                let mut session = Session::Mysql(connection);
                let version = session.fetch("SELECT VERSION()").await?;
                let is_maria = version.rows.iter().flatten().any(|field| field.text.contains("MariaDB"));
                let limit = if is_maria {
                    format!("SET SESSION max_statement_time = {}", sql.timeout.as_secs_f64())
                } else {
                    format!("SET SESSION max_execution_time = {}", sql.timeout.as_millis())
                };
                session.execute(&limit).await?;
                session.execute("SET SESSION TRANSACTION READ ONLY").await?;
                // Each statement sees what is committed by then, as PostgreSQL does.
                session.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
                session.execute("START TRANSACTION READ ONLY").await?;
                Ok(session)
            }
        }
    }

    async fn execute(&mut self, statement: &str) -> Result<(), FeedError> {
        let query = raw_sql(AssertSqlSafe(statement.to_owned()));
        match self {
            Session::Postgres(connection) => query.execute(connection).await.map(|_| ()),
            Session::Mysql(connection) => query.execute(connection).await.map(|_| ()),
        }
        .map_err(FeedError::Sql)
    }

    /// The rows of a statement, in bounded time and memory.
    pub async fn ask(&mut self, statement: &str, timeout: Duration) -> Result<Answer, FeedError> {
        let asked = tokio::time::timeout(timeout + SLACK, self.fetch(statement)).await;
        asked.unwrap_or(Err(FeedError::SqlTimeout(timeout)))
    }

    async fn fetch(&mut self, statement: &str) -> Result<Answer, FeedError> {
        let query = raw_sql(AssertSqlSafe(statement.to_owned()));
        let mut answer = Answer::default();
        let mut size = 0;
        let mut take = |names: Option<Vec<String>>, row: Vec<Field>| {
            size += row.iter().map(|field| field.text.len() + size_of::<Field>()).sum::<usize>();
            if let Some(names) = names {
                answer.names = names;
            }
            answer.rows.push(row);
            if size > MAX_ANSWER { Err(FeedError::SqlTooLong(MAX_ANSWER)) } else { Ok(()) }
        };
        let mut is_first = true;
        match self {
            Session::Postgres(connection) => {
                let mut rows = query.fetch(connection);
                while let Some(row) = rows.try_next().await.map_err(FeedError::Sql)? {
                    let names = is_first.then(|| row.columns().iter().map(|column| column.name().to_owned()).collect());
                    take(names, postgres_row(&row)?)?;
                    is_first = false;
                }
            }
            Session::Mysql(connection) => {
                let mut rows = query.fetch(connection);
                while let Some(row) = rows.try_next().await.map_err(FeedError::Sql)? {
                    let names = is_first.then(|| row.columns().iter().map(|column| column.name().to_owned()).collect());
                    take(names, mysql_row(&row)?)?;
                    is_first = false;
                }
            }
        }
        Ok(answer)
    }

    /// Says good-bye; what the server thinks of it does not matter.
    pub async fn close(self) {
        let _ = match self {
            Session::Postgres(connection) => connection.close().await,
            Session::Mysql(connection) => connection.close().await,
        };
    }
}

fn postgres_options(sql: &Sql) -> PgConnectOptions {
    let mode = match sql.sslmode {
        SslMode::Disable => PgSslMode::Disable,
        SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyCa => PgSslMode::VerifyCa,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
    };
    // `new` would take what is missing from the environment.
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&sql.host.to_string())
        .port(sql.port)
        .username(&sql.user)
        .database(sql.database.as_deref().unwrap_or(&sql.user))
        .ssl_mode(mode)
        .application_name("ioc-watch")
        .options([
            ("default_transaction_read_only", "on"),
            ("statement_timeout", &sql.timeout.as_millis().to_string()),
            ("TimeZone", "UTC"),
            ("DateStyle", "ISO"),
        ])
        .disable_statement_logging();
    if let Some(password) = &sql.password {
        options = options.password(password.expose());
    }
    if let Some(file) = &sql.ca_file {
        options = options.ssl_root_cert(file);
    }
    options
}

fn mysql_options(sql: &Sql) -> MySqlConnectOptions {
    let mode = match sql.sslmode {
        SslMode::Disable => MySqlSslMode::Disabled,
        SslMode::Prefer => MySqlSslMode::Preferred,
        SslMode::Require => MySqlSslMode::Required,
        SslMode::VerifyCa => MySqlSslMode::VerifyCa,
        SslMode::VerifyFull => MySqlSslMode::VerifyIdentity,
    };
    // It sets the session's time zone to UTC by itself.
    let mut options = MySqlConnectOptions::new()
        .host(&sql.host.to_string())
        .port(sql.port)
        .username(&sql.user)
        .ssl_mode(mode)
        .disable_statement_logging();
    if let Some(database) = &sql.database {
        options = options.database(database);
    }
    if let Some(password) = &sql.password {
        options = options.password(password.expose());
    }
    if let Some(file) = &sql.ca_file {
        options = options.ssl_ca(file);
    }
    options
}

fn postgres_row(row: &PgRow) -> Result<Vec<Field>, FeedError> {
    let fields = row.columns().iter().enumerate().map(|(index, column)| {
        let text: Option<String> = row.try_get_unchecked(index).map_err(FeedError::Sql)?;
        let kind = match column.type_info().name() {
            "INT2" | "INT4" | "INT8" | "NUMERIC" | "FLOAT4" | "FLOAT8" => FieldKind::Number,
            "TIMESTAMPTZ" | "TIMESTAMP" | "DATE" => FieldKind::Time,
            _ => FieldKind::Text,
        };
        Ok(Field { text: text.unwrap_or_default(), kind })
    });
    fields.collect()
}

fn mysql_row(row: &MySqlRow) -> Result<Vec<Field>, FeedError> {
    let fields = row.columns().iter().enumerate().map(|(index, column)| {
        let text: Option<String> = row.try_get_unchecked(index).map_err(FeedError::Sql)?;
        let name = column.type_info().name();
        let kind = match name {
            "DECIMAL" | "FLOAT" | "DOUBLE" => FieldKind::Number,
            "TIMESTAMP" => FieldKind::Utc,
            "DATETIME" | "DATE" => FieldKind::Time,
            _ if name.split(' ').next().is_some_and(|word| word.ends_with("INT")) => FieldKind::Number,
            _ => FieldKind::Text,
        };
        Ok(Field { text: text.unwrap_or_default(), kind })
    });
    fields.collect()
}
