//! Directories that files are put into: kind `csv`.

use crate::config::decode::{self, Context, Section};
use crate::config::node::Node;
use std::path::PathBuf;

/// A directory of delimited files.
#[derive(Debug, Clone)]
pub struct Files {
    pub dir: PathBuf,
    /// A file-name glob (`*`, `?`). Default `*.csv`.
    pub pattern: String,
    /// Default `,`.
    pub delimiter: u8,
    /// Default UTF-8; a byte order mark of UTF-16 is believed in any case.
    pub encoding: Encoding,
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
    pub(super) const KEYS: &'static [&'static str] = &["dir", "pattern", "delimiter", "encoding"];

    pub(super) fn decode(cx: &mut Context<'_>, section: &Section<'_>) -> Option<Files> {
        let dir = section.required(cx, "dir", decode::path);
        let pattern = section.optional(cx, "pattern", file_pattern).unwrap_or_else(|| "*.csv".to_owned());
        let delimiters = [(",", b','), (";", b';'), ("\t", b'\t'), ("|", b'|')];
        let delimiter = section.optional(cx, "delimiter", decode::choice(&delimiters)).unwrap_or(b',');
        let encodings =
            [("utf-8", Encoding::Utf8), ("utf-16", Encoding::Utf16), ("windows-1258", Encoding::Windows1258)];
        let encoding = section.optional(cx, "encoding", decode::choice(&encodings)).unwrap_or_default();
        Some(Files { dir: dir?, pattern, delimiter, encoding })
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
