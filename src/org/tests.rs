//! Who answers, over an organisation with mergers, acting leaders and areas.

use super::*;
use crate::config::escalation::Office;
use crate::config::load_text;
use std::path::Path;

const FILE: &str = "
site: {name: IOC, agency: ioc}
people:
  - {id: a, name: A, email: a@x.vn.example}
  - {id: b, name: B, email: b@x.vn.example}
  - {id: c, name: C, email: c@x.vn.example}
  - {id: d, name: D, email: d@x.vn.example}
agencies:
  - {id: ioc, name: Trung tâm IOC, leader: a}
  - {id: tinh, name: UBND tỉnh, parent: ioc, leader: b}
  - {id: huyen, name: UBND huyện, code: '513', parent: tinh, until: 2025-07-01}
  - id: cu
    name: Xã Bình Định Bắc
    code: '20335'
    parent: huyen
    until: 2025-07-01
    merged_into: moi
    leader: d
  - id: moi
    name: Xã Đồng Dương
    code: '20335'
    parent: huyen
    since: 2025-07-01
    leader:
      - {person: c, from: 2025-07-01}
      - {person: d, from: 2026-03-01, to: 2026-04-01, acting: true}
    deputy: d
    areas: {payment: a}
    duty: {people: [c, d], rotate: 1w, from: 2026-01-05T08:00}
  - {id: xom, name: Xóm, parent: moi, leader: a}
  - {id: vac, name: Phòng khuyết, parent: tinh, deputy: d}
  - {id: doi, name: Đội, parent: vac}
  - {id: trung, name: UBND huyện, parent: tinh, since: 2025-01-01}
calendar:
  holidays: [{name: Tết, from: 2026-02-16, to: 2026-02-20}]
";

fn org() -> Org {
    let config = load_text(Path::new("t.yml"), FILE, &|_| None);
    Org::new(&config.unwrap_or_else(|problems| panic!("{problems:?}")))
}

/// Site time.
fn at(text: &str) -> Timestamp {
    format!("{text}+07:00").parse().unwrap()
}

fn id(text: &str) -> Option<Id> {
    Id::parse(text)
}

#[test]
fn an_acting_leader_wins_while_the_term_lasts() {
    let org = org();
    let leader = |time| org.responsible("moi", Area::Service, at(time)).leader;
    assert_eq!(leader("2026-02-28T23:59"), id("c"));
    assert_eq!(leader("2026-03-01T00:00"), id("d"));
    assert_eq!(leader("2026-03-31T23:59"), id("d"));
    assert_eq!(leader("2026-04-01T00:00"), id("c"));
}

#[test]
fn an_area_can_have_another_leader() {
    let org = org();
    let now = at("2026-03-02T09:00");
    assert_eq!(org.responsible("moi", Area::Payment, now).leader, id("a"));
    assert_eq!(org.responsible("moi", Area::Camera, now).leader, id("d"));
    assert_eq!(org.responsible("moi", Area::Camera, now).deputy, id("d"));
}

#[test]
fn duty_turns_begin_in_site_time() {
    let org = org();
    let duty = |time| org.responsible("moi", Area::Camera, at(time)).duty;
    assert_eq!(duty("2026-01-05T07:59"), None);
    assert_eq!(duty("2026-01-05T08:00"), id("c"));
    assert_eq!(duty("2026-01-12T07:59"), id("c"));
    assert_eq!(duty("2026-01-12T08:00"), id("d"));
}

#[test]
fn the_superior_is_the_nearest_existing_agency_with_a_leader() {
    let org = org();
    let superior = |agency, time| org.responsible(agency, Area::Service, at(time)).superior;
    // The district has no leader, and since July 2025 does not exist.
    assert_eq!(superior("moi", "2026-03-02T09:00"), Some((id("tinh").unwrap(), id("b").unwrap())));
    assert_eq!(superior("tinh", "2026-03-02T09:00"), Some((id("ioc").unwrap(), id("a").unwrap())));
    assert_eq!(superior("ioc", "2026-03-02T09:00"), None);
    assert_eq!(superior("unknown", "2026-03-02T09:00"), None);
}

#[test]
fn a_dissolved_agency_has_nobody_but_its_successor() {
    let org = org();
    let before = org.responsible("cu", Area::Service, at("2025-06-30T23:59"));
    assert_eq!(before.leader, id("d"));
    let after = org.responsible("cu", Area::Service, at("2025-07-01T00:00"));
    assert_eq!(after.leader, None);
    assert_eq!(after.superior, Some((id("moi").unwrap(), id("c").unwrap())));
}

