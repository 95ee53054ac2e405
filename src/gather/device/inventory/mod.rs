//! The inventory of cameras and hotspots: a CSV file with a header line, as an office keeps it in a spreadsheet.
//!
//! `id,kind,agency,site,village,name,lat,lon,state[,offline_after]`, columns in any order, separated by `,` or `;`,
//! UTF-8 with or without a byte order mark. Every problem is reported with its place; a row with a problem is left out.

mod devices;

pub use devices::{Common, Commons, Device, Devices};

use crate::config::devices::DeviceKind;
use crate::config::{Config, Id, Problems};
use crate::feed::listing::{self, Cell, Record, Records};

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use unicode_normalization::UnicodeNormalization;

/// A file beyond this is not an inventory.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Far beyond a province; bounds memory and series.
const MAX_DEVICES: usize = 200_000;
/// Text of a village or name, in characters.
const MAX_TEXT: usize = 200;
/// Problems told one by one; the rest is a number.
const MAX_PROBLEMS: usize = 500;

/// The columns that must be there, and the one that may.
const COLUMNS: [&str; 10] = ["id", "kind", "agency", "site", "village", "name", "lat", "lon", "state", "offline_after"];
const N_REQUIRED: usize = 9;

/// The devices of an inventory, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    pub devices: Devices,
}

/// One line of the inventory, as it is read; [`Device`] is how it is held.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    pub id: Id,
    pub kind: DeviceKind,
    pub agency: Id,
    /// Id of the site; may be empty. One text for all its devices.
    pub site: Arc<str>,
    /// NFC; may be empty. One text for all its devices.
    pub village: Arc<str>,
    /// NFC; may be empty.
    pub name: Box<str>,
    /// Latitude and longitude in degrees (WGS 84). Seven decimals are kept.
    pub place: Option<(f64, f64)>,
    pub life: Life,
    /// How long its silence may last; `None` if the configuration's value holds, `Some(None)` for `never`.
    pub offline_after: Option<Option<Duration>>,
}

/// Where a device is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    Planned,
    Installed,
    Retired,
}

impl Life {
    pub const ALL: [Life; 3] = [Life::Planned, Life::Installed, Life::Retired];

    pub fn as_str(self) -> &'static str {
        match self {
            Life::Planned => "planned",
            Life::Installed => "installed",
            Life::Retired => "retired",
        }
    }
}

/// Reads the inventory that the configuration names; empty if it names none.
pub fn of(config: &Config, problems: &mut Problems) -> Inventory {
    let agencies = config.agencies.iter().map(|agency| agency.id.clone()).collect();
    match config.devices.as_ref().and_then(|devices| devices.inventory.as_ref()) {
        Some(path) => load(path, &agencies, problems),
        None => Inventory::default(),
    }
}

/// Reads the inventory at `path`. Devices may belong to the given agencies only.
pub fn load(path: &Path, agencies: &BTreeSet<Id>, problems: &mut Problems) -> Inventory {
    let mut reader = Reader::new(path, agencies, problems);
    match listing::read_text(path, "the inventory", MAX_BYTES) {
        Ok(text) => reader.read(&text),
        Err(error) => reader.add(error.line, error.column, error.message),
    }
    reader.finish()
}

