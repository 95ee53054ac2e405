//! What the daemon does itself, in the `prometheus` crate's registry.

use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

/// The daemon's own families: the field's doc comment says what it counts.
pub struct Own {
    pub(super) registry: Registry,
    /// `ioc_watch_build_info{version}`: 1.
    pub build_info: GaugeVec,
    /// `ioc_watch_task_restarts_total{task}`: a task panicked or failed and was started again.
    pub task_restarts: IntCounterVec,
    /// `ioc_watch_config_last_reload_successful`: 1 if the last (re)load of the configuration succeeded.
    pub config_last_reload_successful: IntGauge,
    /// `ioc_watch_config_last_reload_success_timestamp_seconds`.
    pub config_last_reload_success: Gauge,
    /// `ioc_emails_total{result}`: sent, retried, failed, bounced (sent, and reported back as undeliverable), held (for a
    /// summary).
    pub emails: IntCounterVec,
    /// `ioc_webhook_messages_total{webhook,result}`: sent, retried, failed.
    pub webhooks: IntCounterVec,
    /// `ioc_email_outbox_depth`: mails that wait for the SMTP server.
    pub outbox_depth: IntGauge,
    /// `ioc_email_outbox_oldest_timestamp_seconds`: when the oldest waiting mail was written; 0 if none waits.
    pub outbox_oldest: Gauge,
    /// `ioc_alerts_misaddressed_total{reason}`: alerts that went to the site agency for want of a label.
    pub alerts_misaddressed: IntCounterVec,
    /// `ioc_alerts_received_total{status}`: alerts that the alert API took, firing or resolved.
    pub alerts_received: IntCounterVec,
    /// `ioc_alert_api_refused_total{reason}`: alerts, silences and questions that the alert API did not take.
    pub alert_api_refused: IntCounterVec,
    /// `ioc_incident_ack_seconds{severity}`: from the first mail to the acknowledgement.
    pub incident_ack: HistogramVec,
    /// `ioc_rule_evaluation_failures_total{rule_group}`.
    pub rule_failures: IntCounterVec,
    /// `ioc_rule_group_last_duration_seconds{rule_group}`.
    pub rule_group_duration: GaugeVec,
    /// `ioc_history_series`, `ioc_history_bytes`: the in-process history.
    pub history_series: IntGauge,
    pub history_bytes: IntGauge,
    /// `ioc_history_kept_series`: series of which the state database has the past.
    pub history_kept_series: IntGauge,
    /// `ioc_history_kept_timestamp_seconds`: until when it has it; 0 while it has none.
    pub history_kept_until: Gauge,
    /// `ioc_history_writes_total{result}`: ok, failed.
    pub history_writes: IntCounterVec,
    /// `ioc_history_remote_queries_total{result}`: ok, or why the remote engine gave no answer that counts.
    pub remote_queries: IntCounterVec,
    /// `ioc_rule_group_iterations_missed_total{rule_group}`: evaluations that were due and not made.
    pub rule_iterations_missed: IntCounterVec,
    /// `ioc_store_commit_seconds`: how long a write transaction takes.
    pub store_commit: Histogram,
    /// `ioc_http_requests_total{route,status}`.
    pub http_requests: IntCounterVec,
    /// `ioc_logins_total{result}`: ok, wrong, throttled, busy, error.
    pub logins: IntCounterVec,
    /// `ioc_watch_tls_expiry_timestamp_seconds{cert}`: of our own server; no series without TLS.
    pub tls_expiry: GaugeVec,
    /// `ioc_watch_tls_last_reload_successful{cert}`: 0 while renewed files cannot be used and the old ones serve.
    pub tls_last_reload_successful: GaugeVec,
    /// `ioc_probes_skipped_total{reason}`: checks that were due and not made.
    pub probes_skipped: IntCounterVec,
    /// `ioc_watch_leader`: 1 while this daemon leads: it gathers, rules and mails. 0 while it stands by.
    pub leader: IntGauge,
    /// `ioc_watch_standbys`: as the leader sees them.
    pub standbys: IntGauge,
    /// `ioc_watch_daemons_missing`: as the leader sees them.
    pub daemons_missing: IntGauge,
    /// `ioc_heartbeats_sent_total{heartbeat,result}`: ok, failed (not got through), withheld (not well).
    pub heartbeats_sent: IntCounterVec,
}

