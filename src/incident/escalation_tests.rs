//! Stories of escalations: at which second who is told. Minutes and hours of a virtual clock.

use super::*;
use crate::config::escalation::{Office, Target};
use jiff::SignedDuration;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// Steps as `after minutes, persons, acknowledgements needed`; 0 needed is all. The office of a step is told apart by
/// its position.
type Steps = &'static [(u64, &'static str, usize)];

fn policy(steps: Steps, repeat_hours: u64) -> Policy {
    let steps = steps.iter().enumerate().map(|(index, (after, _, needed))| Step {
        after: Duration::from_secs(after * 60),
        notify: vec![Target::Office { up: u8::try_from(index).unwrap(), office: Office::Duty }],
        acknowledge: if *needed == 0 { Acknowledge::All } else { Acknowledge::AtLeast(*needed) },
    });
    Policy {
        matchers: Vec::new(),
        working_hours: false,
        steps: steps.collect(),
        repeat: (repeat_hours > 0).then(|| Duration::from_secs(repeat_hours * 3600)),
        ack_expires: Duration::from_secs(8 * 3600),
        critical_after: None,
    }
}

/// Plays a story: at a second, `live`, `quiet`, `ack PERSON`, `bounce PERSON`. Returns `second who` as they are told.
fn play(steps: Steps, policy: &Policy, story: &[(i64, &str)], until: i64) -> Vec<String> {
    let names = |step: Option<&Step>| {
        let index = step.map(|step| match step.notify[0] {
            Target::Office { up, .. } => usize::from(up),
            Target::Person(_) => unreachable!("the stories name offices"),
        });
        let names = index.map_or("site", |index| steps[index].1);
        names.split_whitespace().map(str::to_owned).collect()
    };
    // Working time is from 07:30 to 17:00 every day of the virtual clock, which begins at midnight.
    let working = |time: Timestamp| {
        let second = time.as_second() - 1_000_000;
        let (day, of_day) = (second.div_euclid(24 * HOUR), second.rem_euclid(24 * HOUR));
        let (from, to) = (7 * HOUR + 30 * MINUTE, 17 * HOUR);
        match of_day {
            _ if of_day < from => at(day * 24 * HOUR + from),
            _ if of_day >= to => at((day + 1) * 24 * HOUR + from),
            _ => time,
        }
    };
    let call = Call { policy, names: &names, working: &working };
    let mut escalation = Escalation::default();
    let mut told = Vec::new();
    let mut note = |second: i64, raised: Vec<Raised>, escalation: &Escalation| {
        for raised in raised {
            let who = || escalation.asked.iter().cloned().collect::<Vec<_>>().join("+");
            told.push(match raised {
                Raised::Step(_) => format!("{second} {}", who()),
                Raised::Empty(index) => format!("{second} nobody at {index}"),
                Raised::Fallback => format!("{second} fallback {}", who()),
                Raised::Again => format!("{second} all again"),
                Raised::Expired => format!("{second} expired"),
            });
        }
    };
    let raised = escalation.begin(Severity::Warning, at(0), &call);
    note(0, raised, &escalation);
    let mut is_live = true;
    let mut second = 0;
    for (moment, what) in story.iter().copied().chain([(until, "")]) {
        while let Some(due) = escalation.next_due(&call).filter(|due| is_live && *due < at(moment)) {
            second = (due.as_second() - 1_000_000).max(second);
            let raised = escalation.step(is_live, at(second), &call);
            assert!(!raised.is_empty() || escalation.next_due(&call) != Some(due), "due, but nothing happened");
            note(second, raised, &escalation);
        }
        second = moment;
        let raised = match what.split_once(' ') {
            Some(("ack", person)) => {
                escalation.acknowledge(person, at(second), policy);
                Vec::new()
            }
            Some(("bounce", person)) => escalation.undeliverable(person, at(second), &call),
            _ => {
                is_live = match what {
                    "live" => true,
                    "quiet" => false,
                    _ => is_live,
                };
                escalation.step(is_live, at(second), &call)
            }
        };
        note(second, raised, &escalation);
    }
    told
}

const LADDER: Steps = &[(0, "duty", 1), (15, "leader", 1), (60, "above", 1)];

