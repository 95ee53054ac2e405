//! A configuration of any text is read or refused with problems that have a place; it never panics.

use ioc_watch::config::load_text;
use std::path::Path;

pub fn run(text: &str) {
    // In a directory that does not exist, so that no file is read whatever the text names.
    let file = Path::new("/nonexistent/fuzz/ioc-watch.yml");
    if let Err(problems) = load_text(file, text, &|name| (name == "SET").then(|| "value".to_owned())) {
        assert!(!problems.is_empty(), "refused without saying why");
        for problem in problems {
            let _ = problem.to_string();
        }
    }
}
