//! Tests of `life.rs`: stories told step by step, and what must hold in every story.

use super::*;
use crate::attribution::Cause;
use crate::incident::escalation::Raised;
use proptest::prelude::*;

const NONE: Excuses = Excuses::new();
const TIMING: Timing = Timing {
    group_wait: SignedDuration::from_secs(30),
    group_interval: SignedDuration::from_secs(300),
    reopen_within: SignedDuration::from_secs(300),
    flapping: true,
};

/// One person is told, once.
fn rules() -> Rules<'static> {
    Rules { timing: TIMING, policy: &policy, names: &|_| vec!["d".to_owned()], working: &|at| at }
}

fn policy(_: Severity) -> &'static Policy {
    use crate::config::escalation::Acknowledge;
    use std::time::Duration;
    static POLICY: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();
    POLICY.get_or_init(|| Policy {
        matchers: Vec::new(),
        working_hours: false,
        steps: vec![Step { after: Duration::ZERO, notify: Vec::new(), acknowledge: Acknowledge::AtLeast(1) }],
        repeat: None,
        ack_expires: Duration::from_secs(8 * 3600),
        critical_after: None,
    })
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// `+a` fires, `-a` ended, `!a` fires and is critical; at this second. Words about excuses are left to [`excuse`].
fn alerts(text: &str, second: i64) -> Vec<(Alert, Severity)> {
    text.split_whitespace()
        .filter(|word| word.starts_with(['+', '-', '!']))
        .map(|word| {
            let (sign, name) = word.split_at(1);
            let alert = Alert {
                labels: [("alertname".to_string(), name.to_string())].into(),
                annotations: Default::default(),
                starts_at: at(second),
                ends_at: (sign == "-").then(|| at(second)),
                generator_url: "".into(),
                end_is_assumed: false,
            };
            (alert, if sign == "!" { Severity::Critical } else { Severity::Warning })
        })
        .collect()
}

/// `~a` is excused from now on, `=a` no longer.
fn excuse(excuses: &mut Excuses, text: &str, second: i64) {
    for word in text.split_whitespace() {
        let (sign, name) = word.split_at(1);
        let fingerprint = alerts(&format!("+{name}"), 0)[0].0.fingerprint();
        match sign {
            "~" => {
                let cause = Cause::Dependency(crate::config::dependencies::DependencyCause::Telecom);
                drop(
                    excuses
                        .insert(fingerprint, Excused { why: Why::Cause(cause), by: "VNPT".into(), since: at(second) }),
                );
            }
            "=" => drop(excuses.remove(&fingerprint)),
            _ => {}
        }
    }
}

fn open() -> Incident {
    Incident::open(1, "k".into(), "tam-ky".into(), Area::Service, at(0))
}

/// Plays `(second, alerts)`; between them, time passes as the stage lets it: whenever something is due. Returns the
/// mails and the end with their seconds.
fn play(story: &[(i64, &str)], until: i64) -> Vec<(i64, String)> {
    let mut incident = open();
    let mut told = Vec::new();
    let mut excuses = Excuses::new();
    let mut note = |second: i64, events: Vec<Event>| {
        for event in events {
            match event {
                Event::Mail(news) => told.push((second, format!("{news:?}"))),
                Event::Closed => told.push((second, "closed".into())),
                _ => {}
            }
        }
    };
    let mut moments = story.iter().copied().chain([(until, "")]).peekable();
    while let Some((second, text)) = moments.next() {
        excuse(&mut excuses, text, second);
        let (next, events) = step(incident, &alerts(text, second), &excuses, at(second), &rules());
        incident = next;
        note(second, events);
        let end = moments.peek().map_or(second, |next| next.0);
        while let Some(due) = incident.next_due(&rules()).filter(|due| *due < at(end)) {
            let (next, events) = step(incident, &[], &excuses, due, &rules());
            incident = next;
            let closes = events.contains(&Event::Closed);
            note(due.as_second() - 1_000_000, events);
            if closes {
                return told;
            }
        }
    }
    told
}

