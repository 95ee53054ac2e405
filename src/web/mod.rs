//! One axum router: access, metrics, query API, alert API, pages.
