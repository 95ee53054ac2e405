//! The weekly evaluation: indicators, scorecards, reports.
