//! Who is told about an incident.
//!
//! The duty officer, or else the leader; both when it is critical. If the agency has neither, its superior, or else the
//! site agency: a step that names nobody is skipped at once, and everybody who reads the mail sees it.

use super::address::Severity;
use crate::config::Id;
use crate::config::escalation::{Office, Target};
use crate::config::organisation::Area;
use crate::org::{Org, Responsible};
use jiff::Timestamp;

/// What somebody is in this incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Duty,
    Leader,
    Deputy,
    /// Of an agency above.
    Superior,
    /// Of the site agency, for want of anybody else.
    Site,
    /// A person whom the policy names.
    Named,
}

/// Who is told, and what the mail says about responsibility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressees {
    /// Distinct; empty only if not even the site agency has anybody.
    pub to: Vec<(Id, Role)>,
    pub leader: Option<Id>,
    /// The agency above and its leader.
    pub superior: Option<(Id, Id)>,
    /// The agency has nobody for this area.
    pub is_nobodys: bool,
}

/// Who is told at `at` about trouble of `severity` in `area` of `agency`.
pub fn addressees(org: &Org, agency: &str, area: Area, severity: Severity, at: Timestamp) -> Addressees {
    let own = org.responsible(agency, area, at);
    let site = org.responsible(org.site(), Area::Own, at);
    decide(own, &site, severity)
}

/// Whether the agency has nobody who answers for the area at `at`.
pub fn is_nobodys(org: &Org, agency: &str, area: Area, at: Timestamp) -> bool {
    let own = org.responsible(agency, area, at);
    own.duty.is_none() && own.leader.is_none()
}

/// The persons whom targets mean at `at`, each once.
pub fn resolve(org: &Org, targets: &[Target], agency: &str, area: Area, at: Timestamp) -> Vec<(Id, Role)> {
    let mut to: Vec<(Id, Role)> = Vec::new();
    for target in targets {
        let found = match target {
            Target::Person(id) => Some((id.clone(), Role::Named)),
            Target::Office { up, office } => {
                let role = match (up, office) {
                    (0, Office::Duty) => Role::Duty,
                    (0, Office::Leader) => Role::Leader,
                    (0, Office::Deputy) => Role::Deputy,
                    _ => Role::Superior,
                };
                org.holder(agency, *up, *office, area, at).map(|id| (id, role))
            }
        };
        to.extend(found.filter(|(id, _)| to.iter().all(|(known, _)| known != id)));
    }
    to
}

/// Who is told for want of anybody.
pub fn fallback(org: &Org, agency: &str, area: Area, at: Timestamp) -> Vec<(Id, Role)> {
    let own = org.responsible(agency, area, at);
    let site = org.responsible(org.site(), Area::Own, at);
    let superior = own.superior.map(|(_, person)| (person, Role::Superior));
    let site = site.leader.or(site.duty).map(|person| (person, Role::Site));
    superior.or(site).into_iter().collect()
}

fn decide(own: Responsible, site: &Responsible, severity: Severity) -> Addressees {
    let duty = own.duty.map(|person| (person, Role::Duty));
    let leader = own.leader.clone().map(|person| (person, Role::Leader));
    let superior = own.superior.clone().map(|(_, person)| (person, Role::Superior));
    let site = site.leader.clone().or_else(|| site.duty.clone()).map(|person| (person, Role::Site));
    let is_nobodys = duty.is_none() && leader.is_none();
    let mut to: Vec<(Id, Role)> = if is_nobodys {
        superior.or(site).into_iter().collect()
    } else if severity == Severity::Critical {
        duty.into_iter().chain(leader).collect()
    } else {
        duty.or(leader).into_iter().collect()
    };
    // One envelope a person, whatever they are.
    to.dedup_by(|second, first| second.0 == first.0);
    Addressees { to, leader: own.leader, superior: own.superior, is_nobodys }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    fn responsible(duty: Option<&str>, leader: Option<&str>, superior: Option<&str>) -> Responsible {
        Responsible {
            duty: duty.map(id),
            leader: leader.map(id),
            deputy: None,
            superior: superior.map(|person| (id("above"), id(person))),
        }
    }

    #[test]
    fn duty_else_leader_both_when_critical_and_upwards_when_there_is_nobody() {
        use Role::{Duty, Leader, Site, Superior};
        use Severity::{Critical, Warning};
        let site = responsible(None, Some("site"), None);
        type Row = (&'static str, Responsible, Severity, &'static [(&'static str, Role)], bool);
        let rows: [Row; 7] = [
            ("duty", responsible(Some("d"), Some("l"), Some("s")), Warning, &[("d", Duty)], false),
            ("no duty", responsible(None, Some("l"), Some("s")), Warning, &[("l", Leader)], false),
            ("critical", responsible(Some("d"), Some("l"), None), Critical, &[("d", Duty), ("l", Leader)], false),
            ("same person", responsible(Some("d"), Some("d"), None), Critical, &[("d", Duty)], false),
            ("nobody", responsible(None, None, Some("s")), Warning, &[("s", Superior)], true),
            ("nobody, critical", responsible(None, None, Some("s")), Critical, &[("s", Superior)], true),
            ("nobody at all", responsible(None, None, None), Critical, &[("site", Site)], true),
        ];
        for (name, own, severity, expected, is_nobodys) in rows {
            let decided = decide(own, &site, severity);
            let expected: Vec<(Id, Role)> = expected.iter().map(|(person, role)| (id(person), *role)).collect();
            assert_eq!((decided.to, decided.is_nobodys), (expected, is_nobodys), "{name}");
        }
    }

    #[test]
    fn targets_are_people_as_of_the_time_and_each_is_told_once() {
        let file = "
site: {name: IOC, agency: ioc}
people: [{id: a, name: A, email: a@x.vn.example}, {id: b, name: B, email: b@x.vn.example}]
agencies: [{id: ioc, name: IOC, leader: a}, {id: xa, name: Xa, parent: ioc, deputy: b}, {id: thon, name: Thon}]
escalation:
  - {match: [agency=xa], steps: [{after: 0s, notify: [duty, leader]}, {after: 5m, notify: [deputy, parent.leader, b]}]}
";
        let config = crate::config::load_text(std::path::Path::new("t.yml"), file, &|_| None).unwrap();
        let org = Org::new(&config);
        let now = Timestamp::UNIX_EPOCH;
        let steps = &config.escalation[0].steps;
        let people = |step: usize| resolve(&org, &steps[step].notify, "xa", Area::Service, now);
        assert_eq!(people(0), []);
        assert_eq!(people(1), [(id("b"), Role::Deputy), (id("a"), Role::Superior)]);
        assert_eq!(fallback(&org, "xa", Area::Service, now), [(id("a"), Role::Superior)]);
        assert_eq!(fallback(&org, "thon", Area::Service, now), [(id("a"), Role::Site)]);
        assert_eq!(config.escalation.len(), 3, "what no policy matches has the built-in ones");
    }
}
