//! The zip archive around a workbook: finds a part and unpacks it as it is read, checked against what is announced.
//!
//! The file is read in place, so that nothing but its directory is kept.

use super::{MIB, WorkbookError};
use flate2::read::DeflateDecoder;
use flate2::{Crc, CrcReader};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Parts of an archive; a workbook with a thousand sheets and pictures has fewer.
const MAX_PARTS: usize = 4_096;
/// Bytes of the directory.
const MAX_DIRECTORY: u64 = MIB;
/// The record at the end, and the longest comment behind it.
const END: usize = 22;
const MAX_COMMENT: usize = 65_535;

/// The directory of an archive.
pub struct Archive {
    file: Arc<File>,
    length: u64,
    entries: Vec<Entry>,
}

struct Entry {
    /// Lower case, as the names of parts are compared.
    name: String,
    is_encrypted: bool,
    method: u16,
    crc: u32,
    packed: u64,
    unpacked: u64,
    header_at: u64,
}

/// Of the whole directory.
struct Directory {
    n_entries: u64,
    size: u64,
    at: u64,
}

impl Archive {
    pub fn open(file: Arc<File>, length: u64) -> Result<Archive, WorkbookError> {
        let tail_length = length.min((END + MAX_COMMENT) as u64);
        let tail = range(&file, length - tail_length, tail_length)?;
        let Some(end) = find_end(&tail) else {
            let begin = range(&file, 0, length.min(8))?;
            if begin == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" {
                let detail = "the file is an old .xls workbook, or has a password: save it as .xlsx without one";
                return Err(WorkbookError::Broken(detail.into()));
            }
            if begin.len() >= 4 && begin[..4] != *b"PK\x03\x04" {
                return Err(WorkbookError::Broken("the file is no workbook (.xlsx): it is not a zip archive".into()));
            }
            return Err(WorkbookError::Unfinished);
        };
        let directory = directory(&file, &tail[end..], length - tail_length + end as u64)?;
        if directory.n_entries > MAX_PARTS as u64 || directory.size > MAX_DIRECTORY {
            let detail = format!("the workbook has more than {MAX_PARTS} parts, or a directory longer than 1 MiB");
            return Err(WorkbookError::TooLarge(detail));
        }
        let bytes = range(&file, directory.at, directory.size)?;
        let mut entries = Vec::with_capacity(directory.n_entries as usize);
        let mut fields = Fields { bytes: &bytes };
        for _ in 0..directory.n_entries {
            entries.push(Entry::read(&mut fields)?);
        }
        Ok(Archive { file, length, entries })
    }

    /// The part of that name, if it is there; no longer than `max` bytes unpacked.
    pub fn part(&self, name: &str, max: u64) -> Result<Option<Part>, WorkbookError> {
        let wanted = name.to_lowercase();
        let Some(entry) = self.entries.iter().find(|entry| entry.name == wanted) else { return Ok(None) };
        if entry.unpacked > max {
            let (size, max) = (entry.unpacked / MIB, max / MIB);
            let detail = format!("{name} unpacks to {size} MiB, at most {max} MiB are read");
            return Err(WorkbookError::TooLarge(detail));
        }
        if entry.is_encrypted {
            return Err(WorkbookError::Broken("the workbook is encrypted: save it without a password".into()));
        }
        let header = range(&self.file, entry.header_at, 30)?;
        let mut fields = Fields { bytes: &header };
        if fields.u32()? != 0x0403_4b50 {
            return Err(WorkbookError::broken(format!("{name} is not where the directory says")));
        }
        fields.skip(22)?;
        let at = entry.header_at + 30 + u64::from(fields.u16()?) + u64::from(fields.u16()?);
        if at.checked_add(entry.packed).is_none_or(|end| end > self.length) {
            return Err(WorkbookError::broken(format!("{name} reaches beyond the file")));
        }
        let packed = Slice { file: Arc::clone(&self.file), at, left: entry.packed };
        let unpacked: Box<dyn Read + Send> = match entry.method {
            0 => Box::new(packed),
            8 => Box::new(DeflateDecoder::new(BufReader::new(packed))),
            method => return Err(WorkbookError::broken(format!("{name} is packed by the unknown method {method}"))),
        };
        Ok(Some(Part { unpacked: CrcReader::new(unpacked), left: entry.unpacked, crc: entry.crc, is_done: false }))
    }
}

