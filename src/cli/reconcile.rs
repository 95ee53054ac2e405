//! `ioc-watch reconcile`: compares a portal's file of payments with a gateway's, once.

use crate::config::parse_duration;
use crate::config::site::Language;
use crate::feed::value::TimeFormat;
use crate::feed::workbook::{self, Limits};
use crate::format;
use crate::gather::payment::files::{Exception, Options, Outcome, Reconciliation};
use crate::gather::payment::guess::{self, Given};
use crate::gather::payment::{Fact, Kind, Side};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Compares a portal's payments with a gateway's, from two files; or explains a payment that the daemon knows
#[derive(Args)]
pub struct Reconcile {
    /// The portal's file: CSV (UTF-8) or XLSX, columns found by their headers
    #[arg(long, value_name = "FILE", required_unless_present = "explain")]
    portal: Option<PathBuf>,
    /// The gateway's file
    #[arg(long, value_name = "FILE", required_unless_present = "explain")]
    gateway: Option<PathBuf>,
    /// Prints what both sides say of a transaction or dossier, and the whole life of its mismatches
    #[arg(long, value_name = "REF", requires = "config", conflicts_with_all = ["portal", "gateway", "out"])]
    explain: Option<String>,
    /// The daemon's configuration, for --explain
    #[arg(long, short, value_name = "FILE", requires = "explain")]
    config: Option<PathBuf>,
    /// Writes every mismatch to FILE (.csv or .xlsx)
    #[arg(long, value_name = "FILE", value_parser = out_file)]
    out: Option<PathBuf>,
    /// Younger differences are not mismatches yet
    #[arg(long, default_value = "15m", value_parser = duration)]
    grace: Duration,
    /// How late the gateway's file may be, in working days
    #[arg(long, default_value = "1d", value_parser = duration)]
    settlement_lag: Duration,
    /// How far apart the two records of one payment may be if a side has no reference
    #[arg(long, default_value = "1d", value_parser = duration)]
    match_window: Duration,
    /// The portal's columns, where their headers are not understood: txn_ref=Mã GD,amount=Số tiền
    #[arg(long, value_name = "COLUMN=HEADER,…", value_parser = Given::parse)]
    portal_columns: Option<Given>,
    /// The gateway's columns
    #[arg(long, value_name = "COLUMN=HEADER,…", value_parser = Given::parse)]
    gateway_columns: Option<Given>,
    /// The portal's sheet, of an XLSX file; the first that is not hidden if not given
    #[arg(long, value_name = "NAME")]
    portal_sheet: Option<String>,
    /// The gateway's sheet
    #[arg(long, value_name = "NAME")]
    gateway_sheet: Option<String>,
    /// Judges as of this time (ISO 8601) instead of now
    #[arg(long, value_name = "TIME", value_parser = time)]
    as_of: Option<Timestamp>,
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Language of what is printed; Vietnamese, or for --explain the site's, if not given
    #[arg(long, value_enum)]
    language: Option<Words>,
    /// Exits with 1 if there is any mismatch
    #[arg(long)]
    fail_on_mismatch: bool,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum Words {
    Vi,
    En,
}

impl Words {
    fn language(self) -> Language {
        match self {
            Words::Vi => Language::Vi,
            Words::En => Language::En,
        }
    }
}

fn out_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv" | "xlsx") => Ok(path),
        _ => Err("the name must end in .csv or .xlsx".into()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a duration such as 30s, 15m, 2h or 1d".into())
}

fn zone() -> TimeZone {
    // Vietnam has had no summer time since before any file of interest.
    TimeZone::get("Asia/Ho_Chi_Minh").unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(7)))
}

fn time(text: &str) -> Result<Timestamp, String> {
    TimeFormat { format: None, zone: zone() }.parse(text).map_err(|rejection| rejection.detail)
}

