//! Time is an argument: hours of silence take none. On both databases.

use super::*;
use crate::store::testing::Database;
use jiff::SignedDuration;

const CONFIG: &str = "
site: {name: IOC, agency: ioc}
people: [{id: truc, name: Trực, email: truc@ioc.vn.example}]
agencies: [{id: ioc, name: IOC, leader: truc}, {id: tinh, name: Tỉnh, leader: truc}]
payments:
  portal: [{id: cong, csv: {dir: spool, columns: {txn_ref: a, amount: b, status: c, time: d}}}]
  gateway: [{id: doi-soat, csv: {dir: spool, columns: {txn_ref: a, amount: b, status: c, time: d}}}]
heartbeat:
  in:
    - {id: ban-sao, within: 3m, agency: tinh}
    - {id: prometheus, within: 5m, alert: ['alertname=\"Watchdog\"', 'cluster=\"tinh\"']}
    - {id: cong-thanh-toan, within: 26h, feed: doi-soat}
";

struct House {
    config: Config,
    metrics: Arc<Metrics>,
    begin: Instant,
    database: Database,
}

impl House {
    async fn new(database: Database) -> House {
        std::fs::create_dir_all(database.dir.path().join("spool")).unwrap();
        let file = database.dir.path().join("ioc-watch.yml");
        let config = crate::config::load_text(&file, CONFIG, &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems:#?}"));
        House { config, metrics: Arc::default(), begin: Instant::now(), database }
    }

    async fn start(&self, seconds: u64) -> Heartbeats {
        let (store, metrics) = (self.database.store.clone(), self.metrics.clone());
        Heartbeats::resume(store, metrics, &self.config, self.at(seconds)).await.unwrap()
    }

    /// By the clock that only runs forward.
    fn at(&self, seconds: u64) -> Instant {
        self.begin + Duration::from_secs(seconds)
    }
}

/// By the clock on the wall.
fn wall(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + seconds)
}

fn missing(heartbeats: &Heartbeats) -> Vec<String> {
    heartbeats.all().into_iter().filter(|shown| shown.missing.is_some()).map(|shown| shown.id.to_string()).collect()
}

fn alert(name: &str, cluster: &str, ends: Option<Timestamp>) -> Alert {
    let labels = [("alertname", name), ("cluster", cluster)];
    Alert {
        labels: labels.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect(),
        annotations: Default::default(),
        starts_at: wall(0),
        ends_at: ends,
        generator_url: "".into(),
        end_is_assumed: false,
    }
}

