//! What tests of feeds and their gatherers share: a place to work in, made from a configuration in a directory of its
//! own.

use super::Place;
use crate::config::{Config, load_text};
use crate::metrics::{Column, Metrics, TableId};
use crate::org::Org;
use crate::store::testing::Database;
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;

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

    fn on(database: Database, sections: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let head = "site: {name: IOC, agency: ioc}\n\
                    people: [{id: it, name: Trực, email: it@vn.example}]\n\
                    agencies:\n  - {id: ioc, name: Trung tâm IOC, leader: it}\n  \
                    - {id: tam-ky, name: UBND TP. Tam Kỳ, leader: it}\n";
        let text = format!("{head}data_dir: data\n{sections}");
        let config = load_text(&dir.path().join("ioc.yml"), &text, &|_| None).unwrap_or_else(|problems| {
            panic!("{:?}", problems.iter().map(ToString::to_string).collect::<Vec<_>>());
        });
        let (metrics, org) = (Arc::new(Metrics::new()), Arc::new(Org::new(&config)));
        let place = Place { store: database.store.clone(), metrics, org, data_dir: config.data_dir.clone() };
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
