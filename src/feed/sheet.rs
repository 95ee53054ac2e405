//! Reads the rows of one sheet of a workbook in batches, as [`super::reader`] does those of delimited text. A row's line is
//! its number in the sheet.

use super::columns::{Columns, Manner, Row, Value};
use super::csv::{MAX_RECORD, Place};
use super::footer::{Check, Tally, Verdict};
use super::reader::{BATCH_BYTES, BATCH_ROWS, Batch, HEADER_LINES, Opened, Reader, no_footer};
use super::rejected::RejectedRow;
use super::workbook::{self, Limits, Rows, SheetRow, WorkbookError};
use super::{FeedError, Gatherer, Reason, Rejection};
use crate::config::feeds::Feed;
use jiff::Timestamp;
use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

/// An open sheet whose columns are found.
pub struct Sheet {
    path: PathBuf,
    rows: Rows,
    columns: Columns,
    footer: Option<Check>,
    place: Place,
    /// Rows of smaller numbers were read before a restart.
    from: u64,
}

impl Sheet {
    /// Opens a sheet of the first `length` bytes of the file and goes to `place`. `settled`: what is not there by now will
    /// not come.
    #[expect(clippy::too_many_arguments, reason = "the parts of one file's opening, used once")]
    pub fn open<G: Gatherer>(
        path: &Path,
        feed: &Feed,
        sheet: Option<&str>,
        footer: Option<Check>,
        length: u64,
        place: Place,
        settled: bool,
        gatherer: &G,
    ) -> Result<Opened, FeedError> {
        let find = || -> Result<Result<(Rows, Columns), (SheetLine, Rejection)>, WorkbookError> {
            let file = File::open(path).map_err(WorkbookError::Io)?;
            let mut rows = workbook::open(file, length, sheet, Limits::DAEMON)?;
            let bound = header(&mut rows, |cells| {
                Columns::bind(
                    cells.iter().map(|cell| Cow::Borrowed(&**cell)),
                    feed,
                    Manner::of(feed),
                    gatherer.columns(),
                )
            })?;
            Ok(bound.map(|columns| (rows, columns)))
        };
        let check = |check: &Check| -> Result<Result<Verdict, (SheetLine, Rejection)>, WorkbookError> {
            find()?.map_or_else(
                |none| Ok(Err(none)),
                |(mut rows, columns)| check_footer(check, &mut rows, &columns).map(Ok),
            )
        };
        let opened = || -> Result<Opened, WorkbookError> {
            let refused =
                |SheetLine { number, raw }, rejection| Opened::Refused(RejectedRow { line: number, rejection, raw });
            // Each look at the sheet begins anew: what was unpacked is not kept.
            if let (Some(footer), true) = (&footer, place == Place::START) {
                match check(footer)? {
                    Ok(Verdict::Holds) => {}
                    Ok(Verdict::Missing) if !settled => return Ok(Opened::Unfinished),
                    Ok(Verdict::Missing) => return Ok(refused(SheetLine::NONE, no_footer())),
                    Ok(Verdict::Wrong(number, rejection, raw)) => {
                        return Ok(refused(SheetLine { number, raw }, rejection));
                    }
                    Err((line, rejection)) => return Ok(refused(line, rejection)),
                }
            }
            Ok(match find()? {
                Ok((rows, columns)) => {
                    let (path, from) = (path.to_path_buf(), place.line);
                    let sheet = Sheet { path, rows, columns, footer: footer.clone(), place, from };
                    Opened::Reader(Reader::Sheet(Box::new(sheet)))
                }
                Err((line, rejection)) => refused(line, rejection),
            })
        };
        match opened() {
            Ok(opened) => Ok(opened),
            Err(WorkbookError::Io(error)) => Err(FeedError::Read(path.into(), error)),
            Err(WorkbookError::Unfinished) if !settled => Ok(Opened::Unfinished),
            Err(error) => Ok(Opened::Refused(RejectedRow { line: 1, rejection: rejection(&error), raw: Vec::new() })),
        }
    }

