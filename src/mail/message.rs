//! From a rendered letter to the complete bytes of a message. No header is written anywhere else.

use crate::config::site::Language;
use jiff::Timestamp;
use lettre::message::header::ContentType;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use std::time::{Duration, SystemTime};
use unicode_normalization::UnicodeNormalization;

/// What a reader reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// A letter with all that its headers need.
#[derive(Debug)]
pub struct Draft<'a> {
    pub letter: &'a Letter,
    pub from: &'a Mailbox,
    pub name: &'a str,
    pub address: &'a Address,
    /// Made by us, with brackets, see [`message_id`]; a repeated delivery carries the same.
    pub message_id: &'a str,
    /// The first message of the thread to this person.
    pub in_reply_to: Option<&'a str>,
    /// What kind of mail it is: the first part of `List-Id`, for the reader's filters. A constant.
    pub list: &'static str,
    pub date: Timestamp,
}

/// What a message carries beside its texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// The inbox shows it as important.
    pub is_urgent: bool,
    /// Pictures of the HTML text, which names them `cid:NAME`.
    pub inline: Vec<Part>,
    pub attached: Vec<Part>,
}

/// A file in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// ASCII.
    pub name: String,
    pub content_type: &'static str,
    pub bytes: Vec<u8>,
}

/// A complete message on its way into the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Mails of one thread go in order.
    pub thread: String,
    /// A person's id.
    pub person: String,
    /// The envelope's addresses.
    pub sender: String,
    pub recipient: String,
    pub message_id: String,
    /// ASCII.
    pub message: String,
    pub about: About,
    /// What is said of it where it may be told in one mail with others; `None`: it always goes by itself.
    pub brief: Option<Brief>,
}

/// A mail in one line of a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    /// The reader's.
    pub name: String,
    pub language: Language,
    pub subject: String,
    pub url: String,
    pub is_urgent: bool,
    /// The reader's digest in which it is told; `None`: it goes by itself unless the reader has had too many.
    pub digest: Option<Timestamp>,
}

/// What a message is about, for those who look after the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Whose matter it is; empty: the whole site's.
    pub agency: String,
    /// The number of the incident, if it is about one. Whoever handles incidents is told if it does not arrive.
    pub incident: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("making the message {0}")]
    Build(String, #[source] lettre::error::Error),
    #[error("the message {0} is not ASCII")]
    NotAscii(String),
    #[error("the kind {1:?} of a part of the message {0} cannot be read")]
    Part(String, &'static str),
}

/// A Message-ID at the domain of `from`. `local` is made of our own ids; anything else in it becomes `-`.
pub fn message_id(local: &str, from: &Mailbox) -> String {
    let local: String =
        local.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    format!("<{local}@{}>", from.email.domain())
}

/// The complete message of one person.
pub fn outgoing(draft: &Draft<'_>, thread: String, person: &str) -> Result<Outgoing, MessageError> {
    outgoing_with(draft, thread, person, Parts::default())
}

/// The complete message of one person, with pictures and files.
pub fn outgoing_with(draft: &Draft<'_>, thread: String, person: &str, parts: Parts) -> Result<Outgoing, MessageError> {
    let failed = |error| MessageError::Build(draft.message_id.to_string(), error);
    let from = Mailbox::new(draft.from.name.as_deref().map(one_line), draft.from.email.clone());
    let to = Mailbox::new(Some(one_line(draft.name)), draft.address.clone());
    let list_id = format!("<{}.{}>", draft.list, draft.from.email.domain());
    let subject: String = one_line(&draft.letter.subject).nfc().collect();
    let mut builder = Message::builder()
        .from(from)
        .to(to)
        .subject(subject)
        .date(system_time(draft.date))
        .message_id(Some(draft.message_id.to_string()))
        .raw_header(header("Auto-Submitted", "auto-generated".into()))
        .raw_header(header("List-Id", list_id));
    if parts.is_urgent {
        builder = builder.raw_header(header("X-Priority", "1".into())).raw_header(header("Importance", "high".into()));
    }
    if let Some(first) = draft.in_reply_to {
        builder = builder.in_reply_to(first.to_string()).references(first.to_string());
    }
    let message = builder.multipart(body(draft, parts)?).map_err(failed)?.formatted();
    // The bodies are encoded as quoted-printable or base64 and the headers as encoded words.
    let message = String::from_utf8(message)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or_else(|| MessageError::NotAscii(draft.message_id.to_string()))?;
    Ok(Outgoing {
        thread,
        person: person.to_string(),
        sender: draft.from.email.to_string(),
        recipient: draft.address.to_string(),
        message_id: draft.message_id.to_string(),
        message,
        about: About::default(),
        brief: None,
    })
}

/// The texts, the pictures with the HTML one, the files around them. The boundaries follow from the Message-ID: the same
/// mail is made of the same bytes.
fn body(draft: &Draft<'_>, parts: Parts) -> Result<MultiPart, MessageError> {
    let kind = |part: &Part| {
        let wrong = |_| MessageError::Part(draft.message_id.to_string(), part.content_type);
        ContentType::parse(part.content_type).map_err(wrong)
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, draft.message_id.as_bytes());
    let id: String = digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let alternative = MultiPart::alternative()
        .boundary(format!("alternative-{id}"))
        .singlepart(SinglePart::plain(draft.letter.text.clone()));
    let html = SinglePart::html(draft.letter.html.clone());
    let mut texts = if parts.inline.is_empty() {
        alternative.singlepart(html)
    } else {
        let mut related = MultiPart::related().boundary(format!("related-{id}")).singlepart(html);
        for part in parts.inline {
            let content_type = kind(&part)?;
            related = related.singlepart(Attachment::new_inline(part.name).body(part.bytes, content_type));
        }
        alternative.multipart(related)
    };
    if !parts.attached.is_empty() {
        texts = MultiPart::mixed().boundary(format!("mixed-{id}")).multipart(texts);
        for part in parts.attached {
            let content_type = kind(&part)?;
            texts = texts.singlepart(Attachment::new(part.name).body(part.bytes, content_type));
        }
    }
    Ok(texts)
}

fn header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// Without line ends and other control characters: what comes from alerts cannot begin a header of its own.
pub fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// At most `limit` characters, cut at a word where one ends near, with an ellipsis.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_string();
    }
    let cut: String = text.chars().take(limit.saturating_sub(1)).collect();
    let ends_a_word = text.chars().nth(limit.saturating_sub(1)) == Some(' ');
    let whole = match cut.rfind(' ') {
        _ if ends_a_word => &cut,
        Some(end) if cut[end..].chars().count() <= 12 => &cut[..end],
        _ => &cut,
    };
    format!("{}…", whole.trim_end_matches([' ', ',', ';', ':', '-']))
}

