//! The sentences of mails that depend on counts and offices. Words that a page needs too stand in `incident/words.rs`.

use super::extra::Kind;
use crate::config::site::Language;
use crate::format;
use crate::incident::life;
use crate::incident::who::Role;

pub(super) fn role(role: Role, language: Language) -> &'static str {
    match (role, language) {
        (Role::Duty, Language::Vi) => "cán bộ trực",
        (Role::Duty, Language::En) => "duty officer",
        (Role::Leader, Language::Vi) => "lãnh đạo phụ trách",
        (Role::Leader, Language::En) => "responsible leader",
        (Role::Superior, Language::Vi) => "cấp trên",
        (Role::Superior, Language::En) => "superior",
        (Role::Site, Language::Vi) => "đơn vị vận hành",
        (Role::Site, Language::En) => "operating agency",
        (Role::Deputy, Language::Vi) => "cấp phó",
        (Role::Deputy, Language::En) => "deputy",
        (Role::Named, Language::Vi) => "được chỉ định",
        (Role::Named, Language::En) => "named by the policy",
    }
}

/// Beside the headline: how many more there are, and how they stand.
pub(super) fn others(kind: Kind, firing: usize, all: usize, language: Language) -> String {
    match (kind, language) {
        (Kind::Changed, Language::Vi) => {
            format!("Cập nhật: {firing} cảnh báo đang xảy ra, {} đã khắc phục", all - firing)
        }
        (Kind::Changed, Language::En) => format!("Update: {firing} firing, {} resolved", all - firing),
        (Kind::Resolved, _) if all - firing < 2 => String::new(),
        // What still fires is excused, and its readers were never told of it.
        (Kind::Resolved, Language::Vi) if firing > 0 => format!("{} cảnh báo đã kết thúc", all - firing),
        (Kind::Resolved, Language::En) if firing > 0 => format!("{} alerts have ended", all - firing),
        (Kind::Resolved, Language::Vi) => format!("Tất cả {all} cảnh báo đã kết thúc"),
        (Kind::Resolved, Language::En) => format!("All {all} alerts have ended"),
        (_, _) if firing < 2 => String::new(),
        (_, Language::Vi) => format!("và {} cảnh báo khác", firing - 1),
        (_, Language::En) => format!("and {} more", firing - 1),
    }
}

/// Of what comes and goes.
pub(super) fn flapping(count: usize, language: Language) -> String {
    let steady = format::duration(life::STEADY.unsigned_abs(), language);
    match language {
        Language::Vi => format!("chập chờn: tái diễn {count} lần trong một giờ, chỉ báo kết thúc khi đã yên {steady}"),
        Language::En => {
            format!("flapping: back {count} times within an hour; its end is told once it is quiet for {steady}")
        }
    }
}

/// Under a table that does not show all rows.
pub(super) fn more(left_out: usize, file: Option<&str>, language: Language) -> String {
    let count = format::integer(i64::try_from(left_out).unwrap_or(i64::MAX), language);
    match (left_out, file, language) {
        (0, _, _) => String::new(),
        (_, None, Language::Vi) => format!("và {count} nữa"),
        (_, None, Language::En) => format!("and {count} more"),
        (_, Some(file), Language::Vi) => format!("và {count} nữa; danh sách đầy đủ trong tệp đính kèm {file}"),
        (_, Some(file), Language::En) => format!("and {count} more; the whole list is in the attached {file}"),
    }
}

/// The name of the attached list.
pub(super) fn file_name(incident: i64, language: Language) -> String {
    match language {
        Language::Vi => format!("su-co-{incident}.csv"),
        Language::En => format!("incident-{incident}.csv"),
    }
}

/// The head of the attached list, and what its last line says when even it is cut.
pub(super) fn columns(language: Language) -> [&'static str; 9] {
    match language {
        Language::Vi => {
            ["Nội dung", "Mức độ", "Trạng thái", "Từ", "Đến", "Kéo dài", "Đối tượng", "Điểm lắp đặt", "Thôn, khối phố"]
        }
        Language::En => ["What", "Severity", "State", "Since", "Until", "Lasted", "Subject", "Site", "Village"],
    }
}