    /// The next batch.
    pub fn batch<G: Gatherer>(&mut self, gatherer: &G, now: Timestamp) -> Result<Batch<G::Ready>, FeedError> {
        let begin = self.place.offset;
        let (mut rows, mut rejected) = (Vec::new(), Vec::new());
        let (mut finished, mut broken) = (false, false);
        while rows.len() + rejected.len() < BATCH_ROWS && self.place.offset - begin < BATCH_BYTES {
            let row = match self.rows.read() {
                Ok(Some(row)) => row,
                Ok(None) => {
                    finished = true;
                    break;
                }
                Err(WorkbookError::Io(error)) => return Err(FeedError::Read(self.path.clone(), error)),
                Err(error) => {
                    let (line, rejection) = (self.place.line, rejection(&error));
                    rejected.push(RejectedRow { line, rejection, raw: Vec::new() });
                    (finished, broken) = (true, true);
                    break;
                }
            };
            let line = u64::from(row.number);
            if line < self.from {
                continue;
            }
            self.place = Place { offset: self.place.offset + row.weight() as u64, line: line + 1 };
            if self.footer.as_ref().is_some_and(|footer| is_footer(footer, row)) {
                finished = true;
                break;
            }
            let cells: Row = (0..self.columns.n_fields()).map(|cell| row.value(cell).map(Value::into_owned)).collect();
            let read = if row.is_overlong {
                Err(Rejection::new(Reason::Fields, format!("the row's text is longer than {MAX_RECORD} bytes")))
            } else if !self.columns.takes_row(&cells) {
                continue;
            } else {
                gatherer.parse(&self.columns.cells_of(&cells), now)
            };
            match read {
                Ok(row) => rows.push(row),
                Err(rejection) => rejected.push(RejectedRow { line, rejection, raw: row.raw() }),
            }
        }
        Ok(Batch::new(gatherer, rows, rejected, self.place, finished).broken(broken))
    }
}

/// A row that is kept because it is refused.
pub struct SheetLine {
    pub number: u64,
    pub raw: Vec<u8>,
}

impl SheetLine {
    const NONE: SheetLine = SheetLine { number: 1, raw: Vec::new() };
}

