//! A real Alertmanager, and its own OpenAPI document, to be compared with.

use super::{Process, free_port, get, wait_for};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct Alertmanager {
    pub port: u16,
    _process: Process,
}

impl Alertmanager {
    /// With these sections of its configuration.
    pub fn start(dir: &Path, config: &str) -> Alertmanager {
        let port = free_port();
        let dir = dir.join("alertmanager");
        std::fs::create_dir_all(&dir).expect("a writable directory");
        std::fs::write(dir.join("alertmanager.yml"), config).expect("a writable directory");
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", dir.join("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).expect("a writable directory"))
            .spawn()
            .expect("prometheus-alertmanager is installed");
        let alertmanager = Alertmanager { port, _process: Process(child) };
        wait_for("Alertmanager to be ready", Duration::from_secs(30), || {
            get(port, "/-/ready").ok().filter(|(status, _)| *status == 200)
        });
        alertmanager
    }
}

/// What version 0.25 describes (Debian's package of its source), and what versions up to the middle of 2026 require of
/// answers besides: `routeLabels` of a group, `annotations` of a silence, `mutedBy` of an alert's status.
pub fn api() -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = Command::new("sh").arg(root.join("scripts/alertmanager-api.sh")).status();
    assert!(written.is_ok_and(|status| status.success()), "scripts/alertmanager-api.sh");
    let text = std::fs::read_to_string(root.join("target/alertmanager-api.json")).expect("just written");
    let mut api: Value = serde_json::from_str(&text).expect("JSON");
    let label_set = json!({"$ref": "#/definitions/labelSet"});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let added = [
        ("/definitions/alertGroup", "routeLabels", label_set.clone()),
        ("/definitions/gettableSilence/allOf/0", "annotations", label_set),
        ("/definitions/alertStatus", "mutedBy", texts),
    ];
    for (place, name, schema) in added {
        let found = api.pointer_mut(place).expect("the document has it");
        found["properties"][name] = schema;
        found["required"].as_array_mut().expect("a list").push(name.into());
    }
    api
}
