//! A seeded schedule of outages with its known truth: who was really down when, and because of what.
//!
//! What belongs here: the world (services, dependencies, maintenance, our own absences), its truth at any moment, and what
//! checks of it would see. What the ledger makes of that is judged by who uses it.
//!
//! Times are microseconds since the schedule's beginning. Each outage lies in a slot of its own, so that truth is beyond
//! doubt; within a slot outages overlap in every way that `Scene` lists.

use ioc_watch::attribution::{Subject, SubjectKind};
use ioc_watch::config::dependencies::DependencyCause;
use ioc_watch::config::{self, Config};
use jiff::{SignedDuration, Timestamp};
use std::fmt::Write;
use std::path::Path;

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
/// Room for one scene and its aftermath.
const SLOT: i64 = 45 * MINUTE;

/// What is checked.
#[derive(Debug, Clone)]
pub struct Target {
    pub subject: Subject,
    pub agency: &'static str,
    pub every: i64,
    pub timeout: i64,
    /// What it lists itself, as positions in [`Schedule::targets`]; dependencies come first there.
    pub lists: Vec<usize>,
    /// All it needs.
    pub needs: Vec<usize>,
    /// Of a dependency.
    pub cause: Option<DependencyCause>,
}

impl Target {
    /// Within this time an outage is seen.
    pub fn bound(&self) -> i64 {
        self.every + self.timeout
    }
}

/// A target is down for a reason of its own.
#[derive(Debug, Clone)]
pub struct Outage {
    pub from: i64,
    pub to: i64,
    /// By the rule of setting back it is what was true at this later moment.
    pub set_back: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct Window {
    pub target: usize,
    pub from: i64,
    pub to: i64,
    /// When it is announced through the API; `None` is in the file.
    pub announced: Option<i64>,
}

/// The daemon does not run.
#[derive(Debug, Clone, Copy)]
pub struct Absence {
    pub from: i64,
    pub to: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Own,
    Dependency,
    /// A service fails of its own while its dependency is down, and outlasts it.
    DependencyFirst,
    /// A service fails, and a good while later its dependency.
    DependencyLater,
    /// A service fails, and right after it its dependency: set back.
    DependencyRightAfter,
    TwoDependencies,
    FlappingService,
    FlappingDependency,
    Maintenance,
    OwnWhileAway,
    DependencyWhileAway,
}

const SCENES: [Scene; 11] = [
    Scene::Own,
    Scene::Dependency,
    Scene::DependencyFirst,
    Scene::DependencyLater,
    Scene::DependencyRightAfter,
    Scene::TwoDependencies,
    Scene::FlappingService,
    Scene::FlappingDependency,
    Scene::Maintenance,
    Scene::OwnWhileAway,
    Scene::DependencyWhileAway,
];

pub struct Schedule {
    pub seed: u64,
    pub start: Timestamp,
    pub targets: Vec<Target>,
    /// By target.
    pub outages: Vec<Vec<Outage>>,
    pub windows: Vec<Window>,
    pub absences: Vec<Absence>,
    pub end: i64,
}

impl Schedule {
    /// A schedule of at least `n_outages`.
    pub fn new(seed: u64, n_outages: usize) -> Schedule {
        let start = Timestamp::from_second(1_795_000_000).unwrap();
        let targets = targets();
        let (outages, windows, absences) = (vec![Vec::new(); targets.len()], Vec::new(), Vec::new());
        let mut schedule = Schedule { seed, start, targets, outages, windows, absences, end: 0 };
        let mut dice = Dice::new(seed);
        let mut slot = 10 * MINUTE;
        let mut number = 0;
        while schedule.n_outages() < n_outages {
            // Every scene comes before any comes again.
            let scene = SCENES[number % SCENES.len()];
            schedule.play(scene, slot + dice.below(2 * MINUTE), &mut dice);
            slot += SLOT;
            number += 1;
        }
        schedule.end = slot;
        schedule
    }

