//! See `src/rule_template.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| ioc_watch_fuzz::rule_template::run(text));
