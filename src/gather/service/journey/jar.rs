//! The cookies of one run: RFC 6265 as far as one visitor of a few hosts needs it, and bounded.
//!
//! Our own, small: the crates that exist keep cookies for years, in files, with the public suffix list; a run keeps them
//! for seconds, and for hosts that the configuration names. Instead of the list, a domain of one label, or of two that
//! look like a registry's (`gov.vn`, `com.vn`), takes no cookies for all below it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use url::{Host, Url};

/// As browsers: more cookies push out the oldest.
const COOKIES_MAX: usize = 150;
/// In bytes, of name and value together.
const COOKIE_MAX: usize = 4096;
/// Labels below which registries sell names, where a country's domain follows.
const REGISTRY_LABELS: [&str; 9] = ["ac", "biz", "co", "com", "edu", "gov", "info", "net", "org"];

#[derive(Debug, Default)]
pub(super) struct Jar {
    /// In order of first arrival.
    cookies: Vec<Cookie>,
}

struct Cookie {
    name: String,
    value: String,
    /// Of the server, or the `Domain` it named.
    domain: String,
    /// Only for exactly `domain`.
    host_only: bool,
    path: String,
    secure: bool,
    /// `None`: until the end of the run.
    expires: Option<SystemTime>,
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cookie of {}{}", self.domain, self.path)
    }
}

impl Jar {
    /// Takes one `Set-Cookie` of the answer to `url`. What a browser would not take is ignored.
    pub fn set(&mut self, url: &Url, header: &str, now: SystemTime) {
        let Some(cookie) = parse(url, header, now) else { return };
        let is_same = |other: &Cookie| {
            (&other.name, &other.domain, &other.path, other.host_only)
                == (&cookie.name, &cookie.domain, &cookie.path, cookie.host_only)
        };
        let is_over = cookie.expires.is_some_and(|expires| expires <= now);
        match self.cookies.iter().position(is_same) {
            Some(index) if is_over => drop(self.cookies.remove(index)),
            Some(index) => self.cookies[index] = cookie,
            None if is_over => {}
            None => self.cookies.push(cookie),
        }
        if self.cookies.len() > COOKIES_MAX {
            self.cookies.remove(0);
        }
    }

