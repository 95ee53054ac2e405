//! Which language a page is in: `?lang=`, else what the browser prefers, else the site's.

use crate::config::site::Language;

pub fn negotiate(parameter: Option<&str>, accept: Option<&str>, site: Language) -> Language {
    parameter.and_then(known).or_else(|| accept.and_then(preferred)).unwrap_or(site)
}

/// `vi`, `vi-VN`, `en-GB` …
fn known(tag: &str) -> Option<Language> {
    let primary = tag.split('-').next().unwrap_or(tag).trim();
    if primary.eq_ignore_ascii_case("vi") {
        Some(Language::Vi)
    } else if primary.eq_ignore_ascii_case("en") {
        Some(Language::En)
    } else {
        None
    }
}

/// The known language of the greatest weight; of equal ones the first.
fn preferred(accept: &str) -> Option<Language> {
    let mut best: Option<(Language, f64)> = None;
    for part in accept.split(',') {
        let mut pieces = part.split(';').map(str::trim);
        let Some(language) = pieces.next().and_then(known) else { continue };
        let weight = pieces.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if weight > 0.0 && best.is_none_or(|(_, before)| weight > before) {
            best = Some((language, weight));
        }
    }
    best.map(|(language, _)| language)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Language::{En, Vi};

    #[test]
    fn parameter_then_browser_then_site() {
        let rows = [
            (Some("en"), Some("vi"), Vi, En),
            (Some("xx"), Some("en-GB,en;q=0.9"), Vi, En),
            (None, Some("fr, en;q=0.5, vi;q=0.8"), En, Vi),
            (None, Some("vi;q=0, fr"), En, En),
            (None, Some("*"), Vi, Vi),
            (None, None, En, En),
        ];
        for (parameter, accept, site, expected) in rows {
            assert_eq!(negotiate(parameter, accept, site), expected, "{parameter:?} {accept:?}");
        }
    }
}
