//! Alerts grouped into incidents, and who is told.
