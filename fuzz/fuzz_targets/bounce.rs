//! See `src/bounce.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|message: &[u8]| ioc_watch_fuzz::bounce::run(message));
