//! Why somebody is told, or an office is held by nobody, in words.

use super::Case;
use crate::config::escalation::{Acknowledge, Office};
use crate::config::site::Language::{self, En, Vi};
use crate::format;
use crate::incident::foresee::Meant;
use crate::org::{Ground, Held, Vacancy, Vacant};
use jiff::Timestamp;

impl Case<'_> {
    pub fn language(&self) -> Language {
        self.config.site.language
    }

    pub fn pick(&self, vi: &str, en: &str) -> String {
        if self.language() == Vi { vi.into() } else { en.into() }
    }

    pub fn date(&self, at: Timestamp) -> String {
        format::date_time(at, &self.config.site.timezone)
    }

    fn agency_name(&self, id: &str) -> String {
        self.org.agency(id).map_or_else(|| id.to_owned(), |agency| agency.name.clone())
    }

    fn office(&self, office: Office) -> String {
        match office {
            Office::Duty => self.pick("cán bộ trực", "duty officer"),
            Office::Leader => self.pick("lãnh đạo phụ trách", "responsible leader"),
            Office::Deputy => self.pick("cấp phó", "deputy"),
        }
    }

    /// Of what somebody is what, and since when.
    pub fn held(&self, held: &Held) -> String {
        let (office, agency) = (self.office(held.office), self.agency_name(&held.agency));
        let of = match self.language() {
            Vi => format!("{office} của {agency}"),
            En => format!("{office} of {agency}"),
        };
        format!("{of}: {}", self.ground(&held.ground))
    }

    fn ground(&self, ground: &Ground) -> String {
        let language = self.language();
        match ground {
            Ground::Area => {
                let area = crate::incident::words::area(self.area, language);
                match language {
                    Vi => format!("phụ trách riêng lĩnh vực {area}"),
                    En => format!("answers for {area} in particular"),
                }
            }
            Ground::Term { from, to, acting } => {
                let name = match (acting, from) {
                    (true, _) => self.pick("quyền", "acting"),
                    (false, Some(_)) => self.pick("giữ chức", "in office"),
                    (false, None) => self.pick("theo cấu hình, không ghi thời hạn", "as configured, without dates"),
                };
                let from = from.map(|from| format!(" {} {}", self.pick("từ", "since"), self.date(from)));
                let to = to.map(|to| format!(" {} {}", self.pick("đến", "until"), self.date(to)));
                format!("{name}{}{}", from.unwrap_or_default(), to.unwrap_or_default())
            }
            Ground::Turn { from, to: Some(to) } => match language {
                Vi => format!("ca trực từ {} đến {}", self.date(*from), self.date(*to)),
                En => format!("on duty from {}, hands over at {}", self.date(*from), self.date(*to)),
            },
            Ground::Turn { from, to: None } => match language {
                Vi => format!("trực một mình từ {}", self.date(*from)),
                En => format!("alone on the rota since {}", self.date(*from)),
            },
            Ground::Override { from, to } => match language {
                Vi => format!("trực thay từ {} đến {}", self.date(*from), self.date(*to)),
                En => format!("stands in from {} until {}", self.date(*from), self.date(*to)),
            },
        }
    }

    /// An office that nobody holds.
    pub fn vacant(&self, vacant: &Vacant) -> String {
        let (office, agency) = (self.office(vacant.office), self.agency_name(&vacant.agency));
        let why = self.vacancy(vacant);
        match self.language() {
            Vi => format!("không có {office} của {agency}: {why}"),
            En => format!("no {office} of {agency}: {why}"),
        }
    }

    fn vacancy(&self, vacant: &Vacant) -> String {
        let language = self.language();
        match &vacant.why {
            Vacancy::NotThen { since, until, merged_into } => {
                let is_past = until.is_some_and(|until| until <= self.org.date(self.at));
                let mut text = match (until.filter(|_| is_past), since, language) {
                    (Some(until), _, Vi) => format!("đơn vị không còn từ {}", format::date(until)),
                    (Some(until), _, En) => format!("the agency ended on {}", format::date(until)),
                    (None, Some(since), Vi) => format!("đơn vị có từ {}", format::date(*since)),
                    (None, Some(since), En) => format!("the agency begins on {}", format::date(*since)),
                    (None, None, Vi) => "đơn vị không tồn tại lúc đó".into(),
                    (None, None, En) => "the agency does not exist then".into(),
                };
                if let Some(successor) = merged_into.as_ref().filter(|_| is_past) {
                    text.push_str(&self.pick(", nhập vào ", ", merged into "));
                    text.push_str(&self.agency_name(successor));
                }
                text
            }
            Vacancy::Unfilled if vacant.office == Office::Duty => self.pick("không có lịch trực", "there is no rota"),
            Vacancy::Unfilled => self.pick("chưa có ai được giao", "nobody is named for that time"),
            Vacancy::NotBegun(begins) => match language {
                Vi => format!("lịch trực bắt đầu {}", self.date(*begins)),
                En => format!("the rota begins at {}", self.date(*begins)),
            },
            Vacancy::Gap { from, to } => match language {
                Vi => format!("lịch để trống từ {} đến {}", self.date(*from), self.date(*to)),
                En => format!("the rota is left open from {} until {}", self.date(*from), self.date(*to)),
            },
        }
    }

    /// What a target is called in the configuration, and why it means whom it means.
    pub fn because(&self, meant: &Meant) -> String {
        match meant {
            Meant::Person(_) => self.pick("được chỉ định trong chính sách", "named by the policy"),
            Meant::Fallback(_) => self.pick(
                "vì không bậc nào có ai: lãnh đạo cấp trên gần nhất, hoặc đơn vị vận hành",
                "because no step names anybody: the nearest leader above, or the operating agency",
            ),
            Meant::Office { sought, .. } => sought.held.as_ref().map(|held| self.held(held)).unwrap_or_default(),
        }
    }

    /// How many of those a step tells must answer.
    pub fn acknowledge(&self, acknowledge: Acknowledge) -> String {
        match (acknowledge, self.language()) {
            (Acknowledge::AtLeast(0 | 1), _) => String::new(),
            (Acknowledge::AtLeast(n), Vi) => format!(" (cần {n} người tiếp nhận)"),
            (Acknowledge::AtLeast(n), En) => format!(" ({n} must acknowledge)"),
            (Acknowledge::All, Vi) => " (tất cả phải tiếp nhận)".into(),
            (Acknowledge::All, En) => " (all must acknowledge)".into(),
        }
    }
}

/// As the configuration writes it: `parent.leader`.
pub fn written(up: u8, office: Office) -> String {
    let office = match office {
        Office::Duty => "duty",
        Office::Leader => "leader",
        Office::Deputy => "deputy",
    };
    format!("{}{office}", "parent.".repeat(usize::from(up)))
}
