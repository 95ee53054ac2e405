//! The two text formats of `/metrics`: Prometheus text 0.0.4 and OpenMetrics 1.0.

use super::catalogue::Kind;
use super::table::{Snapshot, Table, is_absent};
use super::texts::{Texts, write_labels, write_row};
use super::{Metrics, Own};
use crate::labels::Labels;
use prometheus::proto::{Metric, MetricType};
use std::fmt::Write;
use std::sync::Arc;

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
    /// The whole page at once.
    pub fn render(self: &Arc<Metrics>, format: Format) -> String {
        Page::new(self.clone(), format).collect()
    }
}

/// Which agencies' series are shown.
pub type Shown = Box<dyn Fn(&str) -> bool + Send>;

/// The page, piece by piece: of a large fleet the whole is a hundred megabytes, and whoever reads it may be slow. What a
/// small table says is of one moment, and so is a family of some thousand rows.
pub struct Page {
    metrics: Arc<Metrics>,
    format: Format,
    shown: Option<Shown>,
    others: Vec<(Labels, f64)>,
    next: Next,
}

/// What comes next on a page.
#[derive(Clone, Copy)]
enum Next {
    /// From a row on.
    Family {
        table: usize,
        family: usize,
        row: usize,
    },
    Own,
    Others,
    End,
    Nothing,
}

/// Families are put together until a piece is as large as this, in bytes.
const PIECE: usize = 64 << 10;
/// What a table says is of one moment, unless a piece is as large as this before its last family.
const LARGE: usize = 512 << 10;
/// A family goes on in another piece once a piece is as large as this: one of a hundred thousand rows would be 20 MB, held
/// for as long as somebody takes to read it.
const HUGE: usize = 2 << 20;
/// Of a table with no more rows the text of the labels is kept.
const MANY: usize = 20_000;

impl Page {
    pub fn new(metrics: Arc<Metrics>, format: Format) -> Page {
        let next = Next::Family { table: 0, family: 0, row: 0 };
        Page { metrics, format, shown: None, others: Vec::new(), next }
    }

    /// For who sees some agencies only: their series, and nothing of the daemon itself.
    pub fn only(mut self, shown: Shown) -> Page {
        self.shown = Some(shown);
        self
    }

    /// With samples that are no metrics of this program, in the order of their names.
    pub fn and(mut self, others: Vec<(Labels, f64)>) -> Page {
        self.others = others;
        self
    }

    /// Writes what comes next.
    fn step(&mut self, out: &mut String) {
        self.next = match self.next {
            Next::Family { table, family, row } => match self.metrics.tables().get(table) {
                Some(rows) => {
                    let mut snapshot = rows.snapshot();
                    let texts = if snapshot.rows() > MANY { None } else { snapshot.texts() };
                    let render = Render { table: rows, snapshot: &snapshot, texts: texts.as_deref() };
                    let n_families = rows.families().len();
                    let (mut until, mut rest) = (family, row);
                    while until < n_families && (until == family || out.len() < LARGE) {
                        match render.family(out, until, rest, self.format, self.shown.as_ref()) {
                            Some(row) => return self.next = Next::Family { table, family: until, row },
                            None => (until, rest) = (until + 1, 0),
                        }
                    }
                    match until < n_families {
                        true => Next::Family { table, family: until, row: 0 },
                        false => Next::Family { table: table + 1, family: 0, row: 0 },
                    }
                }
                None => Next::Own,
            },
            Next::Own => {
                if self.shown.is_none() {
                    render_own(out, &self.metrics.own, self.format);
                }
                Next::Others
            }
            Next::Others => {
                render_others(out, &self.others, self.format);
                Next::End
            }
            Next::End | Next::Nothing => {
                if self.format == Format::OpenMetrics {
                    out.push_str("# EOF\n");
                }
                Next::Nothing
            }
        };
    }
}

impl Iterator for Page {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = String::new();
        while out.len() < PIECE && !matches!(self.next, Next::Nothing) {
            self.step(&mut out);
        }
        (!out.is_empty()).then_some(out)
    }
}

fn render_others(out: &mut String, samples: &[(Labels, f64)], format: Format) {
    let kind = if format == Format::OpenMetrics { "unknown" } else { "untyped" };
    let mut last = "";
    for (labels, value) in samples {
        let name = labels.name();
        if name != last {
            let _ = writeln!(out, "# TYPE {name} {kind}");
            last = name;
        }
        out.push_str(name);
        let mut others = labels.others().peekable();
        // A series may have no label but its name.
        if others.peek().is_some() {
            out.push('{');
            write_labels(out, others);
            out.push('}');
        }
        out.push(' ');
        write_value(out, *value);
        out.push('\n');
    }
}

/// A table at one moment.
struct Render<'t> {
    table: &'t Table,
    snapshot: &'t Snapshot<'t>,
    texts: Option<&'t Texts>,
}

