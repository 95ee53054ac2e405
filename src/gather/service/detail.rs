//! Why a check came out as it did, in words for people, Vietnamese and English.

use super::outcome::{CheckResult, Phase};
use crate::config::site::Language;
use crate::format;
use jiff::{Timestamp, tz::TimeZone};
use std::net::SocketAddr;
use std::time::Duration;

/// The reason of an outcome. Never holds a whole URL: queries may carry secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    Fine,
    Slow {
        took: Duration,
        limit: Duration,
    },
    /// Hang or timeout, in which phase.
    Silent {
        phase: Phase,
        limit: Duration,
    },
    Unfinished {
        phase: Phase,
        limit: Duration,
    },
    Resolve {
        host: String,
        cause: String,
    },
    Refused {
        address: SocketAddr,
    },
    Unreachable {
        address: SocketAddr,
        cause: String,
    },
    Untrusted,
    Expired {
        at: Timestamp,
    },
    NotYetValid {
        from: Timestamp,
    },
    WrongName {
        expected: String,
        presented: Vec<String>,
    },
    Certificate {
        cause: String,
    },
    Handshake {
        cause: String,
    },
    Status {
        code: u16,
    },
    TooManyRedirects {
        limit: u8,
    },
    BadRedirect {
        code: u16,
    },
    Missing {
        text: String,
        searched: u64,
    },
    Forbidden {
        text: String,
    },
    ClosedEarly {
        phase: Phase,
    },
    Reset {
        phase: Phase,
    },
    NotHttp {
        cause: String,
    },
    /// The handshake could only be made in an older version.
    OldProtocol {
        least: &'static str,
    },
    /// What a server said over TCP is not what was expected.
    Banner {
        wanted: String,
        said: String,
    },
    /// A connection broke in some other way than by a reset.
    Lost {
        cause: String,
    },
    /// Nothing came back: DNS or ping.
    NoAnswer {
        limit: Duration,
    },
    /// A resolver answered with an error.
    Rcode {
        code: String,
    },
    /// No record of the type that was asked for.
    NoRecord {
        kind: String,
    },
    /// Other records than expected.
    Records {
        wanted: Vec<String>,
        found: Vec<String>,
    },
    NotDns {
        cause: String,
    },
    NotJson,
    /// A place of the JSON answer has another value, or none.
    Json {
        pointer: String,
        wanted: String,
        found: Option<String>,
    },
    /// The server does not speak HTTP/2.
    NoHttp2,
    Proxy {
        cause: String,
    },
    HeaderDiffers {
        name: String,
    },
    /// `expected` as the configuration writes it.
    JsonDiffers {
        pointer: String,
        expected: String,
    },
    /// What a later step of a journey needs is not in the answer.
    NotCaptured {
        name: String,
    },
    /// A captured link or a redirect leads where the journey takes nothing.
    ForeignAddress,
    /// The step of a journey that failed, and why; the reasons are without secrets.
    Step {
        step: String,
        vi: String,
        en: String,
    },
    /// What a database's answer lacks.
    Sql(super::sql::Trouble),
    /// The check itself could not be made: our own trouble, not the service's.
    Own {
        cause: String,
    },
}

/// What ended a check before its time.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub result: CheckResult,
    pub detail: Detail,
}

impl Failure {
    pub fn new(result: CheckResult, detail: Detail) -> Failure {
        Failure { result, detail }
    }
}

impl Detail {
    /// One line without a full stop; empty when there is nothing to say.
    pub fn text(&self, language: Language) -> String {
        match language {
            Language::Vi => self.vietnamese(),
            Language::En => self.english(),
        }
    }

