//! One axum router: access, metrics, query API, alert API, pages.

pub mod alerts_v2;