#[tokio::test]
async fn who_is_silent_for_too_long_is_missing_until_heard() {
    for database in Database::both().await {
        let house = House::new(database).await;
        let heartbeats = house.start(0).await;
        let (everybody, of_ioc) = (|_: &str| true, |agency: &str| agency == "ioc");
        heartbeats.tick(wall(180), house.at(180)).await.unwrap();
        assert_eq!(missing(&heartbeats), [""; 0], "each has its time from the start");
        heartbeats.tick(wall(181), house.at(181)).await.unwrap();
        assert_eq!(missing(&heartbeats), ["ban-sao"]);
        assert!(!heartbeats.posted("ban-sao", of_ioc, wall(190), house.at(190)), "not theirs");
        assert!(!heartbeats.posted("prometheus", everybody, wall(190), house.at(190)), "it speaks by an alert");
        assert!(!heartbeats.posted("nobody", everybody, wall(190), house.at(190)));
        assert_eq!(missing(&heartbeats), ["ban-sao"]);
        assert!(heartbeats.posted("ban-sao", everybody, wall(200), house.at(200)));
        heartbeats.tick(wall(201), house.at(201)).await.unwrap();
        assert_eq!(missing(&heartbeats), [""; 0]);
        let page = house.metrics.render(crate::metrics::Format::negotiate(None));
        for line in [
            "ioc_heartbeat_missing{agency=\"tinh\",heartbeat=\"ban-sao\"} 0",
            "ioc_heartbeat_last_timestamp_seconds{agency=\"tinh\",heartbeat=\"ban-sao\"} 1800000200",
            "ioc_heartbeat_within_seconds{agency=\"ioc\",heartbeat=\"cong-thanh-toan\"} 93600",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}

#[tokio::test]
async fn an_alert_that_matches_and_fires_is_a_sign_and_so_are_rows_of_a_feed() {
    let house = House::new(Database::sqlite().await).await;
    let heartbeats = house.start(0).await;
    let last = |id: &str| heartbeats.all().into_iter().find(|shown| &*shown.id == id).unwrap().last;
    let others =
        [alert("Watchdog", "huyen", None), alert("Other", "tinh", None), alert("Watchdog", "tinh", Some(wall(5)))];
    heartbeats.alerts(&others, wall(10), house.at(10));
    assert_eq!(last("prometheus"), None);
    heartbeats.alerts(&[alert("Watchdog", "tinh", Some(wall(300)))], wall(20), house.at(20));
    assert_eq!(last("prometheus"), Some(wall(20)));
    let table = house.metrics.table(columns::feed::TABLE);
    table.add(table.row(&["ioc", "doi-soat"]), columns::feed::ROWS, 0.0);
    heartbeats.tick(wall(30), house.at(30)).await.unwrap();
    assert_eq!(last("cong-thanh-toan"), None, "it was read, but brought nothing");
    table.add(table.row(&["ioc", "doi-soat"]), columns::feed::ROWS, 12.0);
    heartbeats.tick(wall(40), house.at(40)).await.unwrap();
    heartbeats.tick(wall(50), house.at(50)).await.unwrap();
    assert_eq!(last("cong-thanh-toan"), Some(wall(40)));
}

#[tokio::test]
async fn a_restart_keeps_the_last_sign_and_who_is_missing_and_gives_the_others_their_time() {
    for database in Database::both().await {
        let house = House::new(database).await;
        let heartbeats = house.start(0).await;
        heartbeats.alerts(&[alert("Watchdog", "tinh", None)], wall(100), house.at(100));
        heartbeats.tick(wall(200), house.at(200)).await.unwrap();
        assert_eq!(missing(&heartbeats), ["ban-sao"]);
        drop(heartbeats);
        // Down for an hour.
        let heartbeats = house.start(3_800).await;
        heartbeats.tick(wall(4_000), house.at(4_000)).await.unwrap();
        assert_eq!(missing(&heartbeats), ["ban-sao"], "still, and nobody else yet");
        let shown = heartbeats.all().into_iter().find(|shown| &*shown.id == "prometheus").unwrap();
        assert_eq!(shown.last, Some(wall(100)));
        heartbeats.tick(wall(4_101), house.at(4_101)).await.unwrap();
        assert_eq!(missing(&heartbeats), ["ban-sao", "prometheus"]);
    }
}

#[tokio::test]
async fn a_wall_clock_that_jumps_makes_nobody_missing_and_hides_nobody() {
    let house = House::new(Database::sqlite().await).await;
    let heartbeats = house.start(0).await;
    assert!(heartbeats.posted("ban-sao", |_| true, wall(10), house.at(10)));
    heartbeats.tick(wall(3_700), house.at(100)).await.unwrap();
    assert_eq!(missing(&heartbeats), [""; 0], "an hour forward");
    heartbeats.tick(wall(-3_400), house.at(191)).await.unwrap();
    assert_eq!(missing(&heartbeats), ["ban-sao"], "two hours back, and really silent");
}

/// What was not written is written at the next tick; nothing is forgotten meanwhile.
#[tokio::test]
async fn a_database_that_is_away_loses_no_sign() {
    let house = House::new(Database::sqlite().await).await;
    let heartbeats = house.start(0).await;
    assert!(heartbeats.posted("ban-sao", |_| true, wall(10), house.at(10)));
    sqlx::query("ALTER TABLE heartbeats RENAME TO away").execute(house.database.store.reader()).await.unwrap();
    assert!(heartbeats.tick(wall(11), house.at(11)).await.is_err());
    sqlx::query("ALTER TABLE away RENAME TO heartbeats").execute(house.database.store.reader()).await.unwrap();
    heartbeats.tick(wall(12), house.at(12)).await.unwrap();
    let again = house.start(13).await;
    let shown = again.all().into_iter().find(|shown| &*shown.id == "ban-sao").unwrap();
    assert_eq!(shown.last, Some(wall(10)));
}
