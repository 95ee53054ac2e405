//! What can be wrong with a database's answer, in words for people, Vietnamese and English.
//!
//! Never holds a password, and of the server's own messages only those that cannot repeat what stands in the tables.

use super::super::detail::seconds;
use crate::config::site::Language;
use crate::format;
use std::time::Duration;

/// Characters of a server's message that are shown.
const MESSAGE_MAX: usize = 200;

/// How far the conversation had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Login,
    Query,
    /// The query for the newest row.
    Newest,
}

/// A number of an answer or a bound; equal when its bits are.
#[derive(Debug, Clone, Copy)]
pub struct Figure(pub f64);

impl PartialEq for Figure {
    fn eq(&self, other: &Figure) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Figure {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Silence in this stage.
    Silent {
        stage: Stage,
        limit: Duration,
    },
    /// Encryption is wanted and the server has none.
    NoTls,
    /// The server's refusal: its SQLSTATE (or MySQL's number), and its message if that is harmless.
    Server {
        stage: Stage,
        code: String,
        message: Option<String>,
    },
    /// The server asks for a login that we do not make.
    Method {
        name: String,
    },
    /// The server wants the password in clear text and the connection does not deserve that.
    InClear,
    NoPassword,
    /// The server could not prove that it knows the password.
    Impostor,
    /// Not the protocol of this database.
    Foreign {
        engine: &'static str,
    },
    /// More bytes than are read.
    TooMuch {
        limit: usize,
    },
    /// The query gave no row, or NULL.
    NoValue,
    NotNumber,
    Below {
        value: Figure,
        min: Figure,
    },
    Above {
        value: Figure,
        max: Figure,
    },
    NoColumn {
        name: String,
    },
    /// No newest row: the table is empty.
    NoNewest,
    NotTime,
    Stale {
        age: Duration,
        within: Duration,
    },
}

impl Trouble {
    /// A server's message as it may be shown: one line, not long. `None` for the classes whose messages repeat values of
    /// rows (22 data exception, 23 constraint) or were written by the application (P0, 45).
    pub(super) fn harmless(state: &str, message: &str) -> Option<String> {
        const HARMLESS: [&str; 15] =
            ["08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "70", "XX"];
        let class = state.get(..2)?;
        HARMLESS.contains(&class).then(|| shown(message))
    }

    pub fn english(&self) -> String {
        let length = |length: &Duration| format::duration(*length, Language::En);
        let number = |figure: &Figure| number(*figure, Language::En);
        match self {
            Trouble::Silent { stage, limit } => {
                let before = match stage {
                    Stage::Login => "during the login",
                    Stage::Query => "after the query",
                    Stage::Newest => "after the query for the newest row",
                };
                format!("hangs: connected, then silence {before} (waited {})", seconds(*limit, Language::En))
            }
            Trouble::NoTls => "the server offers no TLS, which sslmode asks for".into(),
            Trouble::Server { stage, code, message } => {
                let what = match stage {
                    Stage::Login => "the login was refused",
                    Stage::Query => "the query failed",
                    Stage::Newest => "the query for the newest row failed",
                };
                format!("{what}: {}", with_code(message.as_deref(), code))
            }
            Trouble::Method { name } => format!("the server asks for the login method {name}, which is not supported"),
            Trouble::InClear => {
                "the server asks for the password in clear text; that needs TLS with sslmode require or stricter".into()
            }
            Trouble::NoPassword => "the server asks for a password and password_file names none".into(),
            Trouble::Impostor => "the server could not prove that it knows the password: it may be another one".into(),
            Trouble::Foreign { engine } => format!("the answer is not that of a {engine} server"),
            Trouble::TooMuch { limit } => format!("the answer is longer than {limit} bytes"),
            Trouble::NoValue => "the query gave no value".into(),
            Trouble::NotNumber => "the query gave something that is not a number".into(),
            Trouble::Below { value, min } => format!("the value {} is below {}", number(value), number(min)),
            Trouble::Above { value, max } => format!("the value {} is above {}", number(value), number(max)),
            Trouble::NoColumn { name } => format!("the answer has no column {name}"),
            Trouble::NoNewest => "there is no newest row".into(),
            Trouble::NotTime => "the newest row's time is not a time".into(),
            Trouble::Stale { age, within } => {
                format!("the newest row is {} old, expected at most {}", length(age), length(within))
            }
        }
    }

    pub fn vietnamese(&self) -> String {
        let length = |length: &Duration| format::duration(*length, Language::Vi);
        let number = |figure: &Figure| number(*figure, Language::Vi);
        match self {
            Trouble::Silent { stage, limit } => {
                let before = match stage {
                    Stage::Login => "khi đăng nhập",
                    Stage::Query => "sau câu truy vấn",
                    Stage::Newest => "sau câu truy vấn dòng mới nhất",
                };
                format!("bị treo: đã kết nối rồi im lặng {before} (đã chờ {})", seconds(*limit, Language::Vi))
            }
            Trouble::NoTls => "máy chủ không có TLS, trong khi sslmode yêu cầu".into(),
            Trouble::Server { stage, code, message } => {
                let what = match stage {
                    Stage::Login => "đăng nhập bị từ chối",
                    Stage::Query => "câu truy vấn bị lỗi",
                    Stage::Newest => "câu truy vấn dòng mới nhất bị lỗi",
                };
                format!("{what}: {}", with_code(message.as_deref(), code))
            }
            Trouble::Method { name } => format!("máy chủ đòi cách đăng nhập {name}, chưa được hỗ trợ"),
            Trouble::InClear => {
                "máy chủ đòi mật khẩu nguyên văn; chỉ gửi như vậy qua TLS với sslmode require hoặc chặt hơn".into()
            }
            Trouble::NoPassword => "máy chủ đòi mật khẩu mà password_file không có".into(),
            Trouble::Impostor => "máy chủ không chứng minh được là biết mật khẩu: có thể là máy khác".into(),
            Trouble::Foreign { engine } => format!("nội dung trả lời không phải của máy chủ {engine}"),
            Trouble::TooMuch { limit } => format!("nội dung trả lời dài hơn {limit} byte"),
            Trouble::NoValue => "câu truy vấn không cho giá trị nào".into(),
            Trouble::NotNumber => "câu truy vấn không cho ra số".into(),
            Trouble::Below { value, min } => format!("giá trị {} thấp hơn mức {}", number(value), number(min)),
            Trouble::Above { value, max } => format!("giá trị {} cao hơn mức {}", number(value), number(max)),
            Trouble::NoColumn { name } => format!("kết quả không có cột {name}"),
            Trouble::NoNewest => "không có dòng mới nhất".into(),
            Trouble::NotTime => "thời điểm của dòng mới nhất không đọc được".into(),
            Trouble::Stale { age, within } => {
                format!("dòng mới nhất đã cũ {}, cho phép tối đa {}", length(age), length(within))
            }
        }
    }
}

fn with_code(message: Option<&str>, code: &str) -> String {
    match message {
        Some(message) => format!("{message} ({code})"),
        None => code.to_owned(),
    }
}

/// Text of a server: one line, not long.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect()
}

/// Whole numbers without places, others with up to three.
fn number(Figure(value): Figure, language: Language) -> String {
    let decimals = (0..3).find(|&n| (value * 10_f64.powi(n)).fract() == 0.0).unwrap_or(3);
    format::decimal(value, usize::try_from(decimals).unwrap_or(3), language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ages_are_written_for_their_readers() {
        let below = Trouble::Below { value: Figure(1234.5), min: Figure(2000.0) };
        assert_eq!(below.vietnamese(), "giá trị 1.234,5 thấp hơn mức 2.000");
        assert_eq!(below.english(), "the value 1,234.5 is below 2,000");
        let stale = Trouble::Stale { age: Duration::from_secs(7_500), within: Duration::from_secs(3_600) };
        assert_eq!(stale.vietnamese(), "dòng mới nhất đã cũ 2 giờ 5 phút, cho phép tối đa 1 giờ");
    }

    #[test]
    fn messages_that_may_repeat_rows_are_not_shown() {
        let citizen = "invalid input syntax for type integer: \"Nguyễn Văn A\"";
        assert_eq!(Trouble::harmless("22P02", citizen), None);
        assert_eq!(Trouble::harmless("23505", citizen), None);
        assert_eq!(Trouble::harmless("45000", citizen), None);
        assert_eq!(Trouble::harmless("P0001", citizen), None);
        let table = Trouble::harmless("42P01", "relation \"ho_so\" does\nnot exist");
        assert_eq!(table.as_deref(), Some("relation \"ho_so\" does not exist"));
        assert_eq!(Trouble::harmless("Ữ", "x"), None);
    }
}