    fn play(&mut self, scene: Scene, at: i64, dice: &mut Dice) {
        let service = dice.pick(&self.services());
        let needs = self.targets[service].needs.clone();
        let need = if needs.is_empty() { 0 } else { dice.pick(&needs) };
        let needy =
            dice.pick(&self.services().into_iter().filter(|s| self.targets[*s].needs.len() > 1).collect::<Vec<_>>());
        let length = 3 * MINUTE + dice.below(10 * MINUTE);
        match scene {
            Scene::Own => {
                self.fail(service, at, at + length);
                let other = dice.pick(&self.services());
                if other != service {
                    self.fail(other, at + dice.below(length), at + length + dice.below(3 * MINUTE));
                }
            }
            Scene::Dependency => self.fail(need, at, at + length),
            Scene::DependencyFirst => {
                let need = dice.pick(&self.targets[needy].needs.clone());
                self.fail(need, at, at + length);
                self.fail(needy, at + dice.below(length - MINUTE), at + length + 3 * MINUTE + dice.below(3 * MINUTE));
            }
            Scene::DependencyLater => {
                let need = dice.pick(&self.targets[needy].needs.clone());
                let later = at + 4 * MINUTE + dice.below(3 * MINUTE);
                self.fail(needy, at, later + length + dice.below(2) * 5 * MINUTE);
                self.fail(need, later, later + length);
            }
            Scene::DependencyRightAfter => {
                let need = dice.pick(&self.targets[needy].needs.clone());
                let later = at + dice.below(self.targets[need].bound());
                self.fail(needy, at, later + length / 2);
                self.outages[needy].last_mut().unwrap().set_back = Some(later);
                self.fail(need, later, later + length);
            }
            Scene::TwoDependencies => {
                let needs = self.targets[needy].needs.clone();
                let (first, second) = (needs[0], needs[needs.len() - 1]);
                let middle = at + 2 * MINUTE + dice.below(length - 2 * MINUTE);
                self.fail(first, at, at + length);
                self.fail(second, middle, at + length + 3 * MINUTE + dice.below(4 * MINUTE));
            }
            Scene::FlappingService => self.flap(service, at, dice),
            Scene::FlappingDependency => self.flap(need, at, dice),
            Scene::Maintenance => self.maintain(service, at, dice),
            Scene::OwnWhileAway | Scene::DependencyWhileAway => {
                let target = if scene == Scene::OwnWhileAway { service } else { need };
                self.fail(target, at, at + length);
                let from = at - 2 * MINUTE + dice.below(length + MINUTE);
                self.absences.push(Absence { from, to: from + 5 * SECOND + dice.below(8 * MINUTE) });
            }
        }
    }

    fn fail(&mut self, target: usize, from: i64, to: i64) {
        self.outages[target].push(Outage { from, to, set_back: None });
    }

    /// Down and up several times, each time long enough to be seen.
    fn flap(&mut self, target: usize, at: i64, dice: &mut Dice) {
        let mut from = at;
        for _ in 0..2 + dice.below(4) {
            let to = from + 100 * SECOND + dice.below(2 * MINUTE);
            self.fail(target, from, to);
            from = to + 100 * SECOND + dice.below(2 * MINUTE);
        }
    }

    fn maintain(&mut self, target: usize, at: i64, dice: &mut Dice) {
        // In the file windows are known to the second.
        let from = at / SECOND * SECOND;
        let to = from + (5 + dice.below(10)) * MINUTE;
        let announced = match dice.below(3) {
            0 => None,
            1 => Some(from - 5 * MINUTE + dice.below(8 * MINUTE)),
            _ => Some(to + dice.below(4 * 60 * MINUTE)),
        };
        self.windows.push(Window { target, from, to, announced });
        let begin = from - 3 * MINUTE + dice.below(6 * MINUTE);
        self.fail(target, begin, to - 3 * MINUTE + dice.below(6 * MINUTE));
    }

    pub fn n_outages(&self) -> usize {
        self.outages.iter().map(Vec::len).sum()
    }

    fn services(&self) -> Vec<usize> {
        (0..self.targets.len()).filter(|target| self.targets[*target].cause.is_none()).collect()
    }

    pub fn at(&self, time: i64) -> Timestamp {
        self.start + SignedDuration::from_micros(time)
    }

    /// Whether a target is down for a reason of its own.
    fn fails(&self, target: usize, time: i64) -> Option<&Outage> {
        self.outages[target].iter().find(|outage| outage.from <= time && time < outage.to)
    }

