//! Finds an element of a page by a selector: its text, or one of its attributes.
//!
//! Tags are matched as they are written, without the repairs that a browser makes; a capture that works on a page as
//! delivered works here.

use crate::config::probes::journey::{Compound, Selector};
use html5gum::{StartTag, Token, Tokenizer};

/// Elements that have no end tag.
const VOID: [&str; 14] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"];
/// Deeper nesting is not followed: a page of a million open tags must not cost memory.
const DEPTH_MAX: usize = 512;

struct Element {
    tag: String,
    attributes: Vec<(String, String)>,
}

impl Element {
    fn is(&self, compound: &Compound) -> bool {
        compound.tag.as_ref().is_none_or(|tag| *tag == self.tag)
            && compound.attributes.iter().all(|wanted| {
                self.attributes.iter().any(|(name, value)| *name == wanted.name && wanted.test.holds(value))
            })
    }
}

/// The attribute of the first element that `selector` finds, or its text with single spaces; `None`: there is none.
pub fn find(page: &[u8], selector: &Selector, attribute: Option<&str>) -> Option<String> {
    let mut open: Vec<Element> = Vec::new();
    // The text of the element that was found, and how deep it stands.
    let mut found: Option<(String, usize)> = None;
    for token in Tokenizer::new(page) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let (element, is_void) = element(&tag);
                let is_match = found.is_none() && matches(&open, &element, selector);
                if is_match && let Some(attribute) = attribute {
                    let value = element.attributes.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(attribute));
                    return value.map(|(_, value)| value);
                }
                if is_match && is_void {
                    return Some(String::new());
                }
                if is_match {
                    found = Some((String::new(), open.len()));
                }
                if !is_void && open.len() < DEPTH_MAX {
                    open.push(element);
                }
            }
            Token::EndTag(tag) => {
                let name = lower(&tag.name);
                // An end tag without its beginning closes nothing.
                let Some(at) = open.iter().rposition(|element| element.tag == name) else { continue };
                open.truncate(at);
                if let Some((text, _)) = found.take_if(|(_, depth)| at <= *depth) {
                    return Some(squeeze(&text));
                }
            }
            Token::String(text) => {
                if let Some((found, _)) = &mut found {
                    found.push_str(&String::from_utf8_lossy(&text.value));
                }
            }
            _ => {}
        }
    }
    found.map(|(text, _)| squeeze(&text))
}

fn element(tag: &StartTag<()>) -> (Element, bool) {
    let attributes = tag
        .attributes
        .iter()
        .map(|(name, value)| (lower(name), String::from_utf8_lossy(&value.value).into_owned()))
        .collect();
    let element = Element { tag: lower(&tag.name), attributes };
    let is_void = tag.self_closing || VOID.contains(&element.tag.as_str());
    (element, is_void)
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

/// The last compound is the element itself; those before it are around it, in that order.
fn matches(open: &[Element], element: &Element, selector: &Selector) -> bool {
    let Some((last, around)) = selector.compounds.split_last() else { return false };
    let mut around = around.iter().peekable();
    for outer in open {
        around.next_if(|compound| outer.is(compound));
    }
    element.is(last) && around.peek().is_none()
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_page_shows() {
        let page = "<!doctype html><html><BODY><form id=login class='a b'><input name=user>\
            <input type=hidden NAME=\"csrf\" value='t&amp;1'></form><p>no</p>\
            <div class=receipt>Mã <b>H49</b>\n số&nbsp;1<br>x</div><a href=/xem?a=1&amp;b=2>Xem</a><p id=open>to the end";
        let rows = [
            ("input[name=csrf]", Some("value"), Some("t&1")),
            ("form#login input[type=\"hidden\"]", Some("value"), Some("t&1")),
            ("div input", Some("value"), None),
            ("form.b input", Some("name"), Some("user")),
            ("form.c input", Some("name"), None),
            (".receipt", None, Some("Mã H49 số 1x")),
            ("div b", None, Some("H49")),
            ("a[href^='/xem']", Some("href"), Some("/xem?a=1&b=2")),
            ("a", Some("title"), None),
            ("#open", None, Some("to the end")),
            ("input", None, Some("")),
        ];
        for (selector, attribute, expected) in rows {
            let found = find(page.as_bytes(), &Selector::parse(selector).unwrap(), attribute);
            assert_eq!(found.as_deref(), expected, "{selector}");
        }
    }

    #[test]
    fn a_hostile_page_costs_no_memory() {
        let deep = "<div>".repeat(200_000);
        assert_eq!(find(deep.as_bytes(), &Selector::parse("p").unwrap(), None), None);
        assert_eq!(find(&[0xff, b'<', 0xfe, b'>'], &Selector::parse("p").unwrap(), None), None);
    }
}
