//! Where calls and their arguments stand in the text of a query: the parser's tree does not say, and notes on a query name
//! the place.

/// A call of a function or an aggregation; places are bytes from the start of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Call {
    pub start: usize,
    pub arguments: Vec<usize>,
}

/// Words before a parenthesis that do not call anything.
const KEYWORDS: [&str; 12] =
    ["by", "without", "on", "ignoring", "group_left", "group_right", "bool", "and", "or", "unless", "atan2", "offset"];

/// The calls in the order of their names, as far as a text that parses can tell.
pub fn calls(text: &str) -> Vec<Call> {
    let mut scanner = Scanner { text, at: 0, calls: Vec::new(), open: Vec::new() };
    scanner.run();
    scanner.calls
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    calls: Vec<Call>,
    /// By parenthesis that is open: the call that it belongs to.
    open: Vec<Option<usize>>,
}

impl Scanner<'_> {
    fn run(&mut self) {
        // The call that the next opening parenthesis belongs to.
        let mut called: Option<usize> = None;
        let mut expects_argument = false;
        let mut after_at = false;
        while let Some(c) = self.skip() {
            let start = self.at;
            if std::mem::take(&mut expects_argument)
                && c != ')'
                && let Some(Some(call)) = self.open.last()
            {
                self.calls[*call].arguments.push(start);
            }
            let was_at = std::mem::replace(&mut after_at, c == '@');
            self.at += c.len_utf8();
            match c {
                '(' => {
                    let call = called.take();
                    expects_argument = call.is_some();
                    self.open.push(call);
                }
                ')' => drop(self.open.pop()),
                ',' => expects_argument = self.open.last().is_some_and(Option::is_some),
                '{' => self.to('}'),
                '"' | '\'' | '`' => self.string(c),
                c if c.is_ascii_digit() => self.word(),
                c if c.is_alphabetic() || c == '_' => {
                    self.word();
                    let word = self.text[start..self.at].to_ascii_lowercase();
                    called = if was_at || KEYWORDS.contains(&word.as_str()) { None } else { self.call(start) };
                }
                _ => {}
            }
        }
    }

    /// Whether what was just read is called: a parenthesis follows, after a clause of labels if there is one.
    fn call(&mut self, start: usize) -> Option<usize> {
        let behind = self.at;
        let mut next = self.skip()?;
        if next.is_alphabetic() {
            let from = self.at;
            self.word();
            let word = self.text[from..self.at].to_ascii_lowercase();
            if !matches!(word.as_str(), "by" | "without") || self.skip() != Some('(') {
                self.at = behind;
                return None;
            }
            self.to(')');
            next = self.skip()?;
        }
        if next != '(' {
            self.at = behind;
            return None;
        }
        self.calls.push(Call { start, arguments: Vec::new() });
        Some(self.calls.len() - 1)
    }

    /// The next character that counts, which is not taken.
    fn skip(&mut self) -> Option<char> {
        loop {
            let c = self.text[self.at..].chars().next()?;
            if c == '#' {
                self.at = self.text[self.at..].find('\n').map_or(self.text.len(), |end| self.at + end);
            } else if c.is_whitespace() {
                self.at += c.len_utf8();
            } else {
                return Some(c);
            }
        }
    }

    fn word(&mut self) {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '.'))).unwrap_or(rest.len());
        self.at += length;
    }

    /// Behind the closing bracket; strings in between may hold one.
    fn to(&mut self, end: char) {
        while let Some(c) = self.skip() {
            self.at += c.len_utf8();
            match c {
                c if c == end => return,
                '"' | '\'' | '`' => self.string(c),
                _ => {}
            }
        }
    }

    /// Behind the closing quotation mark.
    fn string(&mut self, quote: char) {
        let mut rest = self.text[self.at..].char_indices();
        while let Some((offset, c)) = rest.next() {
            match c {
                '\\' if quote != '`' => drop(rest.next()),
                c if c == quote => {
                    self.at += offset + 1;
                    return;
                }
                _ => {}
            }
        }
        self.at = self.text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_their_arguments_are_found_in_the_order_of_the_text() {
        let rows: [(&str, &[(usize, &[usize])]); 8] = [
            ("rate(foo[5m])", &[(0, &[5])]),
            ("sum by (a) (rate(x[1m])) / sum(y) by (b)", &[(0, &[12]), (12, &[17]), (27, &[31])]),
            ("quantile without(p) (0.5, x)", &[(0, &[21, 26])]),
            ("time() + x and (y) or on (z) (w)", &[(0, &[])]),
            ("label_join(x, \"a(b\", `)`, '\\'') # c(d)\n+ abs( # e\n z)", &[(0, &[11, 14, 21, 26]), (41, &[51])]),
            ("x{a=\"f(\"} @ start() + max_over_time((y)[5m:1m] offset 1h)", &[(22, &[36])]),
            ("histogram_quantile(0.9, sum by (le)(rate(b[5m])))", &[(0, &[19, 24]), (24, &[36]), (36, &[41])]),
            ("đo + 1e3 * rate", &[]),
        ];
        for (text, expected) in rows {
            let found = calls(text);
            let found: Vec<(usize, &[usize])> = found.iter().map(|call| (call.start, &call.arguments[..])).collect();
            assert_eq!(found, expected, "{text}");
        }
        // Texts that do not parse are not to be scanned for ever.
        for bad in ["f(", "f(\"", "{", "sum by (", "f(,,", ")))", "`", "@", "\\"] {
            calls(bad);
        }
    }
}
