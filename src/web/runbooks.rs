//! What to do about an alert: the runbooks of `docs/runbooks/`, built in, as pages.
//!
//! Their Markdown is ours and plain: headings, paragraphs, lists, code. What is rendered here is that much.

use std::fmt::Write;

/// Name and text.
const RUNBOOKS: &[(&str, &str)] = &[
    ("access-log-lost", include_str!("../../docs/runbooks/access-log-lost.md")),
    ("apology-missing", include_str!("../../docs/runbooks/apology-missing.md")),
    ("application-unused", include_str!("../../docs/runbooks/application-unused.md")),
    ("broker-dropping", include_str!("../../docs/runbooks/broker-dropping.md")),
    ("camera-offline", include_str!("../../docs/runbooks/camera-offline.md")),
    ("camera-unusable", include_str!("../../docs/runbooks/camera-unusable.md")),
    ("certificate", include_str!("../../docs/runbooks/certificate.md")),
    ("config-reload", include_str!("../../docs/runbooks/config-reload.md")),
    ("daemon-missing", include_str!("../../docs/runbooks/daemon-missing.md")),
    ("data-stale", include_str!("../../docs/runbooks/data-stale.md")),
    ("database-slow", include_str!("../../docs/runbooks/database-slow.md")),
    ("dependency-down", include_str!("../../docs/runbooks/dependency-down.md")),
    ("disk", include_str!("../../docs/runbooks/disk.md")),
    ("dossiers-overdue", include_str!("../../docs/runbooks/dossiers-overdue.md")),
    ("feed-late", include_str!("../../docs/runbooks/feed-late.md")),
    ("feed-stale", include_str!("../../docs/runbooks/feed-stale.md")),
    ("file-incomplete", include_str!("../../docs/runbooks/file-incomplete.md")),
    ("heartbeat-missing", include_str!("../../docs/runbooks/heartbeat-missing.md")),
    ("host", include_str!("../../docs/runbooks/host.md")),
    ("hotspot-addresses", include_str!("../../docs/runbooks/hotspot-addresses.md")),
    ("hotspot-offline", include_str!("../../docs/runbooks/hotspot-offline.md")),
    ("hotspot-without-internet", include_str!("../../docs/runbooks/hotspot-without-internet.md")),
    ("journey-broken", include_str!("../../docs/runbooks/journey-broken.md")),
    ("journey-not-undone", include_str!("../../docs/runbooks/journey-not-undone.md")),
    ("mail-stuck", include_str!("../../docs/runbooks/mail-stuck.md")),
    ("mqtt-disconnected", include_str!("../../docs/runbooks/mqtt-disconnected.md")),
    ("nobody-responsible", include_str!("../../docs/runbooks/nobody-responsible.md")),
    ("paid-not-recorded", include_str!("../../docs/runbooks/paid-not-recorded.md")),
    ("payment-mismatch", include_str!("../../docs/runbooks/payment-mismatch.md")),
    ("receipt-missing", include_str!("../../docs/runbooks/receipt-missing.md")),
    ("rows-rejected", include_str!("../../docs/runbooks/rows-rejected.md")),
    ("rules-failing", include_str!("../../docs/runbooks/rules-failing.md")),
    ("service-down", include_str!("../../docs/runbooks/service-down.md")),
    ("service-hanging", include_str!("../../docs/runbooks/service-hanging.md")),
    ("service-slow", include_str!("../../docs/runbooks/service-slow.md")),
    ("site-cameras-down", include_str!("../../docs/runbooks/site-cameras-down.md")),
    ("target-behind", include_str!("../../docs/runbooks/target-behind.md")),
    ("task-restarting", include_str!("../../docs/runbooks/task-restarting.md")),
    ("village-without-camera", include_str!("../../docs/runbooks/village-without-camera.md")),
    ("village-without-wifi", include_str!("../../docs/runbooks/village-without-wifi.md")),
    ("watchdog", include_str!("../../docs/runbooks/watchdog.md")),
];

