//! The answer for programs. Times are RFC 3339, durations seconds.

use super::Case;
use super::because::written;
use crate::config::escalation::{Acknowledge, Office};
use crate::incident::foresee::{Foresight, Meant, Moment, What};
use crate::org::{Day, Ground, Held, Vacant};
use serde_json::{Value, json};

pub fn write(case: &Case<'_>) -> String {
    let (day, holiday) = match case.org.day(case.at) {
        Day::Working => ("working", None),
        Day::MakeUp => ("make_up", None),
        Day::Holiday(name) => ("holiday", Some(name)),
        Day::Weekend => ("weekend", None),
    };
    let answer = json!({
        "agency": case.agency.id.as_str(),
        "area": case.area.as_str(),
        "severity": case.severity.as_str(),
        "at": case.at.to_string(),
        "day": day,
        "holiday": holiday,
        "working_time": case.org.is_working_time(case.at),
        "policy": case.foresight.as_ref().map(policy),
        "first_mail": case.foresight.as_ref().map(|foresight| foresight.first.to_string()),
        "steps": case.foresight.iter().flat_map(|foresight| {
            foresight.moments.iter().map(|moment| step(case, foresight, moment))
        }).collect::<Vec<Value>>(),
        "critical": case.foresight.as_ref().and_then(|foresight| foresight.critical).map(|at| at.to_string()),
        "reminded": case.foresight.as_ref().and_then(|foresight| foresight.reminded).map(|at| at.to_string()),
    });
    format!("{answer:#}\n")
}

fn policy(foresight: &Foresight) -> Value {
    let policy = &foresight.policy;
    json!({
        "number": foresight.position.map(|index| index + 1),
        "match": policy.matchers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "working_hours": policy.working_hours,
        "repeat": policy.repeat.map(|every| every.as_secs()),
        "ack_expires": policy.ack_expires.as_secs(),
        "critical_after": policy.critical_after.map(|after| after.as_secs()),
    })
}

fn step(case: &Case<'_>, foresight: &Foresight, moment: &Moment) -> Value {
    let (what, index) = match moment.what {
        What::Step(index) => ("told", Some(index)),
        What::Skipped(index) => ("skipped", Some(index)),
        What::Fallback => ("fallback", None),
    };
    let acknowledge = index.and_then(|index| foresight.policy.steps.get(index)).map(|step| match step.acknowledge {
        Acknowledge::AtLeast(n) => json!(n),
        Acknowledge::All => json!("all"),
    });
    json!({
        "at": moment.at.to_string(),
        "what": what,
        "step": index.map(|index| index + 1),
        "acknowledge": acknowledge,
        "targets": moment.sought.iter().map(|meant| target(case, meant)).collect::<Vec<_>>(),
    })
}

fn target(case: &Case<'_>, meant: &Meant) -> Value {
    let id = meant.person();
    let person = id.and_then(|id| case.org.person(id));
    let (target, held, vacant) = match meant {
        Meant::Person(id) => (id.to_string(), None, &[][..]),
        Meant::Fallback(_) => ("fallback".to_owned(), None, &[][..]),
        Meant::Office { up, office, sought } => (written(*up, *office), sought.held.as_ref(), &sought.vacant[..]),
    };
    json!({
        "target": target,
        "person": id.map(ToString::to_string),
        "name": person.map(|person| person.name.clone()),
        "email": person.map(|person| person.email.to_string()),
        "held": held.map(holding),
        "vacant": vacant.iter().map(|vacant| vacancy(case, vacant)).collect::<Vec<_>>(),
        "because": id.map(|_| case.because(meant)),
    })
}

fn holding(held: &Held) -> Value {
    let (ground, from, to) = match &held.ground {
        Ground::Area => ("area", None, None),
        Ground::Term { from, to, acting } => (if *acting { "acting" } else { "term" }, *from, *to),
        Ground::Turn { from, to } => ("turn", Some(*from), *to),
        Ground::Override { from, to } => ("override", Some(*from), Some(*to)),
    };
    json!({
        "agency": held.agency.as_str(),
        "office": written(0, held.office),
        "by": ground,
        "from": from.map(|from| from.to_string()),
        "to": to.map(|to| to.to_string()),
    })
}

fn vacancy(case: &Case<'_>, vacant: &Vacant) -> Value {
    let office: Office = vacant.office;
    json!({"agency": vacant.agency.as_str(), "office": written(0, office), "because": case.vacant(vacant)})
}