impl Own {
    pub(super) fn new() -> Own {
        let registry = Registry::new();
        let own = Own {
            build_info: gauges("ioc_watch_build_info", "1; the version of the program.", &["version"]),
            task_restarts: counters(
                "ioc_watch_task_restarts_total",
                "Tasks started again after a panic or an error.",
                &["task"],
            ),
            config_last_reload_successful: int_gauge(
                "ioc_watch_config_last_reload_successful",
                "1 if the last load of the configuration succeeded.",
            ),
            config_last_reload_success: gauge(
                "ioc_watch_config_last_reload_success_timestamp_seconds",
                "When the configuration was last loaded.",
            ),
            emails: counters(
                "ioc_emails_total",
                "Mails by what became of them: sent, retried, failed, bounced (sent before), held (for a summary).",
                &["result"],
            ),
            webhooks: counters(
                "ioc_webhook_messages_total",
                "Messages to webhooks by what became of them: sent, retried, failed.",
                &["webhook", "result"],
            ),
            outbox_depth: int_gauge("ioc_email_outbox_depth", "Mails that wait for the SMTP server."),
            outbox_oldest: gauge(
                "ioc_email_outbox_oldest_timestamp_seconds",
                "When the oldest waiting mail was written; 0 if none waits.",
            ),
            alerts_misaddressed: counters(
                "ioc_alerts_misaddressed_total",
                "Alerts sent to the site agency for want of a usable label.",
                &["reason"],
            ),
            alerts_received: counters(
                "ioc_alerts_received_total",
                "Alerts that the alert API took: firing, resolved.",
                &["status"],
            ),
            alert_api_refused: counters(
                "ioc_alert_api_refused_total",
                "Alerts, silences and questions that the alert API refused: media_type, too_large, malformed, invalid, query, foreign, full.",
                &["reason"],
            ),
            incident_ack: HistogramVec::new(
                HistogramOpts::new(
                    "ioc_incident_ack_seconds",
                    "From the first mail of an incident to its acknowledgement.",
                )
                .buckets(vec![60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 86_400.0]),
                &["severity"],
            )
            .expect("a valid family"),
            rule_failures: counters(
                "ioc_rule_evaluation_failures_total",
                "Rules that could not be evaluated.",
                &["rule_group"],
            ),
            rule_group_duration: gauges(
                "ioc_rule_group_last_duration_seconds",
                "Duration of the group's last evaluation.",
                &["rule_group"],
            ),
            history_series: int_gauge("ioc_history_series", "Series in the in-process history."),
            history_bytes: int_gauge("ioc_history_bytes", "Memory of the in-process history, estimated."),
            history_kept_series: int_gauge(
                "ioc_history_kept_series",
                "Series of which the state database has the past, for the next start.",
            ),
            history_kept_until: gauge(
                "ioc_history_kept_timestamp_seconds",
                "Until when the state database has the past of these series; 0 while it has none.",
            ),
            history_writes: counters(
                "ioc_history_writes_total",
                "Times the history's past was written to the state database, by what came of it: ok, failed.",
                &["result"],
            ),
            remote_queries: counters(
                "ioc_history_remote_queries_total",
                "Queries to history.remote by what came of them: ok, unreachable, timeout, too_long, status, refused, malformed, partial, paused.",
                &["result"],
            ),
            rule_iterations_missed: counters(
                "ioc_rule_group_iterations_missed_total",
                "Evaluations of the group that were due and not made, because one before it took too long or the machine slept.",
                &["rule_group"],
            ),
            store_commit: Histogram::with_opts(
                HistogramOpts::new("ioc_store_commit_seconds", "Duration of write transactions of the state database.")
                    .buckets(vec![0.001, 0.01, 0.1, 1.0, 10.0]),
            )
            .expect("a valid family"),
            http_requests: counters("ioc_http_requests_total", "HTTP requests served.", &["route", "status"]),
            logins: counters(
                "ioc_logins_total",
                "Passwords given (login page and HTTP Basic), by what came of it: ok, wrong, throttled, busy, error.",
                &["result"],
            ),
            tls_expiry: gauges(
                "ioc_watch_tls_expiry_timestamp_seconds",
                "When the certificate of the daemon's own server expires.",
                &["cert"],
            ),
            tls_last_reload_successful: gauges(
                "ioc_watch_tls_last_reload_successful",
                "1 if the files of the daemon's own certificate were usable when last read, 0 while the old ones serve.",
                &["cert"],
            ),
            probes_skipped: counters("ioc_probes_skipped_total", "Checks that were due and not made.", &["reason"]),
            leader: int_gauge("ioc_watch_leader", "1 while this daemon leads, 0 while it stands by."),
            standbys: int_gauge("ioc_watch_standbys", "Daemons that stand by, as the leader sees them."),
            daemons_missing: int_gauge(
                "ioc_watch_daemons_missing",
                "Daemons that were neither heard of for 30 s nor stopped properly, for a week, as the leader sees them.",
            ),
            heartbeats_sent: counters(
                "ioc_heartbeats_sent_total",
                "Signs of life given to others, by what became of them: ok, failed, withheld while this daemon is not well.",
                &["heartbeat", "result"],
            ),
            registry,
        };
        own.register();
        own
    }

