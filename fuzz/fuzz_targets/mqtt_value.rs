//! See `src/mqtt_value.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|payload: &[u8]| ioc_watch_fuzz::mqtt_value::run(payload));
