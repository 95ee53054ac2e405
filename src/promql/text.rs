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

/// Compiled size of a regular expression, in bytes. Counted repetitions multiply: `(x{99}){99}` is long.
const MAX_REGEX_BYTES: usize = 512 * 1024;
/// Of one query.
const MAX_REGEXES: usize = 100;

/// Compiles a regular expression as PromQL means it: anchored, a dot matches line feeds too.
///
/// # Errors
/// `TooLarge` if its compiled form is, `Syntax` if it is none.
pub fn regex(pattern: &str) -> Result<regex::Regex, QueryError> {
    let built = regex::RegexBuilder::new(&format!("^(?s:{pattern})$")).size_limit(MAX_REGEX_BYTES).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => QueryError::TooLarge(format!(
            "the regular expression {:?} compiles to more than {MAX_REGEX_BYTES} bytes",
            pattern.chars().take(60).collect::<String>()
        )),
        error => QueryError::Syntax(format!("illegal regex: {error}")),
    })
}

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
    /// In a range, or after `offset`.
    in_brackets: bool,
    is_offset: bool,
    operators: usize,
    /// The next string is a regular expression.
    is_regex: bool,
    regexes: usize,
}

impl Default for Scanner<'_> {
    fn default() -> Self {
        Scanner {
            chars: "".chars().peekable(),
            out: String::new(),
            depth: 0,
            in_braces: false,
            in_brackets: false,
            is_offset: false,
            operators: 0,
            is_regex: false,
            regexes: 0,
        }
    }
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), QueryError> {
        while let Some(c) = self.chars.next() {
            match c {
                '"' | '\'' | '`' => {
                    let start = self.out.len();
                    if c == '`' {
                        self.raw()
                    } else {
                        self.quoted(c)?
                    }
                    if std::mem::take(&mut self.is_regex) {
                        self.check_regex(start)?;
                    }
                }
                '#' => self.comment(),
                // Before a step; elsewhere it may begin a name.
                ':' if self.in_brackets => self.out.push(c),
                'a'..='z' | 'A'..='Z' | '_' | ':' => self.word(c)?,
                '0'..='9' => self.number(c)?,
                _ => {
                    self.is_regex = c == '~' || (self.is_regex && c.is_whitespace());
                    self.is_offset &= c.is_whitespace() || matches!(c, '+' | '-');
                    self.out.push(c);
                    match c {
                        '(' | '[' | '{' => self.depth += 1,
                        ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                        _ => {}
                    }
                    match c {
                        '{' => self.in_braces = true,
                        '}' => self.in_braces = false,
                        '[' => self.in_brackets = true,
                        ']' => self.in_brackets = false,
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

    /// Before the parser compiles it, whatever it takes.
    fn check_regex(&mut self, start: usize) -> Result<(), QueryError> {
        self.regexes += 1;
        if self.regexes > MAX_REGEXES {
            return Err(QueryError::TooLarge(format!("the query has more than {MAX_REGEXES} regular expressions")));
        }
        let text = &self.out[start..];
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or("");
        match regex(&inner.replace("\\\\", "\\")) {
            Err(error @ QueryError::TooLarge(_)) => Err(error),
            // Escapes are the parser's to read; it says what is wrong.
            _ => Ok(()),
        }
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

    fn word(&mut self, first: char) -> Result<(), QueryError> {
        let start = self.out.len();
        self.out.push(first);
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ':') {
            self.out.push(c);
        }
        let word = self.out[start..].to_ascii_lowercase();
        let is_duration = self.in_brackets || std::mem::take(&mut self.is_offset);
        match word.as_str() {
            "and" | "or" | "unless" | "atan2" => self.operators += 1,
            "offset" if !self.in_braces => self.is_offset = true,
            "inf" | "nan" if is_duration => return Err(out_of_range()),
            _ => {}
        }
        Ok(())
    }

    /// A number or duration. The parser takes a duration's part beyond 32 bits for zero, and panics on seconds that no
    /// `Duration` holds: refused.
    fn number(&mut self, first: char) -> Result<(), QueryError> {
        /// About 30,000 years.
        const MAX_SECONDS: f64 = 1e12;
        let start = self.out.len();
        self.out.push(first);
        let mut digits = 1;
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_')) {
            self.out.push(c);
            let is_exponent = matches!(c, 'e' | 'E') && !self.out[start..].starts_with("0x");
            if is_exponent && let Some(sign) = self.chars.next_if(|c| matches!(c, '+' | '-')) {
                self.out.push(sign);
            }
            if c.is_ascii_digit() {
                digits += 1;
            } else {
                if digits > 9 && matches!(c, 's' | 'm' | 'h' | 'd' | 'w' | 'y') {
                    return Err(QueryError::Unsupported("a duration of more than 9 digits".into()));
                }
                digits = 0;
            }
        }
        let is_duration = self.in_brackets || std::mem::take(&mut self.is_offset);
        let seconds = self.out[start..].replace('_', "").parse::<f64>();
        if is_duration && seconds.is_ok_and(|seconds| seconds > MAX_SECONDS) {
            return Err(out_of_range());
        }
        Ok(())
    }
}

fn out_of_range() -> QueryError {
    QueryError::Syntax("duration out of range".into())
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
        let many = format!("{{{}}}", "a=~\"x\",".repeat(101));
        for text in ["{a=~\"(x{999}){999}\"}", "{a !~ `(\\w{99}){99}`}", &many] {
            assert!(matches!(prepare(text), Err(QueryError::TooLarge(_))), "{text}");
        }
        assert!(prepare("{a=\"(x{999}){999}\",b=~\"(a+)+$\"}").is_ok());
    }

    #[test]
    fn what_the_parser_would_misread_is_refused() {
        for text in ["x[1d5000000000ms]", "x[1d:5000000000ms]", r#""\xc5""#, r#""\377""#] {
            assert!(matches!(prepare(text), Err(QueryError::Unsupported(_))), "{text}");
        }
        assert!(prepare(r#""\x41\\xc5""#).is_ok());
        let long = format!("x[1m:{}1]", "6".repeat(400));
        let beyond =
            ["x[1e30]", "x[1e+30]", "x[1e1_3:1m]", "x[1m:Inf]", "x[NaN]", "x offset 1e30", "x offset - 1e300", &long];
        for text in beyond {
            assert!(matches!(prepare(text), Err(QueryError::Syntax(why)) if why == "duration out of range"), "{text}");
        }
        for text in
            ["x[5m:1m] offset 1m > 1e30", "1e+30 + 1e30", "x[1e3] * Inf", "offset * 1e30", "{offset=\"x\"} > 1e30"]
        {
            assert!(prepare(text).is_ok(), "{text}");
        }
    }
}
