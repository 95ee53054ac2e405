//! The texts of mails, built into the program: one folder of files a mail, rendered with minijinja.
//!
//! A file that ends in `.html` escapes everything that is put in. What a mail knows arrives as ready text in a view
//! (see [`IncidentView`]); files choose words and order, nothing else.

use crate::config::site::Language;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Output, State, Value, escape_formatter};
use serde::Serialize;
use std::sync::LazyLock;

/// The files by name; the language and the form are part of it.
const FILES: [(&str, &str); 4] = [
    ("incident.vi.txt", include_str!("templates/incident.vi.txt")),
    ("incident.vi.html", include_str!("templates/incident.vi.html")),
    ("incident.en.txt", include_str!("templates/incident.en.txt")),
    ("incident.en.html", include_str!("templates/incident.en.html")),
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    // A line that holds only a statement leaves no trace. The options are constants and agree.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("a valid syntax");
    environment.set_syntax(syntax);
    environment.set_formatter(format);
    for (name, source) in FILES {
        // The files are part of the program; a test renders each.
        environment.add_template(name, source).expect("a built-in template");
    }
    environment
});

/// Escapes what HTML needs escaped, and no more: the default's `&#x2f;` in every date and link helps nobody.
fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    let text = match value.as_str() {
        Some(text) if *state.auto_escape() == AutoEscape::Html && !value.is_safe() => text,
        _ => return escape_formatter(out, state, value),
    };
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let entity = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&#39;",
            _ => continue,
        };
        out.write_str(&text[plain_from..at])?;
        out.write_str(entity)?;
        plain_from = at + 1;
    }
    Ok(out.write_str(&text[plain_from..])?)
}

/// A mail that could not be rendered: a mistake in the program, to be logged and counted, not to stop others.
#[derive(Debug, thiserror::Error)]
#[error("rendering the mail {0}")]
pub struct RenderError(String, #[source] minijinja::Error);

/// What the mail about an incident says; all texts in the reader's language.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IncidentView {
    /// `broken`, `changed` or `resolved`.
    pub news: &'static str,
    /// What citizens cannot do, or what happened, in one line.
    pub headline: String,
    /// Alerts beyond the headline's.
    pub others: String,
    pub description: String,
    /// When it began, and when it ended (or is still going on: empty).
    pub since: String,
    pub until: String,
    pub lasted: String,
    pub severity: String,
    pub is_critical: bool,
    pub agency: String,
    pub area: String,
    /// Empty if there is none.
    pub leader: String,
    pub superior: String,
    /// Nobody of the agency answers for it.
    pub is_nobodys: bool,
    /// Names of everybody told, with what they are.
    pub told: Vec<String>,
    pub rows: Vec<RowView>,
    /// Rows left out, as text; empty if none.
    pub more: String,
    /// What else is down because of this, as text; empty if nothing is.
    pub affected: String,
    /// What else is known: dossier codes.
    pub evidence: Vec<String>,
    /// Where it says what to do; a link if it begins with `http`.
    pub runbook: String,
    pub url: String,
    pub site: String,
}

/// One alert of the incident.
#[derive(Debug, Clone, Serialize)]
pub struct RowView {
    pub what: String,
    pub since: String,
    pub state: String,
}

/// Text and HTML of the mail about an incident.
pub fn incident(view: &IncidentView, language: Language) -> Result<(String, String), RenderError> {
    let language = match language {
        Language::Vi => "vi",
        Language::En => "en",
    };
    let text = render(&format!("incident.{language}.txt"), view)?;
    let html = render(&format!("incident.{language}.html"), view)?;
    Ok((text, html))
}

fn render(name: &str, view: impl Serialize) -> Result<String, RenderError> {
    ENVIRONMENT
        .get_template(name)
        .and_then(|template| template.render(Serde(view)))
        .map_err(|error| RenderError(name.to_string(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> IncidentView {
        IncidentView {
            news: "broken",
            headline: "Cổng <b>dịch vụ công</b> bị treo 6 phút".into(),
            since: "27/03/2022 07:33".into(),
            lasted: "6 phút".into(),
            severity: "Nghiêm trọng".into(),
            agency: "UBND TP. Tam Kỳ".into(),
            area: "dịch vụ".into(),
            leader: "Chủ tịch".into(),
            superior: "Lãnh đạo tỉnh (UBND tỉnh)".into(),
            told: vec!["Cán bộ CNTT (cán bộ trực)".into()],
            rows: vec![RowView {
                what: "\"><script>".into(),
                since: "27/03/2022 07:33".into(),
                state: "đang xảy ra".into(),
            }],
            runbook: "javascript:alert(1)".into(),
            url: "https://ioc.example/incidents/1".into(),
            site: "IOC".into(),
            ..IncidentView::default()
        }
    }

    #[test]
    fn every_file_renders_and_html_escapes_what_alerts_bring() {
        for language in [Language::Vi, Language::En] {
            for news in ["broken", "changed", "resolved"] {
                let (text, html) = incident(&IncidentView { news, ..view() }, language).unwrap();
                assert!(text.starts_with("Cổng <b>dịch vụ công</b> bị treo 6 phút\n"), "{text}");
                assert!(!html.contains("<script>") && !html.contains("<b>dịch"), "{html}");
                assert!(!html.contains("href=\"javascript"), "{html}");
                assert!(
                    text.contains("https://ioc.example/incidents/1")
                        && html.contains("\"https://ioc.example/incidents/1\"")
                );
                assert!(!text.contains("\n\n\n"), "{text}");
            }
        }
    }

    #[test]
    fn that_nobody_is_responsible_is_said() {
        let view = IncidentView { is_nobodys: true, leader: String::new(), ..view() };
        assert!(incident(&view, Language::Vi).unwrap().0.contains("chưa có người chịu trách nhiệm"));
        assert!(incident(&view, Language::En).unwrap().1.contains("no one responsible"));
    }
}
