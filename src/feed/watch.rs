//! Tells which files of a directory are ready to be read: the pure step over listings. Reads no file.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

/// A file as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub name: OsString,
    pub size: u64,
    /// Microseconds since 1970.
    pub modified_us: i64,
}

/// Polls without a change after which a file whose last line has no line end is taken as complete.
const UNENDED_POLLS: u32 = 5;

#[derive(Debug)]
struct Track {
    size: u64,
    modified_us: i64,
    /// Polls in which it looked the same as in the one before.
    n_same: u32,
    done: bool,
}

/// What is known of a directory's files between polls.
#[derive(Debug, Default)]
pub struct Watch {
    tracks: HashMap<OsString, Track>,
}

/// A file that may be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub seen: Seen,
    /// It has been left alone long enough to be read even if its last line has no end.
    pub settled: bool,
}

impl Watch {
    /// Takes a listing; gives the files that looked the same twice, are not empty and are not done, oldest first.
    pub fn step(&mut self, listing: Vec<Seen>) -> Vec<Ready> {
        let mut tracks = HashMap::with_capacity(listing.len());
        let mut ready = Vec::new();
        for seen in listing {
            let track = match self.tracks.remove(&seen.name) {
                Some(track) if track.size == seen.size && track.modified_us == seen.modified_us => {
                    Track { n_same: track.n_same.saturating_add(1), ..track }
                }
                _ => Track { size: seen.size, modified_us: seen.modified_us, n_same: 0, done: false },
            };
            if track.n_same >= 1 && !track.done && seen.size > 0 {
                ready.push(Ready { seen: seen.clone(), settled: track.n_same >= UNENDED_POLLS });
            }
            tracks.insert(seen.name, track);
        }
        self.tracks = tracks;
        ready.sort_by(|a, b| (a.seen.modified_us, &a.seen.name).cmp(&(b.seen.modified_us, &b.seen.name)));
        ready
    }

    /// Notes that the file needs no reading until it changes.
    pub fn done(&mut self, seen: &Seen) {
        if let Some(track) = self.tracks.get_mut(&seen.name) {
            track.done = track.size == seen.size && track.modified_us == seen.modified_us;
        }
    }
}

/// The regular files of `dir` whose names match. Hidden files are left out: they are uploads under way; so are those by
/// which Excel tells that a workbook is open (`~$`).
pub fn list(dir: &Path, pattern: &regex::Regex) -> std::io::Result<Vec<Seen>> {
    let mut listing = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let shown = name.to_string_lossy();
        if shown.starts_with('.') || shown.starts_with("~$") || !pattern.is_match(&shown) {
            continue;
        }
        // A file may go between the listing and here.
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        if metadata.is_file() {
            listing.push(Seen { name, size: metadata.len(), modified_us: modified_us(&metadata) });
        }
    }
    Ok(listing)
}

pub fn modified_us(metadata: &std::fs::Metadata) -> i64 {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    modified.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A file-name glob (`*`, `?`) as a regular expression over the whole name.
pub fn glob(pattern: &str) -> regex::Regex {
    let mut text = String::from(r"(?s)\A");
    for c in pattern.chars() {
        match c {
            '*' => text.push_str(".*"),
            '?' => text.push('.'),
            c => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    text.push_str(r"\z");
    // Everything else is escaped; only an absurd length is refused, and then only the literal name matches.
    regex::Regex::new(&text).unwrap_or_else(|_| regex::Regex::new(r"\A\z").expect("a constant pattern"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, size: u64, modified_us: i64) -> Seen {
        Seen { name: name.into(), size, modified_us }
    }

    fn names(ready: &[Ready]) -> Vec<(&str, bool)> {
        ready.iter().map(|ready| (ready.seen.name.to_str().unwrap(), ready.settled)).collect()
    }

    #[test]
    fn a_file_that_grows_is_waited_for_and_one_that_changes_is_read_again() {
        let mut watch = Watch::default();
        assert!(watch.step(vec![seen("b", 5, 1)]).is_empty());
        assert!(watch.step(vec![seen("b", 9, 2)]).is_empty(), "grew");
        assert_eq!(names(&watch.step(vec![seen("b", 9, 2), seen("a", 1, 1)])), [("b", false)]);
        assert_eq!(names(&watch.step(vec![seen("b", 9, 2), seen("a", 1, 1)])), [("a", false), ("b", false)]);
        watch.done(&seen("b", 9, 2));
        watch.done(&seen("a", 7, 1));
        assert_eq!(names(&watch.step(vec![seen("b", 9, 2), seen("a", 1, 1)])), [("a", false)], "a changed meanwhile");
        assert!(watch.step(vec![seen("b", 9, 3)]).is_empty());
        assert_eq!(names(&watch.step(vec![seen("b", 9, 3)])), [("b", false)]);
    }

    #[test]
    fn an_empty_file_is_waited_for_and_a_file_left_alone_is_settled() {
        let mut watch = Watch::default();
        for _ in 0..10 {
            assert!(watch.step(vec![seen("a", 0, 1)]).is_empty());
        }
        watch.step(vec![seen("a", 4, 2)]);
        for _ in 1..UNENDED_POLLS {
            assert_eq!(names(&watch.step(vec![seen("a", 4, 2)])), [("a", false)]);
        }
        assert_eq!(names(&watch.step(vec![seen("a", 4, 2)])), [("a", true)]);
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, expected) in [
            ("*.csv", "gd 2026.csv", true),
            ("*.csv", "a.csv.tmp", false),
            ("gw-?.csv", "gw-1.csv", true),
            ("gw-?.csv", "gw-10.csv", false),
            ("a+b.csv", "a+b.csv", true),
            ("*.csv", "đối soát.csv", true),
        ] {
            assert_eq!(glob(pattern).is_match(name), expected, "{pattern} {name}");
        }
    }
}
