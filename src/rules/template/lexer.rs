//! Cuts a template into text and actions, and an action into tokens.

/// A part of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    /// What stands between `{{` and `}}`, without trim marks.
    Action(&'a str),
}

/// Splits at `{{ … }}`; applies `{{-` and `-}}`; leaves out comments.
pub(super) fn split(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut trim_left = false;
    while let Some(start) = rest.find("{{") {
        let (mut before, action) = (&rest[..start], &rest[start + 2..]);
        let trims = action.starts_with('-') && action[1..].starts_with([' ', '\t', '\r', '\n']);
        let action = if trims { &action[1..] } else { action };
        if trim_left {
            before = before.trim_start_matches(WHITE);
        }
        if trims {
            before = before.trim_end_matches(WHITE);
        }
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let end = end_of_action(action)?;
        let mut inside = &action[..end];
        rest = &action[end + 2..];
        trim_left = inside.ends_with('-') && inside[..inside.len() - 1].ends_with(WHITE);
        if trim_left {
            inside = &inside[..inside.len() - 1];
        }
        let inside = inside.trim_matches(WHITE);
        if !inside.starts_with("/*") {
            parts.push(Part::Action(inside));
        }
    }
    let last = if trim_left { rest.trim_start_matches(WHITE) } else { rest };
    if !last.is_empty() {
        parts.push(Part::Text(last));
    }
    Ok(parts)
}

const WHITE: [char; 4] = [' ', '\t', '\r', '\n'];

/// The offset of the `}}` that ends the action: not one inside a string or a comment.
fn end_of_action(action: &str) -> Result<usize, String> {
    let start = action.trim_start_matches(WHITE);
    if start.starts_with("/*") {
        let comment = action.find("*/").ok_or("a comment is not closed by */")?;
        let after = &action[comment..];
        return after.find("}}").map(|end| comment + end).ok_or_else(|| "an action is not closed by }}".to_owned());
    }
    let mut characters = action.char_indices();
    while let Some((offset, c)) = characters.next() {
        match c {
            '}' if action[offset..].starts_with("}}") => return Ok(offset),
            '"' | '`' | '\'' => loop {
                match characters.next() {
                    Some((_, '\\')) if c != '`' => {
                        characters.next();
                    }
                    Some((_, end)) if end == c => break,
                    Some(_) => {}
                    None => return Err("a string in an action is not closed".to_owned()),
                }
            },
            _ => {}
        }
    }
    Err("an action is not closed by }}".to_owned())
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.` alone.
    Dot,
    /// `.name`; true if white space stands before it, so that it begins an operand.
    Field(String, bool),
    /// `$name`, without the dollar sign; `$` is "".
    Variable(String),
    Name(String),
    Text(String),
    Int(i64),
    Float(f64),
    Declare,
    Assign,
    Pipe,
    Comma,
    Open,
    Close,
}

/// The tokens of one action.
pub(super) fn tokens(action: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = action;
    let mut spaced = true;
    while let Some(c) = rest.chars().next() {
        if WHITE.contains(&c) {
            rest = &rest[c.len_utf8()..];
            spaced = true;
            continue;
        }
        let (token, length) = token(rest, c, spaced)?;
        tokens.push(token);
        rest = &rest[length..];
        spaced = false;
    }
    Ok(tokens)
}

fn token(rest: &str, c: char, spaced: bool) -> Result<(Token, usize), String> {
    let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    Ok(match c {
        '|' => (Token::Pipe, 1),
        ',' => (Token::Comma, 1),
        '(' => (Token::Open, 1),
        ')' => (Token::Close, 1),
        '=' => (Token::Assign, 1),
        ':' if rest.starts_with(":=") => (Token::Declare, 2),
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => match word(&rest[1..]) {
            0 => (Token::Dot, 1),
            length => (Token::Field(rest[1..=length].to_owned(), spaced), length + 1),
        },
        '$' => {
            let length = word(&rest[1..]);
            (Token::Variable(rest[1..=length].to_owned()), length + 1)
        }
        '"' | '`' => string(rest, c)?,
        c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => number(rest)?,
        c if c.is_alphabetic() || c == '_' => {
            let length = word(rest);
            (Token::Name(rest[..length].to_owned()), length)
        }
        c => return Err(format!("unexpected {c:?} in {{{{ {rest} }}}}")),
    })
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let length = rest
        .char_indices()
        .find(|&(at, c)| {
            let sign = at == 0 || rest[..at].ends_with(['e', 'E']);
            !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || sign && matches!(c, '-' | '+'))
        })
        .map_or(rest.len(), |(at, _)| at);
    let text = &rest[..length];
    let token = match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(value), _) => Token::Int(value),
        (_, Ok(value)) if value.is_finite() => Token::Float(value),
        _ => return Err(format!("{text} is not a number")),
    };
    Ok((token, length))
}

/// A quoted string with Go's escapes, or a raw one.
fn string(rest: &str, quote: char) -> Result<(Token, usize), String> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            c if c == quote => return Ok((Token::Text(text), at + 1)),
            '\\' if quote == '"' => match characters.next().map(|(_, escaped)| escaped) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(c @ ('\\' | '"' | '\'')) => text.push(c),
                Some(c) => return Err(format!("the escape \\{c} is not supported")),
                None => break,
            },
            c => text.push(c),
        }
    }
    Err("a string in an action is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trim_marks_eat_the_white_space_beside_them_and_comments_vanish() {
        let parts = split("a {{- .x -}} b{{/* }} */}} {{ \"}}\" }}").expect("a template");
        let expected = [Part::Text("a"), Part::Action(".x"), Part::Text("b"), Part::Text(" "), Part::Action("\"}}\"")];
        assert_eq!(parts, expected);
    }

    #[test]
    fn what_is_not_closed_is_an_error() {
        for bad in ["{{ .x", "{{ \"a }}", "{{/* a }}"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
