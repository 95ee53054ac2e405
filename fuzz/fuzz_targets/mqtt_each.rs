//! See `src/mqtt_each.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|payload: &[u8]| ioc_watch_fuzz::mqtt_each::run(payload));
