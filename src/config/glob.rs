//! File-name patterns (`*`, `?`) in the last part of a path, for rule and calendar files.

use super::decode::{self, Context};
use super::node::{Node, reason};
use std::path::PathBuf;

/// The files a path or pattern names, sorted. A path must exist; a pattern must match something.
pub(super) fn files(cx: &mut Context<'_>, node: &Node) -> Option<Vec<PathBuf>> {
    let pattern = decode::text(cx, node)?;
    if !pattern.contains(['*', '?']) {
        return decode::readable_file(cx, node).map(|file| vec![file]);
    }
    let path = cx.resolve(&pattern);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let directory = path.parent().map(PathBuf::from).unwrap_or_default();
    if directory.to_string_lossy().contains(['*', '?']) {
        cx.expected(node, "* and ? in the file name only, not in a directory");
        return None;
    }
    let here = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory.clone() };
    let entries = match std::fs::read_dir(&here) {
        Ok(entries) => entries,
        Err(error) => {
            cx.wrong(node, format!("cannot read the directory of {}: {}", node.found(), reason(&error)));
            return None;
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(|file| matches(name, file)))
        .map(|entry| directory.join(entry.file_name()))
        .filter(|file| file.is_file())
        .collect();
    if files.is_empty() {
        cx.wrong(node, format!("no file matches {}", node.found()));
        return None;
    }
    files.sort();
    Some(files)
}

/// Whether a file name matches a pattern of `*` (any run of characters) and `?` (any one). A leading dot must be
/// written.
pub fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on when the run after the last `*` turns out longer.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((star, taken)) => {
                    retry = Some((star, taken + 1));
                    p = star;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_match_runs_and_question_marks_one_character() {
        for (pattern, name) in
            [("*.csv", "a.csv"), ("a?c*", "abc"), ("*a*b*", "xxaxxbx"), ("*", ""), ("vn-*.yml", "vn-2026.yml")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.csv", "a.csv.part"), ("a?c", "ac"), ("*.csv", ".a.csv"), ("", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