/// Finds the header among the first rows: the first that `bind` takes. Where cells are merged over two rows of a header the
/// text stands in the upper one, so an empty cell counts as what stands above it.
pub fn header<T>(
    rows: &mut Rows,
    bind: impl Fn(&[Cow<'_, str>]) -> Result<T, Rejection>,
) -> Result<Result<T, (SheetLine, Rejection)>, WorkbookError> {
    let mut above: Vec<String> = Vec::new();
    let mut first = None;
    for _ in 0..HEADER_LINES {
        let Some(row) = rows.read()? else { break };
        let mut cells: Vec<Cow<'_, str>> = (0..row.len()).map(|cell| row.text(cell)).collect();
        match bind(&cells) {
            Ok(bound) => return Ok(Ok(bound)),
            Err(rejection) => {
                let line = || SheetLine { number: row.number.into(), raw: row.raw() };
                first.get_or_insert_with(|| (line(), rejection));
            }
        }
        cells.resize(cells.len().max(above.len()), Cow::Borrowed(""));
        for (cell, above) in cells.iter_mut().zip(&above) {
            if cell.trim().is_empty() {
                *cell = Cow::Owned(above.clone());
            }
        }
        if let Ok(bound) = bind(&cells) {
            return Ok(Ok(bound));
        }
        above = cells.into_iter().map(Cow::into_owned).collect();
    }
    let none = || (SheetLine::NONE, Rejection::new(Reason::FileHeader, "the sheet has no header"));
    Ok(Err(first.unwrap_or_else(none)))
}

/// What is wrong with a file as a whole.
pub fn rejection(error: &WorkbookError) -> Rejection {
    let reason = match error {
        WorkbookError::TooLarge(_) => Reason::FileSize,
        WorkbookError::NoSheet(_) => Reason::FileSheet,
        WorkbookError::Unfinished => Reason::FileTruncated,
        WorkbookError::Broken(_) | WorkbookError::Io(_) => Reason::FileBroken,
    };
    Rejection::new(reason, error.to_string())
}

fn is_footer(check: &Check, row: &SheetRow) -> bool {
    let first = (0..row.len()).map(|cell| row.text(cell)).find(|cell| !cell.trim().is_empty());
    first.is_some_and(|cell| check.begins(&cell))
}

/// Reads all rows up to the footer.
fn check_footer(check: &Check, rows: &mut Rows, columns: &Columns) -> Result<Verdict, WorkbookError> {
    let amount = columns.field("amount");
    let mut tally = Tally::default();
    while let Some(row) = rows.read()? {
        if is_footer(check, row) {
            let compared = check.compare(&tally, columns, |cell| row.value(cell));
            return Ok(Verdict::of(compared, row.number.into(), || row.raw()));
        }
        tally.add(amount.and_then(|cell| row.value(cell).ok()), columns);
    }
    Ok(Verdict::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::feeds::{Form, Source};
    use crate::config::usage::usage_feeds;
    use crate::feed::directory::Directory;
    use crate::feed::testing::workbooks::{self as made, text_row};
    use crate::feed::testing::{Bench, NotesGatherer, at};
    use std::sync::Arc;

    const SECTIONS: &str = "usage:\n  - {app: qoffice, feed: {xlsx: {dir: in, sheet: giao dịch, \
        footer: {begins: Tổng, count: Số lượt}, columns: {agency: {const: tam-ky}, event: Sự kiện, count: Số lượt}}}}\n";

    struct Spool {
        bench: Bench,
        directory: Directory,
        gatherer: Arc<NotesGatherer>,
    }

    impl Spool {
        async fn new(sections: &str) -> Spool {
            let bench = Bench::sqlite(sections).await;
            std::fs::create_dir_all(bench.dir.path().join("in")).unwrap();
            let feed = usage_feeds(&bench.config.usage).next().unwrap();
            let Source::Files(files) = &feed.source else { panic!("{feed:?}") };
            assert!(matches!(files.form, Form::Workbook { .. }));
            let directory = Directory::new(feed, files);
            Spool { bench, directory, gatherer: Arc::default() }
        }

        /// What so many polls read.
        async fn poll(&mut self, n: usize) -> Vec<String> {
            for _ in 0..n {
                self.directory.poll(&self.bench.place, &self.gatherer, at("2026-11-23T02:00:00Z")).await.unwrap();
            }
            self.gatherer.take()
        }
    }

    /// A header over two rows, merged where it has no second line.
    fn rows(body: &str) -> String {
        let upper = "<row r=\"3\"><c r=\"A3\" t=\"s\"><v>0</v></c><c r=\"B3\" t=\"inlineStr\"><is><t>Kết quả</t></is></c></row>";
        let lower = "<row r=\"4\"><c r=\"B4\" t=\"inlineStr\"><is><t>Số lượt</t></is></c></row>";
        format!("{}{upper}{lower}{body}", text_row(1, &["BÁO CÁO NGÀY"]))
    }

    fn row(number: usize, event: &str, count: &str) -> String {
        format!("<row r=\"{number}\"><c t=\"inlineStr\"><is><t>{event}</t></is></c><c><v>{count}</v></c></row>")
    }

    const STRINGS: &str = "<si><t>Sự kiện</t></si>";

    #[tokio::test]
    async fn workbooks_are_waited_for_read_once_and_their_rows_are_rejected_by_their_number() {
        let mut spool = Spool::new(SECTIONS).await;
        let text =
            "<row r=\"7\"><c t=\"inlineStr\"><is><t>c</t></is></c><c t=\"inlineStr\"><is><t>1.200</t></is></c></row>";
        let body = [row(5, "a", "3"), row(6, "b", "2.5"), text.into(), row(9, "Tổng cộng", "3")].concat();
        let whole = made::workbook(&rows(&body), STRINGS);
        spool.bench.write("in/1.xlsx", &whole[..whole.len() - 9]);
        spool.bench.write("in/~$1.xlsx", "owner");
        assert!(spool.poll(2).await.is_empty(), "half-written");
        spool.bench.write("in/1.xlsx", &whole);
        assert_eq!(spool.poll(2).await, ["a=3", "c=1200"]);
        let rejected = spool.bench.rejected("usage-qoffice");
        assert!(rejected.contains("1.xlsx,6,count,\"\"\"2.5\"\" is not a count\",\"b,2.5\""), "{rejected}");
        spool.bench.write("in/copy.xlsx", &whole);
        assert!(spool.poll(3).await.is_empty(), "the same content under another name");
        let body = [row(5, "a", "3"), row(6, "Tổng cộng", "2")].concat();
        spool.bench.write("in/1.xlsx", made::workbook(&rows(&body), STRINGS));
        assert!(spool.poll(3).await.is_empty(), "its footer counts another number of rows");
        let rejected = spool.bench.rejected("usage-qoffice");
        assert!(rejected.contains("file_totals,\"the footer counts 2 rows, the file has 1\""), "{rejected}");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_refused_for_its_own_reason() {
        let mut spool = Spool::new(SECTIONS).await;
        let mut other = made::around_named(&["Sheet1"], "");
        other.push(made::Part::new("xl/worksheets/sheet1.xml", made::sheet(&rows("")).as_bytes()));
        for (file, bytes, expected) in [
            (
                "a",
                made::zip(&other),
                "file_sheet,\"the workbook has no sheet \"\"giao dịch\"\"; its sheets: \"\"Sheet1\"\"\"",
            ),
            (
                "b",
                made::workbook(&rows(&row(5, "a", "3")), STRINGS),
                "file_truncated,\"the file ends without its footer",
            ),
            ("c", made::workbook(&text_row(1, &["x"]), ""), "file_header,\"missing in the header: \"\"Sự kiện\"\""),
            ("d", "Sự kiện,Số lượt\n".into(), "file_broken,the file is no workbook"),
            ("e", b"PK\x03\x04".to_vec(), "file_truncated,\"the file is no workbook (.xlsx), or is cut off"),
        ] {
            spool.bench.write(&format!("in/{file}.xlsx"), bytes);
            assert!(spool.poll(7).await.is_empty());
            let rejected = spool.bench.rejected("usage-qoffice");
            assert!(rejected.contains(expected), "{expected}: {rejected}");
        }
    }

    #[tokio::test]
    async fn after_a_restart_a_sheet_goes_on_behind_the_row_it_stopped_at() {
        let spool = Spool::new(&SECTIONS.replace("footer: {begins: Tổng, count: Số lượt}, ", "")).await;
        let body: String = (5..4_505).map(|number| row(number, &format!("e{number}"), "1")).collect();
        let bytes = made::workbook(&rows(&body), STRINGS);
        spool.bench.write("in/1.xlsx", &bytes);
        let feed = usage_feeds(&spool.bench.config.usage).next().unwrap();
        let path = spool.bench.dir.path().join("in/1.xlsx");
        let now = at("2026-11-23T02:00:00Z");
        let (mut place, mut read) = (Place::START, Vec::new());
        loop {
            let opened =
                Sheet::open(&path, feed, None, None, bytes.len() as u64, place, true, &*spool.gatherer).unwrap();
            let Opened::Reader(Reader::Sheet(mut sheet)) = opened else { panic!("it opens") };
            let batch = sheet.batch(&*spool.gatherer, now).unwrap();
            place = batch.place;
            read.extend(batch.rows.into_iter().flatten());
            if batch.finished {
                break;
            }
        }
        let expected: Vec<String> = (5..4_505).map(|number| format!("e{number}=1")).collect();
        assert_eq!(read, expected);
    }
}
