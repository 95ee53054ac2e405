//! Directories that files are put into: kinds `csv` and `xlsx`.

use crate::config::decode::{self, Context, Section};
use crate::config::node::Node;
use std::path::PathBuf;

/// A directory of delimited files or of workbooks.
#[derive(Debug, Clone)]
pub struct Files {
    pub dir: PathBuf,
    /// A file-name glob (`*`, `?`). Default `*.csv` or `*.xlsx`.
    pub pattern: String,
    pub form: Form,
    /// The line at the end that says how many rows there are and what they come to. Without it a file is not whole.
    pub footer: Option<Footer>,
}

/// How the files are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    Delimited {
        /// Default `,`.
        delimiter: u8,
        /// Default UTF-8; a byte order mark of UTF-16 is believed in any case.
        encoding: Encoding,
    },
    Workbook {
        /// Its name; `None`: the first that is not hidden. Compared after NFC and case folding.
        sheet: Option<String>,
    },
}

/// What stands at the end of a file and must hold.
#[derive(Debug, Clone)]
pub struct Footer {
    /// The footer is the first line whose first filled field begins with this. Compared after NFC and case folding.
    pub begins: String,
    /// Where the number of rows stands.
    pub count: Option<FooterCell>,
    /// Where the sum of the amounts stands, written as they are.
    pub total: Option<FooterCell>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FooterCell {
    /// Under this header.
    Header(String),
    /// The field of this number, from 1.
    Field(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    #[default]
    Utf8,
    /// Little endian unless a byte order mark says otherwise.
    Utf16,
    Windows1258,
}

impl Files {
    pub(super) const CSV_KEYS: &'static [&'static str] = &["dir", "pattern", "delimiter", "encoding", "footer"];
    pub(super) const XLSX_KEYS: &'static [&'static str] = &["dir", "pattern", "sheet", "footer"];

    pub(super) fn csv(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Files> {
        let delimiters = [(",", b','), (";", b';'), ("\t", b'\t'), ("|", b'|')];
        let delimiter = section.optional(cx, "delimiter", decode::choice(&delimiters)).unwrap_or(b',');
        let encodings =
            [("utf-8", Encoding::Utf8), ("utf-16", Encoding::Utf16), ("windows-1258", Encoding::Windows1258)];
        let encoding = section.optional(cx, "encoding", decode::choice(&encodings)).unwrap_or_default();
        Files::decode(cx, section, "*.csv", Form::Delimited { delimiter, encoding })
    }

    pub(super) fn xlsx(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Files> {
        let sheet = section.optional(cx, "sheet", decode::name);
        Files::decode(cx, section, "*.xlsx", Form::Workbook { sheet })
    }

    fn decode(cx: &mut Context<'_>, section: &Section<'_>, usual: &str, form: Form) -> Option<Files> {
        let dir = section.required(cx, "dir", decode::path);
        let pattern = section.optional(cx, "pattern", file_pattern).unwrap_or_else(|| usual.to_owned());
        let footer = section.optional(cx, "footer", footer);
        Some(Files { dir: dir?, pattern, form, footer })
    }
}

fn file_pattern(cx: &mut Context<'_>, node: &Node) -> Option<String> {
    let pattern = decode::text(cx, node)?;
    if pattern.contains('/') {
        cx.expected(node, "a pattern of file names (* and ?) without a directory");
        return None;
    }
    Some(pattern)
}

fn footer(cx: &mut Context<'_>, node: &Node) -> Option<Footer> {
    let section = Section::open(cx, node, "footer", &["begins", "count", "total"], &[])?;
    let begins = section.required(cx, "begins", decode::name);
    let count = section.optional(cx, "count", footer_cell);
    let total = section.optional(cx, "total", footer_cell);
    Some(Footer { begins: begins?, count, total })
}

/// A header, or `{field: 3}` where the footer has fields of its own.
fn footer_cell(cx: &mut Context<'_>, node: &Node) -> Option<FooterCell> {
    if node.as_text().is_some() {
        return decode::name(cx, node).map(FooterCell::Header);
    }
    let section = Section::open(cx, node, "footer cell", &["field"], &[])?;
    let field = section.required(cx, "field", decode::integer(1..=1_000))?;
    usize::try_from(field).ok().map(FooterCell::Field)
}
