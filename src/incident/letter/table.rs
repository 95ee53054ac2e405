//! The whole list of an incident's alerts as a file for a spreadsheet.

use super::view::between;
use super::{Desk, phrases};
use crate::config::site::Language;
use crate::format;
use crate::incident::life::Member;
use crate::incident::words;
use jiff::Timestamp;

/// Rows at most: some 400 KB.
const ROWS: usize = 2_000;

impl Desk {
    /// The first [`ROWS`] of `members`, in their order.
    pub(super) fn table(&self, members: &[&Member], language: Language, now: Timestamp) -> Vec<u8> {
        let mut rows = vec![phrases::columns(language).map(str::to_string).to_vec()];
        rows.extend(members.iter().take(ROWS).map(|member| self.cells(member, language, now)));
        if members.len() > ROWS {
            rows.push(vec![phrases::more(members.len() - ROWS, None, language)]);
        }
        format::csv(&rows)
    }

    fn cells(&self, member: &Member, language: Language, now: Timestamp) -> Vec<String> {
        let alert = &member.alert;
        let date = |at| format::date_time(at, &self.site.timezone);
        let subject = ["device", "service", "dependency", "app", "instance"].map(|label| alert.label(label));
        let state = words::state(member.resolved.is_some(), language);
        let why = member.excused.as_ref().filter(|_| member.resolved.is_none());
        vec![
            self.summary(alert, language),
            words::severity(member.severity, language).into(),
            why.map_or_else(|| state.to_string(), |why| format!("{state}; {}", words::excused(why, language))),
            date(alert.starts_at),
            member.resolved.map(date).unwrap_or_default(),
            format::duration(between(alert.starts_at, member.resolved.unwrap_or(now)), language),
            subject.into_iter().find(|value| !value.is_empty()).unwrap_or("").into(),
            alert.label("site").into(),
            alert.label("village").into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_excel_sees_utf_8() {
        let rows =
            [vec!["=cmd|' /C calc'!A0".to_string(), "Điểm \"1\"".into(), " \t@SUM(1)".into(), "a,b\r\n=c".into()]];
        let bytes = format::csv(&rows);
        assert!(bytes.starts_with(b"\xef\xbb\xbf"));
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text.trim_start_matches('\u{feff}'),
            "\"'=cmd|' /C calc'!A0\",\"Điểm \"\"1\"\"\",\"'  @SUM(1)\",\"a,b  =c\"\r\n"
        );
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        assert_eq!(reader.records().next().unwrap().unwrap().len(), 4);
    }
}
