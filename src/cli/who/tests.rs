use super::*;
use std::path::Path;

const FILE: &str = "
site: {name: IOC, agency: ioc, language: en}
people:
  - {id: truc, name: Duty IOC, email: truc@ioc.vn.example}
  - {id: an, name: Officer A, email: an@xa.vn.example}
  - {id: binh, name: Officer B, email: binh@xa.vn.example}
  - {id: ct, name: Chairman, email: ct@xa.vn.example}
  - {id: pct, name: Deputy, email: pct@xa.vn.example}
  - {id: kt, name: Accountant, email: kt@xa.vn.example}
  - {id: tinh, name: Head of the province, email: tinh@vn.example}
agencies:
  - {id: ioc, name: IOC, leader: truc}
  - {id: tinh, name: Province, leader: [{person: tinh, from: 2026-01-01}]}
  - {id: huyen, name: District, parent: tinh}
  - id: xa
    code: '20335'
    name: Commune
    parent: huyen
    leader: [{person: ct, from: 2025-07-01}, {person: pct, from: 2026-03-01, to: 2026-04-01, acting: true}]
    areas: {payment: kt}
    duty:
      people: [an, binh]
      rotate: 1w
      from: 2026-01-05T08:00
      overrides: [{nobody: true, from: 2026-02-16T08:00, to: 2026-02-21T08:00}, {person: ct, from: 2026-03-24T08:00, to: 2026-03-25T08:00}]
  - {id: thon, name: Hamlet}
  - {id: cu, name: Old, until: 2025-07-01, merged_into: xa}
calendar:
  holidays: [{name: Tet, from: 2026-02-16, to: 2026-02-20}]
escalation:
  - match: ['area=\"usage\"']
    working_hours: true
    steps: [{after: 0m, notify: [leader]}]
  - steps: [{after: 0m, notify: [duty]}, {after: 15m, notify: [leader, tinh], acknowledge: all}, {after: 1h, notify: [parent.leader]}]
    repeat: 4h
";

fn ask(agency: &str, area: Area, at: &str, severity: Severity) -> String {
    answer(agency, area, at, severity, Format::Text).unwrap()
}

fn answer(agency: &str, area: Area, at: &str, severity: Severity, format: Format) -> Result<String, String> {
    let config = config::load_text(Path::new("t.yml"), FILE, &|_| None).unwrap_or_else(|p| panic!("{p:?}"));
    let who = Who { config: PathBuf::new(), agency: agency.into(), area, at: Some(at.into()), severity, format };
    who.answer(&config, Timestamp::UNIX_EPOCH)
}

#[test]
fn it_says_step_by_step_who_is_told_and_why() {
    assert_eq!(
        ask("xa", Area::Service, "2026-03-10T20:00", Severity::Critical),
        "\
Commune (xa) – area: portals and applications – severity: Critical
10/03/2026 20:00 (outside working hours)
Policy 2 of the section escalation: all incidents

10/03/2026 20:00  step 1
  Officer B <binh@xa.vn.example>
    duty officer of Commune: on duty from 09/03/2026 08:00, hands over at 16/03/2026 08:00

10/03/2026 20:15  step 2 (all must acknowledge)
  Deputy <pct@xa.vn.example>
    responsible leader of Commune: acting since 01/03/2026 00:00 until 01/04/2026 00:00
  Head of the province <tinh@vn.example>
    named by the policy

10/03/2026 21:00  step 3
    no responsible leader of District: nobody is named for that time
    no deputy of District: nobody is named for that time
  Head of the province <tinh@vn.example>
    responsible leader of Province: in office since 01/01/2026 00:00

11/03/2026 01:00  everybody is reminded, then every 4 hours
Once somebody acknowledges, it stops for 8 hours.
"
    );
}

#[test]
fn a_gap_of_the_rota_is_skipped_at_once_and_an_override_is_named() {
    let gap = ask("20335", Area::Payment, "2026-02-17T09:00", Severity::Warning);
    assert!(gap.contains("17/02/2026 09:00 (holiday: Tet)"), "{gap}");
    let skipped = "09:00  step 1 is skipped at once: no one responsible\n    \
                   no duty officer of Commune: the rota is left open from 16/02/2026 08:00 until 21/02/2026 08:00\n";
    assert!(gap.contains(skipped), "{gap}");
    assert!(gap.contains("17/02/2026 09:00  step 2 (all must acknowledge)\n  Accountant"), "{gap}");
    assert!(gap.contains("answers for payment reconciliation in particular"), "{gap}");
    let standing_in = ask("xa", Area::Service, "2026-03-24T09:00", Severity::Warning);
    assert!(standing_in.contains("stands in from 24/03/2026 08:00 until 25/03/2026 08:00"), "{standing_in}");
}

#[test]
fn what_waits_for_working_hours_says_until_when() {
    let waits = ask("xa", Area::Usage, "2026-02-17T09:00", Severity::Warning);
    assert!(waits.contains("Policy 1 of the section escalation: area=\"usage\""), "{waits}");
    // The week of the holiday ends on a Friday.
    assert!(waits.contains("waits for working hours: first mail at 23/02/2026 07:30"), "{waits}");
    assert!(waits.contains("23/02/2026 07:30  step 1\n  Chairman"), "{waits}");
}

#[test]
fn an_agency_without_anybody_and_one_that_is_no_more_are_told_above() {
    let hamlet = ask("thon", Area::Camera, "2026-03-10T09:00", Severity::Warning);
    assert!(hamlet.contains("step 1 is skipped at once"), "{hamlet}");
    let merged = ask("cu", Area::Camera, "2026-03-10T09:00", Severity::Warning);
    assert!(merged.contains("the agency ended on 01/07/2025, merged into Commune"), "{merged}");
    assert!(merged.contains("  Deputy <pct@xa.vn.example>"), "{merged}");
    let info = ask("xa", Area::Camera, "2026-03-10T09:00", Severity::Info);
    assert!(info.contains("recorded only"), "{info}");
}

#[test]
fn programs_get_the_same() {
    let text = answer("xa", Area::Service, "2026-03-10T20:00+07:00", Severity::Critical, Format::Json).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["at"], "2026-03-10T13:00:00Z");
    assert_eq!(answer["policy"]["number"], 2);
    assert_eq!(answer["steps"][0]["targets"][0]["person"], "binh");
    assert_eq!(answer["steps"][0]["targets"][0]["held"]["by"], "turn");
    assert_eq!(answer["steps"][1]["acknowledge"], "all");
    assert_eq!(answer["steps"][2]["targets"][0]["vacant"].as_array().unwrap().len(), 2);
    assert_eq!(answer["reminded"], "2026-03-10T18:00:30Z");
}

#[test]
fn what_is_not_known_is_an_error_that_says_what_is() {
    let wrong = |agency, at| answer(agency, Area::Service, at, Severity::Critical, Format::Text).unwrap_err();
    assert_eq!(
        wrong("hue", "2026-03-10"),
        "no agency has the id, code or name \"hue\" (or several have it); ids are ioc, tinh, huyen, xa, thon, cu"
    );
    assert!(wrong("xa", "tomorrow").starts_with("--at \"tomorrow\" is not a time"));
    assert!(area("portal").unwrap_err().contains("service, payment"));
    assert!(severity("urgent").is_err());
}
