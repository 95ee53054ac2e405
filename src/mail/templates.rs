//! The texts of mails: one file a mail, language and form, rendered with minijinja. They are built into the program; a
//! site can put files of the same names in their place.
//!
//! A file that ends in `.html` escapes everything that is put in. What a mail knows arrives as ready text in a view
//! (see [`IncidentView`]); files choose words and order, nothing else. A site's file is tried out when the configuration
//! is read; should it fail all the same, the built-in one takes its place: a mail goes out in any case.

use crate::config::site::Language;
use crate::config::{Config, Problems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, Value, escape_formatter};
use serde::Serialize;
use std::path::Path;
use std::sync::LazyLock;

pub mod sample;

/// The files by name; the language and the form are part of it.
const FILES: [(&str, &str); 12] = [
    ("incident.vi.txt", include_str!("templates/incident.vi.txt")),
    ("incident.vi.html", include_str!("templates/incident.vi.html")),
    ("incident.en.txt", include_str!("templates/incident.en.txt")),
    ("incident.en.html", include_str!("templates/incident.en.html")),
    ("summary.vi.txt", include_str!("templates/summary.vi.txt")),
    ("summary.vi.html", include_str!("templates/summary.vi.html")),
    ("summary.en.txt", include_str!("templates/summary.en.txt")),
    ("summary.en.html", include_str!("templates/summary.en.html")),
    ("handover.vi.txt", include_str!("templates/handover.vi.txt")),
    ("handover.vi.html", include_str!("templates/handover.vi.html")),
    ("handover.en.txt", include_str!("templates/handover.en.txt")),
    ("handover.en.html", include_str!("templates/handover.en.html")),
];
/// Bytes of a site's file at most.
const LIMIT: u64 = 256 * 1024;

static BUILT_IN: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment();
    for (name, source) in FILES {
        // The files are part of the program; a test renders each.
        environment.add_template(name, source).expect("a built-in template");
    }
    environment
});

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // A line that holds only a statement leaves no trace. The options are constants and agree.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("a valid syntax");
    environment.set_syntax(syntax);
    environment.set_formatter(format);
    // A misspelt name is an error, not an empty place in a mail.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

/// The built-in files, and those a site put in their place.
#[derive(Debug)]
pub struct Templates {
    own: Option<Environment<'static>>,
}

impl Templates {
    pub fn built_in() -> Templates {
        Templates { own: None }
    }

    /// As a configuration that was checked says.
    pub fn of(config: &Config) -> Templates {
        let Some(dir) = config.email.as_ref().and_then(|email| email.templates.as_ref()) else {
            return Templates::built_in();
        };
        let mut problems = Problems::default();
        let templates = Templates::load(dir, &mut problems);
        // They were good when the configuration was checked: a file has changed since.
        for problem in problems.into_sorted() {
            tracing::error!(%problem, "a template cannot be used; the built-in one is: {problem}");
        }
        templates
    }

    /// With the files of `dir` in the place of the built-in ones. Every file that cannot be used is a problem, with its
    /// place, and left out.
    pub fn load(dir: &Path, problems: &mut Problems) -> Templates {
        let mut own = environment();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                problems.add(dir, 1, 1, format!("email.templates: the directory cannot be read: {error}"));
                return Templates::built_in();
            }
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !file.ends_with(".txt") && !file.ends_with(".html") {
                continue;
            }
            let Some((name, _)) = FILES.iter().find(|(name, _)| *name == file) else {
                let names: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
                problems.add(
                    &path,
                    1,
                    1,
                    format!("no mail has a template of this name; there are {}", names.join(", ")),
                );
                continue;
            };
            let source = match read(&path) {
                Ok(source) => source,
                Err(error) => {
                    problems.add(&path, 1, 1, format!("the template cannot be read: {error}"));
                    continue;
                }
            };
            if let Err(error) = try_out(&mut own, name, source.clone()) {
                let (line, column) = place(&error, &source);
                problems.add(&path, line, column, message(&error));
                own.remove_template(name);
            }
        }
        Templates { own: Some(own) }
    }

    /// Text and HTML of the mail about an incident.
    pub fn incident(&self, view: &IncidentView, language: Language) -> Result<(String, String), RenderError> {
        self.pair("incident", view, language)
    }

    /// Text and HTML of one mail in the place of many.
    pub fn summary(&self, view: &SummaryView, language: Language) -> Result<(String, String), RenderError> {
        self.pair("summary", view, language)
    }

    /// Text and HTML of the mail when duty changes hands.
    pub fn handover(&self, view: &HandoverView, language: Language) -> Result<(String, String), RenderError> {
        self.pair("handover", view, language)
    }

    fn pair(
        &self,
        mail: &str,
        view: impl Serialize + Copy,
        language: Language,
    ) -> Result<(String, String), RenderError> {
        let language = match language {
            Language::Vi => "vi",
            Language::En => "en",
        };
        let text = self.render(&format!("{mail}.{language}.txt"), view)?;
        let html = self.render(&format!("{mail}.{language}.html"), view)?;
        Ok((text, html))
    }

    fn render(&self, name: &str, view: impl Serialize) -> Result<String, RenderError> {
        if let Some(template) = self.own.as_ref().and_then(|own| own.get_template(name).ok()) {
            match template.render(Serde(&view)) {
                Ok(text) => return Ok(text),
                Err(error) => {
                    tracing::error!(
                        mail.template = name,
                        error = message(&error),
                        "a site's template failed; the built-in one is used"
                    );
                }
            }
        }
        BUILT_IN
            .get_template(name)
            .and_then(|template| template.render(Serde(&view)))
            .map_err(|error| RenderError(name.to_string(), error))
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > LIMIT {
        return Err(std::io::Error::other(format!("it has {length} bytes; at most {LIMIT} are allowed")));
    }
    std::fs::read_to_string(path)
}