#[test]
fn it_climbs_one_level_at_a_time_until_somebody_answers() {
    type Row = (&'static str, Steps, u64, &'static [(i64, &'static str)], i64, &'static [&'static str]);
    let rows: [Row; 17] = [
        ("nobody answers", LADDER, 0, &[], 9 * HOUR, &["0 duty", "900 leader", "3600 above"]),
        (
            "and everybody is told again",
            LADDER,
            4,
            &[],
            10 * HOUR,
            &["0 duty", "900 leader", "3600 above", "18000 all again", "32400 all again"],
        ),
        ("answered at once", LADDER, 4, &[(60, "ack duty")], 8 * HOUR, &["0 duty"]),
        ("answered by the second level", LADDER, 4, &[(1000, "ack leader")], 8 * HOUR, &["0 duty", "900 leader"]),
        (
            "an answer expires, all are reminded and the climb goes on",
            LADDER,
            4,
            &[(60, "ack duty")],
            10 * HOUR,
            &["0 duty", "28860 expired", "28860 all again", "29760 leader", "32460 above"],
        ),
        (
            "an answer given again holds from then",
            LADDER,
            0,
            &[(60, "ack duty"), (7 * HOUR, "ack duty")],
            14 * HOUR,
            &["0 duty"],
        ),
        (
            "a later step names nobody: the next at once",
            &[(0, "duty", 1), (15, "", 1), (60, "above", 1)],
            0,
            &[],
            9 * HOUR,
            &["0 duty", "900 nobody at 1", "900 above"],
        ),
        ("the first names nobody", &[(0, "", 1), (240, "leader", 1)], 0, &[], 9 * HOUR, &["0 nobody at 0", "0 leader"]),
        (
            "nobody at all: those for want of anybody, once",
            &[(0, "", 1), (15, "", 1)],
            0,
            &[],
            9 * HOUR,
            &["0 nobody at 0", "0 nobody at 1", "0 fallback site"],
        ),
        (
            "the last step names nobody: those before it are enough",
            &[(0, "duty", 1), (15, "", 1)],
            0,
            &[],
            9 * HOUR,
            &["0 duty", "900 nobody at 1"],
        ),
        ("a first step that waits", &[(10, "duty", 1)], 0, &[], 9 * HOUR, &["600 duty"]),
        (
            "two must answer, and one does",
            &[(0, "duty leader", 2), (15, "above", 1)],
            0,
            &[(60, "ack duty")],
            9 * HOUR,
            &["0 duty+leader", "900 above"],
        ),
        (
            "two must answer, and do",
            &[(0, "duty leader", 2), (15, "above", 1)],
            0,
            &[(60, "ack duty"), (70, "ack leader")],
            7 * HOUR,
            &["0 duty+leader"],
        ),
        (
            "the same twice is one",
            &[(0, "duty leader", 2), (15, "above", 1)],
            0,
            &[(60, "ack duty"), (70, "ack duty")],
            HOUR,
            &["0 duty+leader", "900 above"],
        ),
        (
            "all must answer, and there is one",
            &[(0, "duty", 0), (15, "above", 1)],
            0,
            &[(60, "ack duty")],
            7 * HOUR,
            &["0 duty"],
        ),
        (
            "the time it is quiet does not count",
            LADDER,
            0,
            &[(600, "quiet"), (5000, "live")],
            3 * HOUR,
            &["0 duty", "5300 leader", "8000 above"],
        ),
        (
            "a mail that cannot be delivered: the next at once",
            LADDER,
            0,
            &[(5, "bounce duty")],
            2 * HOUR,
            &["0 duty", "5 leader", "2705 above"],
        ),
    ];
    for (name, steps, repeat, story, until, expected) in rows {
        assert_eq!(play(steps, &policy(steps, repeat), story, until), expected, "{name}");
    }
}

#[test]
fn what_is_due_outside_working_hours_waits_for_them() {
    let policy = Policy { working_hours: true, ..policy(LADDER, 0) };
    // It begins at midnight only because the first mail had waited already.
    let half_past_seven = 7 * HOUR + 30 * MINUTE;
    let expected =
        ["0 duty".to_owned(), format!("{half_past_seven} leader"), format!("{} above", half_past_seven + 45 * MINUTE)];
    assert_eq!(play(LADDER, &policy, &[], 24 * HOUR), expected);
}

#[test]
fn after_a_long_absence_one_level_is_taken_not_all() {
    let policy = policy(LADDER, 0);
    let names = |_: Option<&Step>| vec!["x".to_owned()];
    let call = Call { policy: &policy, names: &names, working: &|time| time };
    let mut escalation = Escalation::default();
    escalation.begin(Severity::Critical, at(0), &call);
    assert_eq!(escalation.step(true, at(9 * HOUR), &call), [Raised::Step(1)]);
    assert_eq!(escalation.step(true, at(9 * HOUR + 1), &call), []);
    assert_eq!(escalation.next_due(&call), Some(at(9 * HOUR + 45 * MINUTE)));
}

#[test]
fn a_clock_set_back_puts_nothing_off() {
    let policy = policy(LADDER, 0);
    let names = |_: Option<&Step>| vec!["x".to_owned()];
    let call = Call { policy: &policy, names: &names, working: &|time| time };
    let mut escalation = Escalation::default();
    escalation.begin(Severity::Critical, at(0), &call);
    let hour_before = at(0) - SignedDuration::from_hours(1);
    assert_eq!(escalation.step(true, hour_before, &call), []);
    assert_eq!(escalation.next_due(&call), Some(hour_before + SignedDuration::from_mins(15)));
}

#[test]
fn it_is_kept_and_read_again() {
    let policy = policy(LADDER, 0);
    let names = |_: Option<&Step>| vec!["x".to_owned()];
    let call = Call { policy: &policy, names: &names, working: &|time| time };
    let mut escalation = Escalation::default();
    escalation.begin(Severity::Critical, at(0), &call);
    escalation.acknowledge("x", at(5), &policy);
    let text = serde_json::to_string(&escalation).unwrap();
    assert_eq!(serde_json::from_str::<Escalation>(&text).unwrap(), escalation);
    // What another version left out or wrote has its default.
    assert_eq!(serde_json::from_str::<Escalation>("{}").unwrap(), Escalation::default());
}
