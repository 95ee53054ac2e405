//! Whether a body is the expected one.

use super::super::detail::{Detail, Failure, excerpt};
use super::super::outcome::CheckResult;
use super::HttpCheck;
use serde_json::Value;

/// What is known of a body so far.
#[derive(Default)]
pub(super) struct Scan {
    pub bytes: u64,
    contains: usize,
    not_contains: usize,
    /// Kept only where JSON is expected.
    kept: Vec<u8>,
}

impl Scan {
    pub fn read(&mut self, check: &HttpCheck, data: &[u8]) {
        // The bound holds exactly, whatever the size of the last chunk.
        let room = usize::try_from(check.max_body - self.bytes).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(room)];
        self.bytes += data.len() as u64;
        if !check.json_path.is_empty() {
            self.kept.extend_from_slice(data);
        }
        if let Some((_, needle)) = &check.contains {
            self.contains = needle.advance(self.contains, data);
        }
        if let Some((_, needle)) = &check.not_contains {
            self.not_contains = needle.advance(self.not_contains, data);
        }
    }

    pub fn judge(&self, check: &HttpCheck) -> Result<(), Failure> {
        if let Some((text, needle)) = &check.not_contains
            && needle.found(self.not_contains)
        {
            return Err(Failure::new(CheckResult::Content, Detail::Forbidden { text: text.clone() }));
        }
        if let Some((text, needle)) = &check.contains
            && !needle.found(self.contains)
        {
            let detail = Detail::Missing { text: text.clone(), searched: self.bytes };
            return Err(Failure::new(CheckResult::Content, detail));
        }
        if check.json_path.is_empty() { Ok(()) } else { self.judge_json(check) }
    }

    fn judge_json(&self, check: &HttpCheck) -> Result<(), Failure> {
        let content = |detail: Detail| Failure::new(CheckResult::Content, detail);
        let json: Value = serde_json::from_slice(&self.kept).map_err(|_| content(Detail::NotJson))?;
        for (pointer, wanted) in &check.json_path {
            let found = match json.pointer(pointer) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
                _ => None,
            };
            if found.as_ref() != Some(wanted) {
                let found = found.map(|found| excerpt(found.as_bytes()));
                return Err(content(Detail::Json { pointer: pointer.clone(), wanted: wanted.clone(), found }));
            }
        }
        Ok(())
    }
}
