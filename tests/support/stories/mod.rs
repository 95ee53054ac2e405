//! Stories of a commune and its incidents, from alert to mail, on a virtual clock and over a real database: what GoAlert's
//! smoke tests and Alertmanager's acceptance tests ask of theirs, in our words, and what neither asks.
//!
//! Every story has a database of its own. Monday is 1 June 2026, times are those of the site.

mod alerting;
mod duty;
mod escalation;
mod whose;

use ioc_watch::alert::Alert;
use ioc_watch::attribution::{Graph, GraphDevice, Ledger};
use ioc_watch::config::site::State;
use ioc_watch::config::{self, Config};
use ioc_watch::incident::{Deed, Done, Incidents};
use ioc_watch::mail::Outbox;
use ioc_watch::metrics::Metrics;
use ioc_watch::org::Org;
use ioc_watch::store::Store;
use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use std::sync::Arc;

const PEOPLE: &str = "
site: {name: IOC, agency: ioc, language: en, external_url: 'https://ioc.vn.example'}
data_dir: ./data
people:
  - {id: it-ioc, name: Duty IOC, email: truc@ioc.vn.example}
  - {id: an, name: Officer An, email: an@xa.vn.example}
  - {id: binh, name: Officer Binh, email: binh@xa.vn.example}
  - {id: chairman, name: Chairman of the commune, email: ct@xa.vn.example}
  - {id: deputy, name: Deputy, email: pct@xa.vn.example}
  - {id: district, name: Head of the district, email: huyen@vn.example}
  - {id: province, name: Head of the province, email: tinh@vn.example}
agencies:
  - {id: ioc, name: IOC, leader: it-ioc}
  - {id: province, name: Province, leader: province}
  - {id: district, name: District, parent: province, leader: district}
  - id: xa
    name: Commune
    parent: district
    leader: chairman
    deputy: deputy
    duty: {people: [an, binh], rotate: 1w, from: 2026-05-25T08:00, OVERRIDES}
  - {id: hamlet, name: Hamlet, parent: district}
calendar:
  working_hours: {days: [mon, tue, wed, thu, fri], from: '07:30', to: '17:00'}
  holidays: [{name: A holiday, from: 2026-06-08, to: 2026-06-08}]
dependencies:
  - {id: uplink, name: Uplink of the district, cause: telecom, agency: district, probe: {tcp: '127.0.0.1:9'}}
sites:
  - {id: hall, agency: xa, depends_on: [uplink]}
services:
  - {id: portal, name: Portal of the commune, agency: xa, kind: portal, http: {url: 'http://127.0.0.1:9/'}}
email: {smtp: 'smtp://127.0.0.1:9', from: 'IOC <ioc@vn.example>'}
";

/// The usual policy of the stories.
const LADDER: &str = "
incidents: {group_wait: 0s, group_interval: 5m}
escalation:
  - steps: [{after: 0m, notify: [duty]}, {after: 15m, notify: [leader]}, {after: 1h, notify: [parent.leader]}]
    repeat: 4h
    ack_expires: 8h
";

/// A day of the first two weeks and a time: `mon 08:00`, `mon2 07:30`.
fn at(when: &str) -> Timestamp {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let (day, time) = when.split_once(' ').unwrap();
    let (name, week) = day.strip_suffix('2').map_or((day, 0), |name| (name, 7));
    let day = date(2026, 6, 1 + week + i8::try_from(DAYS.iter().position(|one| *one == name).unwrap()).unwrap());
    let time = if time.len() == 5 { format!("{time}:00") } else { time.to_owned() };
    let civil: DateTime = format!("{day}T{time}").parse().unwrap();
    zone().to_timestamp(civil).unwrap()
}

fn zone() -> TimeZone {
    TimeZone::get("Asia/Ho_Chi_Minh").unwrap()
}

/// The other way round.
fn clock(time: Timestamp) -> String {
    let local = time.to_zoned_datetime(zone());
    let week = if local.date() >= date(2026, 6, 8) { "2" } else { "" };
    let day = local.strftime("%a").to_string().to_lowercase();
    let time = if local.second() == 0 { local.strftime("%H:%M") } else { local.strftime("%H:%M:%S") };
    format!("{day}{week} {time}")
}

/// The daemon's part from alert to mail, and its clock.
struct Town {
    stage: Incidents,
    outbox: Outbox,
    store: Store,
    ledger: Ledger,
    config: Config,
    now: Timestamp,
    /// How far the clock goes at once.
    step: SignedDuration,
}

