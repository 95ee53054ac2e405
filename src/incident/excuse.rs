//! Whose an alert is just now, asked of the attribution ledger; and what else a dependency takes down.
//!
//! An alert is about what its labels name: a dependency, a service, a device, a site or a village. What follows from an
//! excuse is decided in `life.rs`.

use super::life::{Excused, Excuses, Incident, Why};
use crate::alert::Alert;
use crate::attribution::{Excuse, Ledger, State, Subject, SubjectKind};
use crate::config::organisation::Area;
use crate::lean::push;
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// A device, for alerts about the place where it stands.
#[derive(Debug, Clone)]
pub struct PlacedDevice {
    pub subject: Subject,
    pub agency: Arc<str>,
    /// May be empty.
    pub site: Arc<str>,
    /// May be empty.
    pub village: Arc<str>,
}

/// Which devices stand where. Each device stands in one group, in the order of the inventory, and so do the groups by
/// their first: a hundred thousand devices are held by their ids alone.
#[derive(Debug, Default)]
struct Places {
    groups: Vec<Group>,
    /// Positions in `groups`.
    by_site: HashMap<Arc<str>, Vec<u32>>,
    /// By agency and village. Positions in `groups`.
    by_village: HashMap<(Arc<str>, Arc<str>), Vec<u32>>,
}

/// The devices of one kind, agency, site and village.
#[derive(Debug)]
struct Group {
    kind: SubjectKind,
    ids: Vec<Arc<str>>,
}

impl Places {
    fn new(devices: impl IntoIterator<Item = PlacedDevice>) -> Places {
        let mut places = Places::default();
        let mut known: HashMap<(SubjectKind, Arc<str>, Arc<str>, Arc<str>), usize> = HashMap::new();
        for PlacedDevice { subject: Subject { kind, id }, agency, site, village } in devices {
            let position = *known.entry((kind, agency, site, village)).or_insert_with_key(|key| {
                let (_, agency, site, village) = key;
                let position = places.groups.len();
                if !site.is_empty() {
                    places.by_site.entry(site.clone()).or_default().push(position as u32);
                }
                if !village.is_empty() {
                    places.by_village.entry((agency.clone(), village.clone())).or_default().push(position as u32);
                }
                places.groups.push(Group { kind, ids: Vec::new() });
                position
            });
            push(&mut places.groups[position].ids, id);
        }
        places.groups.iter_mut().for_each(|group| group.ids.shrink_to_fit());
        places
    }

    /// The devices of those groups whose kind fits. The first of them is the first in the inventory.
    fn subjects(&self, groups: &[u32], is_kind: impl Fn(SubjectKind) -> bool) -> impl Iterator<Item = Subject> {
        let groups = groups.iter().filter_map(|position| self.groups.get(*position as usize));
        let groups = groups.filter(move |group| is_kind(group.kind));
        groups.flat_map(|group| group.ids.iter().map(|id| Subject { kind: group.kind, id: id.clone() }))
    }
}

/// Asks the ledger. Lives as long as the incident stage; a reload gives it other places.
pub(super) struct Excuser {
    ledger: Ledger,
    places: Mutex<Arc<Places>>,
}

impl Excuser {
    pub fn new(ledger: Ledger) -> Excuser {
        Excuser { ledger, places: Mutex::default() }
    }

    pub fn place(&self, devices: impl IntoIterator<Item = PlacedDevice>) {
        let places = Places::new(devices);
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(places);
    }

    /// Another number whenever an excuse may have changed.
    pub fn version(&self) -> u64 {
        self.ledger.excuses_version()
    }

    /// What is excused at `now` of the alerts of an incident and of those that come to it.
    pub fn of<'a>(
        &self,
        incident: &'a Incident,
        alerts: impl IntoIterator<Item = &'a Alert>,
        now: Timestamp,
    ) -> Excuses {
        if self.ledger.excuses_nothing() {
            return Excuses::new();
        }
        let excused = |alert: &Alert| {
            let excuse = self.excuse(alert, now)?;
            Some(Excused { why: Why::Cause(excuse.cause), by: excuse.by, since: excuse.since })
        };
        let found = subjects(incident, alerts).filter_map(|(fingerprint, alert)| Some((fingerprint, excused(alert)?)));
        found.map(|(fingerprint, excused)| (fingerprint.into_owned(), excused)).collect()
    }

    fn excuse(&self, alert: &Alert, now: Timestamp) -> Option<Excuse> {
        let area = Area::parse(alert.label("area"));
        let is_kind = |kind: SubjectKind| area.is_none_or(|area| suits(area, kind));
        match about(alert)? {
            About::Subject(subject) => self.ledger.excuse(&subject, now),
            About::Site(site) => self.ledger.excuse_for_site(site, now).or_else(|| {
                let places = self.places();
                self.all(places.subjects(places.by_site.get(site)?, is_kind), now)
            }),
            About::Village(agency, village) => {
                let places = self.places();
                let key = (agency.into(), village.into());
                self.all(places.subjects(places.by_village.get(&key)?, is_kind), now)
            }
        }
    }

    /// The excuse of the first, if all have one.
    fn all(&self, subjects: impl Iterator<Item = Subject>, now: Timestamp) -> Option<Excuse> {
        let excuses: Option<Vec<Excuse>> = subjects.map(|subject| self.ledger.excuse(&subject, now)).collect();
        excuses?.into_iter().next()
    }

    /// What is down because of the dependencies that an incident is about: numbers by kind.
    pub fn affected(&self, incident: &Incident, now: Timestamp) -> BTreeMap<SubjectKind, usize> {
        let firing = incident.firing();
        let down: Vec<&str> = firing.iter().map(|m| m.alert.label("dependency")).filter(|id| !id.is_empty()).collect();
        let mut affected = BTreeMap::new();
        if down.is_empty() {
            return affected;
        }
        for (subject, _, excuse) in self.ledger.excuses(now) {
            let is_down = || self.ledger.current(&subject).is_some_and(|(state, _)| state == State::Down);
            if down.contains(&excuse.dependency.as_str()) && is_down() {
                *affected.entry(subject.kind).or_default() += 1;
            }
        }
        affected
    }

    fn places(&self) -> Arc<Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The alerts of an incident that fire, and those that come to it, by fingerprint.