    /// The `Cookie` header of a request for `url`.
    pub fn header(&self, url: &Url, now: SystemTime) -> Option<String> {
        let host = host(url)?;
        let mut fitting: Vec<&Cookie> = self.cookies.iter().filter(|cookie| cookie.fits(&host, url, now)).collect();
        // Longer paths first, else as they came: the sort is stable.
        fitting.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> = fitting.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

impl Cookie {
    fn fits(&self, host: &str, url: &Url, now: SystemTime) -> bool {
        let host_fits = host == self.domain || (!self.host_only && is_below(host, &self.domain));
        let secure_fits = !self.secure || is_trustworthy(url);
        host_fits
            && secure_fits
            && path_fits(url.path(), &self.path)
            && self.expires.is_none_or(|expires| expires > now)
    }
}

/// TLS, or this very machine: as browsers treat localhost.
fn is_trustworthy(url: &Url) -> bool {
    url.scheme() == "https"
        || match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
}

fn host(url: &Url) -> Option<String> {
    url.host_str().map(|host| host.trim_end_matches('.').to_ascii_lowercase())
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn path_fits(path: &str, cookie: &str) -> bool {
    path.strip_prefix(cookie).is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

fn parse(url: &Url, header: &str, now: SystemTime) -> Option<Cookie> {
    let (pair, attributes) = header.split_once(';').unwrap_or((header, ""));
    let (name, value) = pair.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_sound = |text: &str| !text.chars().any(|c| c.is_control() || c == ';');
    if name.is_empty() || name.len() + value.len() > COOKIE_MAX || !is_sound(name) || !is_sound(value) {
        return None;
    }
    let host = host(url)?;
    let mut cookie = Cookie {
        name: name.to_owned(),
        value: value.to_owned(),
        domain: host.clone(),
        host_only: true,
        path: default_path(url.path()),
        secure: false,
        expires: None,
    };
    let mut has_max_age = false;
    for attribute in attributes.split(';') {
        let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "domain" => domain(&mut cookie, &host, url, value)?,
            "path" if value.starts_with('/') => cookie.path = value.to_owned(),
            "path" => cookie.path = default_path(url.path()),
            "secure" => cookie.secure = true,
            "max-age" => {
                if let Ok(seconds) = value.parse::<i64>() {
                    has_max_age = true;
                    // A year is beyond every run; adding more could overflow.
                    let length = Duration::from_secs(seconds.clamp(0, 31_536_000).unsigned_abs());
                    cookie.expires = Some(if seconds <= 0 { UNIX_EPOCH } else { now + length });
                }
            }
            "expires" if !has_max_age => cookie.expires = date(value).or(cookie.expires),
            _ => {}
        }
    }
    // A cookie for TLS only cannot be set without it, nor one whose name promises it.
    let prefix_holds = if name.starts_with("__Host-") {
        cookie.secure && cookie.host_only && cookie.path == "/"
    } else {
        !name.starts_with("__Secure-") || cookie.secure
    };
    (prefix_holds && (!cookie.secure || is_trustworthy(url))).then_some(cookie)
}

/// `None`: the server may not set cookies for that domain.
fn domain(cookie: &mut Cookie, host: &str, url: &Url, value: &str) -> Option<()> {
    let domain = value.strip_prefix('.').unwrap_or(value).to_ascii_lowercase();
    if domain.is_empty() || domain == host {
        let is_name = matches!(url.host(), Some(Host::Domain(_)));
        cookie.domain = host.to_owned();
        cookie.host_only = domain.is_empty() || !is_name || is_registry(&domain);
        return Some(());
    }
    let is_name = matches!(url.host(), Some(Host::Domain(_)));
    if !is_name || !is_below(host, &domain) || is_registry(&domain) {
        return None;
    }
    cookie.domain = domain;
    cookie.host_only = false;
    Some(())
}

fn is_registry(domain: &str) -> bool {
    match domain.split_once('.') {
        None => true,
        Some((label, country)) => country.len() == 2 && REGISTRY_LABELS.contains(&label),
    }
}

/// The directory of a path.
fn default_path(path: &str) -> String {
    match path.rfind('/') {
        Some(end) if end > 0 => path[..end].to_owned(),
        _ => "/".to_owned(),
    }
}

/// A cookie date, as loosely as RFC 6265 5.1.1 reads it.
fn date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    let is_delimiter = |c: char| !(c.is_ascii_alphanumeric() || c == ':');
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        let number = token.parse::<i16>().ok();
        if time.is_none() && token.contains(':') {
            let mut parts = token.split(':').map(|part| part.parse::<i8>().ok());
            time = Some((parts.next()??, parts.next()??, parts.next()??));
        } else if day.is_none() && token.len() <= 2 && number.is_some() {
            day = number.and_then(|day| i8::try_from(day).ok());
        } else if month.is_none() && token.len() >= 3 && number.is_none() {
            let found = MONTHS.iter().position(|month| token.to_ascii_lowercase().starts_with(month));
            month = found.and_then(|index| i8::try_from(index + 1).ok());
        } else if year.is_none() && (token.len() == 2 || token.len() == 4) {
            year = number.map(|year| match year {
                70..=99 => year + 1900,
                0..=69 => year + 2000,
                _ => year,
            });
        }
    }
    let (hour, minute, second) = time?;
    let civil = jiff::civil::DateTime::new(year?, month?, day?, hour, minute, second, 0).ok()?;
    let seconds = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?.as_second();
    Some(u64::try_from(seconds).map_or(UNIX_EPOCH, |seconds| UNIX_EPOCH + Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn cookies_go_where_a_browser_would_send_them() {
        let now = SystemTime::now();
        let at = "https://dvc.tamky.gov.vn/login/form";
        // (rule, set by `at`, asked, sent)
        let rows = [
            ("host only", "a=1", "https://dvc.tamky.gov.vn/login/x", Some("a=1")),
            ("not below", "a=1", "https://x.dvc.tamky.gov.vn/login/x", None),
            ("not beside", "a=1; Path=/", "https://vn.example/", None),
            ("default path is the directory", "a=1", "https://dvc.tamky.gov.vn/", None),
            ("path", "a=1; Path=/", "https://dvc.tamky.gov.vn/other", Some("a=1")),
            ("path ends at a slash", "a=1; Path=/log", "https://dvc.tamky.gov.vn/login/x", None),
            ("domain", "a=1; path=/; Domain=.TamKy.gov.vn", "https://sso.tamky.gov.vn/", Some("a=1")),
            ("foreign domain", "a=1; path=/; Domain=vn.example", "https://vn.example/", None),
            ("a suffix that is no domain", "a=1; path=/; Domain=amky.gov.vn", "https://amky.gov.vn/", None),
            ("a registry's domain", "a=1; path=/; Domain=gov.vn", "https://other.gov.vn/", None),
            ("a country's domain", "a=1; path=/; Domain=vn", "https://other.vn/", None),
            ("secure", "a=1; path=/; Secure", "http://dvc.tamky.gov.vn/", None),
            ("secure over TLS", "a=1; path=/; Secure", "https://dvc.tamky.gov.vn/", Some("a=1")),
            ("over", "a=1; path=/; Max-Age=0", "https://dvc.tamky.gov.vn/", None),
            ("expired", "a=1; path=/; Expires=Wed, 21-Oct-15 07:28:00 GMT", "https://dvc.tamky.gov.vn/", None),
            (
                "max-age first",
                "a=1; path=/; Max-Age=9; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
                "https://dvc.tamky.gov.vn/",
                Some("a=1"),
            ),
            ("later", "a=1; path=/; Expires=Fri, 31 Dec 2049 23:59:59 GMT", "https://dvc.tamky.gov.vn/", Some("a=1")),
            ("no name", "=1; path=/", "https://dvc.tamky.gov.vn/", None),
            (
                "__Host- with a domain",
                "__Host-a=1; path=/; Secure; Domain=tamky.gov.vn",
                "https://dvc.tamky.gov.vn/",
                None,
            ),
            ("value with =", "a=b=c==; path=/", "https://dvc.tamky.gov.vn/", Some("a=b=c==")),
        ];
        for (rule, header, asked, sent) in rows {
            let mut jar = Jar::default();
            jar.set(&url(at), header, now);
            assert_eq!(jar.header(&url(asked), now).as_deref(), sent, "{rule}");
        }
    }

    #[test]
    fn a_new_value_replaces_the_old_and_longer_paths_come_first() {
        let (now, at) = (SystemTime::now(), url("http://127.0.0.1:8080/a/b"));
        let mut jar = Jar::default();
        for header in ["s=1; Path=/", "s=2; Path=/a", "t=3; Path=/", "s=4; Path=/", "u=5", "u=; Max-Age=-1"] {
            jar.set(&at, header, now);
        }
        assert_eq!(jar.header(&at, now).as_deref(), Some("s=2; s=4; t=3"));
        jar.set(&at, "x=1; Domain=0.0.1; Path=/", now);
        assert!(!jar.header(&at, now).unwrap().contains('x'));
    }

    #[test]
    fn a_hostile_server_cannot_fill_memory() {
        let (now, at) = (SystemTime::now(), url("http://127.0.0.1/"));
        let mut jar = Jar::default();
        for n in 0..1_000 {
            jar.set(&at, &format!("c{n}={}", "x".repeat(4_000)), now);
        }
        jar.set(&at, &format!("big={}", "x".repeat(5_000)), now);
        jar.set(&at, "line=a\rb", now);
        let header = jar.header(&at, now).unwrap();
        assert!(jar.cookies.len() == COOKIES_MAX && !header.contains("big") && !header.contains("line"));
        assert!(header.contains("c999=") && !header.contains("c1="));
    }
}