/// Runs the subcommand.
pub fn run(arguments: &Reconcile) -> ExitCode {
    if let (Some(reference), Some(config)) = (&arguments.explain, &arguments.config) {
        let language = arguments.language.map(Words::language);
        return super::explain::run(config, reference, language, arguments.format == Format::Json);
    }
    match try_run(arguments) {
        Ok(outcome) if arguments.fail_on_mismatch && !outcome.exceptions.is_empty() => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn try_run(arguments: &Reconcile) -> anyhow::Result<Outcome> {
    let options = Options {
        grace: arguments.grace,
        settlement_lag: arguments.settlement_lag,
        match_window: arguments.match_window,
        as_of: arguments.as_of.unwrap_or_else(Timestamp::now),
        zone: zone(),
    };
    let (Some(portal), Some(gateway)) = (&arguments.portal, &arguments.gateway) else {
        bail!("--portal and --gateway are needed");
    };
    let (portal, gateway) =
        (Input::open(portal, &arguments.portal_sheet)?, Input::open(gateway, &arguments.gateway_sheet)?);
    let bar = progress(portal.length + gateway.length);
    let mut reconciliation = Reconciliation::new(options, portal.expected_rows);
    let sides =
        [(Side::Portal, portal, &arguments.portal_columns), (Side::Gateway, gateway, &arguments.gateway_columns)];
    for (side, input, given) in sides {
        let given = given.clone().unwrap_or_default();
        let mapped = |mapping: &guess::Mapping| {
            bar.suspend(|| eprintln!("{}: {}", side.as_str(), mapping.describe()));
        };
        match input.content {
            Content::Delimited(file, delimiter) => {
                reconciliation.read(side, Counted { file, bar: &bar }, delimiter, &given, mapped)?;
            }
            Content::Sheet(mut rows) => {
                reconciliation.read_sheet(side, &mut rows, &given, mapped)?;
                bar.inc(input.length);
            }
        }
    }
    bar.finish_and_clear();
    let outcome = reconciliation.finish();
    for (side, line, rejection) in &outcome.first_rejected {
        eprintln!("{} line {line}: {rejection}", side.as_str());
    }
    if let Some(path) = &arguments.out {
        write_out(path, &outcome.exceptions).with_context(|| format!("writing {}", path.display()))?;
    }
    let text = match arguments.format {
        Format::Json => format!("{}\n", json(&outcome)),
        Format::Text => summary(&outcome, arguments.language.unwrap_or(Words::Vi).language()),
    };
    // A reader that has gone (`| head`) is no error of ours.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => bail!("writing the result: {error}"),
        _ => Ok(outcome),
    }
}

/// A file, and what its beginning tells.
struct Input {
    content: Content,
    length: u64,
    /// From the length of the first lines.
    expected_rows: usize,
}

enum Content {
    /// With its delimiter.
    Delimited(File, u8),
    Sheet(Box<workbook::Rows>),
}

impl Input {
    fn open(path: &Path, sheet: &Option<String>) -> anyhow::Result<Input> {
        let context = || format!("reading {}", path.display());
        let mut file = File::open(path).with_context(context)?;
        let length = file.metadata().with_context(context)?.len();
        let mut head = Vec::new();
        (&file).take(64 * 1024).read_to_end(&mut head).with_context(context)?;
        let is_workbook = head.starts_with(b"PK\x03\x04") || path.extension().is_some_and(|end| end == "xlsx");
        // A guess from a strange head must not ask for more memory than a large file needs.
        let expected = |rows: u64| rows.min(4_000_000) as usize;
        if is_workbook {
            /// Bytes of a row, packed; few have less.
            const ROW: u64 = 40;
            let rows = workbook::open(file, length, sheet.as_deref(), Limits::COMMAND).with_context(context)?;
            return Ok(Input {
                content: Content::Sheet(Box::new(rows)),
                length,
                expected_rows: expected(length / ROW),
            });
        }
        if sheet.is_some() {
            bail!("{} is no XLSX file, so it has no sheets", path.display());
        }
        file.seek(SeekFrom::Start(0)).with_context(context)?;
        let header = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let n_lines = memchr::memchr_iter(b'\n', &head).count().max(1) as u64;
        let rows = length.saturating_mul(n_lines) / (head.len() as u64).max(1);
        let content = Content::Delimited(file, guess::delimiter(header));
        Ok(Input { content, length, expected_rows: expected(rows + rows / 50 + 16) })
    }
}

struct Counted<'a> {
    file: File,
    bar: &'a ProgressBar,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.bar.inc(n as u64);
        Ok(n)
    }
}

