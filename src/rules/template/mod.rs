//! Go templates as Prometheus uses them in labels and annotations of alerting rules.
//!
//! Supported: text, comments, trim marks, pipelines, variables, `if`, `with`, `range`, `else`, `define`, `template`,
//! `block`, the functions in [`functions`], and the methods of times and durations in [`time`]. `break`, `continue` and a
//! few functions are refused by name when the template is read. One difference on purpose: whole numbers and floats compare (`gt $value 5`).

mod eval;
mod functions;
mod humanize;
mod lexer;
mod parser;
mod printf;
mod reads;
mod time;
mod value;

pub(super) use reads::Asked;
pub use value::Sample;

use crate::labels::Labels;
use jiff::Timestamp;

/// A template longer than this (in bytes) is refused.
const MAX_TEXT: usize = 16 * 1024;

/// A template that was read: it expands, or fails for its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    text: String,
    tree: parser::Tree,
}

/// What a template is expanded with.
pub struct Context<'a> {
    pub labels: &'a Labels,
    pub value: f64,
    /// Of the evaluation.
    pub now: Timestamp,
    pub external_labels: &'a Labels,
    pub external_url: &'a str,
    /// Answers the function `query`.
    pub query: &'a dyn Fn(&str) -> Result<Vec<Sample>, String>,
}

impl Template {
    /// Reads a template; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Template, String> {
        if text.len() > MAX_TEXT {
            return Err(format!("the template is longer than {MAX_TEXT} bytes"));
        }
        Ok(Template { text: text.to_owned(), tree: parser::parse(text)? })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is plain text, the same for every alert.
    pub fn is_static(&self) -> bool {
        self.tree.nodes.iter().all(|node| matches!(node, parser::Node::Text(_)))
    }

    /// Whether it asks the engine with `query`, or the clock: then the same alert may get another text.
    pub fn is_volatile(&self) -> bool {
        reads::is_volatile(&self.tree)
    }

    /// Whether its text may depend on the value of the result.
    pub fn reads_value(&self) -> bool {
        reads::reads_value(&self.tree)
    }

    /// What it asks the engine with `query`, as far as its text tells.
    pub(super) fn asked(&self) -> Vec<Asked> {
        reads::asked(&self.tree)
    }

    pub fn expand(&self, context: &Context<'_>) -> Result<String, String> {
        if let [parser::Node::Text(text)] = &self.tree.nodes[..] {
            return Ok(text.clone());
        }
        eval::run(&self.tree, context)
    }
}

