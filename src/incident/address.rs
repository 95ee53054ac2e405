//! Whose an alert is: its agency, area and severity, and the group it belongs to.
//!
//! An alert that does not say so (or names what does not exist) is never dropped: it goes to the site agency.

use crate::alert::Alert;
use crate::config::organisation::Area;

/// How bad an alert is; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Recorded; nobody is told.
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    pub fn parse(text: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.as_str() == text)
    }
}

/// Why an alert went to the site agency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misaddressed {
    NoAgency,
    UnknownAgency,
    NoArea,
    UnknownArea,
    NoSeverity,
    UnknownSeverity,
}

impl Misaddressed {
    /// The label value of `ioc_alerts_misaddressed_total`.
    pub fn as_str(self) -> &'static str {
        match self {
            Misaddressed::NoAgency => "no_agency",
            Misaddressed::UnknownAgency => "unknown_agency",
            Misaddressed::NoArea => "no_area",
            Misaddressed::UnknownArea => "unknown_area",
            Misaddressed::NoSeverity => "no_severity",
            Misaddressed::UnknownSeverity => "unknown_severity",
        }
    }
}

/// Where an alert goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub agency: String,
    pub area: Area,
    pub severity: Severity,
    pub misaddressed: Option<Misaddressed>,
}

/// Reads an alert's address; `is_agency` knows the agencies, `site` is the one that gets what nobody else gets.
pub fn address(alert: &Alert, is_agency: impl Fn(&str) -> bool, site: &str) -> Address {
    match parse(alert, is_agency) {
        Ok((agency, area, severity)) => Address { agency, area, severity, misaddressed: None },
        Err(reason) => Address {
            agency: site.to_string(),
            area: Area::Own,
            severity: Severity::Warning,
            misaddressed: Some(reason),
        },
    }
}

fn parse(alert: &Alert, is_agency: impl Fn(&str) -> bool) -> Result<(String, Area, Severity), Misaddressed> {
    let agency = match alert.label("agency") {
        "" => return Err(Misaddressed::NoAgency),
        agency if is_agency(agency) => agency.to_string(),
        _ => return Err(Misaddressed::UnknownAgency),
    };
    let area = match alert.label("area") {
        "" => return Err(Misaddressed::NoArea),
        area => Area::parse(area).ok_or(Misaddressed::UnknownArea)?,
    };
    let severity = match alert.label("severity") {
        "" => return Err(Misaddressed::NoSeverity),
        severity => Severity::parse(severity).ok_or(Misaddressed::UnknownSeverity)?,
    };
    Ok((agency, area, severity))
}

impl Address {
    /// Whether somebody is told. The Watchdog only proves that the path works.
    pub fn is_recorded_only(&self, alert: &Alert) -> bool {
        self.severity == Severity::Info || alert.label("alertname") == "Watchdog"
    }

    /// The group's key: the values of `group_by`, with the address in place of the labels it corrects.
    pub fn group_key(&self, alert: &Alert, group_by: &[String]) -> String {
        let values: Vec<(&str, &str)> = group_by
            .iter()
            .map(|name| {
                let value = match name.as_str() {
                    "agency" => self.agency.as_str(),
                    "area" => self.area.as_str(),
                    "severity" => self.severity.as_str(),
                    other => alert.label(other),
                };
                (name.as_str(), value)
            })
            // An incident has one agency and one area, whatever it is grouped by: they decide who is told.
            .chain([("agency", self.agency.as_str()), ("area", self.area.as_str())])
            .collect();
        let mut distinct: Vec<(&str, &str)> = Vec::new();
        for pair in values {
            if !distinct.contains(&pair) {
                distinct.push(pair);
            }
        }
        // JSON keeps values apart whatever they contain.
        serde_json::to_string(&distinct).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn alert(labels: &[(&str, &str)]) -> Alert {
        Alert {
            labels: labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            annotations: Default::default(),
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            generator_url: "".into(),
            end_is_assumed: false,
        }
    }

    #[test]
    fn what_is_misaddressed_goes_to_the_site_agency_and_says_why() {
        type Row = (&'static [(&'static str, &'static str)], Option<Misaddressed>);
        let rows: [Row; 7] = [
            (&[("agency", "tam-ky"), ("area", "service"), ("severity", "critical")], None),
            (&[("area", "service"), ("severity", "critical")], Some(Misaddressed::NoAgency)),
            (&[("agency", "hue"), ("area", "service"), ("severity", "critical")], Some(Misaddressed::UnknownAgency)),
            (&[("agency", "tam-ky"), ("severity", "critical")], Some(Misaddressed::NoArea)),
            (&[("agency", "tam-ky"), ("area", "x"), ("severity", "critical")], Some(Misaddressed::UnknownArea)),
            (&[("agency", "tam-ky"), ("area", "service")], Some(Misaddressed::NoSeverity)),
            (&[("agency", "tam-ky"), ("area", "service"), ("severity", "page")], Some(Misaddressed::UnknownSeverity)),
        ];
        for (labels, expected) in rows {
            let address = address(&alert(labels), |agency| agency == "tam-ky", "ioc");
            assert_eq!(address.misaddressed, expected, "{labels:?}");
            let (agency, area, severity) = match expected {
                None => ("tam-ky", Area::Service, Severity::Critical),
                Some(_) => ("ioc", Area::Own, Severity::Warning),
            };
            assert_eq!((address.agency.as_str(), address.area, address.severity), (agency, area, severity));
        }
    }

    #[test]
    fn groups_are_told_apart_by_value_not_by_text() {
        let by = ["agency".to_string(), "x".to_string(), "y".to_string()];
        let key = |x, y| {
            let alert = alert(&[("agency", "a"), ("area", "service"), ("severity", "warning"), ("x", x), ("y", y)]);
            address(&alert, |_| true, "ioc").group_key(&alert, &by)
        };
        assert_ne!(key("1\",\"2", ""), key("1", "2"));
        assert_eq!(key("1", "2"), key("1", "2"));
    }
}
