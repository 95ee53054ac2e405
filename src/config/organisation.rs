//! Sections `people`, `agencies` and `calendar`: who answers for what. Used through [`crate::org::Org`].

use super::Id;
use super::decode::{self, Context, MINUTE, Section, YEAR};
use super::node::{Node, Place, Value, quote};
use super::site::{LANGUAGES, Language};
use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Person {
    pub id: Id,
    /// A role ("Chủ tịch UBND xã …") or a name.
    pub name: String,
    pub email: lettre::Address,
    /// Default: the site's language.
    pub language: Option<Language>,
    /// When, each working day, they want to read of what is not critical; `None`: as it happens.
    pub digest: Option<Time>,
}

/// A unit that runs IT and has a leader. Ids are never reused; state codes are, so `(code, since)` is unique.
#[derive(Debug, Clone)]
pub struct Agency {
    pub id: Id,
    pub code: Option<String>,
    pub name: String,
    /// Free text: province, department, district, commune, operator …
    pub level: Option<String>,
    pub parent: Option<Id>,
    /// First day it exists, site time.
    pub since: Option<Date>,
    /// First day it no longer exists, site time.
    pub until: Option<Date>,
    pub merged_into: Option<Id>,
    pub leader: Vec<Term>,
    pub deputy: Vec<Term>,
    /// Another leader for one area.
    pub areas: BTreeMap<Area, Id>,
    pub duty: Option<Duty>,
}

/// A person in an office for a time; open ends are unbounded.
#[derive(Debug, Clone)]
pub struct Term {
    pub person: Id,
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
    pub acting: bool,
}

/// A rota: `people` take turns of `rotate`, beginning at `from`; overrides win.
#[derive(Debug, Clone)]
pub struct Duty {
    pub people: Vec<Id>,
    pub rotate: Duration,
    pub from: Timestamp,
    pub overrides: Vec<Override>,
    /// Whether who comes on and who goes off are mailed at each change. Default true.
    pub handover: bool,
}

/// For a time somebody else is on duty, or nobody (`nobody: true`).
#[derive(Debug, Clone)]
pub struct Override {
    pub person: Option<Id>,
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
}

/// What an alert, an incident or another leader is about. The label value `area`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    Service,
    Payment,
    Camera,
    Hotspot,
    Usage,
    Host,
    Dependency,
    /// ioc-watch itself.
    Own,
}

impl Area {
    pub const ALL: [Area; 8] = [
        Area::Service,
        Area::Payment,
        Area::Camera,
        Area::Hotspot,
        Area::Usage,
        Area::Host,
        Area::Dependency,
        Area::Own,
    ];

    /// The label value; [`Area::Own`] is `self`.
    pub fn as_str(self) -> &'static str {
        match self {
            Area::Service => "service",
            Area::Payment => "payment",
            Area::Camera => "camera",
            Area::Hotspot => "hotspot",
            Area::Usage => "usage",
            Area::Host => "host",
            Area::Dependency => "dependency",
            Area::Own => "self",
        }
    }

    pub fn parse(text: &str) -> Option<Area> {
        Area::ALL.into_iter().find(|area| area.as_str() == text)
    }
}

/// Working hours and holidays, with the data files merged in.
#[derive(Debug, Clone)]
pub struct Calendar {
    /// Default Monday to Friday.
    pub days: Vec<Weekday>,
    /// Default 07:30.
    pub from: Time,
    /// Default 17:00.
    pub to: Time,
    pub holidays: Vec<Holiday>,
    /// Saturdays (or other days) worked in exchange for a holiday, from the calendar files.
    pub working: Vec<Date>,
}

#[derive(Debug, Clone)]
pub struct Holiday {
    pub name: String,
    pub from: Date,
    /// Inclusive.
    pub to: Date,
}

impl Person {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Person> {
        let section =
            Section::open(cx, node, "person", &["id", "name", "email", "language", "digest"], &["phone", "zalo"])?;
        let id = section.required(cx, "id", decode::id);
        let name = section.required(cx, "name", decode::name);
        let email = section.required(cx, "email", address);
        let language = section.optional(cx, "language", decode::choice(&LANGUAGES));
        let digest = section.optional(cx, "digest", decode::time_of_day);
        Some(Person { id: id?, name: name?, email: email?, language, digest })
    }
}

