//! See `src/mqtt_sparkplug.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ioc_watch_fuzz::mqtt_sparkplug::run(bytes));
