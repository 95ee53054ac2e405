//! The two text formats of `/metrics`: Prometheus text 0.0.4 and OpenMetrics 1.0.

use super::catalogue::Kind;
use super::table::{Table, is_absent, label_text};
use super::{Metrics, Own};
use prometheus::proto::{Metric, MetricType};
use std::fmt::Write;

/// Which text format a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.
    Text,
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// From an `Accept` header: OpenMetrics only for who names it.
    pub fn negotiate(accept: Option<&str>) -> Format {
        let wants = accept.is_some_and(|accept| {
            accept.split(',').any(|part| {
                let mut parameters = part.split(';').map(str::trim);
                parameters.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"))
                    && !parameters.any(|parameter| matches!(parameter, "q=0" | "q=0.0"))
            })
        });
        if wants { Format::OpenMetrics } else { Format::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// The whole page.
    pub fn render(&self, format: Format) -> String {
        let mut out = String::with_capacity(64 * 1024);
        for table in self.tables() {
            render_table(&mut out, table, format, None);
        }
        render_own(&mut out, &self.own, format);
        if format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }

    /// The page for who sees some agencies only: their series, and nothing of the daemon itself.
    pub fn render_of(&self, format: Format, shown: &dyn Fn(&str) -> bool) -> String {
        let mut out = String::new();
        for table in self.tables() {
            render_table(&mut out, table, format, Some(shown));
        }
        if format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }
}

/// Adds samples that are no metrics of this program, in the order of their names: each a name, its labels and the value.
pub fn append<'s, L>(page: &mut String, format: Format, samples: impl Iterator<Item = (&'s str, L, f64)>)
where
    L: Iterator<Item = (&'s str, &'s str)>,
{
    const END: &str = "# EOF\n";
    if format == Format::OpenMetrics && page.ends_with(END) {
        page.truncate(page.len() - END.len());
    }
    let kind = if format == Format::OpenMetrics { "unknown" } else { "untyped" };
    let mut last = "";
    for (name, labels, value) in samples {
        if name != last {
            let _ = writeln!(page, "# TYPE {name} {kind}");
            last = name;
        }
        page.push_str(name);
        for (index, (label, value)) in labels.enumerate() {
            page.push_str(if index == 0 { "{" } else { "," });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(page, "{label}=\"{value}\"");
        }
        // A series may have no label but its name.
        page.push_str(if page.ends_with('"') { "} " } else { " " });
        write_value(page, value);
        page.push('\n');
    }
    if format == Format::OpenMetrics {
        page.push_str(END);
    }
}

/// Whether the series of an agency are shown.
type Shown<'a> = &'a dyn Fn(&str) -> bool;

fn render_table(out: &mut String, table: &Table, format: Format, shown: Option<Shown<'_>>) {
    let snapshot = table.snapshot();
    let agency = table.labels().iter().position(|label| *label == "agency");
    let hidden = |row: usize| {
        shown.is_some_and(|shown| !agency.and_then(|at| snapshot.labels(row).get(at)).is_some_and(|id| shown(id)))
    };
    for (index, family) in table.families().iter().enumerate() {
        let column = snapshot.column(index);
        let is_shown = |(row, value): &(usize, &f64)| !is_absent(**value) && !hidden(*row);
        let n_present = column.iter().enumerate().filter(is_shown).count();
        if n_present == 0 {
            continue;
        }
        header(out, family.name, family.kind.as_str(), family.help, format);
        // Names and labels of a row are alike in length; one reservation instead of many growths.
        out.reserve(n_present * (family.name.len() + 96));
        for (row, &value) in column.iter().enumerate().filter(is_shown) {
            out.push_str(family.name);
            out.push('{');
            out.push_str(snapshot.text(row));
            out.push_str("} ");
            write_value(out, value);
            out.push('\n');
        }
    }
    debug_assert!(table.families().iter().all(|f| (f.kind == Kind::Counter) == f.name.ends_with("_total")));
}