    fn english(&self) -> String {
        let seconds = |length: Duration| seconds(length, Language::En);
        match self {
            Detail::Fine => String::new(),
            Detail::Slow { took, limit } => {
                format!("answered after {}, slower than {}", seconds(*took), seconds(*limit))
            }
            Detail::Silent { phase, limit } => {
                let during = match phase {
                    Phase::Tls => "during the TLS handshake",
                    Phase::Transfer => "in the middle of the answer",
                    _ => "before the answer",
                };
                format!("hangs: connected, then silence {during} (waited {})", seconds(*limit))
            }
            Detail::Unfinished { phase, limit } => {
                let what = match phase {
                    Phase::Resolve => "the name was not resolved",
                    Phase::Connect => "no connection",
                    Phase::Tls => "the TLS handshake did not end",
                    _ => "the answer did not end",
                };
                format!("{what} within {}", seconds(*limit))
            }
            Detail::Resolve { host, cause } => format!("the name {host} has no address: {cause}"),
            Detail::Refused { address } => format!("{address} refuses the connection"),
            Detail::Unreachable { address, cause } => format!("{address} cannot be reached: {cause}"),
            Detail::Untrusted => "the certificate is not signed by a trusted CA".into(),
            Detail::Expired { at } => format!("the certificate expired on {}", date(*at)),
            Detail::NotYetValid { from } => format!("the certificate is valid only from {}", date(*from)),
            Detail::WrongName { expected, presented } if presented.is_empty() => {
                format!("the certificate is not for {expected}")
            }
            Detail::WrongName { expected, presented } => {
                format!("the certificate is not for {expected} but for {}", presented.join(", "))
            }
            Detail::Certificate { cause } => format!("the certificate cannot be used: {cause}"),
            Detail::Handshake { cause } => format!("the TLS handshake failed: {cause}"),
            Detail::Status { code } => format!("answered with status {code}"),
            Detail::TooManyRedirects { limit } => format!("more than {limit} redirects"),
            Detail::BadRedirect { code } => format!("status {code} leads to no usable address"),
            Detail::Missing { text, searched } => format!("the page lacks \"{text}\" ({searched} bytes searched)"),
            Detail::Forbidden { text } => format!("the page has \"{text}\""),
            Detail::ClosedEarly { phase: Phase::Transfer } => "the answer ended before its announced end".into(),
            Detail::ClosedEarly { phase: Phase::Tls } => "closed the connection during the TLS handshake".into(),
            Detail::ClosedEarly { .. } => "closed the connection without an answer".into(),
            Detail::Reset { phase: Phase::Transfer } => "reset the connection in the middle of the answer".into(),
            Detail::Reset { phase: Phase::Tls } => "reset the connection during the TLS handshake".into(),
            Detail::Reset { .. } => "reset the connection before the answer".into(),
            Detail::NotHttp { cause } => format!("the answer is not HTTP: {cause}"),
            Detail::OldProtocol { least } => format!("the server speaks only versions older than {least}"),
            Detail::Banner { wanted, said } => format!("said \"{said}\", not \"{wanted}\""),
            Detail::Lost { cause } => format!("the connection was lost: {cause}"),
            Detail::NoAnswer { limit } => format!("no answer within {}", seconds(*limit)),
            Detail::Rcode { code } => format!("the resolver answered {code}"),
            Detail::NoRecord { kind } => format!("the name has no {kind} record"),
            Detail::Records { wanted, found } => {
                format!("the name leads to {}, expected {}", found.join(", "), wanted.join(", "))
            }
            Detail::NotDns { cause } => format!("the answer is not DNS: {cause}"),
            Detail::NotJson => "the answer is not JSON".into(),
            Detail::Json { pointer, wanted, found: Some(found) } => {
                format!("{pointer} is \"{found}\", not \"{wanted}\"")
            }
            Detail::Json { pointer, wanted, found: None } => format!("{pointer} is missing, expected \"{wanted}\""),
            Detail::NoHttp2 => "the server does not speak HTTP/2".into(),
            Detail::Proxy { cause } => format!("the proxy does not let us through: {cause}"),
            Detail::HeaderDiffers { name } => format!("the header {name} of the answer is not as expected"),
            Detail::JsonDiffers { pointer, expected } => format!("the answer has not \"{expected}\" at {pointer}"),
            Detail::NotCaptured { name } => format!("the answer lacks \"{name}\", which later steps need"),
            Detail::ForeignAddress => "the answer leads to an address that the journey does not name".into(),
            Detail::Step { step, en, .. } => format!("step \"{step}\": {en}"),
            Detail::Sql(trouble) => trouble.english(),
            Detail::Own { cause } => format!("the check could not be made: {cause}"),
        }
    }