fn progress(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// In the order in which the kinds take precedence, which a map of serde_json would not keep.
fn json(outcome: &Outcome) -> String {
    let kinds: Vec<String> = Kind::ALL.iter().map(|kind| format!("\"{kind}\": {}", outcome.count(*kind))).collect();
    format!(
        "{{\"portal_rows\": {}, \"gateway_rows\": {}, \"matched\": {}, \"waiting\": {}, \"rejected\": {}, \
         \"mismatches\": {{{}}}}}",
        outcome.portal_rows,
        outcome.gateway_rows,
        outcome.matched,
        outcome.waiting,
        outcome.rejected,
        kinds.join(", ")
    )
}

fn summary(outcome: &Outcome, language: Language) -> String {
    let word = |vi: &'static str, en: &'static str| if language == Language::Vi { vi } else { en };
    let mut lines = vec![
        (word("Dòng của cổng", "Portal rows").to_string(), outcome.portal_rows, None),
        (word("Dòng của bên thanh toán", "Gateway rows").to_string(), outcome.gateway_rows, None),
        (word("Khớp", "Matched").to_string(), outcome.matched, None),
        (word("Đang chờ", "Waiting").to_string(), outcome.waiting, None),
        (word("Không đọc được", "Rejected").to_string(), outcome.rejected, None),
    ];
    for kind in Kind::ALL {
        let amounts = outcome.exceptions.iter().filter(|e| e.kind == kind).map(money);
        let amount = amounts.fold(0_i64, i64::saturating_add);
        lines.push((format!("  {}", kind.title(language)), outcome.count(kind), Some(amount)));
    }
    let width = lines.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (index, (name, count, amount)) in lines.into_iter().enumerate() {
        if index == 5 {
            text.push_str(word("Chênh lệch:\n", "Mismatches:\n"));
        }
        let count = format::integer(i64::try_from(count).unwrap_or(i64::MAX), language);
        let padding = " ".repeat(width - name.chars().count());
        text.push_str(&format!("{name}{padding}  {count:>13}"));
        if let Some(amount) = amount.filter(|amount| *amount != 0) {
            text.push_str(&format!("  {:>22}", format::dong(amount, language)));
        }
        text.push('\n');
    }
    text
}

/// The money concerned: for different amounts the difference.
fn money(exception: &Exception) -> i64 {
    match (exception.portal, exception.gateway) {
        (Some(portal), Some(gateway)) if exception.kind == Kind::AmountDiffers => {
            portal.amount.saturating_sub(gateway.amount).saturating_abs()
        }
        (_, Some(gateway)) if matches!(exception.kind, Kind::PaidTwice | Kind::PaidNotRecorded) => gateway.amount,
        (Some(portal), _) => portal.amount,
        (None, Some(gateway)) => gateway.amount,
        (None, None) => 0,
    }
}

const HEADER: [&str; 9] = [
    "kind",
    "dossier",
    "txn_ref",
    "portal_status",
    "portal_amount",
    "portal_time",
    "gateway_status",
    "gateway_amount",
    "gateway_time",
];

fn cells(exception: &Exception) -> [String; 9] {
    let side = |fact: Option<Fact>| match fact {
        None => [String::new(), String::new(), String::new()],
        Some(fact) => {
            // A row without a time has one before all times.
            let time = Timestamp::from_microsecond(fact.at_us).map_or(String::new(), |time| time.to_string());
            [fact.status.to_string(), fact.amount.to_string(), time]
        }
    };
    let ([p1, p2, p3], [g1, g2, g3]) = (side(exception.portal), side(exception.gateway));
    let (dossier, txn_ref) = (format::safe_cell(&exception.dossier), format::safe_cell(&exception.txn_ref));
    [exception.kind.to_string(), dossier, txn_ref, p1, p2, p3, g1, g2, g3]
}

fn write_out(path: &Path, exceptions: &[Exception]) -> anyhow::Result<()> {
    if path.extension().is_some_and(|extension| extension == "xlsx") {
        return write_xlsx(path, exceptions);
    }
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(HEADER)?;
    for exception in exceptions {
        writer.write_record(cells(exception))?;
    }
    writer.flush()?;
    Ok(())
}

fn write_xlsx(path: &Path, exceptions: &[Exception]) -> anyhow::Result<()> {
    /// What a sheet holds, less its header.
    const SHEET_ROWS: usize = 1_048_575;
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let mut chunks = exceptions.chunks(SHEET_ROWS);
    let mut chunk = chunks.next().unwrap_or_default();
    loop {
        let sheet = workbook.add_worksheet();
        sheet.write_row(0, 0, HEADER)?;
        for (index, exception) in chunk.iter().enumerate() {
            for (column, cell) in cells(exception).into_iter().enumerate() {
                let (row, column) = (index as u32 + 1, column as u16);
                match cell.parse::<f64>() {
                    Ok(amount) if HEADER[usize::from(column)].ends_with("_amount") => {
                        sheet.write_number(row, column, amount)?
                    }
                    _ => sheet.write_string(row, column, cell)?,
                };
            }
        }
        match chunks.next() {
            Some(next) => chunk = next,
            None => break,
        }
    }
    workbook.save(path)?;
    Ok(())
}