pub fn find(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix(".md").unwrap_or(name);
    RUNBOOKS.iter().find(|(candidate, _)| *candidate == name).map(|(_, text)| *text)
}

/// What the lines since the last blank one are.
#[derive(PartialEq, Clone, Copy)]
enum Block {
    None,
    Paragraph,
    List(&'static str),
    Code,
}

impl Block {
    fn end(self) -> &'static str {
        match self {
            Block::None => "",
            Block::Paragraph => "</p>\n",
            Block::List("ol") => "</li></ol>\n",
            Block::List(_) => "</li></ul>\n",
            Block::Code => "</code></pre>\n",
        }
    }
}

/// Markdown as HTML. Everything is escaped.
pub fn html(markdown: &str) -> String {
    let mut out = String::new();
    let mut block = Block::None;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            out.push_str(block.end());
            if block == Block::Code {
                block = Block::None;
            } else {
                out.push_str("<pre><code>");
                block = Block::Code;
            }
        } else if block == Block::Code {
            let _ = writeln!(out, "{}", escape(line));
        } else if line.trim().is_empty() {
            if block == Block::Paragraph {
                out.push_str(block.end());
                block = Block::None;
            }
        } else {
            block = text_line(&mut out, block, line);
        }
    }
    out.push_str(block.end());
    out
}

fn text_line(out: &mut String, block: Block, line: &str) -> Block {
    let level = line.bytes().take_while(|b| *b == b'#').count();
    if (1..=4).contains(&level) && line[level..].starts_with(' ') {
        let _ = writeln!(out, "{}<h{level}>{}</h{level}>", block.end(), inline(line[level..].trim()));
        return Block::None;
    }
    let trimmed = line.trim_start();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let item = if let Some(item) = trimmed.strip_prefix("- ").or_else(|| trimmed.strip_prefix("* ")) {
        Some(("ul", item))
    } else {
        trimmed[digits..].strip_prefix(". ").filter(|_| digits > 0).map(|item| ("ol", item))
    };
    match (item, block) {
        (Some((kind, item)), Block::List(open)) if open == kind => {
            let _ = write!(out, "</li>\n<li>{}", inline(item));
            block
        }
        (Some((kind, item)), _) => {
            let _ = write!(out, "{}<{kind}><li>{}", block.end(), inline(item));
            Block::List(kind)
        }
        // A line that is indented goes on with the item; one that is not ends the list.
        (None, Block::List(_)) if line.starts_with(' ') => {
            let _ = write!(out, " {}", inline(trimmed));
            block
        }
        (None, Block::Paragraph) => {
            let _ = write!(out, "\n{}", inline(line));
            block
        }
        (None, _) => {
            let _ = write!(out, "{}<p>{}", block.end(), inline(line));
            Block::Paragraph
        }
    }
}

/// `code` and **bold**.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            let _ = write!(out, "<code>{}</code>", escape(part));
            continue;
        }
        for (index, part) in part.split("**").enumerate() {
            let part = escape(part);
            let _ = if index % 2 == 1 { write!(out, "<strong>{part}</strong>") } else { write!(out, "{part}") };
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runbook_is_built_in() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks");
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".md").map(str::to_string))
            .collect();
        files.sort();
        let names: Vec<&str> = RUNBOOKS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, files, "list the file in web/runbooks.rs");
        assert!(find("watchdog").is_some() && find("watchdog.md").is_some() && find("../x").is_none());
    }

    #[test]
    fn markdown_becomes_html_and_html_becomes_text() {
        let text = "# A <b>\n\nOne `x < 1` and **two**\nlines\n\n- a\n- b\n  more\n\n1. c\n\n```\n<pre>\n```\nend";
        let expected = "<h1>A &lt;b&gt;</h1>\n<p>One <code>x &lt; 1</code> and <strong>two</strong>\nlines</p>\n<ul><li>a</li>\n<li>b more</li></ul>\n<ol><li>c</li></ol>\n<pre><code>&lt;pre&gt;\n</code></pre>\n<p>end</p>\n";
        assert_eq!(html(text), expected);
    }
}
