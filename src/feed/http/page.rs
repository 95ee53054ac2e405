//! Reads one JSON answer: its rows and where the next one is. Pure.

use crate::config::feeds::{Feed, Next, Paging};
use crate::feed::columns::{Columns, Names, Row, Value};
use crate::feed::value::shorten;
use crate::feed::{Reason, Rejection};
use hyper::header::{self, HeaderMap};
use serde_json::Value as Json;
use url::Url;

/// A cursor or address longer than this is none. Bytes.
const MAX_NEXT: usize = 8 * 1024;

/// What is wrong with an answer as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the answer is not JSON: {0}")]
    Json(String),
    #[error("the answer has no list at {0:?}")]
    NoItems(String),
    #[error("the next page's cursor or address is neither text nor a number, or too long")]
    Next,
    #[error("the next page is {0}, at another origin; it would be told our token")]
    Origin(String),
}

/// Where in a JSON item each column stands.
#[derive(Debug, Clone)]
pub struct Pointers {
    pointers: Vec<String>,
    pub columns: Columns,
}

impl Pointers {
    /// A column that `feed` does not name stands under its canonical name.
    pub fn new(feed: &Feed, names: Names) -> Pointers {
        let (columns, wanted) = Columns::wanted(feed, names);
        Pointers { pointers: wanted.iter().map(|text| pointer(text)).collect(), columns }
    }

    /// The cells of an item.
    pub fn row(&self, item: &Json) -> Row {
        self.pointers.iter().map(|pointer| item.pointer(pointer).map_or(Ok(Value::EMPTY), cell)).collect()
    }
}

/// A key of the item itself, or a pointer.
fn pointer(text: &str) -> String {
    if text.starts_with('/') {
        return text.to_owned();
    }
    format!("/{}", text.replace('~', "~0").replace('/', "~1"))
}

fn cell(json: &Json) -> Result<Value<'static>, Rejection> {
    /// From here on a binary number no longer holds each đồng.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match json {
        Json::Null => Ok(Value::EMPTY),
        Json::Bool(is) => Ok(Value::Text(is.to_string().into())),
        Json::String(text) => Ok(Value::Text(text.clone().into())),
        Json::Number(number) if number.is_f64() && number.as_f64().is_none_or(|n| n.abs() >= EXACT) => {
            Err(Rejection::new(Reason::Amount, format!("{number} is too large to be exact; write it as text")))
        }
        Json::Number(number) => Ok(Value::Number(number.to_string().into())),
        Json::Array(_) | Json::Object(_) => {
            let found = json.to_string();
            Err(Rejection::new(Reason::Json, format!("found {}, expected a single value", shorten(&found))))
        }
    }
}

/// The items of an answer.
pub fn items<'a>(answer: &'a Json, pointer: &str) -> Result<&'a [Json], AnswerError> {
    match answer.pointer(pointer) {
        Some(Json::Array(items)) => Ok(items),
        // APIs that leave out an empty list.
        None | Some(Json::Null) if !pointer.is_empty() && answer.is_object() => Ok(&[]),
        _ => Err(AnswerError::NoItems(pointer.to_owned())),
    }
}

/// The address of the next page; `None`: this is the last.
pub fn next(
    paging: &Paging,
    asked: &Url,
    number: u64,
    answer: &Json,
    headers: &HeaderMap,
) -> Result<Option<Url>, AnswerError> {
    match paging {
        Paging::None => Ok(None),
        Paging::Page { param, .. } => Ok(Some(with_parameter(asked, param, &(number + 1).to_string()))),
        Paging::Cursor { pointer, param } => {
            Ok(text_at(answer, pointer)?.map(|cursor| with_parameter(asked, param, &cursor)))
        }
        Paging::Next(next) => {
            let found = match next {
                Next::Link => link(headers),
                Next::Pointer(pointer) => text_at(answer, pointer)?,
            };
            let Some(found) = found else { return Ok(None) };
            let url = asked.join(&found).map_err(|_| AnswerError::Next)?;
            if url.origin() != asked.origin() || url.as_str().len() > MAX_NEXT {
                return Err(AnswerError::Origin(shorten(&url.origin().ascii_serialization()).into_owned()));
            }
            Ok(Some(url))
        }
    }
}

