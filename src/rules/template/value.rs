//! The values that templates work on, and how Go prints them.

use super::printf;
use crate::labels::Labels;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// Label sets: what is not there is the empty string.
    Labels(Labels),
    /// What `args` makes.
    Map(BTreeMap<String, Value>),
    /// An element of a query's result.
    Sample(Sample),
    /// Of `toTime`.
    Time(Timestamp),
    /// Of `toDuration`, in nanoseconds.
    Duration(i64),
    /// The template's data: `.Labels`, `.Value`, `.ExternalLabels`, `.ExternalURL`.
    Root,
}

/// One element of a query's result, as `query` gives it to a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: Labels,
    pub value: f64,
}

impl Value {
    /// Go's name of the type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Labels(_) | Value::Map(_) => "map",
            Value::Sample(_) => "sample",
            Value::Time(_) => "time.Time",
            Value::Duration(_) => "time.Duration",
            Value::Root => "data",
        }
    }

    /// Go's truth: false, 0, "" and what is empty are not.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.is_empty(),
            Value::Labels(labels) => !labels.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Duration(nanoseconds) => *nanoseconds != 0,
            Value::Sample(_) | Value::Time(_) | Value::Root => true,
        }
    }

    /// As `%v` writes it.
    pub fn print(&self, out: &mut String) {
        match self {
            Value::Nil => out.push_str("<no value>"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) => {
                let _ = write!(out, "{value}");
            }
            Value::Float(value) => out.push_str(&printf::shortest(*value)),
            Value::Text(text) => out.push_str(text),
            Value::List(list) => {
                out.push('[');
                for (index, value) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    value.print(out);
                }
                out.push(']');
            }
            Value::Labels(labels) => print_map(out, labels.iter()),
            Value::Map(map) => {
                let texts: Vec<(&str, String)> = map.iter().map(|(name, v)| (name.as_str(), v.to_text())).collect();
                print_map(out, texts.iter().map(|(name, text)| (*name, text.as_str())));
            }
            Value::Sample(sample) => {
                out.push('{');
                print_map(out, sample.labels.iter());
                let _ = write!(out, " {}}}", printf::shortest(sample.value));
            }
            Value::Time(time) => out.push_str(&super::time::written(*time)),
            Value::Duration(nanoseconds) => out.push_str(&super::time::length(*nanoseconds)),
            Value::Root => out.push_str("{data}"),
        }
    }

    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.print(&mut text);
        text
    }
}

fn print_map<'a>(out: &mut String, entries: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push_str("map[");
    for (index, (name, text)) in entries.enumerate() {
        let space = if index > 0 { " " } else { "" };
        let _ = write!(out, "{space}{name}:{text}");
    }
    out.push(']');
}
