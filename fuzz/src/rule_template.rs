//! Any text is refused as a template, or expands or fails for its data; it never panics and its result stays bounded.

use ioc_watch::promql::Labels;
use ioc_watch::rules::template::{Context, Sample, Template};

pub fn run(text: &str) {
    let Ok(template) = Template::parse(text) else { return };
    let labels = Labels::new([("agency", "tam-ky"), ("kind", "portal")]);
    let query = |text: &str| match text {
        "" => Err("empty".to_owned()),
        _ => Ok(vec![Sample { labels: labels.clone(), value: 1.5 }; 3]),
    };
    let context = Context {
        labels: &labels,
        value: 0.2135,
        now: jiff::Timestamp::UNIX_EPOCH,
        external_labels: &labels,
        external_url: "http://ioc/",
        query: &query,
    };
    let _ = template.expand(&context);
    assert_eq!(template.text(), text);
}
