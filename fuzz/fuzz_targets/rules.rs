//! See `src/rules.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| ioc_watch_fuzz::rules::run(text));