    pub fn is_down(&self, target: usize, time: i64) -> bool {
        self.fails(target, time).is_some()
            || self.targets[target].needs.iter().any(|need| self.fails(*need, time).is_some())
    }

    pub fn is_away(&self, time: i64) -> bool {
        self.absences.iter().any(|absence| absence.from <= time && time < absence.to)
    }

    /// What the ledger should say: `up`, `unknown`, or the cause.
    pub fn truth(&self, target: usize, time: i64) -> &'static str {
        if self.is_away(time) {
            return "unknown";
        }
        if !self.is_down(target, time) {
            return "up";
        }
        let is_maintained = |window: &Window| window.target == target && window.from <= time && time < window.to;
        if self.windows.iter().any(is_maintained) {
            return "maintenance";
        }
        let this = &self.targets[target];
        let down = this.needs.iter().filter(|need| self.is_down(**need, time)).map(|need| self.targets[*need].cause);
        let own = self.fails(target, time).and(this.cause);
        match down.chain([own]).flatten().min() {
            Some(cause) => cause.as_str(),
            None => match self.fails(target, time).and_then(|outage| outage.set_back).filter(|later| time < *later) {
                Some(later) => self.truth(target, later),
                None => "own",
            },
        }
    }

    /// Whether a target's own outage is only later found to be a dependency's.
    pub fn is_set_back(&self, target: usize, time: i64) -> bool {
        self.fails(target, time).is_some_and(|outage| outage.set_back.is_some())
    }

    /// Every moment at which the truth about a target may change, ascending.
    pub fn edges(&self, target: usize) -> Vec<i64> {
        let needs = self.targets[target].needs.iter().chain([&target]);
        let outages = needs.flat_map(|need| &self.outages[*need]).flat_map(|outage| [outage.from, outage.to]);
        let windows = self.windows.iter().filter(|window| window.target == target).flat_map(|w| [w.from, w.to]);
        let absences = self.absences.iter().flat_map(|absence| [absence.from, absence.to]);
        let mut edges: Vec<i64> = outages.chain(windows).chain(absences).collect();
        edges.sort_unstable();
        edges.dedup();
        edges.retain(|edge| self.truth(target, edge - 1) != self.truth(target, *edge));
        edges
    }

    /// The checks that are carried out, in the order in which they end. A daemon that stops loses those under way, and one
    /// that starts spreads them anew.
    pub fn checks(&self) -> Vec<Check> {
        let mut dice = Dice::new(self.seed ^ 0x5eed);
        let mut checks = Vec::new();
        let starts = [0].into_iter().chain(self.absences.iter().map(|absence| absence.to));
        let ends = self.absences.iter().map(|absence| absence.from).chain([self.end]);
        let runs: Vec<(i64, i64)> = starts.zip(ends).collect();
        for (target, this) in self.targets.iter().enumerate() {
            for &(start, end) in &runs {
                let mut begun = start + dice.below(this.every);
                while begun < end {
                    let is_up = !self.is_down(target, begun);
                    // Down is refused at once or hangs until the timeout.
                    let hangs = !is_up && dice.below(2) == 0;
                    let ended = begun + if hangs { this.timeout } else { 20_000 + dice.below(400_000) };
                    if ended < end {
                        checks.push(Check { target, begun, ended, is_up });
                    }
                    begun += this.every;
                }
            }
        }
        checks.sort_by_key(|check| (check.ended, check.target));
        checks
    }

