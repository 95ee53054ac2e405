//! See `src/mqtt_json.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|payload: &[u8]| ioc_watch_fuzz::mqtt_json::run(payload));
