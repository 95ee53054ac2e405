//! One mail of every kind with everything a mail can hold, made up: to try templates out and to show them.

use super::{AcknowledgedView, HandoverRow, HandoverView, IncidentView, NextView, RowView, SummaryRow, SummaryView};
use crate::config::site::Language::{self, En, Vi};

/// Kinds of mail about an incident.
const KINDS: [&str; 6] = ["broken", "changed", "escalated", "reminder", "acknowledged", "resolved"];

/// By kind.
pub fn views(language: Language) -> Vec<(&'static str, IncidentView)> {
    let full = full(language);
    let mut views: Vec<(&'static str, IncidentView)> =
        KINDS.iter().map(|kind| (*kind, of_kind(&full, kind, language))).collect();
    // The barest mail there can be: whatever may be absent is.
    views.push(("bare", bare(language)));
    views
}

/// One mail in the place of many, by kind.
pub fn summaries(language: Language) -> Vec<(&'static str, SummaryView)> {
    let say = |vi: &str, en: &str| word(&[(Vi, vi), (En, en)], language);
    let row = |what: String, at: &str, count: String, number: u32| SummaryRow {
        what,
        at: at.into(),
        count,
        url: format!("https://ioc.vn.example/incidents/{number}"),
    };
    let digest = SummaryView {
        is_digest: true,
        headline: say("Bản tin: 4 thư về 2 sự cố", "Digest: 4 mails about 2 incidents"),
        rows: vec![
            row(
                say("[Cảnh báo] Camera chợ Hà Lam mất tín hiệu", "[Warning] Camera of Hà Lam market is silent"),
                "27/03/2022 16:20",
                say("3 thư", "3 mails"),
                12,
            ),
            row(
                say("[Đã khắc phục] Ổ đĩa gần đầy", "[Resolved] A disk is nearly full"),
                "27/03/2022 18:05",
                String::new(),
                13,
            ),
        ],
        more: String::new(),
        url: "https://ioc.vn.example/incidents".into(),
        site: "IOC huyện Thăng Bình".into(),
    };
    let limit = SummaryView {
        is_digest: false,
        headline: say("Gộp 312 thư về 52 sự cố", "312 mails in one about 52 incidents"),
        more: say("và 2 sự cố nữa", "and 2 more"),
        ..digest.clone()
    };
    vec![("digest", digest), ("summary", limit)]
}

/// The mails when duty changes hands, by kind.
pub fn handovers(language: Language) -> [(&'static str, HandoverView); 3] {
    let say = |vi: &str, en: &str| word(&[(Vi, vi), (En, en)], language);
    let rows = vec![
        HandoverRow {
            what: say("Cổng dịch vụ công TP. Tam Kỳ bị treo (+2)", "The portal of Tam Kỳ is hanging (+2)"),
            severity: say("Nghiêm trọng", "Critical"),
            since: "28/03/2022 06:33".into(),
            lasted: say("1 giờ 27 phút", "1 hour 27 minutes"),
            answered: String::new(),
            ack_url: "https://ioc.vn.example/ack/0123456789abcdef".into(),
            url: "https://ioc.vn.example/incidents/12".into(),
        },
        HandoverRow {
            what: say("3 camera Thôn 1 không trực tuyến", "3 cameras of Thôn 1 are offline"),
            severity: say("Cảnh báo", "Warning"),
            since: "27/03/2022 21:10".into(),
            lasted: say("10 giờ 50 phút", "10 hours 50 minutes"),
            answered: say(
                "Cán bộ CNTT TP. Tam Kỳ đã tiếp nhận, có hiệu lực đến 28/03/2022 13:05",
                "acknowledged by the IT officer of Tam Kỳ until 28/03/2022 13:05",
            ),
            ack_url: String::new(),
            url: "https://ioc.vn.example/incidents/9".into(),
        },
    ];
    let on = HandoverView {
        comes_on: true,
        agency: "UBND TP. Tam Kỳ".into(),
        other: say("Cán bộ CNTT TP. Tam Kỳ", "IT officer of Tam Kỳ"),
        from: "28/03/2022 08:00".into(),
        until: "04/04/2022 08:00".into(),
        count: 22,
        unanswered: 1,
        rows,
        more: say("và 20 nữa", "and 20 more"),
        url: "https://ioc.vn.example/incidents".into(),
        site: "IOC huyện Thăng Bình".into(),
    };
    let mut off = HandoverView { comes_on: false, more: String::new(), count: 2, ..on.clone() };
    off.rows.iter_mut().for_each(|row| row.ack_url.clear());
    // Nothing to hand over, and nobody to hand it to.
    let quiet = HandoverView {
        other: String::new(),
        until: String::new(),
        count: 0,
        unanswered: 0,
        rows: Vec::new(),
        ..off.clone()
    };
    [("handover-on", on), ("handover-off", off), ("handover-quiet", quiet)]
}

fn of_kind(full: &IncidentView, kind: &'static str, language: Language) -> IncidentView {
    let mut view = IncidentView { news: kind, ..full.clone() };
    if kind != "acknowledged" {
        view.acknowledged.clear();
    }
    match kind {
        "changed" => {
            let others =
                [(Vi, "Cập nhật: 2 cảnh báo đang xảy ra, 1 đã khắc phục"), (En, "Update: 2 firing, 1 resolved")];
            view.others = word(&others, language);
        }
        "acknowledged" => {
            view.curve.clear();
            view.curve_says.clear();
            view.next.clear();
            view.ack_url.clear();
        }
        "resolved" => {
            view.until = "27/03/2022 08:20".into();
            view.lasted = word(&[(Vi, "47 phút"), (En, "47 minutes")], language);
            view.others = word(&[(Vi, "Tất cả 3 cảnh báo đã kết thúc"), (En, "All 3 alerts have ended")], language);
            view.next.clear();
            view.ack_url.clear();
            view.affected.clear();
            for row in &mut view.rows {
                row.state = word(&[(Vi, "đã khắc phục (47 phút)"), (En, "resolved (47 minutes)")], language);
            }
        }
        _ => {}
    }
    view
}

fn bare(language: Language) -> IncidentView {
    IncidentView {
        news: "broken",
        headline: word(&[(Vi, "Ổ đĩa gần đầy"), (En, "A disk is nearly full")], language),
        since: "27/03/2022 07:33".into(),
        lasted: word(&[(Vi, "6 phút"), (En, "6 minutes")], language),
        agency: word(&[(Vi, "Trung tâm IOC"), (En, "IOC centre")], language),
        area: word(&[(Vi, "máy chủ"), (En, "host")], language),
        severity: word(&[(Vi, "Cảnh báo"), (En, "Warning")], language),
        told: vec![word(&[(Vi, "Trực IOC"), (En, "IOC duty")], language)],
        url: "https://ioc.vn.example/incidents/13".into(),
        ..IncidentView::default()
    }
}

fn full(language: Language) -> IncidentView {
    let say = |vi: &str, en: &str| word(&[(Vi, vi), (En, en)], language);
    let row = |vi: &str, en: &str, since: &str, state_vi: &str, state_en: &str| RowView {
        what: say(vi, en),
        since: since.into(),
        state: say(state_vi, state_en),
    };
    IncidentView {
        news: "broken",
        headline: say("Cổng dịch vụ công TP. Tam Kỳ bị treo", "The public-service portal of Tam Kỳ is hanging"),
        others: say("và 2 cảnh báo khác", "and 2 more"),
        description: say(
            "Người dân đang nộp hồ sơ hoặc thanh toán bị dừng giữa chừng và không biết kết quả.",
            "Citizens who file or pay are stopped half way and do not learn the result.",
        ),
        since: "27/03/2022 07:33".into(),
        until: String::new(),
        lasted: say("6 phút", "6 minutes"),
        severity: say("Nghiêm trọng", "Critical"),
        is_critical: true,
        agency: "UBND TP. Tam Kỳ".into(),
        area: say("cổng và ứng dụng", "portals and applications"),
        leader: say("Chủ tịch UBND TP. Tam Kỳ", "Chairman of Tam Kỳ"),
        superior: say("Lãnh đạo tỉnh (UBND tỉnh)", "Head of the province (UBND tỉnh)"),
        is_nobodys: false,
        is_expired: false,
        is_worsened: false,
        told: vec![
            say("Cán bộ CNTT TP. Tam Kỳ (cán bộ trực)", "IT officer of Tam Kỳ (duty officer)"),
            say("Chủ tịch UBND TP. Tam Kỳ (lãnh đạo phụ trách)", "Chairman of Tam Kỳ (responsible leader)"),
        ],
        acknowledged: vec![AcknowledgedView {
            by: say("Cán bộ CNTT TP. Tam Kỳ", "IT officer of Tam Kỳ"),
            at: "27/03/2022 07:41".into(),
            until: "27/03/2022 15:41".into(),
        }],
        next: vec![NextView { at: "27/03/2022 08:33".into(), who: say("Lãnh đạo tỉnh", "Head of the province") }],
        ack_url: "https://ioc.vn.example/ack/0123456789abcdef".into(),
        rows: vec![
            row(
                "Cổng dịch vụ công TP. Tam Kỳ bị treo",
                "The public-service portal of Tam Kỳ is hanging",
                "27/03/2022 07:33",
                "đang xảy ra (6 phút)",
                "firing (6 minutes)",
            ),
            row(
                "Nộp hồ sơ trực tuyến hỏng ở bước “giấy hẹn”",
                "Online filing breaks at step “receipt slip”",
                "27/03/2022 07:34",
                "đang xảy ra (5 phút)",
                "firing (5 minutes)",
            ),
            row(
                "Cơ sở dữ liệu một cửa không truy cập được",
                "The one-stop database is down",
                "27/03/2022 07:30",
                "đã khắc phục (3 phút)",
                "resolved (3 minutes)",
            ),
        ],
        more: say(
            "và 37 nữa; danh sách đầy đủ trong tệp đính kèm su-co-12.csv",
            "and 37 more; the whole list is in the attached incident-12.csv",
        ),
        curve: "cid:curve.png".into(),
        curve_says: say(
            "Thời gian trả lời từ 27/03/2022 01:39 đến 27/03/2022 07:39: thấp nhất 0,6 giây, cao nhất 9,7 giây, cuối cùng 9,7 giây",
            "Response time from 27/03/2022 01:39 to 27/03/2022 07:39: lowest 0.6 s, highest 9.7 s, last 9.7 s",
        ),
        affected: say("3 dịch vụ, 12 camera", "3 services, 12 cameras"),
        evidence: vec![
            say("H47.22-220327-0004: 125.000 đ", "H47.22-220327-0004: 125,000 đ"),
            say("H47.22-220327-0011: 50.000 đ", "H47.22-220327-0011: 50,000 đ"),
        ],
        runbook: "https://ioc.vn.example/runbooks/service-hanging".into(),
        url: "https://ioc.vn.example/incidents/12".into(),
        site: "IOC huyện Thăng Bình".into(),
    }
}

fn word(words: &[(Language, &str)], language: Language) -> String {
    words.iter().find(|(of, _)| *of == language).map(|(_, text)| (*text).to_string()).unwrap_or_default()
}
