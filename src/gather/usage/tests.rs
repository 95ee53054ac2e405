//! The usage room from files to metrics.

use super::*;
use crate::feed::testing::{Bench, at};
use crate::metrics::columns::{app, app_events, dossiers, feed_rejected};

const SECTIONS: &str = "usage:
  - {app: qoffice, feed: {csv: {dir: qoffice, columns: {agency: Đơn vị, active_users: Người dùng, event: event, count: count}}}}
  - {app: motcua, dossiers: {csv: {dir: dossiers, columns: {agency: agency, step: step}}}}
";

async fn poll(usage: &mut Usage) {
    for _ in 0..2 {
        for (feed, result) in usage.poll(at("2026-11-23T02:00:00Z")).await.unwrap() {
            result.unwrap_or_else(|error| panic!("{feed}: {error}"));
        }
    }
}

#[tokio::test]
async fn a_row_counts_once_corrections_count_up_only_and_totals_survive_a_restart() {
    for bench in Bench::both(SECTIONS).await {
        let head = "Đơn vị,Người dùng,event,count,from,to\n";
        let dossier_head = "agency,procedure,step,channel,outcome,count,from,to\n";
        bench.write("dossiers/1.csv", dossier_head);
        bench.write(
            "qoffice/1.csv",
            format!("{head}tam-ky,12,login,30,2026-11-20,2026-11-21\ntam-ky,9,,,2026-11-21,2026-11-22\n"),
        );
        let mut usage = Usage::new(&bench.config.usage, bench.place.clone());
        usage.start(at("2026-11-23T02:00:00Z")).await.unwrap();
        poll(&mut usage).await;
        let users = || bench.metric(app::TABLE, &["tam-ky", "qoffice"], app::ACTIVE_USERS);
        let logins = || bench.metric(app_events::TABLE, &["tam-ky", "qoffice", "login"], app_events::EVENTS);
        assert_eq!((users(), logins()), (Some(9.0), Some(30.0)));

        for (file, count, total) in [("2", 25, 30.0), ("3", 28, 30.0), ("4", 34, 34.0)] {
            bench.write(
                &format!("qoffice/{file}.csv"),
                format!("{head}UBND TP. TAM KỲ,12,Login,{count},2026-11-20,2026-11-21\n"),
            );
            poll(&mut usage).await;
            assert_eq!(logins(), Some(total), "corrected to {count}");
        }
        bench.write("dossiers/2.csv", format!("{dossier_head}tam-ky,P1,submitted,online,,170,2026-11-01,2026-11-02\ntam-ky,P2,submitted,online,none,5,2026-11-01,2026-11-02\ntam-ky,P1,lost,online,,1,2026-11-01,2026-11-02\n"));
        poll(&mut usage).await;
        let submitted =
            || bench.metric(dossiers::TABLE, &["tam-ky", "submitted", "online", "none"], dossiers::DOSSIERS);
        assert_eq!(submitted(), Some(175.0));
        let rejected = bench.metric(feed_rejected::TABLE, &["ioc", "dossiers-motcua", "step"], feed_rejected::REJECTED);
        assert_eq!(rejected, Some(1.0));

        let again = Usage::new(&bench.config.usage, bench.place.clone());
        again.start(at("2026-11-23T02:00:00Z")).await.unwrap();
        assert_eq!((users(), logins(), submitted()), (Some(9.0), Some(34.0), Some(175.0)));
        let (from, to) = (at("2026-11-18T00:00:00Z"), at("2026-11-25T00:00:00Z"));
        let periods = active_users(&bench.place.store, from, to).await.unwrap();
        assert_eq!(periods.iter().map(|period| period.users).collect::<Vec<_>>(), [12, 9]);
        let counts = dossier_counts(&bench.place.store, at("2026-10-30T00:00:00Z"), to).await.unwrap();
        assert_eq!((counts.len(), counts[0].count), (1, 175));
    }
}

#[tokio::test]
async fn a_feed_cannot_invent_series_without_end() {
    for bench in Bench::both(SECTIONS).await {
        bench.write("dossiers/1.csv", "agency,procedure,step,channel,outcome,count,from,to\n");
        let mut text = String::from("Đơn vị,Người dùng,event,count,from,to\n");
        for n in 0..80 {
            text.push_str(&format!("tam-ky,,event-{n},1,2026-11-20,2026-11-21\n"));
        }
        bench.write("qoffice/1.csv", text);
        let mut usage = Usage::new(&bench.config.usage, bench.place.clone());
        usage.start(at("2026-11-23T02:00:00Z")).await.unwrap();
        poll(&mut usage).await;
        let rejected = bench.metric(feed_rejected::TABLE, &["ioc", "usage-qoffice", "event"], feed_rejected::REJECTED);
        assert_eq!(rejected, Some(30.0));
    }
}

#[tokio::test]
async fn pushed_counts_reach_the_series_with_the_next_poll() {
    use crate::feed::push::Post;
    let sections = "usage:\n  - {app: qoffice, feed: {push: {columns: {active_users: users}}}}\n";
    for bench in Bench::both(sections).await {
        let mut usage = Usage::new(&bench.config.usage, bench.place.clone());
        usage.start(at("2026-11-23T02:00:00Z")).await.unwrap();
        let may: &(dyn Fn(&str) -> bool + Sync) = &|name| name == "tam-ky";
        let post = Post {
            sender: "tam-ky",
            may: Some(may),
            owner: Some("tam-ky"),
            key: None,
            body: "{\"users\": 12, \"from\": \"2026-11-20\", \"to\": \"2026-11-21\"}".into(),
            now: at("2026-11-23T02:00:00Z"),
        };
        let reply = bench.place.pushes.take("usage-qoffice", post).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        poll(&mut usage).await;
        assert_eq!(bench.metric(app::TABLE, &["tam-ky", "qoffice"], app::ACTIVE_USERS), Some(12.0));
    }
}
