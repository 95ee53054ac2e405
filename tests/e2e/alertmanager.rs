//! Our alert API beside a real Alertmanager: the same requests, the same answers, and all of ours judged by
//! Alertmanager's own OpenAPI document. What Grafana's data source and karma ask is asked as they ask it.

use crate::site::Site;
use crate::support::alertmanager::{Alertmanager, api};
use crate::support::daemon::Daemon;
use crate::support::judge::{Case, Draft, judge};
use crate::support::{encode, send, wait_for};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The same rules for both.
const INHIBIT: [(&str, &str); 2] = [
    ("incidents", "[{source: ['alertname=\"BrokerDown\"'], target: ['area=\"camera\"'], equal: [agency]}]"),
    (
        "inhibit_rules",
        "[{source_matchers: ['alertname=\"BrokerDown\"'], target_matchers: ['area=\"camera\"'], equal: [agency]}]",
    ),
];

struct Pair {
    ours: Daemon,
    theirs: Alertmanager,
    _site: Site,
    document: Value,
    /// Our answers, to be judged.
    cases: Vec<Case>,
}

/// A request, and what is answered otherwise on purpose.
struct Asked {
    what: &'static str,
    method: &'static str,
    path: String,
    body: Option<String>,
    /// Our status where it is not theirs, and why.
    except: Option<(u16, &'static str)>,
}

fn asked(what: &'static str, method: &'static str, path: &str, body: Option<Value>) -> Asked {
    Asked { what, method, path: path.into(), body: body.map(|body| body.to_string()), except: None }
}

fn raw(what: &'static str, path: &str, body: &str) -> Asked {
    Asked { what, method: "POST", path: path.into(), body: Some(body.into()), except: None }
}

impl Pair {
    fn start() -> Pair {
        let site = Site::new();
        let inhibit = INHIBIT[0].1;
        let rest = format!(
            "rules: {{evaluate: external}}\nhost: false\nincidents: {{group_wait: 1s, group_interval: 2s, inhibit: {inhibit}}}\n"
        );
        site.configure(&["tam-ky", "hoi-an"], &rest);
        let ours = Daemon::start(site.dir(), &site.file(), site.port);
        let config = format!(
            "route: {{receiver: responsible, group_by: [agency, area], group_wait: 1s, group_interval: 2s}}\n\
             receivers: [{{name: responsible}}]\n{}: {}\n",
            INHIBIT[1].0, INHIBIT[1].1
        );
        let theirs = Alertmanager::start(site.dir(), &config);
        Pair { ours, theirs, _site: site, document: api(), cases: Vec::new() }
    }

    /// Asks us, and notes the answer for the judge.
    fn ask_us(&mut self, asked: &Asked) -> (u16, String) {
        let (status, body) = send(self.ours.port, asked.method, &asked.path, asked.body.as_deref()).expect("we answer");
        // What does not follow the document is answered by the layer before Alertmanager's handlers, which the document
        // does not describe.
        if let Some(schema) = self.schema(asked, status).filter(|_| shape(&body) != "a problem") {
            let instance = serde_json::from_str(&body).unwrap_or(Value::Null);
            self.cases.push(Case { name: asked.what.into(), schema, instance });
        }
        (status, body)
    }

    /// What the document says that the answer is; `None` if it has nothing to say.
    fn schema(&self, asked: &Asked, status: u16) -> Option<Value> {
        let path = asked.path.split('?').next()?.strip_prefix("/api/v2")?;
        let path = if path.starts_with("/silence/") { "/silence/{silenceID}" } else { path };
        let response = &self.document["paths"][path][asked.method.to_lowercase()]["responses"][status.to_string()];
        let response = match response["$ref"].as_str() {
            Some(reference) => self.document.pointer(reference.trim_start_matches('#'))?,
            None => response,
        };
        response.get("schema").cloned()
    }

