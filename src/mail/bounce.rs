//! Delivery reports (RFC 3464, in the `multipart/report` of RFC 6522): what a server further on says of a mail that ours
//! had taken.
//!
//! Such a message comes from anywhere and may say anything: it is read line by line, every count and length is bounded,
//! and all that is taken from it is which mail of ours it is about and one line of why.

use super::address::masked_in;
use super::message::{one_line, shorten};

/// Bytes of a message. A report holds the mail it is about, with its attached list.
pub const LIMIT: usize = 1024 * 1024;
/// Parts of a report; the standard has three.
const PARTS: usize = 10;
/// Fields of one head or group.
const FIELDS: usize = 200;
/// Bytes of a field's value that are read.
const VALUE: usize = 2_000;
/// Recipients of one report. Ours have one each.
const RECIPIENTS: usize = 20;
/// Characters of a reason.
const REASON: usize = 300;

/// A mail that did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of the mail, with brackets; `None` if the report does not have its head.
    pub message_id: Option<String>,
    /// As we addressed it, as far as the report knows.
    pub recipient: Option<String>,
    /// In one line, without whole addresses.
    pub reason: String,
}

/// Why a message says nothing about deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoReport {
    #[error("the message has no head with a Content-Type")]
    NoHead,
    #[error(
        "the message is not a delivery report: its Content-Type is not multipart/report with a boundary (RFC 6522)"
    )]
    OtherType,
    #[error("the report has no part message/delivery-status (RFC 3464)")]
    NoStatus,
}

/// The mails that a report says will not arrive; none if it only tells of delays or of success.
pub fn read(message: &[u8]) -> Result<Vec<Report>, NoReport> {
    let text = String::from_utf8_lossy(message);
    let mut lines = text.lines().peekable();
    // As a mailbox keeps it.
    lines.next_if(|line| line.starts_with("From "));
    let head = fields(&mut lines);
    let (kind, boundary) = content_type(&head).ok_or(NoReport::NoHead)?;
    let boundary = boundary.filter(|_| kind == "multipart/report").ok_or(NoReport::OtherType)?;
    let mut groups: Option<Vec<Fields>> = None;
    let mut message_id = None;
    for part in parts(lines, &boundary) {
        let mut lines = part.into_iter();
        let head = fields(&mut lines);
        let Some((kind, _)) = content_type(&head) else { continue };
        match kind.as_str() {
            "message/delivery-status" | "message/global-delivery-status" => {
                let groups = groups.get_or_insert_default();
                while groups.len() <= RECIPIENTS {
                    // Blank lines beyond the one that ends a group make empty ones.
                    let Some(group) = next_group(&mut lines) else { break };
                    groups.push(group);
                }
            }
            "message/rfc822" | "text/rfc822-headers" | "message/global" | "message/global-headers" => {
                let inner = fields(&mut lines);
                message_id = message_id.or_else(|| get(&inner, "message-id").and_then(bracketed));
            }
            _ => {}
        }
    }
    let failed = groups.ok_or(NoReport::NoStatus)?.into_iter().filter(is_failure);
    let mut reports: Vec<Report> = failed
        .map(|group| Report {
            message_id: message_id.clone(),
            recipient: recipient(&group, "original-recipient").or_else(|| recipient(&group, "final-recipient")),
            reason: reason(&group),
        })
        .collect();
    if message_id.is_some() {
        // Our mails have one recipient each; more are where it was forwarded to.
        reports.truncate(1);
    }
    Ok(reports)
}

/// Names in lower case.
type Fields = Vec<(String, String)>;

fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Reads up to the first blank line. What is no field is passed over.
fn fields<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Fields {
    let mut fields = Fields::new();
    for line in lines.take_while(|line| !line.trim().is_empty()) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut()
                && value.len() < VALUE
            {
                value.push(' ');
                push_bounded(value, line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':')
            && fields.len() < FIELDS
        {
            let mut kept = String::new();
            push_bounded(&mut kept, value.trim());
            fields.push((name.trim().chars().take(100).collect::<String>().to_ascii_lowercase(), kept));
        }
    }
    fields
}

fn push_bounded(to: &mut String, text: &str) {
    to.push_str(&text[..text.floor_char_boundary(VALUE)]);
}

/// The next group of fields that is not empty.
fn next_group<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<Fields> {
    let first = lines.find(|line| !line.trim().is_empty())?;
    Some(fields(&mut std::iter::once(first).chain(lines)))
}

/// The type in lower case, and the boundary if it has one.
fn content_type(head: &Fields) -> Option<(String, Option<String>)> {
    let value = get(head, "content-type")?;
    let mut pieces = value.split(';');
    let kind = pieces.next()?.trim().to_ascii_lowercase();
    let boundary = pieces.find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    });
    Some((kind, boundary.filter(|boundary| !boundary.is_empty())))
}

/// The lines of each part; what follows the closing delimiter is not read.
fn parts<'a>(lines: impl Iterator<Item = &'a str>, boundary: &str) -> Vec<Vec<&'a str>> {
    let mut parts: Vec<Vec<&str>> = Vec::new();
    for line in lines {
        match line.strip_prefix("--").and_then(|rest| rest.strip_prefix(boundary)).map(str::trim_end) {
            Some("--") => break,
            Some("") if parts.len() == PARTS => break,
            Some("") => parts.push(Vec::new()),
            _ => parts.last_mut().into_iter().for_each(|part| part.push(line)),
        }
    }
    parts
}

fn is_failure(group: &Fields) -> bool {
    // With a comment perhaps.
    get(group, "action")
        .and_then(|action| action.split_whitespace().next())
        .is_some_and(|action| action.eq_ignore_ascii_case("failed"))
}

/// The address of `rfc822;ADDRESS`.
fn recipient(group: &Fields, name: &str) -> Option<String> {
    let (kind, address) = get(group, name)?.split_once(';')?;
    let is_mail = ["rfc822", "utf-8"].iter().any(|known| kind.trim().eq_ignore_ascii_case(known));
    let address = address.trim().trim_start_matches('<').trim_end_matches('>');
    (is_mail && address.contains('@')).then(|| address.to_owned())
}

/// The status and what the server said.
fn reason(group: &Fields) -> String {
    let diagnostic = get(group, "diagnostic-code").unwrap_or_default();
    let said = diagnostic.split_once(';').map_or(diagnostic, |(_, said)| said);
    let status = get(group, "status").and_then(|status| status.split_whitespace().next()).unwrap_or_default();
    let reason = if said.contains(status) { said.to_owned() } else { format!("{status} {said}") };
    // PostgreSQL keeps no NUL, which is a control character too.
    shorten(&masked_in(&one_line(&reason)), REASON)
}

/// `<…>` of a Message-ID.
fn bracketed(value: &str) -> Option<String> {
    let (start, end) = (value.find('<')?, value.find('>')?);
    value.get(start..=end).map(str::to_owned)
}

#[cfg(test)]
#[path = "bounce_tests.rs"]
mod tests;
