//! The answer for people, in the site's language.

use super::Case;
use crate::config::site::Language::{En, Vi};
use crate::format;
use crate::incident::foresee::{Foresight, Meant, Moment, What};
use crate::incident::{Severity, words};
use crate::org::Day;
use std::fmt::Write;

pub fn write(case: &Case<'_>) -> String {
    let mut out = String::new();
    let language = case.language();
    let severity = words::severity(case.severity, language);
    let area = words::area(case.area, language);
    let (name, id) = (&case.agency.name, &case.agency.id);
    line(
        &mut out,
        0,
        &match language {
            Vi => format!("{name} ({id}) – lĩnh vực: {area} – mức độ: {severity}"),
            En => format!("{name} ({id}) – area: {area} – severity: {severity}"),
        },
    );
    line(&mut out, 0, &format!("{} ({})", case.date(case.at), day(case)));
    match &case.foresight {
        None => line(
            &mut out,
            0,
            &case.pick("Mức thông tin: chỉ ghi nhận, không gửi thư cho ai.", "Info: recorded only, nobody is mailed."),
        ),
        Some(foresight) => moments(&mut out, case, foresight),
    }
    out
}

fn line(out: &mut String, indent: usize, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:indent$}{text}", "");
}

fn day(case: &Case<'_>) -> String {
    let is_working = case.org.is_working_time(case.at);
    let hours = if is_working {
        case.pick("trong giờ làm việc", "in working hours")
    } else {
        case.pick("ngoài giờ làm việc", "outside working hours")
    };
    match case.org.day(case.at) {
        Day::Working => hours,
        Day::MakeUp => format!("{}, {hours}", case.pick("ngày làm bù", "a make-up working day")),
        Day::Holiday(name) => format!("{}: {name}", case.pick("ngày nghỉ", "holiday")),
        Day::Weekend => case.pick("ngày nghỉ cuối tuần", "not a working day of the week"),
    }
}

fn moments(out: &mut String, case: &Case<'_>, foresight: &Foresight) {
    let language = case.language();
    line(out, 0, &policy(case, foresight));
    if foresight.policy.working_hours && case.org.next_working_time(case.at) != case.at {
        line(
            out,
            0,
            &match language {
                Vi => format!("Chính sách này chờ đến giờ làm việc: thư đầu tiên lúc {}", case.date(foresight.first)),
                En => format!("This policy waits for working hours: first mail at {}", case.date(foresight.first)),
            },
        );
    }
    for moment in &foresight.moments {
        line(out, 0, "");
        line(out, 0, &format!("{}  {}", case.date(moment.at), what(case, foresight, moment)));
        for meant in &moment.sought {
            target(out, case, meant);
        }
    }
    if foresight.moments.iter().all(|moment| moment.what != What::Fallback && is_empty(moment)) {
        line(out, 0, "");
        line(out, 0, &case.pick("Không ai được báo.", "Nobody is told."));
    }
    line(out, 0, "");
    if let (Some(at), Some(every)) = (foresight.reminded, foresight.policy.repeat) {
        line(
            out,
            0,
            &match language {
                Vi => format!("{}  nhắc lại tất cả, rồi cứ {} một lần", case.date(at), format::duration(every, Vi)),
                En => format!("{}  everybody is reminded, then every {}", case.date(at), format::duration(every, En)),
            },
        );
    }
    if let Some(at) = foresight.critical {
        let critical = words::severity(Severity::Critical, language);
        line(
            out,
            0,
            &match language {
                Vi => format!("{}  nâng lên mức {critical}: báo lại từ đầu theo chính sách của mức đó", case.date(at)),
                En => format!("{}  becomes {critical}: told anew by the policy for that", case.date(at)),
            },
        );
    }
    let holds = format::duration(foresight.policy.ack_expires, language);
    line(
        out,
        0,
        &match language {
            Vi => format!("Khi có người tiếp nhận, việc báo tiếp dừng trong {holds}."),
            En => format!("Once somebody acknowledges, it stops for {holds}."),
        },
    );
}

fn is_empty(moment: &Moment) -> bool {
    moment.sought.iter().all(|meant| meant.person().is_none())
}

fn policy(case: &Case<'_>, foresight: &Foresight) -> String {
    let matchers: Vec<String> = foresight.policy.matchers.iter().map(ToString::to_string).collect();
    let matchers =
        if matchers.is_empty() { case.pick("mọi sự cố", "all incidents") } else { matchers.join(", ") };
    match (foresight.position, case.language()) {
        (Some(index), Vi) => format!("Chính sách thứ {} trong mục escalation: {matchers}", index + 1),
        (Some(index), En) => format!("Policy {} of the section escalation: {matchers}", index + 1),
        (None, Vi) => format!("Chính sách có sẵn: {matchers}"),
        (None, En) => format!("Built-in policy: {matchers}"),
    }
}

fn what(case: &Case<'_>, foresight: &Foresight, moment: &Moment) -> String {
    match (moment.what, case.language()) {
        (What::Step(index), language) => {
            let needed = foresight.policy.steps.get(index).map(|step| case.acknowledge(step.acknowledge));
            let step = if language == Vi { "bậc" } else { "step" };
            format!("{step} {}{}", index + 1, needed.unwrap_or_default())
        }
        (What::Skipped(index), Vi) => format!("bậc {} bỏ qua ngay: chưa có người chịu trách nhiệm", index + 1),
        (What::Skipped(index), En) => format!("step {} is skipped at once: no one responsible", index + 1),
        (What::Fallback, Vi) => "chưa có người chịu trách nhiệm: báo lên trên".into(),
        (What::Fallback, En) => "no one responsible: told above".into(),
    }
}

fn target(out: &mut String, case: &Case<'_>, meant: &Meant) {
    if let Meant::Office { sought, .. } = meant {
        for vacant in &sought.vacant {
            line(out, 4, &case.vacant(vacant));
        }
    }
    let Some(id) = meant.person() else { return };
    let person =
        case.org.person(id).map_or_else(|| id.to_string(), |person| format!("{} <{}>", person.name, person.email));
    line(out, 2, &person);
    line(out, 4, &case.because(meant));
}