fn text_at(answer: &Json, pointer: &str) -> Result<Option<String>, AnswerError> {
    match answer.pointer(pointer) {
        None | Some(Json::Null | Json::Bool(false)) => Ok(None),
        Some(Json::String(text)) if text.is_empty() => Ok(None),
        Some(Json::String(text)) if text.len() <= MAX_NEXT => Ok(Some(text.clone())),
        Some(Json::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(AnswerError::Next),
    }
}

/// The address of `rel="next"` (RFC 8288).
pub fn link(headers: &HeaderMap) -> Option<String> {
    for value in headers.get_all(header::LINK) {
        let mut rest = value.to_str().ok()?;
        while let Some((_, after)) = rest.split_once('<') {
            let (target, after) = after.split_once('>')?;
            // Its parameters reach to the next address.
            let parameters = after.split('<').next().unwrap_or_default();
            let is_next = parameters.split([';', ',']).any(|parameter| {
                parameter.trim().split_once('=').is_some_and(|(name, value)| {
                    let mut words = value.trim().trim_matches('"').split_ascii_whitespace();
                    name.trim().eq_ignore_ascii_case("rel") && words.any(|word| word.eq_ignore_ascii_case("next"))
                })
            });
            if is_next {
                return Some(target.to_owned());
            }
            rest = after;
        }
    }
    None
}

/// The address with one query parameter set.
pub fn with_parameter(url: &Url, name: &str, value: &str) -> Url {
    let others: Vec<(String, String)> =
        url.query_pairs().filter(|(key, _)| key != name).map(|(key, value)| (key.into(), value.into())).collect();
    let mut changed = url.clone();
    changed.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_next_page_is_found_in_headers_in_the_answer_and_by_number() {
        let asked = url("https://gw.vn.example/v1/list?limit=2&cursor=a");
        let mut headers = HeaderMap::new();
        headers.insert(
            header::LINK,
            "<https://gw.vn.example/v1/list?p=1>; rel=\"prev\", </v1/list?p=3>; title=\"x,y\"; rel=\"last next\""
                .parse()
                .unwrap(),
        );
        let link = next(&Paging::Next(Next::Link), &asked, 1, &Json::Null, &headers).unwrap().unwrap();
        assert_eq!(link.as_str(), "https://gw.vn.example/v1/list?p=3");
        let cursor = Paging::Cursor { pointer: "/meta/next".into(), param: "cursor".into() };
        for (answer, expected) in [
            (json!({"meta": {"next": "b c"}}), Some("https://gw.vn.example/v1/list?limit=2&cursor=b+c")),
            (json!({"meta": {"next": 12}}), Some("https://gw.vn.example/v1/list?limit=2&cursor=12")),
            (json!({"meta": {"next": ""}}), None),
            (json!({"meta": {"next": null}}), None),
            (json!({}), None),
        ] {
            let found = next(&cursor, &asked, 1, &answer, &HeaderMap::new()).unwrap();
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{answer}");
        }
        let page = Paging::Page { param: "page".into(), start: 1 };
        let found = next(&page, &asked, 4, &Json::Null, &HeaderMap::new()).unwrap().unwrap();
        assert_eq!(found.query(), Some("limit=2&cursor=a&page=5"));
    }

    #[test]
    fn a_next_page_elsewhere_is_refused() {
        let asked = url("https://gw.vn.example/v1/list");
        let paging = Paging::Next(Next::Pointer("/next".into()));
        for address in ["https://evil.vn.example/", "http://gw.vn.example/v1/list", "https://gw.vn.example:444/"] {
            let answer = json!({"next": address});
            let refused = next(&paging, &asked, 1, &answer, &HeaderMap::new());
            assert!(matches!(refused, Err(AnswerError::Origin(_))), "{address}");
        }
        let answer = json!({"next": {"href": "/x"}});
        assert_eq!(next(&paging, &asked, 1, &answer, &HeaderMap::new()), Err(AnswerError::Next));
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(cell(&json!(150_000)).unwrap(), Value::Number("150000".into()));
        assert_eq!(cell(&json!(150_000.5)).unwrap(), Value::Number("150000.5".into()));
        assert!(cell(&json!(1e17)).is_err());
        assert!(cell(&json!({"amount": 1})).is_err());
        assert_eq!(cell(&json!(null)).unwrap(), Value::EMPTY);
    }
}
