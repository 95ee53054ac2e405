//! See `src/config.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| ioc_watch_fuzz::config::run(text));
