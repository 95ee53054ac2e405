//! See `src/unit_test.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| ioc_watch_fuzz::unit_test::run(text));
