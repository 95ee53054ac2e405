//! The text of a query before it is parsed: limits that keep the parser's stack safe, and one repair.
//!
//! The repair: promql-parser processes escapes in backtick strings, PromQL does not. They are rewritten as
//! double-quoted strings here, so that nobody else need know.

use super::QueryError;

/// Longest query, in bytes.
pub const MAX_BYTES: usize = 16 * 1024;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 200;
/// A chain of operators nests to one side; this bounds the parser's tree before its depth is known.
const MAX_OPERATORS: usize = 1_000;

/// Checks the limits and returns the text to parse.
pub fn prepare(text: &str) -> Result<String, QueryError> {
    if text.len() > MAX_BYTES {
        return Err(QueryError::TooLarge(format!(
            "the query has {} bytes; at most {MAX_BYTES} are allowed",
            text.len()
        )));
    }
    let mut scanner =
        Scanner { chars: text.chars().peekable(), out: String::with_capacity(text.len()), ..Scanner::default() };
    scanner.run()?;
    Ok(scanner.out)
}

struct Scanner<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    out: String,
    depth: usize,
    in_braces: bool,
    operators: usize,
}

impl Default for Scanner<'_> {
    fn default() -> Self {
        Scanner { chars: "".chars().peekable(), out: String::new(), depth: 0, in_braces: false, operators: 0 }
    }
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), QueryError> {
        while let Some(c) = self.chars.next() {
            match c {
                '"' | '\'' => self.quoted(c)?,
                '`' => self.raw(),
                '#' => self.comment(),
                'a'..='z' | 'A'..='Z' | '_' | ':' => self.word(c),
                '0'..='9' => self.number(c)?,
                _ => {
                    self.out.push(c);
                    match c {
                        '(' | '[' | '{' => self.depth += 1,
                        ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                        _ => {}
                    }
                    match c {
                        '{' => self.in_braces = true,
                        '}' => self.in_braces = false,
                        '+' | '-' | '*' | '/' | '%' | '^' | '<' | '>' | '=' | '!' if !self.in_braces => {
                            self.operators += 1;
                        }
                        _ => {}
                    }
                }
            }
            if self.depth > MAX_DEPTH {
                return Err(too_deep());
            }
            if self.operators > MAX_OPERATORS {
                return Err(QueryError::TooLarge(format!("the query has more than {MAX_OPERATORS} operators")));
            }
        }
        Ok(())
    }

    /// A string with escapes. The parser reads `\xff` as a character, Prometheus as a byte: refused.
    fn quoted(&mut self, quote: char) -> Result<(), QueryError> {
        self.out.push(quote);
        while let Some(c) = self.chars.next() {
            self.out.push(c);
            if c == quote {
                return Ok(());
            }
            if c == '\\'
                && let Some(escaped) = self.chars.next()
            {
                self.out.push(escaped);
                let beyond_ascii = match escaped {
                    'x' => self.chars.peek().is_some_and(|digit| !digit.is_ascii_digit() || *digit > '7'),
                    '2' | '3' => true,
                    _ => false,
                };
                if beyond_ascii {
                    return Err(QueryError::Unsupported("a byte beyond ASCII written as an escape in a string".into()));
                }
            }
        }
        Ok(())
    }

    fn raw(&mut self) {
        let mut text = String::new();
        loop {
            match self.chars.next() {
                Some('`') => break,
                Some(c) => text.push(c),
                None => {
                    // Unterminated: the parser says so.
                    self.out.push('`');
                    self.out.push_str(&text);
                    return;
                }
            }
        }
        self.out.push('"');
        for c in text.chars() {
            match c {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn comment(&mut self) {
        for c in self.chars.by_ref() {
            if c == '\n' {
                break;
            }
        }
        self.out.push('\n');
    }

    fn word(&mut self, first: char) {
        let start = self.out.len();
        self.out.push(first);
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ':') {
            self.out.push(c);
        }
        if matches!(self.out[start..].to_ascii_lowercase().as_str(), "and" | "or" | "unless" | "atan2") {
            self.operators += 1;
        }
    }

    /// A number or duration. The parser takes a duration's part beyond 32 bits for zero: refused.
    fn number(&mut self, first: char) -> Result<(), QueryError> {
        self.out.push(first);
        let mut digits = 1;
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_')) {
            self.out.push(c);
            if c.is_ascii_digit() {
                digits += 1;
            } else {
                if digits > 9 && matches!(c, 's' | 'm' | 'h' | 'd' | 'w' | 'y') {
                    return Err(QueryError::Unsupported("a duration of more than 9 digits".into()));
                }
                digits = 0;
            }
        }
        Ok(())
    }
}

pub fn too_deep() -> QueryError {
    QueryError::TooLarge(format!("the query is nested deeper than {MAX_DEPTH} levels"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backtick_strings_keep_their_backslashes() {
        assert_eq!(prepare(r#"{a=~`\d+"`}"#).unwrap(), r#"{a=~"\\d+\""}"#);
        assert_eq!(prepare(r#"{a=~"\\d`("}"#).unwrap(), r#"{a=~"\\d`("}"#);
    }

    #[test]
    fn limits_hold_before_parsing() {
        for text in ["(".repeat(201), "-".repeat(1_001), " ".repeat(MAX_BYTES + 1), "1 and ".repeat(1_001)] {
            assert!(matches!(prepare(&text), Err(QueryError::TooLarge(_))), "{}", &text[..10]);
        }
        assert!(prepare(&format!("\"{}\"", "(".repeat(1_000))).is_ok());
    }

    #[test]
    fn what_the_parser_would_misread_is_refused() {
        for text in ["x[1d5000000000ms]", r#""\xc5""#, r#""\377""#] {
            assert!(matches!(prepare(text), Err(QueryError::Unsupported(_))), "{text}");
        }
        assert!(prepare(r#""\x41\\xc5""#).is_ok());
    }
}
