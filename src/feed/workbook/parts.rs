//! The parts of a workbook beside its sheets: which sheets there are and where, which formats are dates, and the strings
//! that cells share.

use super::archive::{Archive, Part};
use super::serial::{is_date_format, is_date_id};
use super::xml::{Xml, append, attribute};
use super::{MIB, WorkbookError};
use crate::feed::value::{fold, shorten};
use quick_xml::events::{BytesStart, Event};
use std::collections::HashMap;

/// Bytes of the list of sheets and of the lists of where parts stand.
const MAX_LIST: u64 = 4 * MIB;
const MAX_STYLES: u64 = 32 * MIB;
/// Strings that cells share; each costs four bytes beside its text.
const MAX_STRINGS: usize = 8_000_000;
/// Sheets that are named if the one wanted is not there.
const SHOWN: usize = 10;

/// What a workbook says of itself.
pub struct Book {
    /// The folder of the list of sheets, which other names are relative to; with a slash at its end.
    folder: String,
    sheets: Vec<Sheet>,
    targets: HashMap<String, Target>,
    /// Days are counted from 1904.
    pub is_1904: bool,
}

struct Sheet {
    name: String,
    target: String,
    is_hidden: bool,
}

/// Where a part stands and what it is: the last word of its kind's address.
struct Target {
    path: String,
    kind: String,
}

impl Book {
    pub fn read(archive: &Archive) -> Result<Book, WorkbookError> {
        let roots = targets(archive, "_rels/.rels", "")?;
        let main = roots.into_values().find(|target| target.kind == "officeDocument").map(|target| target.path);
        let main = main.unwrap_or_else(|| "xl/workbook.xml".into());
        let Some(part) = archive.part(&main, MAX_LIST)? else {
            return Err(WorkbookError::Broken("the file is no workbook (.xlsx): it has no list of sheets".into()));
        };
        let (folder, name) = main.rsplit_once('/').map_or(("", main.as_str()), |(folder, name)| (folder, name));
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let targets = targets(archive, &format!("{folder}_rels/{name}.rels"), &folder)?;
        let mut book = Book { folder, sheets: Vec::new(), targets, is_1904: false };
        let mut xml = Xml::new(part);
        while let Some(event) = xml.next()? {
            let Event::Start(element) = event else { continue };
            match element.local_name().as_ref() {
                "workbookPr" => {
                    if let Some(flag) = attribute(&element, "date1904")? {
                        book.is_1904 = matches!(&*flag, "1" | "true");
                    }
                }
                "sheet" => book.sheets.push(Sheet::read(&element)?),
                _ => {}
            }
        }
        Ok(book)
    }

    /// The part of the sheet of that name, or of the first that is not hidden.
    pub fn sheet(&self, wanted: Option<&str>) -> Result<&str, WorkbookError> {
        let is_sheet =
            |sheet: &&Sheet| self.targets.get(&sheet.target).is_some_and(|target| target.kind == "worksheet");
        let mut sheets = self.sheets.iter().filter(is_sheet);
        let found = match wanted {
            Some(name) => {
                let name = fold(name);
                sheets.find(|sheet| fold(&sheet.name) == name)
            }
            None => sheets.find(|sheet| !sheet.is_hidden),
        };
        match (found, wanted) {
            (Some(sheet), _) => Ok(&self.targets[&sheet.target].path),
            (None, None) => Err(WorkbookError::NoSheet("the workbook has no sheet that is not hidden".into())),
            (None, Some(name)) => {
                let mut names: Vec<String> =
                    self.sheets.iter().take(SHOWN).map(|sheet| format!("{:?}", shorten(&sheet.name))).collect();
                if self.sheets.len() > SHOWN {
                    names.push("…".into());
                }
                let detail = format!("the workbook has no sheet {name:?}; its sheets: {}", names.join(", "));
                Err(WorkbookError::NoSheet(detail))
            }
        }
    }

    /// A part of some kind, wherever it stands.
    fn part(&self, archive: &Archive, kind: &str, usual: &str, max: u64) -> Result<Option<Part>, WorkbookError> {
        let named = self.targets.values().find(|target| target.kind == kind);
        match named {
            Some(target) => archive.part(&target.path, max),
            None => archive.part(&format!("{}{usual}", self.folder), max),
        }
    }

    /// By a cell's style: whether a number in it is a date.
    pub fn date_formats(&self, archive: &Archive) -> Result<Vec<bool>, WorkbookError> {
        let mut formats = Vec::new();
        let Some(part) = self.part(archive, "styles", "styles.xml", MAX_STYLES)? else { return Ok(formats) };
        let mut xml = Xml::new(part);
        let mut own: HashMap<u32, bool> = HashMap::new();
        let mut in_cells = false;
        while let Some(event) = xml.next()? {
            match event {
                Event::Start(element) => match element.local_name().as_ref() {
                    "numFmt" => {
                        if let (Some(id), Some(code)) =
                            (number(&element, "numFmtId")?, attribute(&element, "formatCode")?)
                        {
                            own.insert(id, is_date_format(&code));
                        }
                    }
                    "cellXfs" => in_cells = true,
                    "xf" if in_cells => {
                        let id = number(&element, "numFmtId")?.unwrap_or(0);
                        formats.push(own.get(&id).copied().unwrap_or_else(|| is_date_id(id)));
                    }
                    _ => {}
                },
                Event::End(element) if element.local_name().as_ref() == "cellXfs" => in_cells = false,
                _ => {}
            }
        }
        Ok(formats)
    }

