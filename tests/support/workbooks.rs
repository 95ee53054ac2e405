//! Makes workbooks part by part, also such as no program would write.

use flate2::{Compress, Compression, Crc, FlushCompress};

/// One part of an archive.
pub struct Part {
    pub name: String,
    /// As deflate packs it.
    pub packed: Vec<u8>,
    pub crc: u32,
    /// What the directory says of its size.
    pub announced: u32,
}

impl Part {
    pub fn new(name: &str, text: &[u8]) -> Part {
        let mut packed = deflate(text, FlushCompress::Finish);
        packed.shrink_to_fit();
        let mut crc = Crc::new();
        crc.update(text);
        Part { name: name.into(), packed, crc: crc.sum(), announced: text.len() as u32 }
    }

    /// A part that begins with a text and repeats another without end, or nearly so: `n` times. It announces `announced`
    /// bytes.
    pub fn bomb(name: &str, begin: &[u8], unit: &[u8], n: usize, announced: u32) -> Part {
        // After a full flush a block depends on nothing before it, so it can stand any number of times.
        let begin = deflate(begin, FlushCompress::Full);
        let block = deflate(unit, FlushCompress::Full);
        let mut packed = begin;
        for _ in 0..n {
            packed.extend_from_slice(&block);
        }
        packed.extend(deflate(b"", FlushCompress::Finish));
        Part { name: name.into(), packed, crc: 0, announced }
    }
}

fn deflate(text: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut packed = Vec::with_capacity(text.len() + 1_024);
    Compress::new(Compression::default(), false).compress_vec(text, &mut packed, flush).unwrap();
    packed
}

/// An archive of parts.
pub fn zip(parts: &[Part]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for part in parts {
        let at = file.len() as u32;
        let mut shared = Vec::new();
        for field in [20_u16, 0, 8, 0, 0x21] {
            shared.extend(field.to_le_bytes());
        }
        for field in [part.crc, part.packed.len() as u32, part.announced] {
            shared.extend(field.to_le_bytes());
        }
        shared.extend((part.name.len() as u16).to_le_bytes());
        shared.extend([0, 0]);
        file.extend(b"PK\x03\x04");
        file.extend(&shared);
        file.extend(part.name.as_bytes());
        file.extend(&part.packed);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&shared);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(part.name.as_bytes());
    }
    let at = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((parts.len() as u16).to_le_bytes());
    file.extend((parts.len() as u16).to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(at.to_le_bytes());
    file.extend([0, 0]);
    file
}

const OFFICE: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

fn relationships(targets: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Relationships>");
    for (id, kind, target) in targets {
        text += &format!("<Relationship Id=\"{id}\" Type=\"{OFFICE}/{kind}\" Target=\"{target}\"/>");
    }
    text.push_str("</Relationships>");
    text.into_bytes()
}

/// The parts of a workbook around its one sheet "Giao dịch" and its shared strings: `xl/worksheets/sheet1.xml` and
/// `xl/sharedStrings.xml`. Style 1 is a date.
pub fn around() -> Vec<Part> {
    around_named(&["Giao dịch"], "")
}

/// [`around`] several sheets; all but the first are the parts `sheet2.xml` and so on. `properties` are the workbook's.
pub fn around_named(sheets: &[&str], properties: &str) -> Vec<Part> {
    let mut list = format!("<workbook xmlns:r=\"{OFFICE}\"><workbookPr {properties}/><sheets>");
    let mut targets = Vec::new();
    for (n, name) in (1..).zip(sheets) {
        list += &format!("<sheet name=\"{name}\" sheetId=\"{n}\" r:id=\"s{n}\"/>");
        targets.push((format!("s{n}"), format!("worksheets/sheet{n}.xml")));
    }
    list.push_str("</sheets></workbook>");
    let mut lists: Vec<(&str, &str, &str)> =
        targets.iter().map(|(id, target)| (id.as_str(), "worksheet", target.as_str())).collect();
    lists.extend([("st", "styles", "styles.xml"), ("ss", "sharedStrings", "/xl/sharedStrings.xml")]);
    let styles = "<styleSheet><cellStyleXfs><xf numFmtId=\"14\"/></cellStyleXfs><cellXfs><xf numFmtId=\"0\"/>\
                  <xf numFmtId=\"22\"/></cellXfs></styleSheet>";
    vec![
        Part::new("_rels/.rels", &relationships(&[("w", "officeDocument", "xl/workbook.xml")])),
        Part::new("xl/workbook.xml", list.as_bytes()),
        Part::new("xl/_rels/workbook.xml.rels", &relationships(&lists)),
        Part::new("xl/styles.xml", styles.as_bytes()),
    ]
}

/// A workbook whose one sheet has these rows, as XML.
pub fn workbook(rows: &str, strings: &str) -> Vec<u8> {
    let mut parts = around();
    parts.push(Part::new("xl/worksheets/sheet1.xml", sheet(rows).as_bytes()));
    parts.push(Part::new("xl/sharedStrings.xml", format!("<sst>{strings}</sst>").as_bytes()));
    zip(&parts)
}

pub fn sheet(rows: &str) -> String {
    format!("<worksheet><sheetData>{rows}</sheetData></worksheet>")
}

/// A row of texts, in the cells from A on.
pub fn text_row(number: usize, cells: &[&str]) -> String {
    let cells: String = cells.iter().map(|text| format!("<c t=\"inlineStr\"><is><t>{text}</t></is></c>")).collect();
    format!("<row r=\"{number}\">{cells}</row>")
}
