//! The table of fees: what a procedure costs, from when to when. A CSV file with a header line,
//! `procedure,fee[,from][,to]`, columns in any order; fees in đồng, dates as `2026-01-31` or `31/01/2026`, `to` included.
//! Every problem is told with its place.

use super::dossier::Fee;
use crate::config::{Config, Problems};
use crate::feed::listing::{self, Cell, Record, Records};
use crate::feed::value::{self, fold};
use jiff::civil::Date;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Fees as of a date.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fees {
    /// By folded procedure; terms do not overlap.
    terms: BTreeMap<String, Vec<Term>>,
    /// What who files online pays, as a share of the fee; 0.5 is half of it. `None`: nothing is reduced.
    online_reduction: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Term {
    from: Date,
    /// The last day.
    to: Date,
    /// Đồng.
    fee: i64,
}

/// A file beyond this is no table of fees.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Problems told one by one; the rest is a number.
const MAX_PROBLEMS: usize = 500;
const COLUMNS: [&str; 4] = ["procedure", "fee", "from", "to"];
const N_REQUIRED: usize = 2;

impl Fees {
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// What is due for `procedure` (folded) on a day; `None` if the table does not say.
    pub fn due(&self, procedure: &str, date: Date, is_online: bool) -> Option<Fee> {
        let term = self.terms.get(procedure)?.iter().find(|term| term.from <= date && date <= term.to)?;
        let reduction = self.online_reduction.filter(|_| is_online).unwrap_or(0.0);
        // Rounded to whole đồng, which no fee comes near to losing in a double.
        Some(Fee { full: term.fee, due: term.fee - (term.fee as f64 * reduction).round() as i64 })
    }

    /// All of it as text, to see whether it changed.
    pub(super) fn describe(&self) -> String {
        format!("{:?} {:?}", self.online_reduction, self.terms)
    }
}

/// Reads the table that the configuration names; empty if it names none.
pub fn of(config: &Config, problems: &mut Problems) -> Fees {
    match config.payments.as_ref().and_then(|payments| payments.fees.as_ref()) {
        Some(fees) => Fees { online_reduction: fees.online_reduction, terms: load(&fees.file, problems) },
        None => Fees::default(),
    }
}

fn load(path: &Path, problems: &mut Problems) -> BTreeMap<String, Vec<Term>> {
    let mut reader = Reader { path, problems, n_problems: 0, terms: BTreeMap::new() };
    match listing::read_text(path, "the table of fees", MAX_BYTES) {
        Ok(text) => reader.read(&text),
        Err(error) => reader.add(error.line, error.column, error.message),
    }
    reader.finish()
}

struct Reader<'a> {
    path: &'a Path,
    problems: &'a mut Problems,
    n_problems: usize,
    terms: BTreeMap<String, Vec<(Term, u32)>>,
}

