//! A mail of any bytes is read as a report on deliveries or refused with a reason; it never panics, and what it says is
//! bounded, for it goes into timelines.
#![no_main]

use ioc_watch::mail::bounce;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| match bounce::read(message) {
    Ok(reports) => {
        for report in reports {
            assert!(report.reason.chars().count() <= 400 && !report.reason.contains('\n'), "{report:?}");
        }
    }
    Err(refusal) => assert!(!refusal.to_string().is_empty()),
});