    /// Asks both; they must answer alike.
    fn both(&mut self, asked: &Asked) -> [Value; 2] {
        let (status, body) = self.ask_us(asked);
        let theirs = send(self.theirs.port, asked.method, &asked.path, asked.body.as_deref()).expect("they answer");
        let expected = asked.except.map_or(theirs.0, |(status, _)| status);
        let what = asked.what;
        assert_eq!(status, expected, "{what}: we say {body:?}, Alertmanager {} {:?}", theirs.0, theirs.1);
        if asked.except.is_none() {
            assert_eq!(shape(&body), shape(&theirs.1), "{what}: we say {body:?}, Alertmanager {:?}", theirs.1);
        }
        [body, theirs.1].map(|body| serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    fn judge(&self) {
        assert!(self.cases.len() > 40, "{} answers that the document describes", self.cases.len());
        let verdicts = judge(Draft::Four, &self.document, &self.cases);
        assert!(verdicts.is_empty(), "{}", verdicts.join("\n"));
    }
}

fn shape(body: &str) -> &'static str {
    match serde_json::from_str(body) {
        _ if body.trim().is_empty() => "nothing",
        Ok(Value::String(_)) => "a text",
        Ok(Value::Array(_)) => "a list",
        Ok(Value::Object(object)) if object.contains_key("code") && object.contains_key("message") => "a problem",
        Ok(Value::Object(_)) => "an object",
        _ => "something else",
    }
}

fn labels(name: &str, agency: &str, area: &str) -> Value {
    json!({"alertname": name, "agency": agency, "area": area, "severity": "warning"})
}

fn alerts() -> Value {
    let now = Timestamp::now();
    let later = now + SignedDuration::from_hours(1);
    let alert = |labels: Value| {
        json!({"labels": labels, "annotations": {"summary": "Cảnh báo thử"}, "startsAt": now, "endsAt": later,
            "generatorURL": "http://prometheus.vn.example:9090/graph?g0.expr=up"})
    };
    let mut alerts = vec![
        alert(labels("BrokerDown", "tam-ky", "dependency")),
        alert(labels("CameraDown", "tam-ky", "camera")),
        alert(labels("CameraDown", "hoi-an", "camera")),
        alert(labels("Nâng cấp", "hoi-an", "service")),
        alert(labels("Quote \"and\" \\ and\nline", "hoi-an", "service")),
    ];
    // The least that a sender can send.
    alerts.push(json!({"labels": {"alertname": "Least"}}));
    Value::from(alerts)
}

fn silence(matchers: &Value, minutes: i64) -> Value {
    let now = Timestamp::now();
    let end = now + SignedDuration::from_mins(minutes);
    json!({"matchers": matchers, "startsAt": now, "endsAt": end, "createdBy": "trực", "comment": "nâng cấp"})
}

fn matcher(name: &str, value: &str, is_regex: bool) -> Value {
    json!([{"name": name, "value": value, "isRegex": is_regex, "isEqual": true}])
}

#[test]
fn our_answers_are_those_of_a_real_alertmanager() {
    let mut pair = Pair::start();
    for asked in malformed() {
        pair.both(&asked);
    }
    pair.both(&asked("alerts", "POST", "/api/v2/alerts", Some(alerts())));
    wait_for("Alertmanager to have grouped them", Duration::from_secs(20), || {
        let [ours, theirs] = pair.both(&asked("groups", "GET", "/api/v2/alerts/groups", None));
        let of = |groups: &Value| groups.as_array().map_or(0, Vec::len);
        (of(&ours) > 4 && of(&ours) == of(&theirs)).then_some(())
    });
    same_listings(&mut pair);
    silences(&mut pair);
    let asked = asked("status", "GET", "/api/v2/status", None);
    let [ours, theirs] = pair.both(&asked);
    for key in ["cluster", "config", "uptime", "versionInfo"] {
        assert_eq!(ours[key].is_object(), theirs[key].is_object(), "{key}");
    }
    grafana(&mut pair);
    karma(&mut pair);
    pair.judge();
    assert!(pair.ours.stop(), "a clean end; its log:\n{}", pair.ours.log());
}

fn malformed() -> Vec<Asked> {
    let alerts = "/api/v2/alerts";
    let silences = "/api/v2/silences";
    let without = |key: &str| {
        let mut silence = silence(&matcher("a", "x", false), 60);
        silence.as_object_mut().expect("an object").remove(key);
        Some(silence)
    };
    let with = |matchers: Value, minutes: i64| Some(silence(&matchers, minutes));
    let id = "6d83a1a1-1b2c-4b2c-8b2c-6d83a1a11b2c";
    let mut unknown = silence(&matcher("a", "x", false), 60);
    unknown["id"] = id.into();
    let mut wordless = silence(&matcher("a", "wordless", false), 60);
    wordless["comment"] = "".into();
    let mut list = vec![
        raw("no JSON", alerts, "x"),
        raw("no list", alerts, "{}"),
        raw("nothing", alerts, ""),
        raw("null", alerts, "null"),
        raw("no alerts", alerts, "[]"),
        raw("no labels at all", alerts, "[{}]"),
        raw("empty labels", alerts, r#"[{"labels":{}}]"#),
        raw("labels without value", alerts, r#"[{"labels":{"a":""}}]"#),
        raw("a number", alerts, r#"[{"labels":{"a":1}}]"#),
        raw("no time", alerts, r#"[{"labels":{"a":"x"},"startsAt":"x"}]"#),
        raw("an empty time", alerts, r#"[{"labels":{"alertname":"Least"},"startsAt":""}]"#),
        raw("no url", alerts, r#"[{"labels":{"a":"x"},"generatorURL":"not a url"}]"#),
        raw(
            "an end before its start",
            alerts,
            r#"[{"labels":{"a":"x"},"startsAt":"2026-01-02T00:00:00Z","endsAt":"2026-01-01T00:00:00Z"}]"#,
        ),
        raw("no silence", silences, "[]"),
        raw("an empty silence", silences, "{}"),
        asked("no author", "POST", silences, without("createdBy")),
        asked("no comment", "POST", silences, without("comment")),
        asked("no start", "POST", silences, without("startsAt")),
        asked("no end", "POST", silences, without("endsAt")),
        asked("no matchers", "POST", silences, with(json!([]), 60)),
        asked("a broken pattern", "POST", silences, with(matcher("a", "(", true), 60)),
        asked("what matches all", "POST", silences, with(matcher("a", "", false), 60)),
        asked("a silence that is over", "POST", silences, with(matcher("a", "x", false), -60)),
        asked("a silence that there is not", "POST", silences, Some(unknown)),
        asked("no UUID", "GET", "/api/v2/silence/x", None),
        asked("no UUID to end", "DELETE", "/api/v2/silence/x", None),
        asked("an unknown UUID", "GET", &format!("/api/v2/silence/{id}"), None),
        asked("no filter", "GET", &format!("{alerts}?filter=x"), None),
        asked("a quote too much", "GET", &format!("{alerts}?filter={}", encode("a=\"x")), None),
        asked("no pattern", "GET", &format!("{alerts}?filter={}", encode("a=~(")), None),
        asked("no receiver", "GET", &format!("{alerts}?receiver=%28"), None),
        asked("no filter of groups", "GET", &format!("{alerts}/groups?filter=x"), None),
        asked("no filter of silences", "GET", &format!("{silences}?filter=x"), None),
    ];
    list.push(Asked {
        except: Some((404, "0.25 says 500 where its document and later versions say 404")),
        ..asked("an unknown UUID to end", "DELETE", &format!("/api/v2/silence/{id}"), None)
    });
    list.push(Asked {
        except: Some((400, "a silence must say why")),
        ..asked("a silence without a word", "POST", silences, Some(wordless))
    });
    list
}

/// By fingerprint: what is known of each alert, without times and ids, which differ.
fn known(listed: &Value) -> BTreeMap<String, Value> {
    let listed = listed.as_array().expect("a list");
    let known = listed.iter().map(|alert| {
        let status = &alert["status"];
        let silenced = status["silencedBy"].as_array().map(Vec::len);
        let status = json!([status["state"], status["inhibitedBy"], silenced]);
        let value = json!([alert["labels"], alert["annotations"], alert["generatorURL"], alert["receivers"], status]);
        (alert["fingerprint"].as_str().expect("a text").to_owned(), value)
    });
    known.collect()
}

/// Groups by their labels.
fn grouped(groups: &Value) -> BTreeMap<String, (Value, BTreeMap<String, Value>)> {
    let groups = groups.as_array().expect("a list").iter();
    groups.map(|group| (group["labels"].to_string(), (group["receiver"].clone(), known(&group["alerts"])))).collect()
}

/// Whatever is asked, the same alerts in the same order with the same fingerprints.
fn same_listings(pair: &mut Pair) {
    let filters = [
        "",
        "filter=alertname%3DLeast",
        "active=false",
        "active=0&inhibited=1",
        "active=maybe",
        "inhibited=false",
        "silenced=false",
        "silenced=",
        "unprocessed=false",
        "receiver=resp.*",
        "receiver=nobody",
        "filter=area%3D~%22cam.*%22&filter=agency!%3D%22hoi-an%22",
        "filter=nothing%3D%22%22",
        "filter=severity!~%22%22",
        &format!("filter={}", encode("alertname=\"Nâng cấp\"")),
        &format!("filter={}", encode("alertname=\"Quote \\\"and\\\" \\\\ and\\nline\"")),
        &format!("filter={}", encode("alertname=~\"\\w+t\"")),
        &format!("filter={}", encode(" alertname = Least ")),
    ];
    for filter in filters {
        for path in ["alerts", "alerts/groups"] {
            let path = format!("/api/v2/{path}?{filter}");
            let [ours, theirs] = pair.both(&asked("a listing", "GET", &path, None));
            if path.contains("groups") {
                assert_eq!(grouped(&ours), grouped(&theirs), "{path}");
            } else {
                assert_eq!(known(&ours), known(&theirs), "{path}");
                let order = |listed: &Value| {
                    let listed = listed.as_array().expect("a list").iter();
                    listed.map(|alert| alert["fingerprint"].to_string()).collect::<Vec<_>>()
                };
                assert_eq!(order(&ours), order(&theirs), "{path}");
            }
        }
    }
    let [ours, theirs] = pair.both(&asked("receivers", "GET", "/api/v2/receivers", None));
    assert_eq!(ours, theirs);
}

/// The life of silences on both sides.
fn silences(pair: &mut Pair) {
    let post = |body: Value| asked("a silence", "POST", "/api/v2/silences", Some(body));
    let wanted = silence(&matcher("alertname", "Least", false), 60);
    let made = pair.both(&post(wanted.clone()));
    let ids = made.map(|made| made["silenceID"].as_str().expect("an id").to_owned());
    same_listings(pair);
    // Later only, as its id says: changed in place or a new one, on both sides the same.
    let changes = [
        ("longer", matcher("alertname", "Least", false), 120, true),
        ("of others", matcher("alertname", "Leas.*", true), 120, false),
    ];
    let mut current = ids;
    for (what, matchers, minutes, stays) in changes {
        let now: Vec<String> = [pair.ours.port, pair.theirs.port]
            .iter()
            .zip(&current)
            .map(|(port, id)| {
                let path = format!("/api/v2/silence/{id}");
                let known: Value =
                    serde_json::from_str(&send(*port, "GET", &path, None).expect("an answer").1).expect("JSON");
                let mut wanted = silence(&matchers, minutes);
                wanted["id"] = id.as_str().into();
                wanted["startsAt"] = known["startsAt"].clone();
                let body = wanted.to_string();
                let (status, body) = send(*port, "POST", "/api/v2/silences", Some(&body)).expect("an answer");
                assert_eq!(status, 200, "{what}: {body}");
                let made: Value = serde_json::from_str(&body).expect("JSON");
                made["silenceID"].as_str().expect("an id").to_owned()
            })
            .collect();
        for (new, old) in now.iter().zip(&current) {
            assert_eq!(new == old, stays, "{what}");
        }
        current = [now[0].clone(), now[1].clone()];
    }
    let states = |pair: &mut Pair, query: &str| {
        let listed = pair.both(&asked("silences", "GET", &format!("/api/v2/silences{query}"), None));
        listed.map(|listed| {
            // Alertmanager took the one that says nothing.
            let listed = listed.as_array().expect("a list").iter().filter(|silence| silence["comment"] != "");
            let seen = |silence: &Value| json!([silence["status"]["state"], silence["matchers"], silence["comment"]]);
            listed.map(seen).collect::<Vec<_>>()
        })
    };
    for query in ["", "?filter=alertname%3D~%22Leas.*%22", "?filter=alertname%3DLeast", "?filter=alertname%3D~Least"] {
        let [ours, theirs] = states(pair, query);
        assert_eq!(ours, theirs, "{query}");
    }
    same_listings(pair);
    for (port, id) in [pair.ours.port, pair.theirs.port].iter().zip(&current) {
        for time in ["once", "twice"] {
            let ended = send(*port, "DELETE", &format!("/api/v2/silence/{id}"), None).expect("an answer");
            assert_eq!((ended.0, shape(&ended.1)), (200, "nothing"), "{time}");
        }
    }
    let [ours, theirs] = states(pair, "");
    assert_eq!(ours, theirs);
    same_listings(pair);
    // 0.25 knows neither; later versions do.
    let utf_8 = pair.ask_us(&post(silence(&matcher("tên xã", "Tiên Phước", false), 60)));
    assert_eq!(utf_8.0, 200, "{}", utf_8.1);
    let filter = encode("\"tên xã\"=\"Tiên Phước\"");
    for (query, n_expected) in [(format!("filter={filter}"), 1), (format!("filter={filter}&active=false"), 0)] {
        let found = pair.ask_us(&asked("UTF-8", "GET", &format!("/api/v2/silences?{query}"), None));
        assert_eq!(found.1.matches("Tiên Phước").count(), n_expected, "{query}: {}", found.1);
    }
}

/// As Grafana 12 asks for a data source of the kind "Alertmanager", implementation "Prometheus": its test
/// (`plugins/datasource/alertmanager/DataSource.ts`), its pages (`features/alerting/unified/api/alertmanager.ts`,
/// `alertmanagerApi.ts`, `alertSilencesApi.ts`), through its server (`ngalert/api/lotex_am.go`), which hands the query on.
fn grafana(pair: &mut Pair) {
    // The test of a data source: another implementation must not be there.
    let other = pair.ask_us(&asked("Mimir's", "GET", "/alertmanager/api/v2/status", None));
    assert_ne!(other.0, 200);
    let (status, body) = pair.ask_us(&asked("its status", "GET", "/api/v2/status", None));
    assert_eq!(status, 200, "{body}");
    let status: Value = serde_json::from_str(&body).expect("JSON");
    let original = status["config"]["original"].as_str().expect("a text");
    assert!(original.contains("receiver: responsible") && original.contains("BrokerDown"), "{original}");
    let filter = encode("alertname=\"Nâng cấp\"");
    let queries = [
        "/api/v2/alerts?silenced=true&active=true&inhibited=true".to_string(),
        format!("/api/v2/alerts?filter={filter}&silenced=false&active=true&inhibited=false&unprocessed=true"),
        format!("/api/v2/alerts/groups?filter={filter}&receiver=responsible&active=true&silenced=true&inhibited=true"),
        "/api/v2/silences?ruleMetadata=true&accesscontrol=true".to_string(),
    ];
    for path in queries {
        let (status, body) = pair.ask_us(&asked("what its pages list", "GET", &path, None));
        assert!(status == 200 && body.len() > 2, "{path}: {status} {body}");
    }
    let payload = json!({"matchers": [{"name": "alertname", "value": "Nâng cấp", "isRegex": false, "isEqual": true}],
        "startsAt": Timestamp::now().to_string(), "endsAt": (Timestamp::now() + SignedDuration::from_hours(2)).to_string(),
        "comment": "created 2026-11-26", "createdBy": "truc"});
    let (status, body) = pair.ask_us(&asked("its silence", "POST", "/api/v2/silences", Some(payload)));
    assert_eq!(status, 200, "{body}");
    let id = serde_json::from_str::<Value>(&body).expect("JSON")["silenceID"].as_str().expect("an id").to_owned();
    let (status, body) =
        pair.ask_us(&asked("one silence", "GET", &format!("/api/v2/silence/{id}?ruleMetadata=true"), None));
    assert_eq!(status, 200, "{body}");
    assert_eq!(pair.ask_us(&asked("its end", "DELETE", &format!("/api/v2/silence/{id}"), None)).0, 200);
}

/// As karma of 2026 asks (`internal/mapper/v017/api.go`, `internal/verprobe`): the version from `/metrics`, where none is
/// the latest; groups and silences without parameters; silences through its proxy, with times in milliseconds.
fn karma(pair: &mut Pair) {
    let (status, metrics) = send(pair.ours.port, "GET", "/metrics", None).expect("we answer");
    assert!(status == 200 && !metrics.contains("alertmanager_build_info"));
    let (_, body) = pair.ask_us(&asked("karma's groups", "GET", "/api/v2/alerts/groups", None));
    let groups: Value = serde_json::from_str(&body).expect("JSON");
    let mut n_alerts = 0;
    for group in groups.as_array().expect("a list") {
        assert!(group["labels"].is_object() && group["receiver"]["name"].is_string(), "{group}");
        for alert in group["alerts"].as_array().expect("a list") {
            let starts_at = alert["startsAt"].as_str().expect("a text");
            starts_at.parse::<Timestamp>().expect("a time");
            for lists in ["inhibitedBy", "silencedBy"] {
                assert!(alert["status"][lists].is_array(), "{alert}");
            }
            for texts in ["labels", "annotations"] {
                assert!(alert[texts].as_object().expect("an object").values().all(Value::is_string), "{alert}");
            }
            n_alerts += 1;
        }
    }
    assert_eq!(n_alerts, 6);
    let silence = r#"{"endsAt":"2126-11-26T00:00:00.000Z","startsAt":"2026-11-26T00:00:00.000Z","comment":"ACK! karma","createdBy":"trực","matchers":[{"isEqual":true,"name":"agency","value":"hoi-an","isRegex":false},{"name":"alertname","value":"(CameraDown|Least)","isRegex":true}]}"#;
    let (status, body) = pair.ask_us(&raw("karma's silence", "/api/v2/silences", silence));
    assert_eq!(status, 200, "{body}");
    let (_, body) = pair.ask_us(&asked("karma's silences", "GET", "/api/v2/silences", None));
    assert!(body.contains("ACK! karma"), "{body}");
}

/// The judge sees what is wrong, or its silence would mean nothing.
#[test]
fn the_judge_judges() {
    let document = json!({"definitions": {"time": {"type": "string", "format": "date-time"}}});
    let case = |name: &str, instance: Value| Case {
        name: name.into(),
        schema: json!({"type": "object", "required": ["at"], "properties": {"at": {"$ref": "#/definitions/time"}}}),
        instance,
    };
    let cases = [
        case("good", json!({"at": "2026-11-26T00:00:00.5+07:00"})),
        case("missing", json!({})),
        case("no time", json!({"at": "yesterday"})),
        case("no text", json!({"at": 5})),
    ];
    for draft in [Draft::Four, Draft::Of2020] {
        let verdicts = judge(draft, &document, &cases);
        let judged: Vec<&str> = verdicts.iter().filter_map(|verdict| Some(verdict.split_once(':')?.0)).collect();
        assert_eq!(judged, ["missing", "no time", "no text"], "{verdicts:?}");
    }
}