impl Reader<'_> {
    fn add(&mut self, line: u32, column: u32, message: String) {
        self.n_problems += 1;
        if self.n_problems <= MAX_PROBLEMS {
            self.problems.add(self.path, line, column, message);
        }
    }

    fn refuse(&mut self, cell: &Cell, message: String) {
        self.add(cell.line, cell.column, message);
    }

    fn finish(self) -> BTreeMap<String, Vec<Term>> {
        if self.n_problems > MAX_PROBLEMS {
            let message = format!("{} more problems in this file", self.n_problems - MAX_PROBLEMS);
            self.problems.add(self.path, 0, 0, message);
        }
        let plain = |terms: Vec<(Term, u32)>| terms.into_iter().map(|(term, _)| term).collect();
        self.terms.into_iter().map(|(procedure, terms)| (procedure, plain(terms))).collect()
    }

    fn read(&mut self, text: &str) {
        let mut records = Records::new(text);
        let Some(header) = records.next() else {
            self.add(1, 1, format!("empty; the first line names the columns: {}", COLUMNS.join(",")));
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
            if record.cells.len() != header.cells.len() {
                let message = format!("{} fields; the header has {}", record.cells.len(), header.cells.len());
                self.refuse(&record.cells[0], message);
                continue;
            }
            self.term(&record, &places);
        }
    }

    /// Which field of a record is which column.
    fn places(&mut self, header: &Record) -> Option<[Option<usize>; COLUMNS.len()]> {
        let before = self.n_problems;
        let mut found: HashMap<&str, usize> = HashMap::new();
        for (place, cell) in header.cells.iter().enumerate() {
            let name = fold(&cell.text);
            match COLUMNS.iter().find(|column| **column == name) {
                Some(column) => {
                    if found.insert(column, place).is_some() {
                        self.refuse(cell, format!("column {name:?} stands here a second time"));
                    }
                }
                None => self.refuse(cell, format!("unknown column {name:?}; allowed: {}", COLUMNS.join(", "))),
            }
        }
        for column in &COLUMNS[..N_REQUIRED] {
            if !found.contains_key(column) {
                self.add(1, 1, format!("column {column:?} is missing"));
            }
        }
        (self.n_problems == before).then(|| COLUMNS.map(|column| found.get(column).copied()))
    }

    fn term(&mut self, record: &Record, places: &[Option<usize>; COLUMNS.len()]) {
        let cell = |column: usize| places[column].map(|place| &record.cells[place]);
        let (Some(procedure), Some(fee)) = (cell(0), cell(1)) else { return };
        let before = self.n_problems;
        let key = fold(&procedure.text);
        if key.is_empty() {
            self.refuse(procedure, "procedure: empty".into());
        }
        let amount = match value::amount(&fee.text, Default::default()) {
            Ok(amount) if amount >= 0 => amount,
            Ok(_) => {
                self.refuse(fee, format!("fee: {} is negative", fee.text.trim()));
                0
            }
            Err(rejection) => {
                self.refuse(fee, format!("fee: {}", rejection.detail));
                0
            }
        };
        let from = cell(2).map_or(Some(Date::MIN), |cell| self.date(cell, "from", Date::MIN));
        let to = cell(3).map_or(Some(Date::MAX), |cell| self.date(cell, "to", Date::MAX));
        let (Some(from), Some(to)) = (from, to) else { return };
        let term = Term { from, to, fee: amount };
        if term.to < term.from {
            let place = cell(3).unwrap_or(procedure);
            self.refuse(place, format!("to: {} is before from ({})", term.to, term.from));
        }
        let mut others = self.terms.get(&key).into_iter().flatten();
        if let Some(line) = others.find(|(o, _)| o.from <= term.to && term.from <= o.to).map(|(_, line)| *line) {
            let name = procedure.text.trim();
            self.refuse(procedure, format!("procedure: {name:?} has a fee for some of these days in line {line}"));
        }
        if self.n_problems == before {
            self.terms.entry(key).or_default().push((term, procedure.line));
        }
    }

    /// An empty cell is `open`.
    fn date(&mut self, cell: &Cell, column: &str, open: Date) -> Option<Date> {
        let text = cell.text.trim();
        if text.is_empty() {
            return Some(open);
        }
        let date = text.parse::<Date>().ok().or_else(|| Date::strptime("%d/%m/%Y", text).ok());
        if date.is_none() {
            let text = value::shorten(text);
            self.refuse(cell, format!("{column}: found {text:?}, expected a date such as 2026-01-31 or 31/01/2026"));
        }
        date
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use jiff::civil::date;

    /// A table without mistakes, with half the fee for who files online.
    pub(in crate::gather::payment) fn read(path: &Path) -> Fees {
        let mut problems = Problems::default();
        let terms = load(path, &mut problems);
        assert!(problems.is_empty());
        Fees { terms, online_reduction: Some(0.5) }
    }

    fn fees(text: &str) -> (Fees, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fees.csv");
        std::fs::write(&path, text).unwrap();
        let mut problems = Problems::default();
        let terms = load(&path, &mut problems);
        let told = problems.into_sorted().iter().map(|p| format!("{}:{}: {}", p.line, p.column, p.message)).collect();
        (Fees { terms, online_reduction: Some(0.5) }, told)
    }

    #[test]
    fn a_fee_is_as_of_its_day_and_less_for_who_files_online() {
        let (fees, told) = fees(
            "\u{feff}Procedure;fee;to;from\nKhai sinh;8.000 đ;31/12/2025;\nKHAI SINH;10.001;;2026-01-01\n\n\"Cấp phép; xây dựng\";75000;;\n",
        );
        assert_eq!(told, [""; 0]);
        let fee = |full, due| Some(Fee { full, due });
        assert_eq!(fees.due("khai sinh", date(2025, 12, 31), false), fee(8_000, 8_000));
        assert_eq!(fees.due("khai sinh", date(2026, 1, 1), true), fee(10_001, 5_000));
        assert_eq!(fees.due("cấp phép; xây dựng", date(2020, 1, 1), true), fee(75_000, 37_500));
        assert_eq!(fees.due("hộ khẩu", date(2026, 1, 1), true), None);
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let (_, told) = fees(
            "procedure,fee,from,to\nA,free,,\nB,-5,,\n,5,,\nC,5,hôm nay,\nD,5,2026-02-01,2026-01-01\nE,5,,2026-06-30\nE,6,2026-06-30,\nF,5\nG,\"5\n",
        );
        let expected = [
            "2:3: fee: \"free\" is not an amount in đồng",
            "3:3: fee: -5 is negative",
            "4:1: procedure: empty",
            "5:5: from: found \"hôm nay\", expected a date such as 2026-01-31 or 31/01/2026",
            "6:16: to: 2026-01-01 is before from (2026-02-01)",
            "8:1: procedure: \"E\" has a fee for some of these days in line 7",
            "9:1: 2 fields; the header has 4",
            "10:3: this quote is never closed",
        ];
        assert_eq!(told, expected);
        assert_eq!(fees("").1, ["1:1: empty; the first line names the columns: procedure,fee,from,to"]);
        assert_eq!(
            fees("procedure,gia,fee,fee\n").1[0],
            "1:11: unknown column \"gia\"; allowed: procedure, fee, from, to"
        );
    }
}
