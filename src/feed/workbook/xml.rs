//! XML as the parts of a workbook are written, event by event: no event longer than [`MAX_EVENT`], no nesting deeper than
//! [`MAX_DEPTH`], no entities but XML's own.

use super::WorkbookError;
use super::archive::Part;
use quick_xml::events::{BytesStart, Event};
use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};

/// Bytes of one tag or text. A cell holds at most 32,767 characters, of three bytes and a few escapes.
const MAX_EVENT: usize = 256 * 1024;
const MAX_DEPTH: usize = 64;
const CHUNK: usize = 64 * 1024;

/// A part that is read as XML.
pub struct Xml {
    reader: quick_xml::Reader<Budget>,
    buffer: Vec<u8>,
    depth: usize,
}

impl Xml {
    pub fn new(part: Part) -> Xml {
        let input = Budget { part: BufReader::with_capacity(CHUNK, part), left: MAX_EVENT };
        let mut reader = quick_xml::Reader::from_reader(input);
        // One form for both: an empty element is one that ends at once.
        reader.config_mut().expand_empty_elements = true;
        Xml { reader, buffer: Vec::new(), depth: 0 }
    }

    /// The next event; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Event<'_>>, WorkbookError> {
        self.buffer.clear();
        self.reader.get_mut().left = MAX_EVENT;
        let event = self.reader.read_event_into(&mut self.buffer).map_err(fault)?;
        match &event {
            Event::Start(_) if self.depth == MAX_DEPTH => {
                return Err(WorkbookError::broken(format!("elements are nested deeper than {MAX_DEPTH}")));
            }
            Event::Start(_) => self.depth += 1,
            Event::End(_) => self.depth = self.depth.saturating_sub(1),
            Event::DocType(_) => return Err(WorkbookError::broken("it defines entities, which no workbook needs")),
            Event::Eof => return Ok(None),
            _ => {}
        }
        Ok(Some(event))
    }

    /// Reads the rest, so that the checksum is compared.
    pub fn drain(&mut self) -> Result<(), WorkbookError> {
        let part = &mut self.reader.get_mut().part;
        std::io::copy(part, &mut std::io::sink()).map(|_| ()).map_err(of_part)
    }
}

/// The value of an attribute, whatever the prefix of its name.
pub fn attribute<'a>(element: &'a BytesStart<'_>, name: &str) -> Result<Option<Cow<'a, str>>, WorkbookError> {
    // Each is compared with all others otherwise: an hour for a tag with enough of them.
    for attribute in element.attributes().with_checks(false) {
        let attribute = attribute.map_err(WorkbookError::broken)?;
        if attribute.key.local_name().as_ref() == name {
            let value = attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0);
            return value.map(Some).map_err(WorkbookError::broken);
        }
    }
    Ok(None)
}

/// Appends what an event inside a text element says; `false` if it would grow longer than an event may be.
pub fn append(event: &Event<'_>, text: &mut String) -> Result<bool, WorkbookError> {
    let piece: Cow<'_, str> = match event {
        Event::Text(piece) => piece.xml10_content(),
        Event::CData(piece) => piece.xml10_content(),
        Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(WorkbookError::broken)? {
            Some(c) => Cow::Owned(c.to_string()),
            None => match quick_xml::escape::resolve_predefined_entity(reference) {
                Some(known) => Cow::Borrowed(known),
                None => return Err(WorkbookError::broken("an entity that is not defined")),
            },
        },
        _ => return Ok(true),
    };
    if text.len() + piece.len() > MAX_EVENT {
        return Ok(false);
    }
    text.push_str(&piece);
    Ok(true)
}

fn fault(error: quick_xml::Error) -> WorkbookError {
    match &error {
        quick_xml::Error::Io(io) => of_part(std::io::Error::new(io.kind(), io.to_string())),
        _ => WorkbookError::broken(error),
    }
}

/// What a part could not be read for: its content, or the disk.
fn of_part(error: std::io::Error) -> WorkbookError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => WorkbookError::broken(error),
        _ => WorkbookError::Io(error),
    }
}

/// Gives no more than what is left for an event.
struct Budget {
    part: BufReader<Part>,
    left: usize,
}

impl Read for Budget {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.fill_buf()?.read(into)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Budget {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        let unread = self.part.fill_buf()?;
        if self.left == 0 && !unread.is_empty() {
            let detail = format!("a tag or text is longer than {MAX_EVENT} bytes");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, detail));
        }
        Ok(&unread[..unread.len().min(self.left)])
    }

    fn consume(&mut self, n: usize) {
        self.part.consume(n);
        self.left = self.left.saturating_sub(n);
    }
}
