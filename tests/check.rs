//! `ioc-watch check` and `init`, as a user runs them: every bad file under `tests/check/` gives its whole expected
//! output, every example is accepted, and no input makes the reader of configurations panic.

use ioc_watch::config;
use jiff::ToSpan;
use jiff::civil::{Date, Weekday, date};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn ioc_watch(directory: &Path, arguments: &[&str]) -> Output {
    // Without an environment, so that ${…} means the same on every machine.
    Command::new(env!("CARGO_BIN_EXE_ioc-watch"))
        .current_dir(directory)
        .env_clear()
        .args(arguments)
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a directory with an extension, sorted.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the directory can be read");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

#[test]
fn every_bad_file_gives_its_whole_expected_output() {
    let directory = root().join("tests/check");
    let bad = files(&directory, "yml");
    assert!(bad.len() >= 30, "only {} bad files", bad.len());
    assert_eq!(bad.len(), files(&directory, "expected").len(), "each .yml has its .expected");
    let mut differing = Vec::new();
    for file in bad {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        let output = ioc_watch(&directory, &["check", "--config", name]);
        let expected = std::fs::read_to_string(file.with_extension("expected")).unwrap_or_default();
        if text(&output.stdout) != expected || output.status.code() != Some(1) || !output.stderr.is_empty() {
            differing.push(format!("{name} ({}):\n{}{}", output.status, text(&output.stdout), text(&output.stderr)));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn a_missing_file_is_a_problem_and_a_missing_argument_wrong_usage() {
    let output = ioc_watch(root(), &["check", "--config", "no-such.yml"]);
    assert_eq!(text(&output.stdout), "no-such.yml:0:0: error: cannot read the file: it does not exist\n1 problem\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(ioc_watch(root(), &["check"]).status.code(), Some(2));
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("big.yml"), vec![b'#'; 5 << 20]).expect("written");
    let output = ioc_watch(directory.path(), &["check", "--config", "big.yml"]);
    assert_eq!(text(&output.stdout), "big.yml:0:0: error: the file is too long: at most 4 MiB are read\n1 problem\n");
}

#[test]
fn every_example_is_accepted() {
    for name in ["minimal", "district"] {
        let directory = root().join("examples").join(name);
        let output = ioc_watch(&directory, &["check", "--config", "ioc-watch.yml"]);
        assert!(output.status.success(), "{name}:\n{}", text(&output.stdout));
    }
    let minimal = std::fs::read_to_string(root().join("examples/minimal/ioc-watch.yml")).expect("the example");
    assert!(minimal.lines().count() <= 12, "the minimal example has {} lines", minimal.lines().count());
}

#[test]
fn calendars_hold_the_public_holidays_of_their_year() {
    // The days off, and the first day of the lunar year with the tenth of its third month: two dates that only the moon
    // at UTC+7 decides.
    let years = [(2025, 12, date(2025, 1, 29), date(2025, 4, 7)), (2026, 15, date(2026, 2, 17), date(2026, 4, 26))];
    let years = years.into_iter().chain([(2027, 15, date(2027, 2, 6), date(2027, 4, 16))]);
    for (year, days, new_year, hung_kings) in years {
        let calendar = root().join(format!("examples/calendar/vn-{year}.yml"));
        let config = format!("{SMALL}calendar: {{files: ['{}']}}\n", calendar.display());
        let config = config::load_text(Path::new("c.yml"), &config, &|_| None).expect("sound");
        let calendar = &config.calendar;
        let off: BTreeSet<Date> = calendar
            .holidays
            .iter()
            .flat_map(|holiday| holiday.from.series(1.day()).take_while(|d| *d <= holiday.to))
            .collect();
        assert_eq!(off.len(), days, "{year}: {off:?}");
        assert!(off.iter().all(|day| day.year() == year), "{year}");
        assert!(off.contains(&new_year) && off.contains(&hung_kings), "{year}");
        assert!(calendar.working.iter().all(|day| day.year() == year && day.weekday() == Weekday::Saturday), "{year}");
    }
}

const SMALL: &str = "\
site: {name: IOC, agency: ioc}
people:
  - {id: truc, name: Trực, email: truc@ioc.vn.example}
agencies:
  - {id: ioc, name: IOC, leader: truc}
";

#[test]
fn init_writes_what_check_accepts_and_never_overwrites() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = ioc_watch(directory.path(), &["init", "new"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "new/ioc-watch.yml\n");
    let written = directory.path().join("new/ioc-watch.yml");
    let checked = ioc_watch(directory.path(), &["check", "--config", "new/ioc-watch.yml"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
    let config = config::load(&written).expect("sound");
    assert_eq!(config.data_dir, directory.path().join("new/data"));

    std::fs::write(&written, "mine").expect("written");
    let again = ioc_watch(directory.path(), &["init", "new"]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(text(&again.stderr), "error: new/ioc-watch.yml exists already; nothing was written\n");
    assert_eq!(std::fs::read_to_string(&written).expect("still there"), "mine");
}

#[test]
fn defaults_are_those_of_the_guide() {
    let config = config::load_text(Path::new("/etc/ioc/c.yml"), SMALL, &|_| None).expect("sound");
    assert_eq!(config.site.timezone.iana_name(), Some("Asia/Ho_Chi_Minh"));
    assert_eq!(config.site.external_url, "http://127.0.0.1:9470");
    assert_eq!(config.data_dir, Path::new("/var/lib/ioc-watch"));
    assert_eq!(config.incidents.group_by, ["agency", "area"]);
    assert!(config.host.is_some());
    assert!(config.email.is_none());
}

#[test]
fn secrets_are_read_without_their_newline_and_not_shown() {
    let directory = root().join("tests/check");
    let text = format!(
        "{SMALL}email: {{smtp: 'smtps://${{WHO}}@mail.vn.example', password_file: data/secret, from: a@vn.example}}\n"
    );
    let config = config::load_text(&directory.join("c.yml"), &text, &|_| Some("ioc".to_owned())).expect("sound");
    let email = config.email.clone().expect("email");
    assert_eq!(email.password.expect("a password").expose(), "dummy");
    assert_eq!(email.username.as_deref(), Some("ioc"));
    assert!(!format!("{config:?}").contains("dummy"));
}

/// Pieces that mean something to the reader, so that random files get past the parser.
const PIECES: &[&str] = &[
    "\n",
    "\n  ",
    "\n  - ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "&a ",
    "*a",
    "<<: *a",
    "~",
    "''",
    "\"",
    "#",
    "\t",
    "|",
    ">",
    "!x ",
    "? ",
    "%",
    "${",
    "}",
    "---\n",
    "site",
    "agency",
    "id",
    "name",
    "people",
    "agencies",
    "duty",
    "rotate",
    "from",
    "until",
    "parent",
    "services",
    "http",
    "url",
    "every",
    "30s",
    "0s",
    "99999999999d",
    "2026-02-30",
    "9999-12-31T23:59",
    "-9999-01-01",
    "mqtt",
    "topics",
    "filter",
    "{device}",
    "é",
    "\u{0}",
    "\u{feff}",
    "1e400",
    "0x",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_never_panics_on_random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("c.yml");
        std::fs::write(&file, bytes).expect("written");
        let _ = config::load_with(&file, &|_| None);
    }

    #[test]
    fn reading_never_panics_on_random_pieces(pieces in proptest::collection::vec(0..PIECES.len(), 0..80)) {
        let text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        let _ = config::load_text(Path::new("c.yml"), &text, &|_| None);
    }

    #[test]
    fn reading_never_panics_on_a_changed_example(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), 0_usize..12), 1..6),
    ) {
        let file = root().join("examples/district/ioc-watch.yml");
        let mut characters: Vec<char> = std::fs::read_to_string(&file).expect("the example").chars().collect();
        for (place, piece, removed) in changes {
            let start = place.index(characters.len());
            let end = (start + removed).min(characters.len());
            characters.splice(start..end, PIECES[piece].chars());
        }
        let text: String = characters.into_iter().collect();
        // A sound result may still come out; a panic may not, and a refusal always says why.
        if let Err(problems) = config::load_text(&file, &text, &|_| None) {
            prop_assert!(!problems.is_empty());
        }
    }
}