/// Takes a site's file up and renders it for every kind of mail.
fn try_out(own: &mut Environment<'static>, name: &'static str, source: String) -> Result<(), minijinja::Error> {
    own.add_template_owned(name, source)?;
    let template = own.get_template(name)?;
    let language = if name.contains(".vi.") { Language::Vi } else { Language::En };
    if name.starts_with("summary.") {
        for (_, view) in sample::summaries(language) {
            template.render(Serde(&view))?;
        }
        return Ok(());
    }
    if name.starts_with("handover.") {
        for (_, view) in sample::handovers(language) {
            template.render(Serde(&view))?;
        }
        return Ok(());
    }
    for (_, view) in sample::views(language) {
        template.render(Serde(&view))?;
    }
    Ok(())
}

/// Line and column, from 1, in characters.
fn place(error: &minijinja::Error, source: &str) -> (u32, u32) {
    let line = error.line().unwrap_or(0);
    let column = error
        .range()
        .and_then(|range| source.get(..range.start))
        .map_or(1, |before| before.rsplit('\n').next().unwrap_or("").chars().count() + 1);
    (u32::try_from(line).unwrap_or(0), u32::try_from(column).unwrap_or(0))
}

fn message(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

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
    /// `broken`, `changed`, `escalated`, `reminder`, `acknowledged` or `resolved`.
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
    /// Somebody had answered, and that holds no longer.
    pub is_expired: bool,
    /// It lasted so long without an answer that it is critical now.
    pub is_worsened: bool,
    pub acknowledged: Vec<AcknowledgedView>,
    /// Who is told next if nobody answers.
    pub next: Vec<NextView>,
    /// Where to acknowledge; empty: nowhere.
    pub ack_url: String,
    pub rows: Vec<RowView>,
    /// Rows left out, as text; empty if none.
    pub more: String,
    /// What else is down because of this, as text; empty if nothing is.
    pub affected: String,
    /// The address of the picture of the value's course, `cid:…`; empty if there is none.
    pub curve: String,
    /// What it shows.
    pub curve_says: String,
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

/// What one mail in the place of many says; all texts in the reader's language.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SummaryView {
    /// Its reader wants it at this time; else there were too many mails.
    pub is_digest: bool,
    /// How many mails about how many incidents.
    pub headline: String,
    pub rows: Vec<SummaryRow>,
    /// Incidents left out, as text; empty if none.
    pub more: String,
    /// Where all incidents are.
    pub url: String,
    pub site: String,
}

/// One incident of a summary, by its last mail.
#[derive(Debug, Clone, Serialize)]
pub struct SummaryRow {
    pub what: String,
    pub at: String,
    /// How many mails, as text; empty if it was one.
    pub count: String,
    pub url: String,
}

/// Somebody answered; `until` is empty if it does not expire.
#[derive(Debug, Clone, Serialize)]
pub struct AcknowledgedView {
    pub by: String,
    pub at: String,
    pub until: String,
}

/// People told together, in one line, and when.
#[derive(Debug, Clone, Serialize)]
pub struct NextView {
    pub at: String,
    pub who: String,
}

/// What the mail says when duty changes hands; all texts in the reader's language.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HandoverView {
    /// The reader comes on duty; otherwise the reader goes off.
    pub comes_on: bool,
    pub agency: String,
    /// Who goes off, or who comes on: the other of the two. Empty: nobody.
    pub other: String,
    /// When the new shift began.
    pub from: String,
    /// When it ends; empty: no end is known.
    pub until: String,
    /// Open incidents.
    pub count: usize,
    /// Those of them that nobody has answered.
    pub unanswered: usize,
    pub rows: Vec<HandoverRow>,
    /// Rows left out, as text; empty if none.
    pub more: String,
    /// Where all incidents are listed.
    pub url: String,
    pub site: String,
}

/// One open incident.
#[derive(Debug, Clone, Serialize)]
pub struct HandoverRow {
    pub what: String,
    pub severity: String,
    pub since: String,
    pub lasted: String,
    /// Who answered, until when; empty: nobody.
    pub answered: String,
    /// Where the reader answers; empty: nowhere.
    pub ack_url: String,
    pub url: String,
}

/// Text and HTML of the mail about an incident, from the built-in files.
pub fn incident(view: &IncidentView, language: Language) -> Result<(String, String), RenderError> {
    Templates::built_in().incident(view, language)
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
            for news in ["broken", "changed", "escalated", "reminder", "acknowledged", "resolved"] {
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
    fn each_answer_stands_on_a_line_of_its_own() {
        let ack = |by: &str| AcknowledgedView { by: by.into(), at: "07:41".into(), until: "15:41".into() };
        let view = IncidentView { acknowledged: vec![ack("A"), ack("B")], ..view() };
        let (text, _) = incident(&view, Language::Vi).unwrap();
        assert!(
            text.contains("\nĐã tiếp nhận: A lúc 07:41, có hiệu lực đến 15:41.\nĐã tiếp nhận: B lúc 07:41"),
            "{text}"
        );
    }

    #[test]
    fn that_nobody_is_responsible_is_said() {
        let view = IncidentView { is_nobodys: true, leader: String::new(), ..view() };
        assert!(incident(&view, Language::Vi).unwrap().0.contains("chưa có người chịu trách nhiệm"));
        assert!(incident(&view, Language::En).unwrap().1.contains("no one responsible"));
    }
}
