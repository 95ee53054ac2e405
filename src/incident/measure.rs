//! What the open incidents look like in the metrics.

use super::stage::Incidents;
use super::who;
use crate::metrics::columns;
use jiff::Timestamp;
use std::collections::BTreeMap;

impl Incidents {
    /// Brings the gauges of open incidents up to date. Who answers for them is asked as of `now`.
    pub(super) fn measure(&self, now: Timestamp) {
        let mut open: BTreeMap<[String; 3], f64> = BTreeMap::new();
        let mut of_area: BTreeMap<(String, crate::config::organisation::Area), f64> = BTreeMap::new();
        for one in self.state().open.values().filter(|open| open.incident.resolved.is_none()) {
            let incident = &one.incident;
            let labels = [incident.agency.clone(), incident.area.as_str().into(), incident.severity.as_str().into()];
            *open.entry(labels).or_default() += 1.0;
            *of_area.entry((incident.agency.clone(), incident.area)).or_default() += 1.0;
        }
        let settings = self.settings();
        let is_nobodys = |agency: &str, area| who::is_nobodys(&settings.desk.org, agency, area, now);
        of_area.retain(|(agency, area), _| is_nobodys(agency, *area));
        let unowned = of_area.into_iter().map(|((agency, area), count)| ([agency, area.as_str().to_string()], count));
        let unowned: BTreeMap<[String; 2], f64> = unowned.collect();

        let table = self.metrics.table(columns::incidents::TABLE);
        table.retain(|labels| open.keys().any(|key| key.iter().map(String::as_str).eq(labels.iter().copied())));
        for ([agency, area, severity], count) in &open {
            table.set(table.row(&[agency, area, severity]), columns::incidents::OPEN, *count);
        }
        let table = self.metrics.table(columns::incidents_unowned::TABLE);
        table.retain(|labels| unowned.keys().any(|key| key.iter().map(String::as_str).eq(labels.iter().copied())));
        for ([agency, area], count) in &unowned {
            table.set(table.row(&[agency, area]), columns::incidents_unowned::NOBODY, *count);
        }
    }
}
