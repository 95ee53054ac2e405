//! What is fuzzed: a module a target, each with a function that panics if something is wrong. The library's own tests have
//! these modules too, so that they compile with it and all seeds pass.

pub mod bounce;
pub mod config;
pub mod csv;
pub mod mqtt_each;
pub mod mqtt_json;
pub mod mqtt_sparkplug;
pub mod mqtt_value;
pub mod promql;
pub mod rule_template;
pub mod rules;
pub mod unit_test;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("bounce", bounce::run),
    ("config", |bytes| as_text(bytes, config::run)),
    ("csv", csv::run),
    ("mqtt_each", mqtt_each::run),
    ("mqtt_json", mqtt_json::run),
    ("mqtt_sparkplug", mqtt_sparkplug::run),
    ("mqtt_value", mqtt_value::run),
    ("promql", |bytes| as_text(bytes, promql::run)),
    ("rule_template", |bytes| as_text(bytes, rule_template::run)),
    ("rules", |bytes| as_text(bytes, rules::run)),
    ("unit_test", |bytes| as_text(bytes, unit_test::run)),
];

/// As the fuzzer does for targets that take texts.
fn as_text(bytes: &[u8], run: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        run(text);
    }
}

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use std::path::Path;

    #[test]
    fn every_seed_passes() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
        for (name, run) in TARGETS {
            let files = std::fs::read_dir(seeds.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut n_seeds = 0;
            for file in files {
                let file = file.expect("a file").path();
                run(&std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
                n_seeds += 1;
            }
            assert!(n_seeds > 0, "{name} has no seed");
        }
    }
}
