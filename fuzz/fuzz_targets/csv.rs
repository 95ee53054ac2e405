//! See `src/csv.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ioc_watch_fuzz::csv::run(bytes));
