//! One request of a check, and where a redirect leads it.

use super::super::detail::{Detail, Failure};
use super::super::outcome::CheckResult;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use url::Url;

/// One request of a check.
pub(in crate::gather::service) struct Hop {
    pub url: Url,
    pub method: Method,
    pub headers: HeaderMap,
}

impl Hop {
    pub fn request<B>(&self, body: B) -> Result<Request<B>, Failure> {
        let own = |cause: String| Failure::new(CheckResult::Error, Detail::Own { cause });
        let target = match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_string(),
        };
        let target = Uri::try_from(target).map_err(|error| own(error.to_string()))?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        if !self.headers.contains_key(header::HOST) {
            let host = self.url.host_str().unwrap_or_default();
            let host = match self.url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_string(),
            };
            let host = HeaderValue::try_from(host).map_err(|error| own(error.to_string()))?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }

    /// The same over HTTP/2, where the host is part of the address and the connection's headers are not allowed.
    pub fn request2<B>(&self, body: B) -> Result<Request<B>, Failure> {
        let own = |cause: String| Failure::new(CheckResult::Error, Detail::Own { cause });
        let mut request = self.request(body)?;
        let mut url = self.url.clone();
        url.set_fragment(None);
        *request.uri_mut() = Uri::try_from(url.as_str()).map_err(|error| own(error.to_string()))?;
        for name in [header::HOST, header::CONNECTION] {
            request.headers_mut().remove(name);
        }
        Ok(request)
    }

    /// Goes on to `location` as browsers do; what was meant for one origin is not told to another.
    pub fn redirect(&mut self, location: Url, status: Option<u16>) {
        let see_other = status == Some(303) && self.method != Method::HEAD;
        let was_post = matches!(status, Some(301 | 302)) && self.method == Method::POST;
        if see_other || was_post {
            self.method = Method::GET;
        }
        if location.origin() != self.url.origin() {
            for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::HOST] {
                self.headers.remove(name);
            }
        }
        self.url = location;
    }
}

pub(in crate::gather::service) fn location(base: &Url, response: &Response<Incoming>) -> Option<Url> {
    let text = std::str::from_utf8(response.headers().get(header::LOCATION)?.as_bytes()).ok()?;
    let url = base.join(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}
