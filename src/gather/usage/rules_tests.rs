//! What follows from counts, the calendar and the time.

use super::dossiers::Dossier;
use super::pace::pace;
use super::rates::online_rates;
use super::rows::Channel;
use super::standing::{Rules, Standing, receipt_gap};
use super::tables::DossierCount;
use super::unused::{Use, unused_working_days};
use crate::config::usage::{Period, Target};
use crate::config::{Id, load_text};
use crate::feed::testing::at;
use crate::format;
use crate::org::Org;
use crate::store::micros;
use jiff::{SignedDuration, Timestamp};
use std::path::Path;

/// 07:30 to 17:00, with the holidays of 2026.
fn org() -> Org {
    let calendar = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/calendar/vn-2026.yml");
    let text = format!(
        "site: {{name: IOC, agency: ioc}}\npeople: [{{id: it, name: Trực, email: it@vn.example}}]\n\
         agencies: [{{id: ioc, name: IOC, leader: it}}]\ncalendar: {{files: ['{}']}}\n",
        calendar.display()
    );
    Org::new(&load_text(Path::new("c.yml"), &text, &|_| None).unwrap())
}

fn target(goal: u64, every: Period) -> Target {
    let id = |text: &str| Id::parse(text).unwrap();
    let (id, agency) = (id("truc-tuyen"), id("ioc"));
    Target {
        id,
        name: "Hồ sơ trực tuyến".into(),
        agency,
        step: "submitted",
        channel: Some("online"),
        goal,
        every,
        from: None,
        to: None,
    }
}

/// Local time.
fn local(text: &str) -> Timestamp {
    at(&format!("{text}+07:00"))
}

#[test]
fn a_ward_that_aims_at_300_and_has_170_on_the_26th_will_not_get_there() {
    let org = org();
    let monthly = target(300, Period::Month);
    // November 2026 has 20 working days: 21 weekdays less the 24th. On the 26th 17 are over, and the 26th, 27th and 30th left.
    let morning = local("2026-11-26T07:30:00");
    let pace_at = |done, until, now| pace(&monthly, done, until, &org, now).unwrap();
    let found = pace_at(170, morning, morning);
    assert_eq!((found.days_elapsed, found.days_left), (17.0, 3.0));
    assert_eq!(found.observed_per_day, Some(10.0));
    assert_eq!(found.needed_per_day, Some(130.0 / 3.0));
    assert_eq!(found.projected, Some(200.0));
    // In the evening 18 are over and 2 left.
    let evening = local("2026-11-26T18:00:00");
    let found = pace_at(170, evening, evening);
    assert_eq!((found.days_elapsed, found.days_left, found.needed_per_day), (18.0, 2.0, Some(65.0)));
    assert!((found.projected.unwrap() - (170.0 + 2.0 * 170.0 / 18.0)).abs() < 1e-9);
    // A feed that came last night tells of 17 days also in the evening.
    let found = pace_at(170, local("2026-11-26T00:00:00"), evening);
    assert_eq!((found.days_elapsed, found.days_left), (17.0, 2.0));
    assert_eq!((found.observed_per_day, found.projected), (Some(10.0), Some(200.0)));
    // At noon a half of the hours (4:45 of 9:30) is over.
    let noon = local("2026-11-26T12:15:00");
    assert_eq!((pace_at(170, noon, noon).days_elapsed, pace_at(170, noon, noon).days_left), (17.5, 2.5));
    assert_eq!(format::decimal(130.0 / 3.0, 1, crate::config::site::Language::Vi), "43,3");
}

