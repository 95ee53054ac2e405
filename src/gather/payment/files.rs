//! Reconciles two files in memory: the engine of the one-off command.
//!
//! Rows are read as bytes and nothing is allocated per row. Columns are guessed from Vietnamese and English headers.
//!
//! Transactions are compared one by one as the daemon does it; where two sides differ, all transactions of the dossier
//! are judged together, as there. Two files do not tell which dossiers exist or what fee was due, so those kinds stay
//! empty.

mod entries;
mod sheet;
#[cfg(test)]
mod tests;

use super::classify::{Back, Fact, Kind, Limits, Standing, Status, Verdict, compare, settlement_due, span_us};
use super::dossier::{self, Dossier, Member};
use super::guess::{self, Given, Mapping};
use super::row::{MAX_KEY, Side, key_of, nameless_key, reference_of};
use crate::config::feeds::AmountScale;
use crate::feed::csv::{CsvError, Place, Record, Records};
use crate::feed::value::{self, TimeFormat};
use crate::feed::workbook::{self, WorkbookError};
use crate::feed::{Reason, Rejection};
use entries::{Entries, Entry};
use hashbrown::DefaultHashBuilder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("the {0} file: {1}")]
    Header(&'static str, Rejection),
    #[error("reading the {0} file")]
    Read(&'static str, #[source] CsvError),
    #[error("reading the {0} file")]
    Workbook(&'static str, #[source] WorkbookError),
    #[error("the two files hold more transactions or text than fit (4 GiB)")]
    TooMuch,
}

/// What counts as late, and as of when.
pub struct Options {
    pub grace: Duration,
    pub settlement_lag: Duration,
    /// How far apart the two records of one payment may be if a side has no reference.
    pub match_window: Duration,
    pub as_of: Timestamp,
    /// Of times without an offset; also of the settlement lag's days.
    pub zone: TimeZone,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    pub kind: Kind,
    pub txn_ref: String,
    pub dossier: String,
    pub portal: Option<Fact>,
    pub gateway: Option<Fact>,
}

#[derive(Debug, Default)]
pub struct Outcome {
    pub portal_rows: u64,
    pub gateway_rows: u64,
    /// Transactions.
    pub matched: u64,
    pub waiting: u64,
    /// Rows of either file.
    pub rejected: u64,
    /// The first rejected rows: side, line, what is wrong.
    pub first_rejected: Vec<(Side, u64, Rejection)>,
    /// In the order of the portal's file, then of the gateway's.
    pub exceptions: Vec<Exception>,
}

impl Outcome {
    pub fn count(&self, kind: Kind) -> u64 {
        self.exceptions.iter().filter(|exception| exception.kind == kind).count() as u64
    }
}

/// Rejected rows that are shown.
const SHOWN: usize = 10;
/// The time of a row without one: older than everything.
const LONG_AGO: i64 = i64::MIN / 2;

/// All transactions of both files.
pub struct Reconciliation {
    options: Options,
    entries: Entries,
    /// What rows of their own give back, by reference.
    back: HashMap<Vec<u8>, Back, DefaultHashBuilder>,
    time: TimeFormat,
    outcome: Outcome,
}

/// A row, typed.
struct Row<'a> {
    /// Empty: the row has none, and is known by its dossier.
    key: &'a [u8],
    dossier: &'a [u8],
    refund_of: &'a [u8],
    fact: Fact,
}

impl Reconciliation {
    /// `expected` transactions; more are no problem.
    pub fn new(options: Options, expected: usize) -> Reconciliation {
        let time = TimeFormat { format: None, zone: options.zone.clone() };
        Reconciliation {
            options,
            entries: Entries::new(expected),
            back: HashMap::default(),
            time,
            outcome: Outcome::default(),
        }
    }

    /// Reads one side's file. Portal first, so that results stand in its order. Gives where the columns were found.
    pub fn read(
        &mut self,
        side: Side,
        input: impl Read,
        delimiter: u8,
        given: &Given,
        mapped: impl FnOnce(&Mapping),
    ) -> Result<(), FilesError> {
        let failed = |error| FilesError::Read(side.as_str(), error);
        let mut records = Records::new(input, delimiter, Place::START);
        let mapping = match records.read().map_err(failed)? {
            Some(header) => Mapping::find(&header, given).map_err(|error| FilesError::Header(side.as_str(), error))?,
            None => {
                let rejection = Rejection::new(Reason::FileHeader, "the file is empty");
                return Err(FilesError::Header(side.as_str(), rejection));
            }
        };
        mapped(&mapping);
        let mut n_rows = 0;
        while let Some(record) = records.read().map_err(failed)? {
            n_rows += 1;
            self.take(side, &record, &mapping)?;
        }
        self.end(side, n_rows)
    }

    /// [`Reconciliation::read`] of a workbook's sheet.
    pub fn read_sheet(
        &mut self,
        side: Side,
        rows: &mut workbook::Rows,
        given: &Given,
        mapped: impl FnOnce(&Mapping),
    ) -> Result<(), FilesError> {
        let failed = |error| FilesError::Workbook(side.as_str(), error);
        let mapping = sheet::header(rows, given).map_err(failed)?;
        let mapping = mapping.map_err(|rejection| FilesError::Header(side.as_str(), rejection))?;
        mapped(&mapping);
        let (mut n_rows, mut line) = (0, sheet::Line::default());
        while let Some(row) = rows.read().map_err(failed)? {
            n_rows += 1;
            match line.read(row, &mapping) {
                Ok(record) => self.take(side, &record, &mapping)?,
                Err(rejection) => self.reject(side, row.number.into(), rejection),
            }
        }
        self.end(side, n_rows)
    }

    fn take(&mut self, side: Side, record: &Record<'_>, mapping: &Mapping) -> Result<(), FilesError> {
        match typed(side, record, mapping, &self.time) {
            Ok(row) if !row.refund_of.is_empty() => give_back(&mut self.back, side, &row),
            Ok(row) if row.key.is_empty() || row.key[0] == b'?' => {
                self.entries.add(side, unusual_key(&row).as_bytes(), row.dossier, row.fact)?;
            }
            Ok(row) => self.entries.add(side, row.key, row.dossier, row.fact)?,
            Err(rejection) => self.reject(side, record.line, rejection),
        }
        Ok(())
    }

    fn reject(&mut self, side: Side, line: u64, rejection: Rejection) {
        self.outcome.rejected += 1;
        if self.outcome.first_rejected.len() < SHOWN {
            self.outcome.first_rejected.push((side, line, rejection));
        }
    }

    fn end(&mut self, side: Side, n_rows: u64) -> Result<(), FilesError> {
        self.entries.flush(side)?;
        match side {
            Side::Portal => self.outcome.portal_rows += n_rows,
            Side::Gateway => self.outcome.gateway_rows += n_rows,
        }
        Ok(())
    }

    /// Judges every transaction.
    pub fn finish(mut self) -> Outcome {
        let mut outcome = std::mem::take(&mut self.outcome);
        let is_working = |date: jiff::civil::Date| {
            !matches!(date.weekday(), jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday)
        };
        // What the gateway's file has passed over will not come with it any more.
        let covered_us = self.entries.list().iter().filter_map(Entry::gateway).map(|fact| fact.at_us).max();
        let covered_us = covered_us.unwrap_or(LONG_AGO);
        let (grace_us, lag, zone) = (span_us(self.options.grace), self.options.settlement_lag, &self.options.zone);
        let due = |at_us: i64| {
            if at_us <= covered_us || at_us <= LONG_AGO {
                at_us.saturating_add(grace_us)
            } else {
                settlement_due(at_us, lag, zone, &is_working)
            }
        };
        let limits =
            Limits { grace: self.options.grace, settlement_due: &due, match_window: self.options.match_window };
        let mut found: Vec<(u32, Standing)> = Vec::new();
        for (index, entry) in self.entries.list().iter().enumerate() {
            match compare(entry.portal(), entry.gateway(), self.back(entry), &limits) {
                Standing::Matched => outcome.matched += 1,
                standing => found.push((index as u32, standing)),
            }
        }
        self.judge_together(&mut found, &mut outcome.matched, &limits);
        let now_us = crate::store::micros(self.options.as_of);
        for (index, standing) in found {
            let kind = match standing.at(now_us) {
                // Of two that were paired one is counted.
                Verdict::Matched => {
                    outcome.matched += u64::from(standing == Standing::Matched);
                    continue;
                }
                Verdict::Waiting { .. } => {
                    outcome.waiting += 1;
                    continue;
                }
                Verdict::Mismatch { kind, .. } => kind,
            };
            let entry = self.entry(index);
            outcome.exceptions.push(Exception {
                kind,
                txn_ref: reference_of(&String::from_utf8_lossy(self.entries.key(entry))).to_string(),
                dossier: String::from_utf8_lossy(self.entries.dossier(entry)).into_owned(),
                portal: entry.portal(),
                gateway: entry.gateway(),
            });
        }
        outcome
    }

    /// Judges the dossiers of what was found together with their other transactions. `n_matched` counts those that stand
    /// not in `found`.
    fn judge_together(&self, found: &mut Vec<(u32, Standing)>, n_matched: &mut u64, limits: &Limits<'_>) {
        /// As many as the daemon judges together.
        const TOGETHER: usize = 200;
        let mut groups: HashMap<&[u8], Vec<u32>, DefaultHashBuilder> = HashMap::default();
        for (index, standing) in found.iter() {
            let entry = self.entry(*index);
            if entry.has_dossier() && matches!(standing, Standing::Differs { .. }) {
                groups.entry(self.entries.dossier(entry)).or_default();
            }
        }
        if groups.is_empty() {
            return;
        }
        // Nearly all dossiers are none of these, which a bit tells sooner than the map.
        let mut seen = vec![0_u64; SEEN / 64];
        for dossier in groups.keys() {
            let bit = bit_of(dossier);
            seen[bit / 64] |= 1 << (bit % 64);
        }
        for (index, entry) in self.entries.list().iter().enumerate() {
            let dossier = self.entries.dossier(entry);
            let bit = bit_of(dossier);
            if seen[bit / 64] & 1 << (bit % 64) != 0
                && entry.has_dossier()
                && let Some(group) = groups.get_mut(dossier)
                && group.len() <= TOGETHER
            {
                group.push(index as u32);
            }
        }
        // By position, as `found` is.
        let mut judged: Vec<(u32, Standing)> = Vec::new();
        for mut group in groups.into_values().filter(|group| (2..=TOGETHER).contains(&group.len())) {
            // Ties are decided by this order, as in the daemon.
            group.sort_unstable_by(|a, b| self.entries.key(self.entry(*a)).cmp(self.entries.key(self.entry(*b))));
            let members: Vec<Member> = group.iter().map(|index| self.member(*index)).collect();
            judged.extend(group.into_iter().zip(dossier::judge(&members, Dossier::default(), limits)));
        }
        judged.sort_unstable_by_key(|(index, _)| *index);
        let before: Vec<(u32, Standing)> = std::mem::take(found);
        let mut before = before.into_iter().peekable();
        for (index, standing) in judged {
            while let Some(other) = before.next_if(|(other, _)| *other < index) {
                found.push(other);
            }
            // It was counted as matched, and is now counted by its standing.
            if before.next_if(|(other, _)| *other == index).is_none() {
                *n_matched -= 1;
            }
            found.push((index, standing));
        }
        found.extend(before);
    }

    fn entry(&self, index: u32) -> &Entry {
        &self.entries.list()[index as usize]
    }

    fn member(&self, index: u32) -> Member {
        let entry = self.entry(index);
        Member {
            portal: entry.portal(),
            gateway: entry.gateway(),
            back: self.back(entry),
            is_refund: false,
            is_nameless: is_nameless_key(self.entries.key(entry)),
        }
    }

    fn back(&self, entry: &Entry) -> Back {
        if self.back.is_empty() {
            Back::default()
        } else {
            self.back.get(self.entries.key(entry)).copied().unwrap_or_default()
        }
    }
}

/// A power of two, a few bits for each of many dossiers.
const SEEN: usize = 1 << 20;

/// Below [`SEEN`]; made of the ends of a code, where codes differ.
fn bit_of(dossier: &[u8]) -> usize {
    let word = |text: &[u8]| {
        let mut word = [0; 8];
        word[..text.len()].copy_from_slice(text);
        u64::from_le_bytes(word)
    };
    let (head, tail) = (dossier.first_chunk::<8>(), dossier.last_chunk::<8>());
    let mixed = match (head, tail) {
        (Some(head), Some(tail)) => u64::from_le_bytes(*head).rotate_left(23) ^ u64::from_le_bytes(*tail),
        _ => word(&dossier[..dossier.len().min(7)]),
    };
    // Fibonacci's multiplier; the upper bits depend on all others.
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize & (SEEN - 1)
}

/// As the daemon makes it.
fn unusual_key(row: &Row<'_>) -> String {
    if row.key.is_empty() {
        return nameless_key(&String::from_utf8_lossy(row.dossier), row.fact.amount, row.fact.at_us);
    }
    key_of(&String::from_utf8_lossy(row.key)).into_owned()
}

fn is_nameless_key(key: &[u8]) -> bool {
    key.starts_with(super::row::NAMELESS.as_bytes())
}

fn give_back(back: &mut HashMap<Vec<u8>, Back, DefaultHashBuilder>, side: Side, row: &Row<'_>) {
    if !row.fact.status.has_money() && !row.fact.status.gave_back() {
        return;
    }
    let back = back.entry(row.refund_of.to_vec()).or_default();
    let (sum, latest) = match side {
        Side::Portal => (&mut back.portal, &mut back.portal_us),
        Side::Gateway => (&mut back.gateway, &mut back.gateway_us),
    };
    (*sum, *latest) = (sum.saturating_add(row.fact.amount), row.fact.at_us.max(*latest));
}

fn typed<'a>(side: Side, record: &Record<'a>, mapping: &Mapping, time: &TimeFormat) -> Result<Row<'a>, Rejection> {
    if record.damaged {
        return Err(Rejection::new(Reason::Quoting, "a quotation mark is never closed"));
    }
    if record.len() != mapping.n_fields {
        let detail = format!("{} fields, the header has {}", record.len(), mapping.n_fields);
        return Err(Rejection::new(Reason::Fields, detail));
    }
    let field = |index: Option<usize>| index.and_then(|index| record.get(index)).unwrap_or_default().trim_ascii();
    let (key, dossier, refund_of) = (field(mapping.txn_ref), field(mapping.dossier), field(mapping.refund_of));
    if (key.is_empty() && dossier.is_empty()) || key.len() > MAX_KEY || dossier.len() > MAX_KEY {
        let detail = format!("neither a reference nor a dossier, or one longer than {MAX_KEY} bytes");
        return Err(Rejection::new(Reason::Missing, detail));
    }
    let refund_of = if refund_of == key { &[] } else { refund_of };
    let status = match mapping.status {
        Some(index) => guess::status(field(Some(index)))?,
        None if side == Side::Portal => Status::Paid,
        None => Status::Settled,
    };
    let at_us = match mapping.time {
        None => LONG_AGO,
        Some(index) => {
            let cell = field(Some(index));
            match value::iso_seconds(cell) {
                Some(seconds) => seconds * 1_000_000,
                None => guess::time(utf8(cell)?, time)?.as_microsecond(),
            }
        }
    };
    let cell = field(Some(mapping.amount));
    let amount = match digits(cell) {
        Some(amount) => amount,
        None => value::amount(utf8(cell)?, AmountScale::Dong)?,
    };
    if amount < 0 && !status.gave_back() && refund_of.is_empty() {
        return Err(Rejection::new(Reason::Amount, format!("{amount} is negative")));
    }
    Ok(Row { key, dossier, refund_of, fact: Fact { status, amount: amount.saturating_abs(), at_us } })
}

/// The number that a short cell of digits alone is.
fn digits(cell: &[u8]) -> Option<i64> {
    if cell.is_empty() || cell.len() > 15 {
        return None;
    }
    cell.iter().try_fold(0, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + i64::from(digit))
    })
}

fn utf8(cell: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(cell).map_err(|_| Rejection::new(Reason::Encoding, "not UTF-8"))
}