impl Town {
    async fn new(store: Store, config: Config, now: Timestamp, step: SignedDuration) -> Town {
        let metrics: Arc<Metrics> = Arc::default();
        let ledger = Ledger::resume(store.clone()).await.unwrap();
        ledger.set_graph(Graph::new(&config, Vec::<GraphDevice>::new()));
        let outbox = Outbox::open(store.clone(), metrics.clone()).await.unwrap();
        let org = Arc::new(Org::new(&config));
        let stage = Incidents::resume(store.clone(), outbox.clone(), org, &config, metrics, now).await.unwrap();
        let stage = stage.with_ledger(ledger.clone());
        Town { stage, outbox, store, ledger, config, now, step }
    }

    /// The daemon is stopped and started, or killed: there is no difference.
    async fn restart(self) -> Town {
        Town::new(self.store, self.config, self.now, self.step).await
    }

    /// Nobody runs until then.
    async fn away_until(mut self, when: &str) -> Town {
        self.now = at(when);
        self.restart().await
    }

    /// Another configuration, as by a reload.
    fn reload(&mut self, text: &str) {
        self.config = parse(text);
        self.stage.configure(&self.config, Arc::new(Org::new(&self.config)));
    }

    /// Time passes; the mails written meanwhile: when, to whom, what.
    async fn until(&mut self, when: &str) -> Vec<String> {
        let end = at(when);
        assert!(self.now <= end, "{when} is past");
        let mut mails = Vec::new();
        loop {
            self.ledger.tick(self.now);
            self.stage.tick(self.now).await.unwrap();
            while let Some(waiting) = self.outbox.due(self.now, 1).await.unwrap().pop() {
                self.outbox.sent(&[waiting.id], self.now).await.unwrap();
                let what = what(&waiting.mail.message);
                mails.push(format!("{} {} {what}", clock(self.now), waiting.mail.person));
            }
            if self.now == end {
                return mails;
            }
            self.now = self.now.saturating_add(self.step).unwrap().min(end);
        }
    }

    async fn fire(&self, alerts: &[Alert]) {
        self.stage.receive(alerts, self.now).await.unwrap();
    }

    /// Its source says that it is over, as of now.
    async fn end(&self, alert: &Alert) {
        self.fire(&[Alert { ends_at: Some(self.now), ..alert.clone() }]).await;
    }

    /// Somebody answers for the commune's incident.
    async fn acknowledge(&self, person: &str) -> Done {
        let open = self.stage.open();
        let incident = open.iter().find(|incident| incident.agency == "xa").unwrap().id;
        self.stage.act(incident, person, Deed::Acknowledge, self.now).await.unwrap()
    }

    async fn events(&self, incident: i64) -> Vec<String> {
        self.stage.timeline(incident).await.unwrap().into_iter().map(|entry| entry.event).collect()
    }

    /// The text of the last mail to somebody, decoded.
    async fn last_mail(&self, person: &str) -> String {
        let sql =
            "SELECT message FROM outbox JOIN outbox_messages USING (id) WHERE person = $1 ORDER BY id DESC LIMIT 1";
        let mail: String = sqlx::query_scalar(sql).bind(person).fetch_one(self.store.reader()).await.unwrap();
        decoded(&mail)
    }

    async fn count_mails(&self) -> i64 {
        sqlx::query_scalar("SELECT COUNT(*) FROM outbox").fetch_one(self.store.reader()).await.unwrap()
    }
}

/// Without the line ends of quoted-printable; the texts of these stories are ASCII.
fn decoded(mail: &str) -> String {
    mail.replace("=\r\n", "").replace("=3D", "=")
}

/// What a mail is, to its reader.
fn what(mail: &str) -> &'static str {
    let text = decoded(mail);
    if text.contains("List-Id: <duty.") {
        return if text.contains("Duty begins") { "comes on duty" } else { "goes off duty" };
    }
    let is_reply = text.contains("In-Reply-To:");
    let words = [
        ("[Resolved]", "over"),
        ("Somebody has acknowledged", "sees who answered"),
        ("This was escalated to you", "is called"),
        ("Reminder: ", "is reminded"),
    ];
    let known = words.iter().find(|(words, _)| text.contains(words));
    known.map_or(if is_reply { "hears more" } else { "is told" }, |(_, word)| word)
}

/// An alert about a service of an agency; `severity` critical or warning.
fn alert(agency: &str, severity: &str, subject: &str, since: Timestamp) -> Alert {
    let labels = [
        ("alertname", "ServiceDown"),
        ("agency", agency),
        ("area", "service"),
        ("severity", severity),
        ("service", subject),
    ];
    Alert {
        labels: labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        annotations: [("summary_en".to_owned(), format!("{subject} is down"))].into_iter().collect(),
        starts_at: since,
        ends_at: None,
        generator_url: "".into(),
        end_is_assumed: false,
    }
}