/// The known name that `name` was probably meant to be.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    known
        .map(|known| (distance(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, l) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, r) in right.iter().enumerate() {
            let changed = diagonal + usize::from(l != *r);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, String> {
        let labels = Labels::new([("service", "dvc"), ("kind", "portal")]);
        let external = Labels::new([("agency", "ioc")]);
        let query = |text: &str| match text {
            "none" => Ok(Vec::new()),
            "bad" => Err("no such query".to_owned()),
            _ => Ok(["b", "a"].map(|name| Sample { labels: Labels::new([("x", name)]), value: 1.5 }).to_vec()),
        };
        let context = Context {
            labels: &labels,
            value: 0.2135,
            now: Timestamp::from_millisecond(1_257_894_000_250).expect("a time"),
            external_labels: &external,
            external_url: "http://ioc/watch/",
            query: &query,
        };
        Template::parse(text)?.expand(&context)
    }

    #[test]
    fn expands_as_go_and_prometheus_do() {
        let rows = [
            ("{{ $labels.service }} {{ .Labels.kind }} {{ $labels.missing }}|", "dvc portal |"),
            ("{{ $value }} {{ .Value | humanizePercentage }}", "0.2135 21.35%"),
            ("{{ if eq $labels.kind \"x\" }}1{{ else if eq $labels.kind \"y\" \"portal\" }}2{{ else }}3{{ end }}", "2"),
            ("{{ if and (gt $value 0.2) (lt $value 1) }}yes{{ end }}", "yes"),
            ("{{ if gt $value 5 }}{{ else }}no{{ end }}", "no"),
            ("{{ with query \"up\" }}{{ . | first | label \"x\" }} {{ . | first | value }}{{ end }}", "b 1.5"),
            ("{{ with query \"none\" }}x{{ else }}nothing{{ end }}", "nothing"),
            ("{{ range query \"up\" | sortByLabel \"x\" }}{{ .Labels.x }}={{ .Value }};{{ end }}", "a=1.5;b=1.5;"),
            ("{{ range $i, $s := query \"up\" }}{{ $i }}{{ $s.Labels.x }}{{ end }}", "0b1a"),
            ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
            ("{{ printf \"%.2f %s\" $value $labels.kind }}", "0.21 portal"),
            ("{{ or $labels.missing \"unknown\" }} {{ not true }} {{ len $labels.kind }}", "unknown false 6"),
            ("{{ reReplaceAll \"_(.)\" \"-$1\" \"a_b_c\" }} {{ \"a b\" | title }} {{ toUpper \"đ\" }}", "a-b-c A B Đ"),
            ("{{ index $labels \"kind\" }} {{ (args 1 \"b\").arg1 }} {{ match \"^p\" $labels.kind }}", "portal b true"),
            (
                "{{ stripPort \"a.b:80\" }} {{ stripDomain \"a.b:80\" }} {{ pathPrefix }} {{ externalURL }}",
                "a.b a:80 /watch http://ioc/watch/",
            ),
            ("{{ $externalLabels.agency }} {{ parseDuration \"1h30m\" }} {{ urlquery \"a b\" }}", "ioc 5400 a+b"),
            ("{{- /* comment */ -}} x {{- \" y\" }}", "x y"),
            (
                "{{ now }} {{ toTime now }} {{ (toTime 1257894000).Format \"02/01/2006 15:04\" }}",
                "1.25789400025e+09 2009-11-10 23:00:00.249 +0000 UTC 10/11/2009 23:00",
            ),
            (
                "{{ toDuration 5400 }} {{ (toDuration \"90.5\").Minutes | printf \"%.2f\" }} {{ (toTime 60).Add (toDuration 1) }}",
                "1h30m0s 1.51 1970-01-01 00:01:01 +0000 UTC",
            ),
            (
                "{{ with toTime 0 }}{{ .Year }}-{{ .Month }}{{ end }} {{ \"2006\" | (toTime 0).Format }}",
                "1970-January 1970",
            ),
            (
                "{{ define \"x\" }}<{{ .kind }}>{{ end }}{{ template \"x\" $labels }}{{ template \"x\" $labels }}",
                "<portal><portal>",
            ),
            ("{{ block \"y\" 1 }}{{ . }}{{ $ }}{{ end }}{{ template \"y\" }}", "11<no value><no value>"),
            ("{{ define \"r\" }}{{ if . }}x{{ template \"r\" false }}{{ end }}{{ end }}{{ template \"r\" true }}", "x"),
        ];
        for (text, expected) in rows {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_when_it_is_read() {
        let rows = [
            ("{{ humanise $value }}", "unknown function humanise; nearest: humanize"),
            ("{{ $label.x }}", "unknown variable $label; nearest: $labels"),
            ("{{ .Label }}", "unknown field .Label; known are .Labels, .Value, .ExternalLabels, .ExternalURL"),
            ("{{ template \"xz\" }}{{ define \"xy\" }}{{ end }}", "no template \"xz\" is defined; nearest: \"xy\""),
            ("{{ define \"x\" }}{{ $labels.a }}{{ end }}", "unknown variable $labels"),
            ("{{ if true }}{{ define \"x\" }}{{ end }}{{ end }}", "{{ define }} inside a block"),
            ("{{ block \"x\" . }}", "the template \"x\" is without an end"),
            ("{{ break }}", "{{ break }} is not supported"),
            ("{{ tmpl \"x\" }}", "the function tmpl is not supported"),
            ("{{ if true }}", "{{ if }} without an end"),
            ("{{ end }}", "{{ end }} without an if, with or range"),
            ("{{ title }}", "title takes 1 to 1 arguments, not 0"),
            ("{{ $value 1 }}", "only a function takes arguments"),
            ("{{ $value", "an action is not closed by }}"),
            ("{{ (1 }}", "an opening parenthesis without a closing one"),
        ];
        for (text, expected) in rows {
            let error = Template::parse(text).err();
            assert_eq!(error.as_deref(), Some(expected), "{text}");
        }
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(Template::parse(&deep).is_err());
    }

    #[test]
    fn what_the_data_break_is_an_error_of_the_expansion() {
        for text in [
            "{{ toTime \"x\" }}",
            "{{ (toTime 0).Never }}",
            "{{ (toDuration 1).Format \"x\" }}",
            "{{ $labels.kind.Format \"x\" }}",
            "{{ toTime 1e300 }}",
            "{{ define \"r\" }}{{ template \"r\" }}{{ end }}{{ template \"r\" }}",
            "{{ query \"bad\" }}",
            "{{ query \"none\" | first }}",
            "{{ eq $labels.kind 1 }}",
            "{{ $value.x }}",
        ] {
            assert!(expand(text).is_err(), "{text}");
        }
        let loops = "{{ range query \"up\" }}".repeat(20) + "x" + &"{{ end }}".repeat(20);
        assert!(expand(&loops).is_err());
    }
}
