//! Payments that other programs hand in, on SQLite and PostgreSQL.

use super::*;
use crate::feed::push::{Post, PushError, Reply};
use crate::feed::testing::{Bench, at};
use serde_json::Value as Json;

const SECTIONS: &str = "payments:
  portal: [{push: {status_map: {'Đã thu': paid}}}]
  gateway: [{push: {columns: {txn_ref: /vnp/TxnRef, amount: /vnp/Amount}, amount: {divide: 100}}}]
";

async fn bench_of(bench: &Bench) -> Reconciler {
    let zone = bench.config.site.timezone.clone();
    let reconciler =
        Reconciler::new(bench.config.payments.as_ref().unwrap(), Arc::default(), zone, bench.place.clone());
    reconciler.start().await.unwrap();
    reconciler
}

/// Sends as the token of an agency, or as one for all.
async fn send(
    bench: &Bench,
    feed: &str,
    agency: Option<&str>,
    key: Option<&str>,
    body: &str,
) -> Result<Reply, PushError> {
    let may: &(dyn Fn(&str) -> bool + Sync) = &|name| Some(name) == agency;
    let post = Post {
        sender: agency.unwrap_or("all"),
        may: agency.is_some().then_some(may),
        owner: agency,
        key,
        body: body.to_owned().into(),
        now: at("2026-11-23T02:00:00Z"),
    };
    bench.place.pushes.take(feed, post).await
}

/// Sends as one for all agencies; every row must be taken or be none of the feed's.
pub(super) async fn send_all(bench: &Bench, feed: &str, body: &str) {
    let (status, answer) = json(send(bench, feed, None, None, body).await);
    assert_eq!((status, answer["rejected"].as_u64()), (200, Some(0)), "{answer}");
}

