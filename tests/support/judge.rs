//! A judge that is not ours: Debian's python3-jsonschema says whether JSON is what a document of schemas describes.

use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// One thing to be judged.
pub struct Case {
    /// For the verdict.
    pub name: String,
    pub schema: Value,
    pub instance: Value,
}

/// Of OpenAPI 2 and of OpenAPI 3.1.
#[derive(Debug, Clone, Copy)]
pub enum Draft {
    Four,
    Of2020,
}

/// What python3-jsonschema does not check by itself are the formats.
const PROGRAM: &str = r#"
import json, re, sys, urllib.parse
import jsonschema
given = json.load(sys.stdin)
draft = {"4": jsonschema.Draft4Validator, "2020-12": jsonschema.Draft202012Validator}[given["draft"]]
checker = jsonschema.FormatChecker(formats=())
time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
checker.checks("date-time")(lambda value: not isinstance(value, str) or time.fullmatch(value) is not None)
checker.checks("uri")(lambda value: not isinstance(value, str) or urllib.parse.urlparse(value).scheme != "")
resolver = jsonschema.RefResolver("", given["document"])
for case in given["cases"]:
    draft.check_schema(case["schema"])
    for error in draft(case["schema"], resolver=resolver, format_checker=checker).iter_errors(case["instance"]):
        print(f"{case['name']}: at {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")
"#;

/// Says of every case what is wrong with it; references in schemas are into `document`.
pub fn judge(draft: Draft, document: &Value, cases: &[Case]) -> Vec<String> {
    let cases: Vec<Value> =
        cases.iter().map(|case| json!({"name": case.name, "schema": case.schema, "instance": case.instance})).collect();
    let draft = match draft {
        Draft::Four => "4",
        Draft::Of2020 => "2020-12",
    };
    let mut python = Command::new("/usr/bin/python3")
        .args(["-W", "ignore", "-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let given = json!({"draft": draft, "document": document, "cases": cases}).to_string();
    python.stdin.take().expect("a pipe").write_all(given.as_bytes()).expect("a reader");
    let output = python.wait_with_output().expect("an end");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "is python3-jsonschema installed? {errors}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