fn address(cx: &mut Context<'_>, node: &Node) -> Option<lettre::Address> {
    let address = node.as_text().and_then(|text| text.parse().ok());
    if address.is_none() {
        cx.expected(node, "an e-mail address such as truc@ioc.vn.example");
    }
    address
}

impl Agency {
    pub(super) fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Agency> {
        const KEYS: &[&str] = &[
            "id",
            "code",
            "name",
            "level",
            "parent",
            "since",
            "until",
            "merged_into",
            "leader",
            "deputy",
            "areas",
            "duty",
        ];
        let section = Section::open(cx, node, "agency", KEYS, &[])?;
        let id = section.required(cx, "id", decode::id);
        let code = section.optional(cx, "code", decode::name);
        let name = section.required(cx, "name", decode::name);
        let level = section.optional(cx, "level", decode::name);
        let parent = section.optional(cx, "parent", decode::agency);
        let since = section.optional(cx, "since", decode::date);
        let until = section.optional(cx, "until", decode::date);
        let merged_into = section.optional(cx, "merged_into", decode::agency);
        let leader = section.optional(cx, "leader", terms).unwrap_or_default();
        let deputy = section.optional(cx, "deputy", terms).unwrap_or_default();
        let areas = section.optional(cx, "areas", areas).unwrap_or_default();
        let duty = section.optional(cx, "duty", Duty::decode);
        if let (Some(since), Some(until), Some(node)) = (since, until, section.get("until"))
            && until <= since
        {
            cx.error(node.place, format!("until: {until} is not after since ({since})"));
        }
        if let Some(node) = section.get("merged_into") {
            if section.get("until").is_none() {
                cx.error(node.place, "merged_into: needs \"until\", the first day the agency no longer exists");
            }
            if merged_into.is_some() && merged_into == id {
                cx.error(node.place, "merged_into: an agency cannot be merged into itself");
            }
        }
        Some(Agency {
            id: id?,
            code,
            name: name?,
            level,
            parent,
            since,
            until,
            merged_into,
            leader,
            deputy,
            areas,
            duty,
        })
    }
}

/// A person's id, or a list of dated terms of which no two regular ones overlap.
fn terms(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Term>> {
    if let Value::Scalar(_) = node.value {
        let person = decode::person(cx, node)?;
        return Some(vec![Term { person, from: None, to: None, acting: false }]);
    }
    let places: Vec<Place> = node.as_sequence().unwrap_or_default().iter().map(|node| node.place).collect();
    if places.is_empty() {
        cx.expected(node, "the id of a person, or a list such as [{person: ID, from: 2026-01-01}]");
        return None;
    }
    let mut numbered: Vec<(Term, Place)> = Vec::new();
    decode::list(|cx: &mut Context<'_>, node: &Node| {
        let term = Term::decode(cx, node)?;
        numbered.push((term, node.place));
        Some(())
    })(cx, node);
    let mut regular: Vec<&(Term, Place)> = numbered.iter().filter(|(term, _)| !term.acting).collect();
    regular.sort_by_key(|(term, _)| term.from);
    let overlaps: Vec<Place> = regular
        .windows(2)
        .filter(|pair| pair[0].0.to.is_none_or(|end| pair[1].0.from.is_none_or(|start| start < end)))
        .map(|pair| pair[1].1)
        .collect();
    for place in overlaps {
        let message = "this term overlaps another: end the earlier one with \"to\", or mark one \"acting: true\"";
        cx.error(place, message);
    }
    Some(numbered.into_iter().map(|(term, _)| term).collect())
}

impl Term {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Term> {
        let section = Section::open(cx, node, "term", &["person", "from", "to", "acting"], &[])?;
        let person = section.required(cx, "person", decode::person);
        let (from, to) = (section.optional(cx, "from", decode::moment), section.optional(cx, "to", decode::moment));
        let acting = section.optional(cx, "acting", decode::boolean);
        if section.get("acting").is_some() && acting.is_none() {
            return None;
        }
        in_order(cx, &section, from, to);
        Some(Term { person: person?, from, to, acting: acting.unwrap_or(false) })
    }
}

