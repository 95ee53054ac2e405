//! Severities, areas and events as their readers call them.

use super::address::Severity;
use super::life::{Excused, Why};
use crate::attribution::{Cause, SubjectKind};
use crate::config::organisation::Area;
use crate::config::site::Language::{self, En, Vi};

pub fn severity(severity: Severity, language: Language) -> &'static str {
    match (severity, language) {
        (Severity::Critical, Vi) => "Nghiêm trọng",
        (Severity::Critical, En) => "Critical",
        (Severity::Warning, Vi) => "Cảnh báo",
        (Severity::Warning, En) => "Warning",
        (Severity::Info, Vi) => "Thông tin",
        (Severity::Info, En) => "Info",
    }
}

pub fn area(area: Area, language: Language) -> &'static str {
    match (area, language) {
        (Area::Service, Vi) => "cổng và ứng dụng",
        (Area::Service, En) => "portals and applications",
        (Area::Payment, Vi) => "đối soát thanh toán",
        (Area::Payment, En) => "payment reconciliation",
        (Area::Camera, Vi) => "camera",
        (Area::Camera, En) => "cameras",
        (Area::Hotspot, Vi) => "điểm wifi",
        (Area::Hotspot, En) => "wifi hotspots",
        (Area::Usage, Vi) => "sử dụng ứng dụng",
        (Area::Usage, En) => "use of applications",
        (Area::Host, Vi) => "máy chủ giám sát",
        (Area::Host, En) => "monitoring host",
        (Area::Dependency, Vi) => "hạ tầng dùng chung",
        (Area::Dependency, En) => "shared infrastructure",
        (Area::Own, Vi) => "hệ thống giám sát",
        (Area::Own, En) => "monitoring itself",
    }
}

/// What a mail's subject begins with.
pub fn mark(is_resolved: bool, level: Severity, language: Language) -> String {
    match (is_resolved, language) {
        (true, Vi) => "[Đã khắc phục]".into(),
        (true, En) => "[Resolved]".into(),
        (false, _) => format!("[{}]", severity(level, language)),
    }
}

/// The state of one alert.
pub fn state(is_resolved: bool, language: Language) -> &'static str {
    match (is_resolved, language) {
        (false, Vi) => "đang xảy ra",
        (false, En) => "firing",
        (true, Vi) => "đã khắc phục",
        (true, En) => "resolved",
    }
}

/// Why nobody is told of an alert just now.
pub fn excused(excused: &Excused, language: Language) -> String {
    let by = &excused.by;
    match (excused.why, language) {
        (Why::Cause(Cause::Maintenance), Vi) => format!("đang bảo trì ({by})"),
        (Why::Cause(Cause::Maintenance), En) => format!("under maintenance ({by})"),
        (Why::Cause(_), Vi) => format!("do {by} gặp sự cố"),
        (Why::Cause(_), En) => format!("because of {by}"),
        (Why::Silenced, Vi) => format!("đang tạm tắt thông báo ({by})"),
        (Why::Silenced, En) => format!("silenced ({by})"),
        (Why::Inhibited, Vi) => format!("đã báo trong cảnh báo khác ({by})"),
        (Why::Inhibited, En) => format!("inhibited by {by}"),
    }
}

/// So many of a kind: `3 dịch vụ`.
pub fn counted(count: usize, kind: SubjectKind, language: Language) -> String {
    let noun = match (kind, language, count) {
        (SubjectKind::Service, Vi, _) => "dịch vụ",
        (SubjectKind::Service, En, 1) => "service",
        (SubjectKind::Service, En, _) => "services",
        (SubjectKind::Camera, Vi, _) | (SubjectKind::Camera, En, 1) => "camera",
        (SubjectKind::Camera, En, _) => "cameras",
        (SubjectKind::Hotspot, Vi, _) => "điểm wifi",
        (SubjectKind::Hotspot, En, 1) => "wifi hotspot",
        (SubjectKind::Hotspot, En, _) => "wifi hotspots",
        (SubjectKind::Dependency, Vi, _) => "hạ tầng dùng chung khác",
        (SubjectKind::Dependency, En, 1) => "other dependency",
        (SubjectKind::Dependency, En, _) => "other dependencies",
    };
    format!("{} {noun}", crate::format::integer(i64::try_from(count).unwrap_or(i64::MAX), language))
}