fn parse(text: &str) -> Config {
    let text = text.replace(", OVERRIDES", "");
    config::load_text(Path::new("t.yml"), &text, &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// A town with `more` in its configuration, from a moment on, in steps of a minute.
async fn town(store: &Store, more: &str, from: &str) -> Town {
    Town::new(store.clone(), parse(&format!("{PEOPLE}{more}")), at(from), SignedDuration::from_mins(1)).await
}

/// The same, with overrides of the commune's rota.
async fn town_with(store: &Store, overrides: &str, more: &str, from: &str) -> Town {
    let people = PEOPLE.replace("OVERRIDES", overrides);
    Town::new(store.clone(), parse(&format!("{people}{more}")), at(from), SignedDuration::from_mins(1)).await
}

/// The stories by name.
pub const NAMES: [&str; 28] = [
    "nobody_answers",
    "an_answer_stops_the_climb_and_expires",
    "two_must_answer",
    "all_must_answer",
    "several_at_once_and_a_person_by_name",
    "an_empty_step_is_skipped_and_nobody_is_responsible",
    "it_gets_worse",
    "it_lasts_and_becomes_critical",
    "an_acting_head_is_told_while_acting",
    "a_gap_in_the_rota",
    "duty_changes_hands_while_it_burns",
    "duty_changes_hands_while_the_daemon_is_away",
    "no_handover_mails_where_the_rota_says_so",
    "alerts_that_come_together_are_one_mail",
    "what_comes_later_waits_for_the_interval",
    "two_prometheus_send_the_same",
    "it_is_over_and_comes_back",
    "it_comes_back_within_the_window_and_after_it",
    "what_flaps_is_told_so_and_not_mail_after_mail",
    "silenced_told_and_over",
    "silenced_from_the_start",
    "inhibited_told_and_over",
    "an_empty_inhibition_rule_matches_what_both_lack",
    "a_reload_forgets_nothing",
    "maintenance",
    "it_waits_for_working_hours",
    "it_is_over_before_working_hours",
    "ten_thousand_alerts_of_one_dead_uplink",
];

/// Plays one story on a database of its own.
pub async fn play(name: &str, state: &State, dir: &Path) {
    let store = &Store::open(state, dir).await.unwrap();
    match name {
        "nobody_answers" => escalation::nobody_answers(store).await,
        "an_answer_stops_the_climb_and_expires" => escalation::an_answer_stops_the_climb_and_expires(store).await,
        "two_must_answer" => escalation::two_must_answer(store).await,
        "all_must_answer" => escalation::all_must_answer(store).await,
        "several_at_once_and_a_person_by_name" => escalation::several_at_once_and_a_person_by_name(store).await,
        "an_empty_step_is_skipped_and_nobody_is_responsible" => escalation::an_empty_step_is_skipped(store).await,
        "it_gets_worse" => escalation::it_gets_worse(store).await,
        "it_lasts_and_becomes_critical" => escalation::it_lasts_and_becomes_critical(store).await,
        "an_acting_head_is_told_while_acting" => escalation::an_acting_head(store).await,
        "a_gap_in_the_rota" => duty::a_gap_in_the_rota(store).await,
        "duty_changes_hands_while_it_burns" => duty::while_it_burns(store).await,
        "duty_changes_hands_while_the_daemon_is_away" => Box::pin(duty::while_the_daemon_is_away(store)).await,
        "no_handover_mails_where_the_rota_says_so" => duty::no_mails(store).await,
        "alerts_that_come_together_are_one_mail" => alerting::alerts_that_come_together(store).await,
        "what_comes_later_waits_for_the_interval" => alerting::what_comes_later(store).await,
        "two_prometheus_send_the_same" => alerting::two_prometheus_send_the_same(store).await,
        "it_is_over_and_comes_back" => alerting::it_is_over_and_comes_back(store).await,
        "it_comes_back_within_the_window_and_after_it" => alerting::it_comes_back_within_the_window(store).await,
        "what_flaps_is_told_so_and_not_mail_after_mail" => alerting::what_flaps(store).await,
        "silenced_told_and_over" => alerting::silenced_told_and_over(store).await,
        "silenced_from_the_start" => alerting::silenced_from_the_start(store).await,
        "inhibited_told_and_over" => alerting::inhibited_told_and_over(store).await,
        "an_empty_inhibition_rule_matches_what_both_lack" => alerting::what_both_lack_is_equal(store).await,
        "a_reload_forgets_nothing" => alerting::a_reload_forgets_nothing(store).await,
        "maintenance" => whose::maintenance(store).await,
        "it_waits_for_working_hours" => whose::it_waits_for_working_hours(store).await,
        "it_is_over_before_working_hours" => whose::it_is_over_before_working_hours(store).await,
        "ten_thousand_alerts_of_one_dead_uplink" => whose::ten_thousand_alerts(store).await,
        other => panic!("no story {other}"),
    }
    store.close().await;
}
