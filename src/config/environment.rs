//! `${NAME}` in scalars: replaced by the environment's variable after parsing, so that a value can never change the
//! structure of the file.

use super::mask::Mask;
use super::node::{Node, Place};
use super::{Problems, Secret};
use std::collections::HashMap;
use std::path::Path;

/// A part of a scalar that has `${NAME}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// From the file.
    Text(String),
    /// From the environment.
    Value(Secret),
}

/// The scalars that hold values of the environment, by their place.
pub(super) type Expanded = HashMap<Place, Vec<Piece>>;

/// Values shorter than this are too common in messages to be hidden there.
const SHORTEST_HIDDEN: usize = 4;

/// Expands every scalar value. `$${` stands for a literal `${`. What cannot be expanded is reported and made invalid.
/// No later message of `problems` will say a value of the environment: it may be a password.
pub(super) fn expand(
    root: &mut Node,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Expanded {
    let mut found = Expanded::new();
    let mut secrets = Mask::default();
    root.map_scalars(&mut |text, place| match expand_text(text, environment) {
        Ok(pieces) => {
            let whole = pieces.iter().map(Piece::text).collect();
            let values = pieces.iter().filter(|piece| matches!(piece, Piece::Value(_))).map(Piece::text);
            values.filter(|value| value.len() >= SHORTEST_HIDDEN).for_each(|value| secrets.add(value));
            if pieces.iter().any(|piece| matches!(piece, Piece::Value(_))) {
                found.insert(place, pieces);
            }
            Some(whole)
        }
        Err(message) => {
            problems.add(file, place.line, place.column, message);
            None
        }
    });
    problems.keep_secret(secrets);
    found
}

impl Piece {
    fn text(&self) -> &str {
        match self {
            Piece::Text(text) => text,
            Piece::Value(value) => value.expose(),
        }
    }
}

fn expand_text(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            plain.push_str(before);
            plain.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        plain.push_str(&rest[..at]);
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
        pieces.push(Piece::Text(std::mem::take(&mut plain)));
        pieces.push(Piece::Value(Secret::new(value)));
        rest = after;
    }
    plain.push_str(rest);
    pieces.push(Piece::Text(plain));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::Piece;

    fn expand_text(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        super::expand_text(text, environment).map(|pieces| pieces.iter().map(Piece::text).collect())
    }

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