pub(super) fn subjects<'a>(
    incident: &'a Incident,
    coming: impl IntoIterator<Item = &'a Alert>,
) -> impl Iterator<Item = (Cow<'a, str>, &'a Alert)> {
    let known = incident.members.iter().filter(|(_, member)| member.resolved.is_none());
    let known = known.map(|(fingerprint, member)| (Cow::from(&**fingerprint), &member.alert));
    known.chain(coming.into_iter().map(|alert| (alert.fingerprint().into(), alert)))
}

/// What an alert is about.
#[derive(Debug, PartialEq, Eq)]
enum About<'a> {
    Subject(Subject),
    Site(&'a str),
    /// Agency and village: villages of two agencies may have one name.
    Village(&'a str, &'a str),
}

/// The narrowest thing that the labels name.
fn about(alert: &Alert) -> Option<About<'_>> {
    let label = |name: &str| Some(alert.label(name)).filter(|value| !value.is_empty());
    let subject = |kind, id: &str| Some(About::Subject(Subject { kind, id: id.into() }));
    if let Some(id) = label("dependency") {
        return subject(SubjectKind::Dependency, id);
    }
    if let Some(id) = label("service") {
        return subject(SubjectKind::Service, id);
    }
    if let Some(id) = label("device") {
        let kind = label("kind").or(label("area")).and_then(SubjectKind::parse)?;
        return subject(kind, id);
    }
    label("site").map(About::Site).or_else(|| Some(About::Village(label("agency")?, label("village")?)))
}

fn suits(area: Area, kind: SubjectKind) -> bool {
    match area {
        Area::Camera => kind == SubjectKind::Camera,
        Area::Hotspot => kind == SubjectKind::Hotspot,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_site_and_by_village_in_the_order_of_the_inventory() {
        use SubjectKind::{Camera, Hotspot};
        let rows = [
            (Camera, "a", "tam-ky", "nvh", "t1"),
            (Hotspot, "b", "tam-ky", "nvh", "t1"),
            (Camera, "c", "tam-ky", "", "t1"),
            (Camera, "d", "hoi-an", "nvh", "t1"),
            (Camera, "e", "tam-ky", "nvh", "t1"),
            (Camera, "f", "tam-ky", "", ""),
        ];
        let places = Places::new(rows.map(|(kind, id, agency, site, village)| PlacedDevice {
            subject: Subject { kind, id: id.into() },
            agency: agency.into(),
            site: site.into(),
            village: village.into(),
        }));
        let ids = |groups: &[u32], kind: Option<SubjectKind>| {
            let found = places.subjects(groups, |known| kind.is_none_or(|kind| kind == known));
            found.map(|subject| subject.id.to_string()).collect::<String>()
        };
        assert_eq!(ids(&places.by_site["nvh"], None), "aebd");
        assert_eq!(ids(&places.by_site["nvh"], Some(Hotspot)), "b");
        let village = |agency: &str| &places.by_village[&(agency.into(), "t1".into())][..];
        assert_eq!((ids(village("tam-ky"), Some(Camera)), ids(village("hoi-an"), None)), ("aec".into(), "d".into()));
        assert_eq!(places.by_site.len(), 1);
    }

    #[test]
    fn labels_name_what_an_alert_is_about() {
        use SubjectKind::{Camera, Dependency, Hotspot, Service};
        let subject = |kind, id: &str| Some(About::Subject(Subject { kind, id: id.into() }));
        let rows = [
            ("dependency=uplink agency=ioc", subject(Dependency, "uplink")),
            ("service=dvc agency=tam-ky kind=portal", subject(Service, "dvc")),
            ("device=cam-1 kind=camera site=nvh village=t1 agency=tam-ky", subject(Camera, "cam-1")),
            ("device=wifi-1 area=hotspot agency=tam-ky", subject(Hotspot, "wifi-1")),
            ("device=x agency=tam-ky", None),
            ("site=nvh village=t1 agency=tam-ky", Some(About::Site("nvh"))),
            ("village=t1 agency=tam-ky", Some(About::Village("tam-ky", "t1"))),
            ("village=t1", None),
            ("agency=tam-ky feed=gateway", None),
        ];
        for (text, expected) in rows {
            let labels = text.split(' ').filter_map(|pair| pair.split_once('='));
            let alert = Alert {
                labels: labels.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
                annotations: Default::default(),
                starts_at: Timestamp::UNIX_EPOCH,
                ends_at: None,
                generator_url: "".into(),
                end_is_assumed: false,
            };
            assert_eq!(about(&alert), expected, "{text}");
        }
    }
}