fn system_time(time: Timestamp) -> SystemTime {
    let since = u64::try_from(time.as_second()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(subject: &str, name: &str, in_reply_to: Option<&str>) -> String {
        let letter = Letter {
            subject: subject.into(),
            text: "Cổng dịch vụ công bị treo".into(),
            html: "<p>Cổng dịch vụ công bị treo</p>".into(),
        };
        let from: Mailbox = "IOC Thăng Bình <ioc@vn.example>".parse().unwrap();
        let address: Address = "chutich@tamky.vn.example".parse().unwrap();
        let draft = Draft {
            letter: &letter,
            from: &from,
            name,
            address: &address,
            message_id: &message_id("incident-1.1.lead tam\r\nky", &from),
            in_reply_to,
            list: "incidents",
            date: Timestamp::from_second(1_800_000_000).unwrap(),
        };
        outgoing(&draft, "t".into(), "lead").unwrap().message
    }

    #[test]
    fn a_message_says_that_a_program_wrote_it_and_where_it_belongs() {
        let message = draft("Cổng bị treo", "Chủ tịch", Some("<a@vn.example>"));
        for expected in [
            "Message-ID: <incident-1.1.lead-tam--ky@vn.example>\r\n",
            "In-Reply-To: <a@vn.example>\r\n",
            "References: <a@vn.example>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "List-Id: <incidents.vn.example>\r\n",
            "Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n",
            "multipart/alternative",
        ] {
            assert!(message.contains(expected), "{expected:?} in {message}");
        }
    }

    #[test]
    fn nothing_can_begin_a_header_of_its_own() {
        let message = draft("x\r\nBcc: a@b.example\r\n\r\nbody", "n\r\nBcc: c@d.example", None);
        let headers = message.split("\r\n\r\n").next().unwrap();
        assert!(!headers.lines().any(|line| line.to_lowercase().starts_with("bcc")), "{headers}");
    }

    #[test]
    fn shortening_keeps_whole_words_where_it_can() {
        assert_eq!(shorten("ngắn", 10), "ngắn");
        assert_eq!(shorten("Cổng dịch vụ công bị treo", 18), "Cổng dịch vụ công…");
        assert_eq!(shorten(&"x".repeat(30), 10), format!("{}…", "x".repeat(9)));
    }
}