struct Reader<'a> {
    path: &'a Path,
    agencies: &'a BTreeSet<Id>,
    problems: &'a mut Problems,
    n_problems: usize,
    devices: Devices,
    /// The line each id was first seen at.
    lines: HashMap<Id, u32>,
    /// Sites and villages.
    places: HashSet<Arc<str>>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, agencies: &'a BTreeSet<Id>, problems: &'a mut Problems) -> Reader<'a> {
        Reader {
            path,
            agencies,
            problems,
            n_problems: 0,
            devices: Devices::default(),
            lines: HashMap::new(),
            places: HashSet::new(),
        }
    }

    fn add(&mut self, line: u32, column: u32, message: String) {
        self.n_problems += 1;
        if self.n_problems <= MAX_PROBLEMS {
            self.problems.add(self.path, line, column, message);
        }
    }

    fn refuse(&mut self, cell: &Cell, message: String) {
        self.add(cell.line, cell.column, message);
    }

    fn finish(mut self) -> Inventory {
        if self.n_problems > MAX_PROBLEMS {
            let message = format!("{} more problems in this file", self.n_problems - MAX_PROBLEMS);
            self.problems.add(self.path, 0, 0, message);
        }
        self.devices.shrink_to_fit();
        Inventory { devices: self.devices }
    }

    fn read(&mut self, text: &str) {
        let mut records = Records::new(text);
        let Some(header) = records.next() else {
            let message = format!("empty; the first line names the columns: {}", COLUMNS.join(","));
            self.add(1, 1, message);
            return;
        };
        let Some(places) = self.places(&header) else { return };
        for record in records {
            if let Some(cell) = &record.unclosed {
                self.refuse(cell, "this quote is never closed".into());
                return;
            }
            if record.cells.iter().all(|cell| cell.text.trim().is_empty()) {
                continue;
            }
            if self.devices.len() >= MAX_DEVICES {
                let line = record.cells[0].line;
                self.add(line, 1, format!("more than {MAX_DEVICES} devices; the rest is not read"));
                return;
            }
            if record.cells.len() != header.cells.len() {
                let cell = &record.cells[0];
                let message = format!("{} fields; the header has {}", record.cells.len(), header.cells.len());
                self.refuse(cell, message);
                continue;
            }
            self.device(&record, &places);
        }
    }

    /// Which field of a record is which column.
    fn places(&mut self, header: &Record) -> Option<[Option<usize>; COLUMNS.len()]> {
        let before = self.n_problems;
        let mut places = [None; COLUMNS.len()];
        for (place, cell) in header.cells.iter().enumerate() {
            let name = cell.text.trim();
            match COLUMNS.iter().position(|column| *column == name) {
                Some(column) if places[column].is_some() => {
                    self.refuse(cell, format!("column {name:?} stands here a second time"));
                }
                Some(column) => places[column] = Some(place),
                None => {
                    let hint = nearest(name, COLUMNS.iter().copied());
                    self.refuse(cell, format!("unknown column {name:?}{hint}; allowed: {}", COLUMNS.join(", ")));
                }
            }
        }
        for (column, place) in COLUMNS.iter().zip(places).take(N_REQUIRED) {
            if place.is_none() {
                self.add(1, 1, format!("column {column:?} is missing"));
            }
        }
        (self.n_problems == before).then_some(places)
    }

    fn device(&mut self, record: &Record, places: &[Option<usize>; COLUMNS.len()]) {
        let before = self.n_problems;
        let empty = Cell { line: record.cells[0].line, column: 1, text: String::new() };
        let cells: [&Cell; COLUMNS.len()] =
            std::array::from_fn(|column| places[column].map_or(&empty, |place| &record.cells[place]));
        let [id, kind, agency, site, village, name, lat, lon, state, offline_after] = cells;

        let id = self.id(id);
        let kind = self.one_of(kind, "kind", &DeviceKind::ALL, DeviceKind::as_str);
        let agency = self.agency(agency);
        let site = self.site(site);
        let village = self.text(village, "village");
        let name = self.text(name, "name");
        let place = self.place(lat, lon);
        let life = self.one_of(state, "state", &Life::ALL, Life::as_str);
        let offline_after = self.offline_after(offline_after);
        if self.n_problems > before {
            return;
        }
        if let (Some(id), Some(kind), Some(agency), Some(life)) = (id, kind, agency, life) {
            let (site, village, name) = (self.shared(&site), self.shared(&village), name.into());
            self.devices.push(Listing { id, kind, agency, site, village, name, place, life, offline_after });
        }
    }

    fn id(&mut self, cell: &Cell) -> Option<Id> {
        let Some(id) = Id::parse(cell.text.trim()) else {
            self.refuse(cell, format!("id {:?} is not {}", shown(&cell.text), Id::ALLOWED));
            return None;
        };
        if let Some(first) = self.lines.get(&id) {
            let message = format!("device {id:?} is already listed at line {first}");
            self.refuse(cell, message);
            return None;
        }
        self.lines.insert(id.clone(), cell.line);
        Some(id)
    }

    fn one_of<T: Copy>(&mut self, cell: &Cell, what: &str, all: &[T], name: fn(T) -> &'static str) -> Option<T> {
        let text = cell.text.trim();
        let found = all.iter().copied().find(|value| name(*value) == text);
        if found.is_none() {
            let names: Vec<&str> = all.iter().copied().map(name).collect();
            let hint = nearest(text, names.iter().copied());
            self.refuse(cell, format!("{what} {:?}{hint}; allowed: {}", shown(text), names.join(", ")));
        }
        found
    }

    fn agency(&mut self, cell: &Cell) -> Option<Id> {
        let text = cell.text.trim();
        let found = self.agencies.get(text).cloned();
        if found.is_none() {
            let hint = nearest(text, self.agencies.iter().map(Id::as_str));
            self.refuse(cell, format!("no agency {:?}{hint}", shown(text)));
        }
        found
    }

    /// A text that many devices have in common.
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.places.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.places.insert(new.clone());
        new
    }

    fn site(&mut self, cell: &Cell) -> String {
        let text = cell.text.trim();
        if !text.is_empty() && Id::parse(text).is_none() {
            self.refuse(cell, format!("site {:?} is not {}", shown(text), Id::ALLOWED));
        }
        text.to_string()
    }

    fn text(&mut self, cell: &Cell, what: &str) -> String {
        let text: String = cell.text.trim().nfc().collect();
        if text.chars().count() > MAX_TEXT {
            self.refuse(cell, format!("{what} has {} characters; at most {MAX_TEXT}", text.chars().count()));
        } else if text.chars().any(char::is_control) {
            self.refuse(cell, format!("{what} contains a control character or line break"));
        }
        text
    }

    fn place(&mut self, lat: &Cell, lon: &Cell) -> Option<(f64, f64)> {
        if lat.text.trim().is_empty() && lon.text.trim().is_empty() {
            return None;
        }
        let latitude = self.degrees(lat, "lat", 90.0);
        let longitude = self.degrees(lon, "lon", 180.0);
        latitude.zip(longitude)
    }

    fn degrees(&mut self, cell: &Cell, what: &str, limit: f64) -> Option<f64> {
        let text = cell.text.trim();
        let degrees = text.parse::<f64>().ok().filter(|degrees| degrees.is_finite() && degrees.abs() <= limit);
        if degrees.is_none() {
            let message = format!("{what} {:?}; allowed: degrees from -{limit} to {limit}, like 15.5736", shown(text));
            self.refuse(cell, message);
        }
        degrees
    }

    fn offline_after(&mut self, cell: &Cell) -> Option<Option<Duration>> {
        match cell.text.trim() {
            "" => None,
            "never" => Some(None),
            text => {
                let length = duration(text);
                if length.is_none() {
                    let message = format!("offline_after {:?}; allowed: like 30s, 5m, 2h, 7d, or never", shown(text));
                    self.refuse(cell, message);
                }
                length.map(Some)
            }
        }
    }
}

/// `30s`, `5m`, `2h`, `7d`; from one second to 366 days.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u64 = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok())??;
    let total = number.checked_mul(seconds).filter(|total| (1..=366 * 86_400).contains(total))?;
    Some(Duration::from_secs(total))
}

/// As much of hostile text as a message needs.
fn shown(text: &str) -> String {
    text.trim().chars().take(64).collect()
}

/// `; did you mean "…"?` if a name is near enough to `text`.
fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> String {
    let wanted: Vec<char> = text.chars().take(64).collect();
    let best = names.map(|name| (distance(&wanted, name), name)).min();
    match best {
        Some((steps, name)) if steps <= 1 + wanted.len() / 4 => format!("; did you mean {name:?}?"),
        _ => String::new(),
    }
}

/// Levenshtein's distance.
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, y) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, x) in a.iter().enumerate() {
            let replaced = diagonal + usize::from(*x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests;