impl Override {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Override> {
        let section = Section::open(cx, node, "override", &["person", "nobody", "from", "to"], &[])?;
        let is_nobody = section.optional(cx, "nobody", decode::boolean);
        let person = match (is_nobody, section.get("person")) {
            (Some(true), Some(node)) => {
                cx.error(node.place, "person: either somebody is on duty, or \"nobody: true\"");
                None
            }
            (Some(true), None) => Some(None),
            _ => section.required(cx, "person", decode::person).map(Some),
        };
        let (from, to) = (section.required(cx, "from", decode::moment), section.required(cx, "to", decode::moment));
        in_order(cx, &section, from, to);
        Some(Override { person: person?, from: from?, to: to? })
    }
}

fn in_order(cx: &mut Context<'_>, section: &Section<'_>, from: Option<Timestamp>, to: Option<Timestamp>) {
    if let (Some(from), Some(to), Some(node)) = (from, to, section.get("to"))
        && to <= from
    {
        cx.error(node.place, format!("to: {} is not after from", node.found()));
    }
}

fn areas(cx: &mut Context<'_>, node: &Node) -> Option<BTreeMap<Area, Id>> {
    let Some(entries) = node.as_mapping() else {
        cx.expected(node, "a mapping of areas to persons, such as {payment: ke-toan}");
        return None;
    };
    let mut areas = BTreeMap::new();
    for entry in entries {
        let words = Area::ALL.map(Area::as_str);
        match Area::parse(&entry.key) {
            Some(area) => {
                areas.extend(decode::person(cx, &entry.value).map(|person| (area, person)));
            }
            None => {
                let near = decode::nearest(&entry.key, &words);
                let message =
                    format!("areas: unknown area {}{near} (allowed: {})", quote(&entry.key), words.join(", "));
                cx.error(entry.place, message);
            }
        }
    }
    Some(areas)
}

impl Duty {
    fn decode(cx: &mut Context<'_>, node: &Node) -> Option<Duty> {
        let section = Section::open(cx, node, "duty", &["people", "rotate", "from", "overrides", "handover"], &[])?;
        let people = section.required(cx, "people", decode::list(decode::person));
        let rotate = section.required(cx, "rotate", decode::duration(MINUTE..=YEAR));
        let from = section.required(cx, "from", decode::moment);
        let overrides = section.optional(cx, "overrides", decode::list(Override::decode)).unwrap_or_default();
        let handover = section.optional(cx, "handover", decode::boolean).unwrap_or(true);
        if let Some(node) = section.get("people")
            && node.as_sequence().unwrap_or_default().is_empty()
        {
            cx.error(node.place, "people: nobody is on the rota; name at least one person");
            return None;
        }
        let people = people.filter(|people| !people.is_empty());
        Some(Duty { people: people?, rotate: rotate?, from: from?, overrides, handover })
    }
}

/// What only shows over all agencies: cycles of parents, state codes given twice for the same time.
pub(super) fn check_agencies(cx: &mut Context<'_>, list: Option<&Node>) {
    let nodes = list.and_then(Node::as_sequence).unwrap_or_default();
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_text).map(str::to_owned);
    let parents: HashMap<String, String> =
        nodes.iter().filter_map(|node| Some((text(node, "id")?, text(node, "parent")?))).collect();
    let mut known: HashSet<String> = HashSet::new();
    for node in nodes {
        let (Some(id), Some(parent)) = (text(node, "id"), node.get("parent")) else { continue };
        let mut chain = vec![id.clone()];
        let mut current = &id;
        while let Some(next) = parents.get(current) {
            if known.contains(next) {
                break;
            }
            if let Some(start) = chain.iter().position(|seen| seen == next) {
                let cycle = [&chain[start..], std::slice::from_ref(next)].concat().join(" -> ");
                cx.error(parent.place, format!("parent: the agencies form a cycle: {cycle}"));
                break;
            }
            chain.push(next.clone());
            current = next;
        }
        known.extend(chain);
    }
    let mut codes: HashMap<(String, Option<String>), u32> = HashMap::new();
    for node in nodes {
        let Some(code) = node.get("code") else { continue };
        let Some(word) = code.as_text() else { continue };
        let key = (word.to_owned(), text(node, "since"));
        if let Some(line) = codes.get(&key) {
            let message = format!(
                "code: {} is given on line {line} with the same \"since\"; a reused code needs another date",
                quote(word)
            );
            cx.error(code.place, message);
        } else {
            codes.insert(key, code.place.line);
        }
    }
}