    fn vietnamese(&self) -> String {
        let seconds = |length: Duration| seconds(length, Language::Vi);
        match self {
            Detail::Fine => String::new(),
            Detail::Slow { took, limit } => format!("trả lời sau {}, chậm hơn mức {}", seconds(*took), seconds(*limit)),
            Detail::Silent { phase, limit } => {
                let during = match phase {
                    Phase::Tls => "khi bắt tay TLS",
                    Phase::Transfer => "giữa chừng nội dung trả lời",
                    _ => "trước khi trả lời",
                };
                format!("bị treo: đã kết nối rồi im lặng {during} (đã chờ {})", seconds(*limit))
            }
            Detail::Unfinished { phase, limit } => {
                let what = match phase {
                    Phase::Resolve => "chưa phân giải được tên miền",
                    Phase::Connect => "chưa kết nối được",
                    Phase::Tls => "chưa bắt tay TLS xong",
                    _ => "chưa nhận hết nội dung trả lời",
                };
                format!("{what} trong {}", seconds(*limit))
            }
            Detail::Resolve { host, cause } => format!("tên miền {host} không có địa chỉ: {cause}"),
            Detail::Refused { address } => format!("{address} từ chối kết nối"),
            Detail::Unreachable { address, cause } => format!("không tới được {address}: {cause}"),
            Detail::Untrusted => "chứng thư số không do tổ chức tin cậy cấp".into(),
            Detail::Expired { at } => format!("chứng thư số đã hết hạn ngày {}", date(*at)),
            Detail::NotYetValid { from } => format!("chứng thư số chỉ có hiệu lực từ ngày {}", date(*from)),
            Detail::WrongName { expected, presented } if presented.is_empty() => {
                format!("chứng thư số không cấp cho {expected}")
            }
            Detail::WrongName { expected, presented } => {
                format!("chứng thư số không cấp cho {expected} mà cho {}", presented.join(", "))
            }
            Detail::Certificate { cause } => format!("chứng thư số không dùng được: {cause}"),
            Detail::Handshake { cause } => format!("bắt tay TLS thất bại: {cause}"),
            Detail::Status { code } => format!("trả lời với mã trạng thái {code}"),
            Detail::TooManyRedirects { limit } => format!("chuyển hướng quá {limit} lần"),
            Detail::BadRedirect { code } => format!("mã trạng thái {code} không dẫn tới địa chỉ dùng được"),
            Detail::Missing { text, searched } => format!("trang thiếu \"{text}\" (đã tìm trong {searched} byte)"),
            Detail::Forbidden { text } => format!("trang có \"{text}\""),
            Detail::ClosedEarly { phase: Phase::Transfer } => "nội dung trả lời bị cắt giữa chừng".into(),
            Detail::ClosedEarly { phase: Phase::Tls } => "đóng kết nối khi đang bắt tay TLS".into(),
            Detail::ClosedEarly { .. } => "đóng kết nối mà không trả lời".into(),
            Detail::Reset { phase: Phase::Transfer } => "ngắt kết nối giữa chừng nội dung trả lời".into(),
            Detail::Reset { phase: Phase::Tls } => "ngắt kết nối khi đang bắt tay TLS".into(),
            Detail::Reset { .. } => "ngắt kết nối trước khi trả lời".into(),
            Detail::NotHttp { cause } => format!("nội dung trả lời không phải HTTP: {cause}"),
            Detail::OldProtocol { least } => format!("máy chủ chỉ dùng phiên bản cũ hơn {least}"),
            Detail::Banner { wanted, said } => format!("trả lời \"{said}\", không phải \"{wanted}\""),
            Detail::Lost { cause } => format!("mất kết nối: {cause}"),
            Detail::NoAnswer { limit } => format!("không trả lời trong {}", seconds(*limit)),
            Detail::Rcode { code } => format!("máy chủ tên miền trả lời {code}"),
            Detail::NoRecord { kind } => format!("tên miền không có bản ghi {kind}"),
            Detail::Records { wanted, found } => {
                format!("tên miền dẫn tới {}, cần {}", found.join(", "), wanted.join(", "))
            }
            Detail::NotDns { cause } => format!("nội dung trả lời không phải DNS: {cause}"),
            Detail::NotJson => "nội dung trả lời không phải JSON".into(),
            Detail::Json { pointer, wanted, found: Some(found) } => {
                format!("{pointer} là \"{found}\", không phải \"{wanted}\"")
            }
            Detail::Json { pointer, wanted, found: None } => format!("thiếu {pointer}, cần \"{wanted}\""),
            Detail::NoHttp2 => "máy chủ không hỗ trợ HTTP/2".into(),
            Detail::Proxy { cause } => format!("máy chủ trung gian (proxy) không cho qua: {cause}"),
            Detail::HeaderDiffers { name } => format!("tiêu đề {name} của câu trả lời không như mong đợi"),
            Detail::JsonDiffers { pointer, expected } => format!("câu trả lời không có \"{expected}\" tại {pointer}"),
            Detail::NotCaptured { name } => format!("câu trả lời thiếu \"{name}\" mà các bước sau cần"),
            Detail::ForeignAddress => "câu trả lời dẫn tới địa chỉ ngoài kịch bản".into(),
            Detail::Step { step, vi, .. } => format!("bước \"{step}\": {vi}"),
            Detail::Sql(trouble) => trouble.vietnamese(),
            Detail::Own { cause } => format!("không kiểm tra được: {cause}"),
        }
    }
}

/// The beginning of what a stranger said, on one line, for people.
pub(super) fn excerpt(said: &[u8]) -> String {
    const MAX: usize = 80;
    let head = &said[..said.len().min(4 * MAX)];
    let text = String::from_utf8_lossy(head);
    let words = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(MAX).collect()
}

/// A short length in seconds, with tenths if there are any.
pub(super) fn seconds(length: Duration, language: Language) -> String {
    let decimals = if length.subsec_millis() == 0 { 0 } else { 1 };
    let number = format::decimal(length.as_secs_f64(), decimals, language);
    let unit = if language == Language::Vi { "giây" } else { "s" };
    format!("{number} {unit}")
}

fn date(time: Timestamp) -> String {
    format::date(time.to_zoned_datetime(TimeZone::UTC).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hang_says_where_it_hangs_in_both_languages() {
        let detail = Detail::Silent { phase: Phase::Transfer, limit: Duration::from_millis(2_500) };
        assert_eq!(
            detail.text(Language::En),
            "hangs: connected, then silence in the middle of the answer (waited 2.5 s)"
        );
        assert_eq!(
            detail.text(Language::Vi),
            "bị treo: đã kết nối rồi im lặng giữa chừng nội dung trả lời (đã chờ 2,5 giây)"
        );
    }
}