fn json(reply: Result<Reply, PushError>) -> (u16, Json) {
    let reply = reply.unwrap();
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

async fn kept(bench: &Bench) -> Vec<String> {
    let sql = "SELECT txn_ref || ' ' || side || ' ' || agency || ' ' || status AS row FROM payment_rows ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(bench.place.store.reader()).await.unwrap()
}

#[tokio::test]
async fn good_rows_are_taken_bad_ones_named_and_kept_and_a_key_gives_the_same_answer() {
    for bench in Bench::both(SECTIONS).await {
        let _reconciler = bench_of(&bench).await;
        let body = "{\"txn_ref\": \"T1\", \"amount\": 150000, \"status\": \"Đã thu\", \"time\": \"2026-11-23T08:00:00\"}\n\
                    {\"txn_ref\": \"T2\", \"amount\": \"x\", \"status\": \"paid\", \"time\": \"2026-11-23T08:00:00\"}\n\
                    {\"txn_ref\": \"T3\"\n";
        let first = json(send(&bench, "portal-1", Some("tam-ky"), Some("k1"), body).await);
        assert_eq!(first.0, 200);
        assert_eq!((first.1["accepted"].as_u64(), first.1["rejected"].as_u64()), (Some(1), Some(2)));
        assert_eq!(first.1["rejections"][0]["line"], 2);
        assert_eq!(first.1["rejections"][0]["reason"], "amount");
        assert_eq!(first.1["rejections"][1]["reason"], "json");
        assert_eq!(kept(&bench).await, ["T1 portal tam-ky paid"]);
        let rejected = bench.rejected("portal-1");
        assert!(rejected.contains("push tam-ky,2,amount,") && rejected.contains("push tam-ky,3,json,"), "{rejected}");

        assert_eq!(json(send(&bench, "portal-1", Some("tam-ky"), Some("k1"), body).await), first);
        assert_eq!(bench.rejected("portal-1"), rejected, "nothing is kept twice");
        let other = send(&bench, "portal-1", Some("tam-ky"), Some("k1"), "[]").await;
        assert!(matches!(other, Err(PushError::KeyReused)), "{other:?}");
        // Another sender's key is another key.
        assert_eq!(json(send(&bench, "portal-1", None, Some("k1"), "[]").await).0, 200);
        for bad in ["", "two words", "đ"] {
            let refused = send(&bench, "portal-1", None, Some(bad), "[]").await;
            assert!(matches!(refused, Err(PushError::Key)), "{bad:?}");
        }
        let all_bad = json(send(&bench, "portal-1", None, None, "[{\"txn_ref\": \"T9\"}]").await);
        assert_eq!((all_bad.0, all_bad.1["accepted"].as_u64()), (422, Some(0)));
    }
}

#[tokio::test]
async fn a_sender_bound_to_an_agency_reaches_no_row_of_another() {
    for bench in Bench::both(SECTIONS).await {
        let _reconciler = bench_of(&bench).await;
        let row = |txn_ref: &str, more: &str| {
            format!(
                "[{{\"txn_ref\": \"{txn_ref}\", \"amount\": 1000, \"status\": \"paid\", \"time\": \"2026-11-23T08:00:00\"{more}}}]"
            )
        };
        send(&bench, "portal-1", None, None, &row("IOC1", ", \"agency\": \"ioc\"")).await.unwrap();
        send(&bench, "portal-1", None, None, &row("NOBODYS", "")).await.unwrap();
        let rows = [
            ("names another agency", row("N1", ", \"agency\": \"ioc\"")),
            ("overwrites another agency's", row("IOC1", "")),
            ("overwrites nobody's", row("NOBODYS", "")),
            ("gives another agency's back", row("N2", ", \"refund_of\": \"IOC1\"")),
        ];
        let before = kept(&bench).await;
        for (name, body) in rows {
            let (status, answer) = json(send(&bench, "portal-1", Some("tam-ky"), None, &body).await);
            assert_eq!((status, &answer["rejections"][0]["reason"]), (422, &Json::from("agency")), "{name}: {answer}");
            assert_eq!(kept(&bench).await, before, "{name}");
        }
        // The gateway's record of another agency's transaction is out of reach too.
        let gateway = "[{\"vnp\": {\"TxnRef\": \"IOC1\", \"Amount\": \"100000\"}, \"status\": \"settled\", \"time\": \"2026-11-23T08:00:00\"}]";
        assert_eq!(json(send(&bench, "gateway-1", Some("tam-ky"), None, gateway).await).0, 422);
        assert_eq!(json(send(&bench, "gateway-1", None, None, gateway).await).0, 200);
        assert_eq!(json(send(&bench, "portal-1", Some("tam-ky"), None, &row("OWN", "")).await).0, 200);
        assert_eq!(kept(&bench).await.len(), before.len() + 2);
        assert!(kept(&bench).await.contains(&"OWN portal tam-ky paid".to_owned()));
    }
}

#[tokio::test]
async fn a_sender_bound_to_an_agency_reaches_no_row_that_is_not_yet_in_the_ledger() {
    for bench in Bench::both(SECTIONS).await {
        let _reconciler = bench_of(&bench).await;
        let row = |number: u32, more: &str| {
            format!(
                "{{\"txn_ref\": \"IOC{number}\", \"amount\": 1000, \"status\": \"paid\", \"time\": \"2026-11-23T08:00:00\"{more}}}\n"
            )
        };
        let many: String = (0..600).map(|number| row(number, ", \"agency\": \"ioc\"")).collect();
        send_all(&bench, "portal-1", &many).await;
        assert_eq!(kept(&bench).await.len(), 0, "so many are put down first");
        let (status, answer) = json(send(&bench, "portal-1", Some("tam-ky"), None, &row(7, "")).await);
        assert_eq!((status, &answer["rejections"][0]["reason"]), (422, &Json::from("agency")), "{answer}");
        assert_eq!(kept(&bench).await.len(), 600);
        // So many that they are not taken in on the way.
        let mut tx = bench.place.store.begin().await.unwrap();
        let much = "INSERT INTO payment_arrivals (id, part, n, content) VALUES (1, 0, 1000000, '[]')";
        sqlx::query(much).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let refused = send(&bench, "portal-1", Some("tam-ky"), None, &row(700, "")).await;
        assert!(matches!(refused, Err(PushError::Feed(FeedError::Store(StoreError::Busy(_))))), "{refused:?}");
    }
}
