//! What tests of feeds and their gatherers share: a place to work in, made from a configuration in a directory of its
//! own.

#[path = "../../tests/support/workbooks.rs"]
pub mod workbooks;

use super::{Cells, Gatherer, Names, Need, Place, Rejection};
use crate::config::{Config, load_text};
use crate::metrics::{Column, Metrics, TableId};
use crate::org::Org;
use crate::store::testing::Database;
use crate::store::{StoreError, Tx};
use jiff::Timestamp;
use std::path::Path;
use std::sync::{Arc, Mutex};
use unicode_normalization::UnicodeNormalization;

/// A directory with a configuration, a state database and whatever files a test writes into it.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub place: Place,
    pub database: Database,
}

impl Bench {
    /// One on SQLite, one on PostgreSQL. `sections` are appended to a site with the agencies `ioc` (the site's) and
    /// `tam-ky`.
    pub async fn both(sections: &str) -> [Bench; 2] {
        Database::both().await.map(|database| Bench::on(database, sections))
    }

    /// [`Bench::both`] with files that the configuration names.
    pub async fn both_with(sections: &str, files: &[(&str, &str)]) -> [Bench; 2] {
        Database::both().await.map(|database| Bench::with(database, sections, files))
    }

    /// On SQLite alone, where the database makes no difference.
    pub async fn sqlite(sections: &str) -> Bench {
        Bench::on(Database::sqlite().await, sections)
    }

    fn on(database: Database, sections: &str) -> Bench {
        Bench::with(database, sections, &[])
    }

    fn with(database: Database, sections: &str, files: &[(&str, &str)]) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let head = "site: {name: IOC, agency: ioc}\n\
                    people: [{id: it, name: Trực, email: it@vn.example}]\n\
                    agencies:\n  - {id: ioc, name: Trung tâm IOC, leader: it}\n  \
                    - {id: tam-ky, name: UBND TP. Tam Kỳ, leader: it}\n";
        let text = format!("{head}data_dir: data\n{sections}");
        let config = load_text(&dir.path().join("ioc.yml"), &text, &|_| None).unwrap_or_else(|problems| {
            panic!("{:?}", problems.iter().map(ToString::to_string).collect::<Vec<_>>());
        });
        let (metrics, org) = (Arc::new(Metrics::new()), Arc::new(Org::new(&config)));
        let place = Place {
            store: database.store.clone(),
            metrics,
            org,
            data_dir: config.data_dir.clone(),
            pushes: Default::default(),
            workbooks: Default::default(),
        };
        Bench { dir, config, place, database }
    }

    /// Writes a file, making its directory.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn metric(&self, table: TableId, labels: &[&str], column: Column) -> Option<f64> {
        let table = self.place.metrics.table(table);
        table.get(table.row(labels), column)
    }

    /// All rejected rows kept for a feed, files in order.
    pub fn rejected(&self, feed: &str) -> String {
        let Ok(entries) = std::fs::read_dir(super::rejected_dir(&self.place.data_dir, feed)) else {
            return String::new();
        };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned()).collect()
    }
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Makes the file look changed even within the clock's resolution.
pub fn touch(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    std::fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

/// What a [`NotesGatherer`] was given.
pub type Notes = Vec<String>;

/// Takes a name and a count, and notes what is written.
#[derive(Default)]
pub struct NotesGatherer {
    notes: Mutex<Notes>,
}

impl NotesGatherer {
    /// What was written since the last call.
    pub fn take(&self) -> Notes {
        std::mem::take(&mut *self.notes.lock().unwrap())
    }
}

impl Gatherer for NotesGatherer {
    type Row = String;
    type Ready = Vec<String>;

    fn columns(&self) -> Names {
        &[("agency", Need::Optional), ("event", Need::Required), ("count", Need::Required)]
    }

    fn parse(&self, cells: &Cells<'_>, _now: Timestamp) -> Result<String, Rejection> {
        Ok(format!("{}={}", cells.required(1)?, cells.count(2)?))
    }

    fn agency<'r>(&self, _row: &'r String) -> &'r str {
        "tam-ky"
    }

    async fn foreign(
        &self,
        _tx: &mut Tx,
        _rows: &[&String],
        _may: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<usize>, StoreError> {
        Ok(Vec::new())
    }

    fn ready(&self, rows: Self::Ready) -> Self::Ready {
        rows
    }

    async fn write(&self, _tx: &mut Tx, rows: Self::Ready, _now: Timestamp) -> Result<(), StoreError> {
        self.notes.lock().unwrap().extend(rows);
        Ok(())
    }
}

/// One character as windows-1258 has it: whole, or a base letter and the mark of a tone.
pub fn windows_1258(c: char) -> Vec<u8> {
    let whole = c.to_string();
    let (bytes, _, failed) = encoding_rs::WINDOWS_1258.encode(&whole);
    if !failed {
        return bytes.into_owned();
    }
    let is_tone = |c: &char| matches!(c, '\u{300}' | '\u{301}' | '\u{303}' | '\u{309}' | '\u{323}');
    let parts: Vec<char> = std::iter::once(c).nfd().collect();
    let base: String = parts.iter().copied().filter(|c| !is_tone(c)).nfc().collect();
    let text: String = base.chars().chain(parts.iter().copied().filter(is_tone)).collect();
    let (bytes, _, failed) = encoding_rs::WINDOWS_1258.encode(&text);
    assert!(!failed, "{c}");
    bytes.into_owned()
}
