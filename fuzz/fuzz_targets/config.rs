//! A configuration of any text is read or refused with problems that have a place; it never panics.
#![no_main]

use ioc_watch::config::load_text;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    // In a directory that does not exist, so that no file is read whatever the text names.
    let file = Path::new("/nonexistent/fuzz/ioc-watch.yml");
    if let Err(problems) = load_text(file, text, &|name| (name == "SET").then(|| "value".to_owned())) {
        assert!(!problems.is_empty(), "refused without saying why");
        for problem in problems {
            let _ = problem.to_string();
        }
    }
});