impl Render<'_> {
    /// Writes a family from row `first` on, as much of it as a piece may hold; gives the row to go on with, if there is one.
    fn family(
        &self,
        out: &mut String,
        index: usize,
        first: usize,
        format: Format,
        shown: Option<&Shown>,
    ) -> Option<usize> {
        let Render { table, snapshot, texts } = self;
        let is_shown = |row: usize| match (shown, snapshot.labels(row)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(shown), Some(labels)) => shown(labels.get("agency")),
        };
        let family = &table.families()[index];
        let column = snapshot.column(index);
        let is_present = |(row, value): &(usize, &f64)| !is_absent(**value) && is_shown(*row);
        let rows = || column.iter().enumerate().skip(first).filter(is_present);
        let n_present = rows().count();
        if n_present == 0 {
            return None;
        }
        if first == 0 {
            header(out, family.name, family.kind.as_str(), family.help, format);
        }
        let mut values = Vec::new();
        let mut reserved = false;
        for (row, &value) in rows() {
            if out.len() >= HUGE {
                return Some(row);
            }
            let begin = out.len();
            out.push_str(family.name);
            out.push('{');
            match texts {
                Some(texts) => out.push_str(texts.of_row(row)),
                None => write_row(out, table, snapshot, row, &mut values),
            }
            out.push_str("} ");
            write_value(out, value);
            out.push('\n');
            if !std::mem::replace(&mut reserved, true) {
                // Rows are alike in length; one reservation instead of many growths.
                out.reserve((n_present * (out.len() - begin + 8)).min(HUGE));
            }
        }
        debug_assert!((family.kind == Kind::Counter) == family.name.ends_with("_total"));
        None
    }
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
    out.push_str(name);
    let own = metric.get_label().iter().map(|pair| (pair.name(), pair.value()));
    let mut labels = own.chain(le.map(|le| ("le", le))).peekable();
    if labels.peek().is_some() {
        out.push('{');
        write_labels(out, labels);
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
    use super::super::columns::{service, service_checks, service_query};
    use super::*;

    fn filled() -> Arc<Metrics> {
        let metrics = Arc::new(Metrics::new());
        let table = metrics.table(service::TABLE);
        table.set(table.row(&["tam-ky", "dvc", "portal"]), service::UP, 1.0);
        let table = metrics.table(service_checks::TABLE);
        table.add(table.row(&["tam-ky", "dvc", "portal", "ok"]), service_checks::CHECKS, 2.0);
        metrics
    }

    #[test]
    fn what_others_add_stands_before_the_end_with_its_labels_escaped() {
        let sample = |name, labels: &[(&str, &str)], value| {
            (Labels::new(labels.iter().copied().chain([("__name__", name)])), value)
        };
        let labels = [("a", "x\"\\\n"), ("b", "ạ")];
        let rows = vec![sample("r:a", &labels, 1.5), sample("r:a", &[], f64::NAN), sample("r:b", &[], 2.0)];
        for (format, kind, end) in [(Format::Text, "untyped", ""), (Format::OpenMetrics, "unknown", "# EOF\n")] {
            let page: String = Page::new(filled(), format).and(rows.clone()).collect();
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
    fn a_large_table_is_rendered_in_pieces_that_make_the_same_page() {
        let page = |n_rows: usize| {
            let metrics = Metrics::new();
            let table = metrics.table(service::TABLE);
            let rows = (0..n_rows).map(|number| table.row(&["tam-ky", &format!("s{number}"), "portal"]));
            for (number, row) in rows.collect::<Vec<_>>().into_iter().enumerate() {
                table.set(row, service::UP, number as f64);
                if number >= 3 {
                    table.remove(row);
                }
            }
            let page: String = Page::new(Arc::new(metrics), Format::Text).collect();
            let services = page.lines().filter(|line| line.starts_with("ioc_service_"));
            services.map(str::to_owned).collect::<Vec<_>>()
        };
        let (small, large) = (page(3), page(MANY + 3));
        assert_eq!(small[2], "ioc_service_up{agency=\"tam-ky\",service=\"s2\",kind=\"portal\"} 2");
        assert_eq!(small, large);
    }

    #[test]
    fn a_huge_family_is_divided_and_each_row_stands_once() {
        let metrics = Metrics::new();
        let table = metrics.table(service_query::TABLE);
        let n_rows = 60_000;
        for number in 0..n_rows {
            let row = table.row(&["tam-ky", &format!("s{number}"), "portal"]);
            table.set(row, service_query::VALUE, number as f64);
            table.set(row, service_query::MAX_AGE, 60.0);
        }
        let pieces: Vec<String> = Page::new(Arc::new(metrics), Format::OpenMetrics).collect();
        assert!(pieces.iter().all(|piece| piece.len() < HUGE + 1024), "a piece is too large");
        let page: String = pieces.concat();
        assert_eq!(page.matches("# TYPE ioc_service_query_value gauge\n").count(), 1);
        let shown = page.lines().filter(|line| line.starts_with("ioc_service_query_value{"));
        let values: Vec<f64> = shown.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
        assert_eq!(values, (0..n_rows).map(f64::from).collect::<Vec<_>>());
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