#[test]
fn a_pace_at_the_edges_of_its_period_claims_nothing_it_cannot_know() {
    let org = org();
    let now = |text: &str| local(text);
    let monthly = target(300, Period::Month);
    // The first of November is a Sunday: nothing was worked yet.
    let start = now("2026-11-01T12:00:00");
    let found = pace(&monthly, 0, start, &org, start).unwrap();
    assert_eq!((found.observed_per_day, found.projected, found.needed_per_day), (None, None, Some(15.0)));
    // The last evening: no working time is left.
    let end = now("2026-11-30T20:00:00");
    let found = pace(&monthly, 299, end, &org, end).unwrap();
    assert_eq!((found.needed_per_day, found.projected), (None, Some(299.0)));
    let found = pace(&monthly, 301, end, &org, end).unwrap();
    assert_eq!((found.needed_per_day, found.projected), (Some(0.0), Some(301.0)));
    // More than the goal is no negative need.
    let day = now("2026-11-26T07:30:00");
    assert_eq!(pace(&monthly, 500, day, &org, day).unwrap().needed_per_day, Some(0.0));
    // A quarter and a year know their own days, and a target its own time.
    for (every, whole) in [(Period::Quarter, 65.0), (Period::Year, 249.0)] {
        let found = pace(&target(300, every), 170, day, &org, day).unwrap();
        assert_eq!(found.days_elapsed + found.days_left, whole, "{every:?}");
    }
    let past = Target { to: Some(jiff::civil::date(2026, 10, 31)), ..monthly };
    assert_eq!(pace(&past, 170, day, &org, day), None);
}

#[test]
fn only_working_days_without_a_user_count_and_only_those_that_were_reported() {
    let org = org();
    let day = |text: &str| local(&format!("{text}T00:00:00"));
    let rows = [
        // Used on Friday 20/11; Monday to today's Thursday: 23 and 25 are over, 24 was a holiday, today is not over.
        (Some("2026-11-21"), "2026-11-27", "2026-11-26T10:00:00", 2),
        (Some("2026-11-21"), "2026-11-26", "2026-11-26T10:00:00", 2),
        // The feed stood still on Tuesday night.
        (Some("2026-11-21"), "2026-11-25", "2026-11-26T10:00:00", 1),
        (Some("2026-11-26"), "2026-11-26", "2026-11-26T10:00:00", 0),
        (Some("2026-11-27"), "2026-11-27", "2026-11-26T10:00:00", 0),
        // Over Tết 2026 (16 to 20 February) nobody is expected.
        (Some("2026-02-14"), "2026-02-24", "2026-02-23T10:00:00", 0),
        (Some("2026-02-14"), "2026-02-24", "2026-02-24T10:00:00", 1),
        // Never used: since it is reported at all.
        (None, "2026-11-26", "2026-11-26T10:00:00", 8),
    ];
    for (last, until, now, expected) in rows {
        let known = Use { last: last.map(day), since: day("2026-11-13"), until: day(until) };
        assert_eq!(unused_working_days(known, &org, local(now)), expected, "{last:?} {until} {now}");
    }
}

fn dossier(submitted: &str, due: &str) -> Dossier {
    let us = |text: &str| if text.is_empty() { 0 } else { micros(local(text)) };
    Dossier {
        updated_us: 1,
        code: "H49.1".into(),
        agency: "ioc".into(),
        procedure: String::new(),
        submitted_us: us(submitted),
        submitted_channel: Channel::Online,
        receipted_us: us(submitted),
        due_us: us(due),
        processed_us: 0,
        processed_channel: Channel::Online,
        paid_us: 0,
        paid_channel: Channel::Online,
        returned_us: 0,
        returned_channel: Channel::Online,
        apology_us: 0,
    }
}

