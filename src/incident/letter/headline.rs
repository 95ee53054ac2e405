//! A headline that fits a subject line: what happened stays, what it happened to is cut.
//!
//! A subject cut at its end loses the verb ("Khối phố Hà Lam 2 (UBND huyện Thăng…"), which is the news. So what can be
//! done without goes first: the agency (the mail's first lines name it), then long forms that have an abbreviation which
//! every office uses, then the ends of names.

use crate::alert::Alert;
use crate::mail::message::shorten;

/// A name is cut to no fewer characters: less tells nothing.
const SHORTEST_NAME: usize = 12;
/// Labels that are no names in a sentence.
const NO_NAMES: [&str; 5] = ["alertname", "severity", "kind", "cause", "area"];
/// Prepositions that go with the agency behind them.
const BEFORE_AGENCY: [&str; 7] = [" tại", " của", " ở", " at", " of", " in", " for"];
/// As offices abbreviate in their own subject lines.
const ABBREVIATIONS: [(&str, &str); 7] = [
    ("dịch vụ công", "DVC"),
    ("cơ sở dữ liệu", "CSDL"),
    ("Cơ sở dữ liệu", "CSDL"),
    ("Ủy ban nhân dân", "UBND"),
    ("hệ thống thông tin", "HTTT"),
    ("Khối phố", "KP"),
    ("thủ tục hành chính", "TTHC"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    text: String,
    is_name: bool,
}

/// `line`, which speaks of `alert` with `names` in it, in at most `limit` characters.
pub(super) fn fit(line: &str, alert: &Alert, agency: &str, names: &[&str], limit: usize) -> String {
    if length(line) <= limit {
        return line.to_string();
    }
    let line = without_agency(line, agency);
    if length(&line) <= limit {
        return line;
    }
    let mut pieces = pieces(&line, alert, names);
    for (long, short) in ABBREVIATIONS {
        if sum(&pieces) > limit {
            pieces.iter_mut().for_each(|piece| piece.text = piece.text.replace(long, short));
        }
    }
    // The longest first; each gives what is still too much, as long as it keeps enough to be recognised.
    let mut order: Vec<usize> = (0..pieces.len()).filter(|at| pieces[*at].is_name).collect();
    order.sort_by_key(|at| std::cmp::Reverse(length(&pieces[*at].text)));
    for at in order {
        let excess = sum(&pieces).saturating_sub(limit);
        let now = length(&pieces[at].text);
        if excess > 0 && now > SHORTEST_NAME {
            pieces[at].text = shorten(&pieces[at].text, now.saturating_sub(excess).max(SHORTEST_NAME));
        }
    }
    shorten(&pieces.into_iter().map(|piece| piece.text).collect::<String>(), limit)
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn sum(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| length(&piece.text)).sum()
}

/// `line` without " (agency)" or " tại agency".
fn without_agency(line: &str, agency: &str) -> String {
    let Some(at) = line.find(agency).filter(|_| !agency.is_empty()) else { return line.to_string() };
    let (before, after) = (&line[..at], &line[at + agency.len()..]);
    if let (Some(before), Some(after)) = (before.strip_suffix(" ("), after.strip_prefix(')')) {
        return format!("{before}{after}");
    }
    let Some(before) = before.strip_suffix(' ') else { return line.to_string() };
    match BEFORE_AGENCY.iter().find_map(|word| before.strip_suffix(word)) {
        Some(before) if !before.is_empty() => format!("{before}{after}"),
        _ => line.to_string(),
    }
}

/// The line cut into names and what stands between them.
fn pieces(line: &str, alert: &Alert, names: &[&str]) -> Vec<Piece> {
    let labels = alert.labels.iter().filter(|(label, _)| !NO_NAMES.contains(label));
    let mut known: Vec<&str> = labels.map(|(_, value)| value).chain(names.iter().copied()).collect();
    known.retain(|name| length(name) > SHORTEST_NAME);
    known.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let mut pieces = vec![Piece { text: line.to_string(), is_name: false }];
    for name in known {
        let cut = |piece: Piece| match piece.text.split_once(name) {
            Some((before, after)) if !piece.is_name => vec![
                Piece { text: before.to_string(), is_name: false },
                Piece { text: name.to_string(), is_name: true },
                Piece { text: after.to_string(), is_name: false },
            ],
            _ => vec![piece],
        };
        pieces = pieces.into_iter().flat_map(cut).collect();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(labels: &[(&str, &str)]) -> Alert {
        Alert {
            labels: labels.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect(),
            annotations: std::iter::empty::<(String, String)>().collect(),
            starts_at: jiff::Timestamp::UNIX_EPOCH,
            ends_at: None,
            generator_url: "".into(),
            end_is_assumed: false,
        }
    }

    #[test]
    fn what_happened_stays_and_what_it_happened_to_is_cut() {
        let agency = "UBND huyện Thăng Bình";
        let village = alert(&[("village", "Khối phố Hà Lam 2"), ("agency", "thang-binh")]);
        let portal = alert(&[("service", "dvc")]);
        let name = ["Cổng dịch vụ công trực tuyến tỉnh Quảng Nam"];
        let rows: [(&Alert, &[&str], &str, &str); 7] = [
            (
                &village,
                &[],
                "Khối phố Hà Lam 2 (UBND huyện Thăng Bình) không còn camera hoạt động",
                "KP Hà Lam 2 không còn camera hoạt động",
            ),
            (
                &village,
                &[],
                "3 khoản đã thanh toán nhưng chưa ghi nhận tại UBND huyện Thăng Bình",
                "3 khoản đã thanh toán nhưng chưa ghi nhận",
            ),
            (
                &portal,
                &name,
                "Cổng dịch vụ công trực tuyến tỉnh Quảng Nam không truy cập được",
                "Cổng DVC trực tuyến… không truy cập được",
            ),
            (&portal, &name, "Cổng bị treo", "Cổng bị treo"),
            (
                &village,
                &[],
                "No camera of Khối phố Hà Lam 2 (UBND huyện Thăng Bình) works",
                "No camera of Khối phố Hà Lam 2 works",
            ),
            (
                &portal,
                &[],
                "Một câu rất dài không nêu tên nào cả và vẫn phải nằm trong một dòng tiêu đề",
                "Một câu rất dài không nêu tên nào cả và…",
            ),
            (&village, &[], "UBND huyện Thăng Bình", "UBND huyện Thăng Bình"),
        ];
        for (alert, names, line, expected) in rows {
            let fitted = fit(line, alert, agency, names, 42);
            assert_eq!(fitted, expected);
            assert!(length(&fitted) <= 42, "{fitted}");
        }
    }

    #[test]
    fn nothing_is_longer_than_asked() {
        let long = "x".repeat(80);
        let alert = alert(&[("device", &long), ("site", "một nơi có tên dài")]);
        let line = format!("Camera {long} tại một nơi có tên dài mất kết nối");
        for limit in [10, 20, 41, 60] {
            assert!(length(&fit(&line, &alert, "", &[], limit)) <= limit);
        }
        assert_eq!(fit(&line, &alert, "", &[], 48), format!("Camera {}… tại một nơi có… mất kết nối", "x".repeat(11)));
    }
}
