//! `ioc-watch check` and `init`, as a user runs them: every bad file under `tests/check/` gives its whole expected
//! output, every example is accepted, and no input makes the reader of configurations panic.

use ioc_watch::config;
use ioc_watch::config::organisation::{Calendar, Holiday};
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
        let said = text(&output.stdout);
        assert!(output.status.success(), "{name}:\n{said}");
        let estimate = said.lines().nth(1).unwrap_or_default();
        assert!(estimate.starts_with("history: at most ") && estimate.ends_with(" of 512 MiB (max_memory)"), "{said}");
        assert!(said.lines().skip(2).all(|line| line.starts_with("  ") && line.contains(" series kept ")), "{said}");
    }
    let minimal = std::fs::read_to_string(root().join("examples/minimal/ioc-watch.yml")).expect("the example");
    assert!(minimal.lines().count() <= 12, "the minimal example has {} lines", minimal.lines().count());
}

/// The calendar of one data file.
fn calendar(year: i16) -> Calendar {
    let file = root().join(format!("examples/calendar/vn-{year}.yml"));
    let config = format!("{SMALL}calendar: {{files: ['{}']}}\n", file.display());
    config::load_text(Path::new("c.yml"), &config, &|_| None).expect("sound").calendar
}

fn days_off(calendar: &Calendar) -> BTreeSet<Date> {
    let days =
        |holiday: &Holiday| holiday.from.series(1.day()).take_while(|day| *day <= holiday.to).collect::<Vec<_>>();
    calendar.holidays.iter().flat_map(days).collect()
}

#[test]
fn calendars_hold_the_public_holidays_of_their_year() {
    // Days off on weekdays, and days worked in exchange.
    let years = [(2022, 11, 0), (2023, 11, 0), (2024, 12, 1), (2025, 12, 1), (2026, 14, 2), (2027, 12, 0)];
    for (year, n_weekdays, n_worked) in years {
        let calendar = calendar(year);
        let off = days_off(&calendar);
        let weekdays = off.iter().filter(|day| !is_weekend(**day)).count();
        assert_eq!((weekdays, calendar.working.len()), (n_weekdays, n_worked), "{year}: {off:?}");
        assert!(off.iter().all(|day| day.year() == year), "{year}");
        let lunar = [config::lunar::new_year(year), config::lunar::hung_kings(year)];
        assert!(lunar.iter().all(|day| day.is_some_and(|day| off.contains(&day))), "{year}: {lunar:?}");
        let culture_day = Date::new(year, 11, 24).expect("a date");
        assert_eq!(off.contains(&culture_day), year >= 2026, "{year}");
        assert!(calendar.working.iter().all(|day| day.year() == year && day.weekday() == Weekday::Saturday), "{year}");
    }
}

fn is_weekend(day: Date) -> bool {
    matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
}

/// Swaps that the package does not know, with the decision: a day off for a Saturday.
const UNKNOWN_TO_THEM: [(Date, Date); 1] =
    // Letter 12729/VPCP-KGVX of 25 December 2025.
    [(date(2026, 1, 2), date(2026, 1, 10))];

/// A source of its own: the Python package `holidays`, made by others from other sources.
#[test]
fn calendars_agree_with_the_package_holidays() {
    if std::env::var_os("IOC_WATCH_SKIP_HOLIDAYS").is_some() {
        eprintln!("skipped: IOC_WATCH_SKIP_HOLIDAYS is set; the calendars were compared with nobody else's");
        return;
    }
    let run = |program: &str, arguments: &[&str]| {
        let python_path = root().join("target/tools/py/holidays");
        let output = Command::new(program).args(arguments).current_dir(root()).env("PYTHONPATH", python_path).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(
            output.status.success(),
            "THE CALENDARS WERE COMPARED WITH NOBODY ELSE'S: the Python package holidays is not to be had (or set \
             IOC_WATCH_SKIP_HOLIDAYS):\n{}",
            text(&output.stderr)
        );
        text(&output.stdout)
    };
    run("sh", &["scripts/install-tools.sh", "holidays"]);
    const PROGRAM: &str = "import holidays\n\
        vn = holidays.country_holidays('VN', years=range(2022, 2027))\n\
        print('\\n'.join('off ' + str(day) for day in vn))\n\
        print('\\n'.join('worked ' + str(day) for day in sorted(vn.weekend_workdays) if day.year >= 2022))";
    let theirs = run("python3", &["-c", PROGRAM]);
    let days = |word: &str| -> BTreeSet<Date> {
        let lines = theirs.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|day| day.trim().parse().expect("a date")).collect()
    };
    // Of weekends it makes no difference what they are called.
    let mut off: BTreeSet<Date> = days("off ").into_iter().filter(|day| !is_weekend(*day)).collect();
    let mut worked = days("worked ");
    for (day_off, saturday) in UNKNOWN_TO_THEM {
        assert!(off.insert(day_off) && worked.insert(saturday), "they know {day_off} by now");
    }
    let ours: Vec<Calendar> = (2022..=2026).map(calendar).collect();
    let our_days: BTreeSet<Date> = ours.iter().flat_map(days_off).filter(|day| !is_weekend(*day)).collect();
    assert_eq!(our_days, off);
    assert_eq!(ours.iter().flat_map(|calendar| calendar.working.clone()).collect::<BTreeSet<_>>(), worked);
    assert!(off.len() > 50 && worked.len() >= 4, "{theirs}");
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