    fn collectors(&self) -> Vec<Box<dyn prometheus::core::Collector>> {
        vec![
            Box::new(self.build_info.clone()),
            Box::new(self.task_restarts.clone()),
            Box::new(self.config_last_reload_successful.clone()),
            Box::new(self.config_last_reload_success.clone()),
            Box::new(self.emails.clone()),
            Box::new(self.webhooks.clone()),
            Box::new(self.outbox_depth.clone()),
            Box::new(self.outbox_oldest.clone()),
            Box::new(self.alerts_misaddressed.clone()),
            Box::new(self.alerts_received.clone()),
            Box::new(self.alert_api_refused.clone()),
            Box::new(self.incident_ack.clone()),
            Box::new(self.rule_failures.clone()),
            Box::new(self.rule_group_duration.clone()),
            Box::new(self.history_series.clone()),
            Box::new(self.history_bytes.clone()),
            Box::new(self.history_kept_series.clone()),
            Box::new(self.history_kept_until.clone()),
            Box::new(self.history_writes.clone()),
            Box::new(self.remote_queries.clone()),
            Box::new(self.rule_iterations_missed.clone()),
            Box::new(self.store_commit.clone()),
            Box::new(self.http_requests.clone()),
            Box::new(self.logins.clone()),
            Box::new(self.tls_expiry.clone()),
            Box::new(self.tls_last_reload_successful.clone()),
            Box::new(self.probes_skipped.clone()),
            Box::new(self.leader.clone()),
            Box::new(self.standbys.clone()),
            Box::new(self.daemons_missing.clone()),
            Box::new(self.heartbeats_sent.clone()),
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ]
    }

    fn register(&self) {
        for collector in self.collectors() {
            // The names above are constants and distinct; a test renders them all.
            self.registry.register(collector).expect("a family registered twice");
        }
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    }

    /// The families as the crate gathers them, for exposition and the sampler.
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

/// A family as the reference shows it.
#[cfg(test)]
pub(crate) struct Described {
    pub name: String,
    pub kind: &'static str,
    pub labels: Vec<String>,
    pub help: String,
}

#[cfg(test)]
impl Own {
    /// Every family, those without a series too.
    pub(crate) fn described(&self) -> Vec<Described> {
        self.task_restarts.with_label_values(&["x"]);
        self.emails.with_label_values(&["x"]);
        self.webhooks.with_label_values(&["x", "x"]);
        self.alerts_misaddressed.with_label_values(&["x"]);
        self.alerts_received.with_label_values(&["x"]);
        self.alert_api_refused.with_label_values(&["x"]);
        self.incident_ack.with_label_values(&["x"]);
        self.rule_failures.with_label_values(&["x"]);
        self.rule_group_duration.with_label_values(&["x"]);
        self.history_writes.with_label_values(&["x"]);
        self.remote_queries.with_label_values(&["x"]);
        self.rule_iterations_missed.with_label_values(&["x"]);
        self.http_requests.with_label_values(&["x", "x"]);
        self.logins.with_label_values(&["x"]);
        self.tls_expiry.with_label_values(&["x"]);
        self.tls_last_reload_successful.with_label_values(&["x"]);
        self.probes_skipped.with_label_values(&["x"]);
        self.heartbeats_sent.with_label_values(&["x", "x"]);
        let kinds: std::collections::BTreeMap<String, &'static str> = self
            .gather()
            .iter()
            .map(|family| {
                let kind = match family.get_field_type() {
                    prometheus::proto::MetricType::COUNTER => "counter",
                    prometheus::proto::MetricType::HISTOGRAM => "histogram",
                    _ => "gauge",
                };
                (family.name().to_owned(), kind)
            })
            .collect();
        let collectors = self.collectors();
        let descriptions = collectors.iter().flat_map(|collector| collector.desc());
        descriptions
            .map(|described| Described {
                kind: kinds.get(&described.fq_name).unwrap_or_else(|| panic!("{} has no series", described.fq_name)),
                name: described.fq_name.clone(),
                labels: described.variable_labels.clone(),
                help: described.help.clone(),
            })
            .collect()
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("a valid family")
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), labels).expect("a valid family")
}

fn gauge(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect("a valid family")
}

fn int_gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("a valid family")
}