#[test]
fn reused_codes_and_names_mean_who_bears_them_at_the_time() {
    let org = org();
    let resolve = |text: &str, time| org.resolve(text, at(time)).map(ToString::to_string);
    assert_eq!(resolve("20335", "2025-06-30T12:00"), Some("cu".to_owned()));
    assert_eq!(resolve("20335", "2025-07-01T00:00"), Some("moi".to_owned()));
    assert_eq!(resolve(" XÃ  ĐỒNG DƯƠNG ", "2026-01-01T00:00"), Some("moi".to_owned()));
    // The same name in decomposed form.
    assert_eq!(resolve("Xa\u{303} Đô\u{300}ng Dương", "2026-01-01T00:00"), Some("moi".to_owned()));
    assert_eq!(resolve("Xã Đồng Dương", "2025-01-01T00:00"), None);
    assert_eq!(resolve("CU", "2026-01-01T00:00"), Some("cu".to_owned()));
    // Two agencies bore the name until one ended.
    assert_eq!(resolve("ubnd huyện", "2025-02-01T00:00"), None);
    assert_eq!(resolve("ubnd huyện", "2026-02-01T00:00"), Some("trung".to_owned()));
    assert_eq!(resolve("", "2026-02-01T00:00"), None);
}

#[test]
fn holidays_and_make_up_days_decide_over_weekdays() {
    let mut org = org();
    org.calendar.working.push(jiff::civil::date(2026, 2, 28));
    let day = |month, day| org.is_working_day(jiff::civil::date(2026, month, day));
    assert!(day(2, 13));
    assert!(!day(2, 16));
    assert!(!day(2, 20));
    assert!(!day(2, 21));
    assert!(day(2, 28), "a Saturday worked in exchange");
    assert!(org.is_working_time(at("2026-02-13T07:30")));
    assert!(!org.is_working_time(at("2026-02-13T17:00")));
    assert!(!org.is_working_time(at("2026-02-16T09:00")));
}

#[test]
fn an_office_above_is_that_of_the_level_meant_or_who_stands_in_there() {
    let org = org();
    let holder = |agency, up, office, time| org.holder(agency, up, office, Area::Service, at(time));
    let now = "2026-06-01T10:00";
    assert_eq!(holder("moi", 0, Office::Leader, now), id("c"));
    assert_eq!(holder("moi", 0, Office::Deputy, now), id("d"));
    assert_eq!(holder("moi", 1, Office::Leader, now), id("b"), "the district is dissolved");
    assert_eq!(holder("moi", 2, Office::Leader, now), id("a"));
    assert_eq!(holder("moi", 3, Office::Leader, now), None);
    assert_eq!(holder("moi", 1, Office::Duty, now), id("b"), "the province has no rota: its leader");
    assert_eq!(holder("xom", 1, Office::Leader, now), id("c"));
    assert_eq!(holder("xom", 1, Office::Deputy, now), id("d"));
    assert_eq!(holder("xom", 1, Office::Duty, now), id("d"), "whose turn it is");
    assert_eq!(holder("doi", 1, Office::Leader, now), id("d"), "the deputy stands in for a leader who is not there");
    assert_eq!(holder("doi", 2, Office::Leader, now), id("b"), "exactly two levels up");
    assert_eq!(holder("xom", 0, Office::Deputy, now), None, "of the agency itself, the office or nobody");
    assert_eq!(holder("cu", 0, Office::Leader, now), None, "it is merged");
    assert_eq!(holder("cu", 1, Office::Leader, now), id("c"));
    assert_eq!(holder("nobody", 0, Office::Leader, now), None);
}

#[test]
fn what_waits_for_working_hours_waits_over_nights_weekends_and_holidays() {
    let org = org();
    let rows = [
        ("2026-06-01T10:00", "2026-06-01T10:00"),
        ("2026-06-01T07:29", "2026-06-01T07:30"),
        ("2026-06-01T17:00", "2026-06-02T07:30"),
        ("2026-06-05T20:00", "2026-06-08T07:30"),
        ("2026-02-13T18:00", "2026-02-23T07:30"),
    ];
    for (time, expected) in rows {
        assert_eq!(org.next_working_time(at(time)), at(expected), "{time}");
    }
}