    /// The configuration that watches all of this.
    pub fn config(&self, dir: &Path) -> Config {
        let mut text = String::from(
            "site: {name: IOC Thăng Bình, agency: ioc, timezone: Asia/Ho_Chi_Minh, language: en}\n\
             people:\n  - {id: it-ioc, name: Trực IOC, email: truc@ioc.vn.example}\n\
             \x20 - {id: it-tam-ky, name: Trực Tam Kỳ, email: truc@tamky.vn.example}\n\
             \x20 - {id: it-hoi-an, name: Trực Hội An, email: truc@hoian.vn.example}\n\
             agencies:\n  - {id: ioc, name: IOC, leader: it-ioc}\n  - {id: tam-ky, name: Tam Kỳ, leader: it-tam-ky}\n\
             \x20 - {id: hoi-an, name: Hội An, leader: it-hoi-an}\n\
             incidents: {group_by: [agency, area, service, dependency], group_wait: 1m, group_interval: 5m, flapping: false}\n\
             email: {smtp: 'smtp://127.0.0.1:9', from: 'ioc@vn.example'}\n",
        );
        let mut list = |heading: &str, kind: SubjectKind| {
            writeln!(text, "{heading}:").unwrap();
            for target in self.targets.iter().filter(|target| target.subject.kind == kind) {
                let ids: Vec<&str> = target.lists.iter().map(|need| self.targets[*need].subject.id.as_ref()).collect();
                let (every, timeout) = (target.every / SECOND, target.timeout / SECOND);
                let (id, agency, ids) = (&target.subject.id, target.agency, ids.join(", "));
                let more = target.cause.map_or("http: {url: 'http://127.0.0.1:9/'}".to_string(), |cause| {
                    format!("cause: {}, probe: {{http: {{url: 'http://127.0.0.1:9/'}}}}", cause.as_str())
                });
                writeln!(
                    text,
                    "  - {{id: {id}, agency: {agency}, every: {every}s, timeout: {timeout}s, depends_on: [{ids}], {more}}}"
                )
                .unwrap();
            }
        };
        list("dependencies", SubjectKind::Dependency);
        list("services", SubjectKind::Service);
        let windows: Vec<&Window> = self.windows.iter().filter(|window| window.announced.is_none()).collect();
        if !windows.is_empty() {
            writeln!(text, "maintenance:").unwrap();
        }
        for window in windows {
            let id = &self.targets[window.target].subject.id;
            let (from, to) = (self.at(window.from), self.at(window.to));
            writeln!(text, "  - {{services: [{id}], from: '{from}', to: '{to}', reason: Nâng cấp}}").unwrap();
        }
        let file = dir.join("outages.yml");
        std::fs::write(&file, text).unwrap();
        config::load(&file).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }
}

/// One check, as it was carried out.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    pub target: usize,
    pub begun: i64,
    pub ended: i64,
    pub is_up: bool,
}

/// Five dependencies, some of which need each other, and twelve services that need some, one or none of them.
fn targets() -> Vec<Target> {
    use DependencyCause::{National, OwnUplink, Platform, Power, Telecom};
    let dependencies: [(&str, DependencyCause, i64, i64, &[usize]); 5] = [
        ("uplink", OwnUplink, 15, 5, &[]),
        ("power", Power, 30, 10, &[]),
        ("line", Telecom, 30, 10, &[1]),
        ("national", National, 30, 10, &[0]),
        ("platform", Platform, 20, 10, &[2]),
    ];
    let lists: [&[usize]; 6] = [&[], &[0], &[4], &[3, 4], &[2, 3], &[0, 1]];
    let mut targets: Vec<Target> = Vec::new();
    for (id, cause, every, timeout, lists) in dependencies {
        let subject = Subject { kind: SubjectKind::Dependency, id: id.into() };
        let (every, timeout, lists) = (every * SECOND, timeout * SECOND, lists.to_vec());
        targets.push(Target { subject, agency: "ioc", every, timeout, lists, needs: Vec::new(), cause: Some(cause) });
    }
    for number in 0..12 {
        let subject = Subject { kind: SubjectKind::Service, id: format!("svc-{number}").into() };
        let (every, timeout) = ([30, 60, 20, 45][number % 4] * SECOND, [10, 10, 5, 15][number % 4] * SECOND);
        let (agency, lists) = (["tam-ky", "hoi-an"][number % 2], lists[number % lists.len()].to_vec());
        targets.push(Target { subject, agency, every, timeout, lists, needs: Vec::new(), cause: None });
    }
    for target in 0..targets.len() {
        let mut open = targets[target].lists.clone();
        let mut needs: Vec<usize> = Vec::new();
        while let Some(need) = open.pop() {
            if !needs.contains(&need) {
                needs.push(need);
                open.extend(&targets[need].lists);
            }
        }
        needs.sort_unstable();
        targets[target].needs = needs;
    }
    targets
}

/// Numbers that are the same for the same seed on every machine.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1))
    }

    fn below(&mut self, limit: i64) -> i64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::try_from(limit.max(1)).unwrap()) as i64
    }

    fn pick(&mut self, among: &[usize]) -> usize {
        among[self.below(among.len() as i64) as usize]
    }
}
