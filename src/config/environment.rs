//! `${NAME}` in scalars: replaced by the environment's variable after parsing, so that a value can never change the
//! structure of the file.

use super::Problems;
use super::node::Node;
use std::path::Path;

/// Expands every scalar value. `$${` stands for a literal `${`. What cannot be expanded is reported and made invalid.
pub(super) fn expand(
    root: &mut Node,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    root.map_scalars(&mut |text, place| match expand_text(text, environment) {
        Ok(expanded) => Some(expanded),
        Err(message) => {
            problems.add(file, place.line, place.column, message);
            None
        }
    });
}

fn expand_text(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let Some((name, after)) = rest[at + 2..].split_once('}') else {
            return Err("\"${\" without \"}\"; write $${ for a literal ${".to_owned());
        };
        let sound = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || !sound || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err("expected the name of an environment variable (letters, digits, _) in ${…}".to_owned());
        }
        let Some(value) = environment(name) else {
            return Err(format!("the environment variable {name} is not set"));
        };
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::expand_text;

    #[test]
    fn variables_are_replaced_and_missing_ones_named() {
        let environment = |name: &str| (name == "USER_1").then(|| "${X}".to_owned());
        assert_eq!(expand_text("a ${USER_1} b", &environment), Ok("a ${X} b".to_owned()));
        assert_eq!(expand_text("$5 $${USER_1} $", &environment), Ok("$5 ${USER_1} $".to_owned()));
        assert_eq!(expand_text("${NONE}", &environment), Err("the environment variable NONE is not set".to_owned()));
        assert!(expand_text("${", &environment).is_err());
        assert!(expand_text("${a b}", &environment).is_err());
    }
}