    pub fn strings(&self, archive: &Archive, max: u64) -> Result<Strings, WorkbookError> {
        let part = self.part(archive, "sharedStrings", "sharedStrings.xml", max)?;
        part.map_or_else(|| Ok(Strings::default()), Strings::read)
    }
}

impl Sheet {
    fn read(element: &BytesStart<'_>) -> Result<Sheet, WorkbookError> {
        let text = |name| attribute(element, name).map(|value| value.unwrap_or_default().into_owned());
        let mut target = String::new();
        // `r:id`; its other number is `sheetId`.
        for attribute in element.attributes().with_checks(false) {
            let attribute = attribute.map_err(WorkbookError::broken)?;
            if attribute.key.as_ref() != "id" && attribute.key.local_name().as_ref() == "id" {
                target = attribute.value.into_owned();
            }
        }
        Ok(Sheet { name: text("name")?, target, is_hidden: matches!(&*text("state")?, "hidden" | "veryHidden") })
    }
}

fn number(element: &BytesStart<'_>, name: &str) -> Result<Option<u32>, WorkbookError> {
    Ok(attribute(element, name)?.and_then(|value| value.trim().parse().ok()))
}

/// Reads a list of where parts stand, by their ids; empty if it is not there.
fn targets(archive: &Archive, name: &str, folder: &str) -> Result<HashMap<String, Target>, WorkbookError> {
    let mut targets = HashMap::new();
    let Some(part) = archive.part(name, MAX_LIST)? else { return Ok(targets) };
    let mut xml = Xml::new(part);
    while let Some(event) = xml.next()? {
        let Event::Start(element) = event else { continue };
        if element.local_name().as_ref() != "Relationship" {
            continue;
        }
        if let (Some(id), Some(kind), Some(target)) =
            (attribute(&element, "Id")?, attribute(&element, "Type")?, attribute(&element, "Target")?)
        {
            let path = match target.strip_prefix('/') {
                Some(whole) => whole.to_owned(),
                None => format!("{folder}{target}"),
            };
            let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
            targets.insert(id.into_owned(), Target { path, kind });
        }
    }
    Ok(targets)
}

/// The strings that cells share, one behind the other.
#[derive(Default)]
pub struct Strings {
    text: String,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Strings {
    fn read(part: Part) -> Result<Strings, WorkbookError> {
        let mut strings = Strings::default();
        let mut xml = Xml::new(part);
        let mut string = String::new();
        while let Some(event) = xml.next()? {
            if matches!(&event, Event::Start(element) if element.local_name().as_ref() == "si") {
                string.clear();
                rich_text(&mut xml, "si", &mut string)?;
                if strings.ends.len() == MAX_STRINGS {
                    let detail = format!("the workbook has more than {MAX_STRINGS} shared strings");
                    return Err(WorkbookError::TooLarge(detail));
                }
                strings.text.push_str(&string);
                let end = u32::try_from(strings.text.len());
                let end = end.map_err(|_| WorkbookError::TooLarge("shared strings of more than 4 GiB".into()))?;
                strings.ends.push(end);
            }
        }
        Ok(strings)
    }

    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(start..end)
    }
}

/// Appends the text of an element that holds runs of text, up to its end; how words are pronounced is left out.
pub fn rich_text(xml: &mut Xml, end: &str, text: &mut String) -> Result<(), WorkbookError> {
    let (mut in_text, mut is_spoken) = (false, false);
    let begin = text.len();
    loop {
        let Some(event) = xml.next()? else { return Err(WorkbookError::broken("a string does not end")) };
        match &event {
            Event::Start(element) => match element.local_name().as_ref() {
                "rPh" => is_spoken = true,
                "t" => in_text = !is_spoken,
                _ => {}
            },
            Event::End(element) => match element.local_name().as_ref() {
                "rPh" => is_spoken = false,
                "t" => in_text = false,
                name if name == end => break,
                _ => {}
            },
            _ if in_text && !append(&event, text)? => {
                return Err(WorkbookError::broken("a string is longer than a cell can be"));
            }
            _ => {}
        }
    }
    unescape(text, begin);
    Ok(())
}

/// Characters that XML cannot hold are written `_x000D_`.
pub fn unescape(text: &mut String, begin: usize) {
    if !text[begin..].contains("_x") {
        return;
    }
    let escaped = text.split_off(begin);
    let mut rest = escaped.as_str();
    while let Some(at) = rest.find("_x") {
        let code = rest.get(at + 2..at + 6).filter(|_| rest.as_bytes().get(at + 6) == Some(&b'_'));
        let c = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        match c {
            Some(c) => {
                text.push_str(&rest[..at]);
                text.push(c);
                rest = &rest[at + 7..];
            }
            None => {
                text.push_str(&rest[..at + 2]);
                rest = &rest[at + 2..];
            }
        }
    }
    text.push_str(rest);
}
