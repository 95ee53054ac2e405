//! What incident mails know of the value that their alert is about: the last hours of it, from the history.

use crate::alert::Alert;
use crate::history::History;
use crate::incident::{Curve, Measure};
use crate::promql::{self, Query};
use jiff::{SignedDuration, Timestamp};

/// How far back it goes; less if the history remembers less.
const HOURS: SignedDuration = SignedDuration::from_hours(6);
/// Between two values.
const STEP: SignedDuration = SignedDuration::from_secs(150);
/// Fewer values are no course.
const AT_LEAST: usize = 4;

/// The metrics of the subject of an alert, the most telling first.
fn candidates(alert: &Alert) -> Vec<(Measure, String)> {
    let label = |name: &str| Some(alert.label(name)).filter(|value| !value.is_empty());
    // As JSON writes a string, PromQL reads it.
    let is = |names: &[&str]| -> String {
        let pairs = names.iter().filter_map(|name| Some((name, label(name)?)));
        let pairs: Vec<String> =
            pairs.map(|(name, value)| format!("{name}={}", serde_json::Value::from(value))).collect();
        pairs.join(",")
    };
    let up = |metric: &str, subject: &str| (Measure::Up, format!("{metric}{{{}}}", is(&["agency", subject])));
    if label("dependency").is_some() {
        return vec![up("ioc_dependency_up", "dependency")];
    }
    if label("service").is_some() {
        let time = format!("ioc_service_phase_seconds{{{},phase=\"total\"}}", is(&["agency", "service"]));
        let (time, up) = ((Measure::ResponseTime, time), up("ioc_service_up", "service"));
        return if alert.label("alertname") == "ServiceSlow" { vec![time, up] } else { vec![up] };
    }
    if label("device").is_some() {
        return vec![up("ioc_device_up", "device")];
    }
    match (alert.label("area"), label("kind"), label("app"), label("mount")) {
        ("payment", Some(_), ..) => {
            vec![(Measure::Mismatches, format!("ioc_payment_mismatches_open{{{}}}", is(&["agency", "kind"])))]
        }
        (_, _, Some(_), _) => vec![(Measure::Users, format!("ioc_app_active_users{{{}}}", is(&["agency", "app"])))],
        (_, _, _, Some(_)) => {
            let disk = is(&["agency", "mount"]);
            let ratio = format!("ioc_host_disk_free_bytes{{{disk}}} / ioc_host_disk_size_bytes{{{disk}}}");
            vec![(Measure::DiskFree, ratio)]
        }
        _ => Vec::new(),
    }
}

/// The course of the value that an alert is about until `now`; `None` if the history knows too little of it.
pub fn curve(history: &History, alert: &Alert, now: Timestamp) -> Option<Curve> {
    candidates(alert).into_iter().find_map(|(measure, query)| {
        let query = Query::parse(&query).ok()?;
        let (from, step) = (now.checked_sub(HOURS).ok()?, STEP.as_millis().try_into().ok()?);
        let series = promql::range(&history.read(), &query, from.as_millisecond(), now.as_millisecond(), step).ok()?;
        // A label more than ours (a probe of several addresses) makes several: none of them is the one.
        let [one] = series.as_slice() else { return None };
        let (first, last) = (one.samples.first()?.0, one.samples.last()?.0);
        if one.samples.len() < AT_LEAST {
            return None;
        }
        let at = |time_ms: i64| one.samples.binary_search_by_key(&time_ms, |(at, _)| *at).ok();
        let count = usize::try_from((last - first) / step).ok()?;
        let values = (0..=count).map(|index| {
            let time_ms = first + i64::try_from(index).ok()? * step;
            at(time_ms).map(|index| one.samples[index].1)
        });
        Some(Curve {
            measure,
            from: Timestamp::from_millisecond(first).ok()?,
            to: Timestamp::from_millisecond(last).ok()?,
            values: values.collect(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::site;
    use crate::metrics::{Metrics, columns};
    use std::time::Duration;

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
    fn the_last_hours_of_the_alerts_own_subject_with_their_gaps() {
        let history = History::new(&site::History { window: Duration::from_secs(6 * 3_600), ..Default::default() });
        let metrics = Metrics::new();
        let table = metrics.table(columns::service::TABLE);
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        for minute in 0..60 {
            for service in ["dvc", "khac"] {
                let row = table.row(&["xa", service, "portal"]);
                table.set(row, columns::service::UP, if minute < 40 || service == "khac" { 1.0 } else { 0.0 });
            }
            history.sample(&metrics, start + SignedDuration::from_mins(minute));
        }
        let now = start + SignedDuration::from_mins(59);
        let found = curve(&history, &alert(&[("agency", "xa"), ("service", "dvc")]), now).unwrap();
        assert_eq!(found.measure, Measure::Up);
        assert!(found.values.len() > 20, "{found:?}");
        assert_eq!((found.values[0], *found.values.last().unwrap()), (Some(1.0), Some(0.0)));
        for unknown in [
            alert(&[("agency", "hue"), ("service", "dvc")]),
            alert(&[("agency", "xa"), ("service", "\"} or vector(1) #")]),
            alert(&[("agency", "xa"), ("device", "cam-1")]),
            alert(&[("agency", "xa")]),
        ] {
            assert_eq!(curve(&history, &unknown, now), None, "{:?}", unknown.labels);
        }
        assert_eq!(curve(&history, &alert(&[("agency", "xa"), ("service", "dvc")]), start), None, "too little");
    }
}