#[test]
fn dossiers_stand_on_the_working_time_clock() {
    let org = org();
    let rules = Rules {
        receipt_within: SignedDuration::from_mins(30),
        due_soon: SignedDuration::from_hours(8),
        apology_before: SignedDuration::from_hours(2),
    };
    let at_due = "2026-11-23T17:00:00";
    // Name; due; now; soon, overdue, without apology.
    let rows = [
        ("a date means the end of its hours", "2026-11-23T00:00:00", "2026-11-23T16:59:00", (1, 0, 1)),
        ("past them", "2026-11-23T00:00:00", "2026-11-23T17:00:01", (0, 1, 1)),
        ("a holiday moves it on", "2026-11-24T00:00:00", "2026-11-25T10:00:00", (1, 0, 0)),
        ("a weekend moves it on", "2026-11-21T00:00:00", "2026-11-23T09:00:00", (1, 0, 0)),
        ("friday evening is soon if monday morning is due", "2026-11-23T08:30:00", "2026-11-20T16:30:00", (1, 0, 1)),
        ("nine and a half hours are not soon", at_due, "2026-11-20T17:00:00", (0, 0, 0)),
        ("eight are", at_due, "2026-11-23T09:00:00", (1, 0, 0)),
        ("years ahead", "2036-11-23T00:00:00", "2026-11-20T17:00:00", (0, 0, 0)),
        ("without a due date", "", "2026-11-20T17:00:00", (0, 0, 0)),
    ];
    for (name, due, now, expected) in rows {
        let mut standing = Standing::default();
        standing.add(&dossier("2026-11-16T08:00:00", due), rules, &org, local(now));
        assert_eq!((standing.due_soon, standing.overdue, standing.without_apology), expected, "{name}");
        let apologised = Dossier { apology_us: 1, ..dossier("2026-11-16T08:00:00", due) };
        let mut standing = Standing::default();
        standing.add(&apologised, rules, &org, local(now));
        assert_eq!((standing.overdue, standing.without_apology), (expected.1, 0), "{name}, apologised");
        let mut standing = Standing::default();
        standing.add(&Dossier { processed_us: 1, ..apologised }, rules, &org, local(now));
        assert_eq!(standing, Standing::default(), "{name}, done");
    }
    let mut standing = Standing::default();
    for due in ["2026-11-20T17:00:00", "2026-11-23T16:00:00"] {
        standing.add(&dossier("2026-11-16T08:00:00", due), rules, &org, local("2026-11-25T08:30:00"));
    }
    // Monday whole, Tuesday off, an hour of Wednesday.
    assert_eq!(standing.longest_overdue, SignedDuration::from_mins(9 * 60 + 30 + 60));
}

#[test]
fn a_receipt_is_missing_after_its_time_on_the_wall_clock() {
    let org = org();
    let rules = Rules {
        receipt_within: SignedDuration::from_mins(30),
        due_soon: SignedDuration::ZERO,
        apology_before: SignedDuration::ZERO,
    };
    // At night too: the slip is the system's answer.
    for (now, expected) in [("2026-11-21T22:30:00", 0), ("2026-11-21T22:30:01", 1)] {
        let mut standing = Standing::default();
        let waiting = Dossier { receipted_us: 0, ..dossier("2026-11-21T22:00:00", "") };
        standing.add(&waiting, rules, &org, local(now));
        assert_eq!(standing.without_receipt, expected, "{now}");
    }
    assert_eq!((receipt_gap(31, 30), receipt_gap(30, 31), receipt_gap(0, 0)), (1, 0, 0));
}

#[test]
fn the_four_rates_keep_their_counts() {
    let count = |step: &str, channel: &str, count| DossierCount {
        agency: "ioc".into(),
        step: step.into(),
        channel: channel.into(),
        outcome: "none".into(),
        count,
    };
    let counts = [
        count("submitted", "online", 3_234),
        count("submitted", "counter", 11_913),
        count("paid", "online", 0),
        count("receipted", "online", 9),
        DossierCount { agency: "khac".into(), ..count("returned", "online", 5) },
    ];
    let rates = online_rates(&counts, "ioc").map(|rate| (rate.step.as_str(), rate.online, rate.all));
    assert_eq!(rates, [("submitted", 3_234, 15_147), ("processed", 0, 0), ("paid", 0, 0), ("returned", 0, 0)]);
    let [received, ..] = online_rates(&counts, "ioc");
    let said = format::rate(received.online, received.all, crate::config::site::Language::Vi);
    assert_eq!(said, "21,35 % (3.234/15.147)");
}
