//! Text with `{{name}}` in it: parsed once with the configuration, filled in at every run. Where a value goes decides how
//! it is written there; that is the caller's to say.

use crate::config::Secret;
use crate::config::mask::HIDDEN;
use std::collections::BTreeMap;
use std::fmt;

/// What begins the names of secrets.
pub(super) const SECRET_PREFIX: &str = "secret.";

/// A text with places to fill in. `Debug` shows it as [`Template::shown`].
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// From the environment: stands as it is, as if it were written in the file.
    Environment(Secret),
    /// `{{name}}`: a capture of an earlier step.
    Capture(String),
    /// `{{secret.NAME}}`.
    Secret {
        name: String,
        value: Secret,
    },
}

/// A text that is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TemplateError {
    Unclosed,
    Name,
    UnknownSecret(String),
}

impl Template {
    /// Adds literal text of the file, in which `{{…}}` counts; `\{{` is a literal `{{`.
    pub(super) fn push(&mut self, text: &str, secrets: &BTreeMap<String, Secret>) -> Result<(), TemplateError> {
        let mut rest = text;
        let mut plain = String::new();
        while let Some(at) = rest.find("{{") {
            if let Some(before) = rest[..at].strip_suffix('\\') {
                plain.push_str(before);
                plain.push_str("{{");
                rest = &rest[at + 2..];
                continue;
            }
            plain.push_str(&rest[..at]);
            let (name, after) = rest[at + 2..].split_once("}}").ok_or(TemplateError::Unclosed)?;
            let name = name.trim();
            let (kind, bare) = match name.strip_prefix(SECRET_PREFIX) {
                Some(bare) => (true, bare),
                None => (false, name),
            };
            if !is_name(bare) {
                return Err(TemplateError::Name);
            }
            self.push_text(std::mem::take(&mut plain));
            if kind {
                let value = secrets.get(bare).ok_or_else(|| TemplateError::UnknownSecret(bare.to_owned()))?.clone();
                self.parts.push(Part::Secret { name: bare.to_owned(), value });
            } else {
                self.parts.push(Part::Capture(name.to_owned()));
            }
            rest = after;
        }
        plain.push_str(rest);
        self.push_text(plain);
        Ok(())
    }

    fn push_text(&mut self, text: String) {
        if !text.is_empty() {
            self.parts.push(Part::Text(text));
        }
    }

    /// Adds a value of the environment, in which `{{` means nothing.
    pub(super) fn push_environment(&mut self, value: Secret) {
        self.parts.push(Part::Environment(value));
    }

    /// The captures that it needs.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The name of the capture that is all of it.
    pub fn sole_capture(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Capture(name)] => Some(name),
            _ => None,
        }
    }

    /// Whether it begins with a capture.
    pub fn begins_with_capture(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Capture(_)))
    }

    /// Whether it has a secret, of a file or of the environment.
    pub fn holds_secret(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Secret { .. } | Part::Environment(_)))
    }

    /// As it stands in the file, for messages: names for captures and secrets, `***` for the environment.
    pub fn shown(&self) -> String {
        self.parts.iter().fold(String::new(), |text, part| match part {
            Part::Text(part) => text + part,
            Part::Environment(_) => text + HIDDEN,
            Part::Capture(name) => text + "{{" + name + "}}",
            Part::Secret { name, .. } => text + "{{" + SECRET_PREFIX + name + "}}",
        })
    }

    /// Fills it in. `write` writes a captured or secret value as its place needs it, or refuses it.
    ///
    /// # Errors
    /// The name of the capture that is missing or was refused.
    pub fn fill<'v>(
        &self,
        capture: &dyn Fn(&str) -> Option<&'v str>,
        write: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Environment(value) => text.push_str(value.expose()),
                Part::Capture(name) => {
                    text.push_str(&capture(name).and_then(write).ok_or_else(|| name.clone())?);
                }
                Part::Secret { name, value } => {
                    text.push_str(&write(value.expose()).ok_or_else(|| format!("{SECRET_PREFIX}{name}"))?);
                }
            }
        }
        Ok(text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown(), f)
    }
}

/// What may stand in `{{…}}` and name a capture or a secret.
pub(super) fn is_name(name: &str) -> bool {
    let sound = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.chars().count() <= 40 && name.chars().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Result<Template, TemplateError> {
        let secrets = BTreeMap::from([("pin".to_owned(), Secret::new("1 2"))]);
        let mut template = Template::default();
        template.push(text, &secrets)?;
        Ok(template)
    }

    #[test]
    fn names_are_filled_in_and_text_stays() {
        let mut with = template(r"a {{ mã }}-{{secret.pin}} \{{x}} }}").unwrap();
        with.push_environment(Secret::new("{{mã}}"));
        let fill = with.fill(&|name| (name == "mã").then_some("H 1"), &|value| Some(value.replace(' ', "+")));
        assert_eq!(fill, Ok("a H+1-1+2 {{x}} }}{{mã}}".to_owned()));
        assert_eq!(with.fill(&|_| None, &|_| None), Err("mã".to_owned()));
        assert_eq!(with.shown(), "a {{mã}}-{{secret.pin}} {{x}} }}***");
        assert!(with.holds_secret() && !format!("{with:?}").contains("1 2"));
    }

    #[test]
    fn broken_templates_are_told_apart() {
        assert_eq!(template("{{x").unwrap_err(), TemplateError::Unclosed);
        assert_eq!(template("{{a b}}").unwrap_err(), TemplateError::Name);
        assert_eq!(template("{{}}").unwrap_err(), TemplateError::Name);
        assert_eq!(template("{{secret.pni}}").unwrap_err(), TemplateError::UnknownSecret("pni".into()));
    }
}
