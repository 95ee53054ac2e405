//! `ioc-watch mail-preview`: one mail of every kind, in both languages, with made-up content, as files: `.eml` for a mail
//! program, `.html` and `.txt` for a browser. For a site that puts templates of its own in the place of the built-in
//! ones. Nothing is sent.

use crate::cli;
use crate::config::site::Language;
use crate::config::{self, Config};
use crate::incident::handover_subject;
use crate::mail::message::{self, Part, Parts, one_line, shorten};
use crate::mail::templates::{Templates, sample};
use crate::mail::{Draft, Letter};
use anyhow::Context;
use base64::Engine;
use jiff::Timestamp;
use lettre::message::Mailbox;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Characters of a subject that follow its mark, as those of incidents have.
const SUBJECT: usize = 41;

#[derive(clap::Args)]
pub struct MailPreview {
    /// The configuration file
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Only this kind of mail: broken, changed, escalated, reminder, acknowledged, resolved, bare, digest, summary,
    /// handover-on, handover-off or handover-quiet
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Where the files go; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "mail-preview")]
    out: PathBuf,
}

impl MailPreview {
    pub fn run(&self) -> ExitCode {
        let (config, mut problems) = config::load_partly(&self.config, &|name| std::env::var(name).ok());
        let templates = config.as_ref().and_then(|config| config.email.as_ref()?.templates.as_ref());
        let templates = templates.map_or_else(Templates::built_in, |dir| Templates::load(dir, &mut problems));
        let Some(config) = config.filter(|_| problems.is_empty()) else {
            eprint!("{}", cli::check::report(&problems.into_sorted()));
            return ExitCode::FAILURE;
        };
        match self.write(&config, &templates, Timestamp::now()) {
            Ok(files) => {
                for file in files {
                    println!("{}", file.display());
                }
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn write(&self, config: &Config, templates: &Templates, now: Timestamp) -> anyhow::Result<Vec<PathBuf>> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("making the directory {}", self.out.display()))?;
        let mut files = Vec::new();
        let mut kinds = Vec::new();
        for (language, tag) in [(Language::Vi, "vi"), (Language::En, "en")] {
            for (kind, letter) in letters(config, templates, language)? {
                kinds.push(kind);
                if self.template.as_ref().is_some_and(|asked| asked != kind) {
                    continue;
                }
                let (parts, html) = pictured(&letter.html);
                let eml = message(config, &letter, &format!("preview-{kind}.{tag}"), parts, now)?;
                let name = |extension: &str| self.out.join(format!("{kind}.{tag}.{extension}"));
                for (file, content) in [(name("eml"), &eml), (name("html"), &html), (name("txt"), &letter.text)] {
                    put(&file, content)?;
                    files.push(file);
                }
            }
        }
        if files.is_empty() {
            kinds.truncate(kinds.len() / 2);
            anyhow::bail!("there is no such mail; there are {}", kinds.join(", "));
        }
        Ok(files)
    }
}

/// One of every kind.
fn letters(config: &Config, templates: &Templates, language: Language) -> anyhow::Result<Vec<(&'static str, Letter)>> {
    let mut letters = Vec::new();
    for (kind, mut view) in sample::views(language) {
        view.site.clone_from(&config.site.name);
        let (text, html) = templates.incident(&view, language)?;
        letters.push((kind, Letter { subject: subject(&view.severity, &view.headline), text, html }));
    }
    for (kind, mut view) in sample::summaries(language) {
        view.site.clone_from(&config.site.name);
        let (text, html) = templates.summary(&view, language)?;
        letters.push((kind, Letter { subject: view.headline, text, html }));
    }
    for (kind, mut view) in sample::handovers(language) {
        view.site.clone_from(&config.site.name);
        let (text, html) = templates.handover(&view, language)?;
        letters.push((kind, Letter { subject: handover_subject(&view, language), text, html }));
    }
    Ok(letters)
}

fn subject(severity: &str, headline: &str) -> String {
    format!("[{severity}] {}", shorten(&one_line(headline), SUBJECT))
}

/// The made-up picture, if the text names one; and the text as a browser shows it without the mail around it.
fn pictured(html: &str) -> (Parts, String) {
    const NAME: &str = "curve.png";
    if !html.contains("cid:curve.png") {
        return (Parts::default(), html.to_owned());
    }
    let (curve, since) = crate::incident::sample_curve();
    let bytes = curve.png(since);
    let data = format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(&bytes));
    let html = html.replace("cid:curve.png", &data);
    let part = Part { name: NAME.into(), content_type: "image/png", bytes };
    (Parts { inline: vec![part], ..Parts::default() }, html)
}

fn put(file: &Path, content: &str) -> anyhow::Result<()> {
    std::fs::write(file, content).with_context(|| format!("writing {}", file.display()))
}

/// The message as the first person of the configuration would get it.
fn message(config: &Config, letter: &Letter, id: &str, parts: Parts, now: Timestamp) -> anyhow::Result<String> {
    let person = config.people.first().context("the configuration has no people")?;
    let from = match &config.email {
        Some(email) => email.from.clone(),
        None => Mailbox::new(Some(config.site.name.clone()), person.email.clone()),
    };
    let draft = Draft {
        letter,
        from: &from,
        name: &person.name,
        address: &person.email,
        message_id: &message::message_id(id, &from),
        in_reply_to: None,
        list: "incidents",
        date: now,
    };
    Ok(message::outgoing_with(&draft, "preview".into(), &person.id, parts)?.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(dir: &Path, template: Option<&str>) -> MailPreview {
        MailPreview { config: dir.join("ioc-watch.yml"), template: template.map(str::to_owned), out: dir.join("out") }
    }

    #[test]
    fn every_kind_is_written_in_both_languages_with_the_templates_of_the_site() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("thu");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("incident.vi.txt"), "Của chúng tôi: {{ headline }}\n").unwrap();
        let text = include_str!("init.yml").replace("email:\n", "email:\n  templates: thu\n");
        std::fs::write(dir.path().join("ioc-watch.yml"), text).unwrap();
        let config = config::load(&dir.path().join("ioc-watch.yml")).unwrap();
        let templates = Templates::of(&config);
        let files = preview(dir.path(), None).write(&config, &templates, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(files.len(), 12 * 2 * 3, "{files:?}");
        let read = |name: &str| std::fs::read_to_string(dir.path().join("out").join(name)).unwrap();
        assert_eq!(read("broken.vi.txt"), "Của chúng tôi: Cổng dịch vụ công TP. Tam Kỳ bị treo");
        assert!(read("broken.en.txt").contains("If nobody answers"));
        assert!(read("resolved.vi.html").contains("Đã khắc phục"));
        assert!(read("escalated.en.eml").contains("multipart/alternative"));

        let one = preview(dir.path(), Some("reminder")).write(&config, &templates, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(one.len(), 2 * 3);
        let none = preview(dir.path(), Some("x")).write(&config, &templates, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(
            none.to_string(),
            "there is no such mail; there are broken, changed, escalated, reminder, acknowledged, resolved, bare, digest, \
             summary, handover-on, handover-off, handover-quiet"
        );
    }
}
