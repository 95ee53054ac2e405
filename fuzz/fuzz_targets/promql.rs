//! See `src/promql.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| ioc_watch_fuzz::promql::run(text));
