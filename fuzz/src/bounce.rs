//! A mail of any bytes is read as a report on deliveries or refused with a reason; it never panics, and what it says is
//! bounded, for it goes into timelines.

use ioc_watch::mail::bounce;

pub fn run(message: &[u8]) {
    match bounce::read(message) {
        Ok(reports) => {
            for report in reports {
                assert!(report.reason.chars().count() <= 400 && !report.reason.contains('\n'), "{report:?}");
            }
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}
