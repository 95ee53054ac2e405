//! Probe `sql`: a query to PostgreSQL or MySQL/MariaDB; what its answer must be.

use crate::config::decode::Context;
use crate::config::node::Node;
use std::time::Duration;

/// Which database is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Postgres,
    Mysql,
}

#[derive(Debug, Clone)]
pub struct SqlProbe {}

impl SqlProbe {
    pub(in crate::config) fn decode(
        cx: &mut Context<'_>,
        node: &Node,
        _engine: Engine,
        _timeout: Duration,
    ) -> Option<SqlProbe> {
        cx.error(node.place, "sql: not supported yet");
        None
    }
}
