//! What things are called: alerts name their subjects by id, mails by name.

use crate::config::Config;
use std::collections::HashMap;

/// Labels whose values are ids of the configuration that have names.
const NAMED: [&str; 3] = ["service", "dependency", "agency"];
/// Words before an id that its name may begin with: "Cơ sở dữ liệu db-motcua".
const WORDS_BEFORE: usize = 5;

/// Names by label and id; an id that is its own name is not in it.
#[derive(Debug, Default)]
pub struct Names(HashMap<(&'static str, String), String>);

impl Names {
    pub fn new(config: &Config) -> Names {
        let services = config.services.iter().map(|service| ("service", service.id.to_string(), &service.name));
        let dependencies = config.dependencies.iter().map(|one| ("dependency", one.id.to_string(), &one.name));
        let agencies = config.agencies.iter().map(|agency| ("agency", agency.id.to_string(), &agency.name));
        let all = services.chain(dependencies).chain(agencies).filter(|(_, id, name)| id != *name);
        Names(all.map(|(label, id, name)| ((label, id), name.clone())).collect())
    }

    /// What the thing of `label` with this id is called.
    pub fn called(&self, label: &'static str, id: &str) -> Option<&str> {
        self.0.get(&(label, id.to_string())).map(String::as_str)
    }

    /// A line about an alert, whose labels `value_of` knows, with names where it has ids. A word that the name repeats goes: "Cổng dvc-x" becomes "Cổng
    /// dịch vụ công X", not "Cổng Cổng dịch vụ công X".
    pub fn put_into<'l>(&self, line: &str, value_of: impl Fn(&str) -> &'l str) -> String {
        let mut line = line.to_string();
        for label in NAMED {
            let id = value_of(label);
            let Some(name) = self.0.get(&(label, id.to_string())).filter(|_| !id.is_empty()) else { continue };
            // Once: a summary names its subject once, and a name may contain its id.
            if let Some(at) = find_word(&line, id) {
                let before = without_repeated(&line[..at], name);
                line = format!("{before}{name}{}", &line[at + id.len()..]);
            }
        }
        line
    }
}

/// Where `id` stands as a word of its own.
fn find_word(line: &str, id: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    line.match_indices(id).map(|(at, _)| at).find(|at| {
        let after = line[at + id.len()..].trim_start_matches('.');
        // A full stop after it ends a sentence.
        let ends = !after.starts_with(is_part) && !line[at + id.len()..].starts_with(['-', '_']);
        ends && !line[..*at].ends_with(is_part)
    })
}

/// `before` without the words at its end that `name` begins with.
fn without_repeated<'a>(before: &'a str, name: &str) -> &'a str {
    let Some(words) = before.strip_suffix(' ') else { return before };
    let name = name.to_lowercase();
    let starts = words.rmatch_indices(' ').map(|(at, _)| at + 1).chain([0]).take(WORDS_BEFORE);
    let repeated = starts.filter(|start| {
        let tail = words[*start..].to_lowercase();
        !tail.is_empty() && name.strip_prefix(&tail).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    });
    repeated.min().map_or(before, |start| &before[..start])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_subject_and_repeats_no_word() {
        let names = Names(HashMap::from([
            (("service", "dvc".to_string()), "Cổng dịch vụ công TP. Tam Kỳ".to_string()),
            (("service", "db".to_string()), "Cơ sở dữ liệu một cửa".to_string()),
            (("agency", "tam-ky".to_string()), "UBND TP. Tam Kỳ".to_string()),
        ]));
        let rows = [
            ("dvc", "Cổng dvc bị treo", "Cổng dịch vụ công TP. Tam Kỳ bị treo"),
            ("dvc", "Portal dvc is hanging", "Portal Cổng dịch vụ công TP. Tam Kỳ is hanging"),
            ("dvc", "dvc hỏng ở bước “nộp”", "Cổng dịch vụ công TP. Tam Kỳ hỏng ở bước “nộp”"),
            ("db", "Cơ sở dữ liệu db bị treo", "Cơ sở dữ liệu một cửa bị treo"),
            ("dvc", "Cổng dvc-2 bị treo", "Cổng dvc-2 bị treo"),
            ("dvc", "Không vào được dvc.", "Không vào được Cổng dịch vụ công TP. Tam Kỳ."),
            ("dvc", "3 camera (tam-ky)", "3 camera (UBND TP. Tam Kỳ)"),
            ("khac", "Cổng khac bị treo", "Cổng khac bị treo"),
            ("", "Cổng bị treo", "Cổng bị treo"),
        ];
        for (service, line, expected) in rows {
            let value_of = |label: &str| match label {
                "service" => service,
                "agency" => "tam-ky",
                _ => "",
            };
            assert_eq!(names.put_into(line, value_of), expected, "{line}");
        }
    }
}