impl Entry {
    fn read(fields: &mut Fields<'_>) -> Result<Entry, WorkbookError> {
        if fields.u32()? != 0x0201_4b50 {
            return Err(WorkbookError::broken("its directory does not hold the parts that it counts"));
        }
        fields.skip(4)?;
        let is_encrypted = fields.u16()? & 1 != 0;
        let method = fields.u16()?;
        fields.skip(4)?;
        let crc = fields.u32()?;
        let (mut packed, mut unpacked) = (u64::from(fields.u32()?), u64::from(fields.u32()?));
        let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
        fields.skip(8)?;
        let mut header_at = u64::from(fields.u32()?);
        let name = String::from_utf8_lossy(fields.take(name.into())?).to_lowercase();
        let mut extra = Fields { bytes: fields.take(extra.into())? };
        fields.skip(comment.into())?;
        // Sizes that do not fit 32 bits stand here, and some writers put all of them here.
        while extra.bytes.len() >= 4 {
            let (kind, length) = (extra.u16()?, extra.u16()?);
            let mut field = Fields { bytes: extra.take(length.into())? };
            for value in [&mut unpacked, &mut packed, &mut header_at] {
                if kind == 1 && *value == u64::from(u32::MAX) {
                    *value = field.u64()?;
                }
            }
        }
        Ok(Entry { name, is_encrypted, method, crc, packed, unpacked, header_at })
    }
}

/// Where the record at the end stands in the file's last bytes.
fn find_end(tail: &[u8]) -> Option<usize> {
    memchr::memmem::rfind_iter(tail, b"PK\x05\x06").find(|&at| {
        let comment = tail.get(at + 20..at + END).map(|length| u16::from_le_bytes([length[0], length[1]]));
        comment.is_some_and(|comment| at + END + usize::from(comment) == tail.len())
    })
}

/// Reads the record at the end, which stands at `at` in the file.
fn directory(file: &File, end: &[u8], at: u64) -> Result<Directory, WorkbookError> {
    /// The locator of the long record stands before the short one.
    const LOCATOR: u64 = 20;
    let mut fields = Fields { bytes: end };
    fields.skip(10)?;
    let (n_entries, size, directory_at) = (fields.u16()?, fields.u32()?, fields.u32()?);
    let is_long = n_entries == u16::MAX || size == u32::MAX || directory_at == u32::MAX;
    let mut directory = Directory { n_entries: n_entries.into(), size: size.into(), at: directory_at.into() };
    if is_long && at >= LOCATOR {
        let locator = range(file, at - LOCATOR, LOCATOR)?;
        if locator.starts_with(b"PK\x06\x07") {
            let mut fields = Fields { bytes: &locator[8..] };
            let record = range(file, fields.u64()?, 56)?;
            let mut fields = Fields { bytes: &record };
            fields.skip(32)?;
            directory = Directory { n_entries: fields.u64()?, size: fields.u64()?, at: fields.u64()? };
        }
    }
    if directory.at.checked_add(directory.size).is_none_or(|end| end > at) {
        return Err(WorkbookError::broken("its directory is not where the file says"));
    }
    Ok(directory)
}

/// `length` bytes at `at`. The caller bounds `length`.
fn range(file: &File, at: u64, length: u64) -> Result<Vec<u8>, WorkbookError> {
    let mut bytes = vec![0; length as usize];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(WorkbookError::broken("a part reaches beyond the file"))
        }
        Err(error) => Err(WorkbookError::Io(error)),
    }
}

/// Takes little-endian fields off the front.
struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], WorkbookError> {
        let (taken, rest) =
            self.bytes.split_at_checked(length).ok_or_else(|| WorkbookError::broken("its directory is cut off"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WorkbookError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn skip(&mut self, length: usize) -> Result<(), WorkbookError> {
        self.take(length).map(|_| ())
    }

    fn u16(&mut self) -> Result<u16, WorkbookError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, WorkbookError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, WorkbookError> {
        self.array().map(u64::from_le_bytes)
    }
}

/// A part of the file.
struct Slice {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Slice {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let length = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut into[..length], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// A part as it unpacks: no longer than it announced, and at its end what its checksum says.
pub struct Part {
    unpacked: CrcReader<Box<dyn Read + Send>>,
    left: u64,
    crc: u32,
    is_done: bool,
}

impl Read for Part {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        if self.is_done || into.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            // One byte more would be one too many.
            if self.unpacked.read(&mut [0])? != 0 {
                return Err(invalid("a part unpacks to more than it announces"));
            }
            self.is_done = true;
            let crc: &Crc = self.unpacked.crc();
            return if crc.sum() == self.crc { Ok(0) } else { Err(invalid("a part's checksum differs")) };
        }
        let length = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.unpacked.read(&mut into[..length])?;
        if n == 0 {
            return Err(invalid("a part unpacks to less than it announces"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}