fn header(out: &mut String, name: &str, kind: &str, help: &str, format: Format) {
    let shown = match format {
        Format::OpenMetrics if kind == "counter" => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    let _ = write!(out, "# HELP {shown} ");
    for c in help.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if format == Format::OpenMetrics => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    let _ = write!(out, "\n# TYPE {shown} {kind}\n");
}

fn render_own(out: &mut String, own: &Own, format: Format) {
    for family in own.gather() {
        let name = family.name();
        match family.get_field_type() {
            MetricType::COUNTER => {
                // OpenMetrics insists on the suffix; the crate's process collector keeps it already.
                header(out, name, "counter", family.help(), format);
                for metric in family.get_metric() {
                    sample(out, name, metric, None, metric.get_counter().get_value());
                }
            }
            MetricType::GAUGE => {
                header(out, name, "gauge", family.help(), format);
                for metric in family.get_metric() {
                    sample(out, name, metric, None, metric.get_gauge().get_value());
                }
            }
            MetricType::HISTOGRAM => {
                header(out, name, "histogram", family.help(), format);
                for metric in family.get_metric() {
                    histogram(out, name, metric);
                }
            }
            // The catalogue of our own families has no summaries.
            _ => {}
        }
    }
}

fn histogram(out: &mut String, name: &str, metric: &Metric) {
    let histogram = metric.get_histogram();
    let bucket = format!("{name}_bucket");
    for cell in histogram.get_bucket() {
        let mut bound = String::new();
        write_value(&mut bound, cell.upper_bound());
        // OpenMetrics writes bounds as floats ("1.0"), text 0.0.4 accepts both.
        if cell.upper_bound().is_finite() && !bound.contains(['.', 'e']) {
            bound.push_str(".0");
        }
        sample(out, &bucket, metric, Some(&bound), cell.cumulative_count() as f64);
    }
    sample(out, &bucket, metric, Some("+Inf"), histogram.get_sample_count() as f64);
    sample(out, &format!("{name}_sum"), metric, None, histogram.get_sample_sum());
    sample(out, &format!("{name}_count"), metric, None, histogram.get_sample_count() as f64);
}

fn sample(out: &mut String, name: &str, metric: &Metric, le: Option<&str>, value: f64) {
    let mut names: Vec<&str> = metric.get_label().iter().map(|pair| pair.name()).collect();
    let mut values: Vec<&str> = metric.get_label().iter().map(|pair| pair.value()).collect();
    if let Some(le) = le {
        names.push("le");
        values.push(le);
    }
    out.push_str(name);
    if !names.is_empty() {
        out.push('{');
        out.push_str(&label_text(&names, &values));
        out.push('}');
    }
    out.push(' ');
    write_value(out, value);
    out.push('\n');
}

/// The shortest text that reads back as the same value; integers without a fraction.
fn write_value(out: &mut String, value: f64) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let written = if value.is_nan() {
        out.write_str("NaN")
    } else if value.is_infinite() {
        out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else if value.fract() == 0.0 && value.abs() < EXACT {
        write!(out, "{}", value as i64)
    } else if value.abs() >= 1e17 || value.abs() < 1e-5 {
        write!(out, "{value:e}")
    } else {
        write!(out, "{value}")
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::super::columns::{service, service_checks};
    use super::*;

    fn filled() -> Metrics {
        let metrics = Metrics::new();
        let table = metrics.table(service::TABLE);
        table.set(table.row(&["tam-ky", "dvc", "portal"]), service::UP, 1.0);
        let table = metrics.table(service_checks::TABLE);
        table.add(table.row(&["tam-ky", "dvc", "portal", "ok"]), service_checks::CHECKS, 2.0);
        metrics
    }

    #[test]
    fn what_others_add_stands_before_the_end_with_its_labels_escaped() {
        let labels = [("a", "x\"\\\n"), ("b", "ạ")];
        let rows: [(&str, &[(&str, &str)], f64); 3] =
            [("r:a", &labels, 1.5), ("r:a", &[], f64::NAN), ("r:b", &[], 2.0)];
        for (format, kind, end) in [(Format::Text, "untyped", ""), (Format::OpenMetrics, "unknown", "# EOF\n")] {
            let mut page = filled().render(format);
            append(&mut page, format, rows.iter().map(|(name, labels, value)| (*name, labels.iter().copied(), *value)));
            let added = format!(
                "\n# TYPE r:a {kind}\nr:a{{a=\"x\\\"\\\\\\n\",b=\"ạ\"}} 1.5\nr:a NaN\n# TYPE r:b {kind}\nr:b 2\n{end}"
            );
            assert!(page.ends_with(&added), "{}", &page[page.len() - 200..]);
            assert_eq!(page.matches("# EOF").count(), usize::from(!end.is_empty()));
        }
    }

    #[test]
    fn text_format_shows_only_families_with_samples() {
        let page = filled().render(Format::Text);
        assert!(page.contains(
            "# TYPE ioc_service_up gauge\nioc_service_up{agency=\"tam-ky\",service=\"dvc\",kind=\"portal\"} 1\n"
        ));
        assert!(page.contains("# TYPE ioc_service_checks_total counter\n"));
        assert!(!page.contains("ioc_camera"));
        assert!(!page.contains("# EOF"));
    }

    #[test]
    fn openmetrics_drops_total_from_counter_families_and_ends_with_eof() {
        let page = filled().render(Format::OpenMetrics);
        assert!(page.contains("# TYPE ioc_service_checks counter\nioc_service_checks_total{"));
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn openmetrics_is_for_who_names_it() {
        let rows = [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0, text/plain"), Format::Text),
        ];
        for (accept, format) in rows {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn values_are_short_and_exact() {
        let rows = [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (1e300, "1e300"),
            (1.5e-7, "1.5e-7"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ];
        for (value, text) in rows {
            let mut out = String::new();
            write_value(&mut out, value);
            assert_eq!(out, text);
        }
    }
}