#[test]
fn mails_are_written_when_there_is_something_to_tell() {
    type Row = (&'static str, &'static [(i64, &'static str)], &'static [(i64, &'static str)]);
    let rows: [Row; 10] = [
        ("one alert, told after group_wait", &[(0, "+a")], &[(30, "Broken")]),
        ("alerts of the same minute share a mail", &[(0, "+a"), (20, "+b")], &[(30, "Broken")]),
        ("a later alert waits for group_interval", &[(0, "+a"), (60, "+b")], &[(30, "Broken"), (330, "Changed")]),
        (
            "long after the last mail, it waits for its like only",
            &[(0, "+a"), (1000, "+b")],
            &[(30, "Broken"), (1030, "Changed")],
        ),
        ("the same alert again says nothing new", &[(0, "+a"), (60, "+a"), (600, "+a")], &[(30, "Broken")]),
        (
            "the end is told and the incident closes",
            &[(0, "+a"), (1000, "-a")],
            &[(30, "Broken"), (1000, "Resolved"), (1300, "closed")],
        ),
        ("what ended before anybody knew is not told", &[(0, "+a"), (10, "-a")], &[(310, "closed")]),
        (
            "an alert that comes and goes is told when it fires again",
            &[(0, "+a"), (10, "-a"), (50, "+a")],
            &[(50, "Broken")],
        ),
        (
            "an alert that comes back soon continues the incident",
            &[(0, "+a"), (1000, "-a"), (1100, "+a"), (3000, "-a")],
            &[(30, "Broken"), (1000, "Resolved"), (1300, "Changed"), (3000, "Resolved"), (3300, "closed")],
        ),
        (
            "one that comes and goes after its end was told is told when it fires again",
            &[(0, "+a"), (1000, "-a"), (1100, "+a"), (1290, "-a"), (1310, "+a")],
            &[(30, "Broken"), (1000, "Resolved"), (1310, "Changed")],
        ),
    ];
    for (name, story, expected) in rows {
        let expected: Vec<(i64, String)> = expected.iter().map(|(second, what)| (*second, what.to_string())).collect();
        assert_eq!(play(story, 10_000), expected, "{name}");
    }
}

#[test]
fn what_is_excused_is_told_only_when_it_no_longer_is() {
    type Row = (&'static str, &'static [(i64, &'static str)], &'static [(i64, &'static str)]);
    let rows: [Row; 13] = [
        ("excused from the beginning: nobody is told", &[(0, "+a ~a")], &[]),
        ("excused within group_wait: nobody is told", &[(0, "+a"), (20, "~a")], &[]),
        ("it ends without ever being told", &[(0, "+a ~a"), (1000, "-a"), (1010, "=a")], &[(1300, "closed")]),
        ("the excuse ends and it ends soon after", &[(0, "+a ~a"), (1000, "=a"), (1020, "-a")], &[(1320, "closed")]),
        ("the excuse ends and it still fires", &[(0, "+a ~a"), (1000, "=a")], &[(1030, "Broken")]),
        (
            "an excuse that comes back in time puts it off",
            &[(0, "+a ~a"), (1000, "=a"), (1020, "~a"), (2000, "=a")],
            &[(2030, "Broken")],
        ),
        (
            "what was told stays open, and its end is told even if it is excused",
            &[(0, "+a"), (100, "~a"), (1000, "-a"), (1100, "=a")],
            &[(30, "Broken"), (1000, "Resolved"), (1300, "closed")],
        ),
        (
            "what was told is not told again when its excuse ends",
            &[(0, "+a"), (100, "~a"), (1000, "=a"), (2000, "-a")],
            &[(30, "Broken"), (2000, "Resolved"), (2300, "closed")],
        ),
        (
            "of a mixed group the others are told, and the excused one when its excuse ends",
            &[(0, "+a +b ~b"), (1000, "=b")],
            &[(30, "Broken"), (1030, "Changed")],
        ),
        (
            "an excused member that ends says nothing",
            &[(0, "+a +b ~b"), (1000, "-b"), (2000, "-a")],
            &[(30, "Broken"), (2000, "Resolved"), (2300, "closed")],
        ),
        (
            "all that was told ended: that is told, though something excused still fires",
            &[(0, "+a +b ~b"), (1000, "-a"), (2000, "-b")],
            &[(30, "Broken"), (1000, "Resolved"), (2300, "closed")],
        ),
        (
            "and what is left is told when its excuse ends",
            &[(0, "+a +b ~b"), (1000, "-a"), (2000, "=b"), (3000, "-b")],
            &[(30, "Broken"), (1000, "Resolved"), (2030, "Changed"), (3000, "Resolved"), (3300, "closed")],
        ),
        (
            "an excused one that joins a told incident says nothing",
            &[(0, "+a"), (1000, "+b ~b"), (2000, "-b"), (3000, "-a")],
            &[(30, "Broken"), (3000, "Resolved"), (3300, "closed")],
        ),
    ];
    for (name, story, expected) in rows {
        let expected: Vec<(i64, String)> = expected.iter().map(|(second, what)| (*second, what.to_string())).collect();
        assert_eq!(play(story, 10_000), expected, "{name}");
    }
}

#[test]
fn an_incident_is_excused_while_all_that_fires_is() {
    let mut excuses = Excuses::new();
    excuse(&mut excuses, "~a ~b", 0);
    let (incident, events) = step(open(), &alerts("+a +b", 0), &excuses, at(0), &rules());
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Excused(_))).count(), 2);
    assert_eq!(incident.excused().map(|excused| (excused.by.as_str(), excused.since)), Some(("VNPT", at(0))));
    excuse(&mut excuses, "=b", 60);
    let (incident, events) = step(incident, &[], &excuses, at(60), &rules());
    assert!(events.iter().any(|event| matches!(event, Event::ExcuseEnded(_))), "{events:?}");
    assert_eq!(incident.excused(), None);
    assert_eq!(incident.next_due(&rules()), Some(at(90)), "group_wait counts from the end of the excuse");
}

#[test]
fn what_is_worse_is_told_without_waiting_and_escalates_anew() {
    let story = [(0, "+a"), (60, "!b"), (2000, "-a -b")];
    let expected = [(30, "Broken"), (90, "Changed"), (2000, "Resolved"), (2300, "closed")];
    assert_eq!(play(&story, 5_000), expected.map(|(second, what)| (second, what.to_string())));
    let (incident, _) = step(open(), &alerts("+a", 0), &NONE, at(0), &rules());
    let (mut incident, events) = step(incident, &[], &NONE, at(30), &rules());
    assert!(events.contains(&Event::Raised(Raised::Step(0))), "{events:?}");
    acknowledge(&mut incident, "d", at(40), &rules());
    let (incident, _) = step(incident, &alerts("!b", 60), &NONE, at(60), &rules());
    assert!(incident.escalation.is_held(at(60)), "what was answered is still answered");
    let (incident, events) = step(incident, &[], &NONE, at(90), &rules());
    assert!(events.contains(&Event::Raised(Raised::Step(0))), "{events:?}");
    assert!(!incident.escalation.is_held(at(90)), "nobody has answered for what it is now");
}

#[test]
fn a_person_who_says_it_is_over_is_believed_until_it_begins_again() {
    let (incident, _) = step(open(), &alerts("+a +b", 0), &NONE, at(0), &rules());
    let (mut incident, _) = step(incident, &[], &NONE, at(30), &rules());
    dismiss(&mut incident, "d", "seen to work", at(400));
    let (incident, events) = step(incident, &[], &NONE, at(400), &rules());
    assert!(events.contains(&Event::Mail(News::Resolved)), "{events:?}");
    assert_eq!(incident.next_due(&rules()), None, "it stays open: its sources still call it firing");
    let same = |name: &str| alerts(&format!("+{name}"), 0);
    let (incident, events) = step(incident, &same("a"), &NONE, at(1000), &rules());
    assert_eq!(events, []);
    let (incident, events) = step(incident, &alerts("-b", 1100), &NONE, at(1100), &rules());
    assert_eq!(events, []);
    let (again, events) = step(incident.clone(), &alerts("+a", 1200), &NONE, at(1200), &rules());
    assert!(events.contains(&Event::Reopened) && again.firing().len() == 1, "{events:?}");
    let (_, events) = step(incident, &alerts("-a", 1200), &NONE, at(1200), &rules());
    assert!(events.contains(&Event::Closed), "{events:?}");
}

#[test]
fn partial_ends_are_told_and_the_severity_only_rises() {
    assert_eq!(play(&[(0, "+a +b"), (1000, "-a")], 5_000), [(30, "Broken".to_string()), (1030, "Changed".to_string())]);
    let (incident, _) = step(open(), &alerts("+a !b", 0), &NONE, at(0), &rules());
    let (incident, _) = step(incident, &alerts("-b", 5), &NONE, at(5), &rules());
    assert_eq!(incident.severity, Severity::Critical);
}

#[test]
fn an_announced_end_happens_when_it_is_not_announced_anew() {
    let mut external = alerts("+a", 0);
    external[0].0.ends_at = Some(at(400));
    let (incident, _) = step(open(), &external, &NONE, at(0), &rules());
    let (incident, _) = step(incident, &[], &NONE, at(30), &rules());
    assert_eq!(incident.next_due(&rules()), Some(at(400)));
    let (incident, events) = step(incident, &[], &NONE, at(400), &rules());
    assert!(events.contains(&Event::Mail(News::Resolved)), "{events:?}");
    assert_eq!(incident.resolved, Some(at(400)));
}

#[test]
fn of_ends_that_senders_name_the_latest_counts_and_any_more_than_an_assumed_one() {
    let alert = |end: Option<(i64, bool)>| Alert {
        ends_at: end.map(|(second, _)| at(second)),
        end_is_assumed: end.is_some_and(|(_, is_assumed)| is_assumed),
        ..alerts("+a", 0).remove(0).0
    };
    let (named, assumed) = (|second| Some((second, false)), |second| Some((second, true)));
    let rows = [
        ("one sender of two is shorter", named(300), named(200), named(300)),
        ("announced anew", named(200), named(300), named(300)),
        ("an end after none", assumed(300), named(60), named(60)),
        ("none after an end", named(60), assumed(300), assumed(300)),
        ("none after a later end", named(600), assumed(300), named(600)),
        ("the ruler's own", None, named(60), None),
    ];
    for (what, known, posted, expected) in rows {
        assert_eq!(merged(&alert(known), &alert(posted)), alert(expected), "{what}");
    }
}

#[test]
fn a_clock_set_back_does_not_put_mails_off() {
    let (incident, _) = step(open(), &alerts("+a", 90_000), &NONE, at(90_000), &rules());
    let (incident, _) = step(incident, &[], &NONE, at(0), &rules());
    assert_eq!(incident.next_due(&rules()), Some(at(30)));
}

#[test]
fn alerts_that_ended_are_not_kept_without_bound() {
    let mut incident = open();
    for n in 0..400 {
        incident = step(incident, &alerts(&format!("+x{n} +stays"), n * 1000), &NONE, at(n * 1000), &rules()).0;
        incident = step(incident, &alerts(&format!("-x{n}"), n * 1000 + 10), &NONE, at(n * 1000 + 10), &rules()).0;
        incident = step(incident, &[], &NONE, at(n * 1000 + 500), &rules()).0;
        forget_ended(&mut incident);
    }
    assert!(incident.members.len() <= KEPT_ENDED + 1, "{}", incident.members.len());
}

proptest! {
    /// Whatever happens: whoever was told that it broke is told that it ended; mails keep their distance; what fires
    /// is told in time; and time always moves on. `*` is acknowledged, `#` is called over by a person.
    #[test]
    fn every_story_ends_well(story in proptest::collection::vec((0_i64..200, "([+!~=-][abc]|[*#])( [+!~=-][abc])?"), 1..30)) {
        let mut incident = open();
        let mut second = 0;
        let mut mails: Vec<(i64, News, Option<Severity>)> = Vec::new();
        let mut excuses = Excuses::new();
        let mut play = |mut incident: Incident, text: &str, second: i64| {
            excuse(&mut excuses, text, second);
            if text.contains('*') {
                acknowledge(&mut incident, "d", at(second), &rules());
            }
            if text.contains('#') {
                dismiss(&mut incident, "d", "seen to work", at(second));
            }
            let (incident, events) = step(incident, &alerts(text, second), &excuses, at(second), &rules());
            for event in &events {
                if let Event::Mail(news) = event {
                    mails.push((second, *news, incident.escalation.severity));
                }
            }
            let closed = events.contains(&Event::Closed);
            (incident, closed)
        };
        let mut is_closed = false;
        for (pause, text) in &story {
            second += pause;
            let (next, closed) = play(incident, text, second);
            incident = next;
            is_closed = closed;
            if closed { break; }
            if let Some(due) = incident.next_due(&rules()) {
                prop_assert!(due > at(second), "due in the past: nothing would move on");
            }
        }
        if !is_closed {
            second += 1_000;
            incident = play(incident, "-a -b -c", second).0;
            for _ in 0..3 {
                second += 1_000;
                incident = play(incident, "", second).0;
            }
        }
        prop_assert!(incident.told.is_empty());
        prop_assert!(incident.firing().is_empty());
        if let Some((_, last, _)) = mails.last() {
            prop_assert_eq!(*last, News::Resolved);
            prop_assert_eq!(mails[0].1, News::Broken);
        }
        for pair in mails.windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 >= 300 || pair[0].2 < pair[1].2, "only what is worse comes sooner");
            prop_assert!(pair[1].1 != News::Broken);
        }
    }
}
