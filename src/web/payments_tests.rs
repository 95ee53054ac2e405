//! Mismatches by the API and on their page: what is shown, filtered, paged, and to whom.

use super::door_tests::{as_user, locked};
use super::tests::{House, ask, request};
use crate::store::Store;
use axum::http::{Method, StatusCode};

/// Three agencies' mismatches; one closed, one code that a spreadsheet would compute.
async fn fill(store: &Store) {
    let mut tx = store.begin().await.unwrap();
    for (n, (agency, kind, dossier, amount, closed)) in [
        ("tam-ky", "paid_not_recorded", "H47-1", 1_250_000_i64, false),
        ("tam-ky", "paid_not_recorded", "=H47-2", 50_000, false),
        ("hoi-an", "amount_differs", "H48-<1>", 5_000, false),
        ("tam-ky", "paid_twice", "H47-3", 70_000, true),
    ]
    .into_iter()
    .enumerate()
    {
        let us = 1_780_000_000_000_000 + n as i64 * 1_000_000;
        sqlx::query(
            "INSERT INTO payment_mismatches (txn_ref, opened_us, kind, agency, dossier, amount, since_us, changes, \
             closed_us, closed_by) VALUES ($1, $2, $3, $4, $5, $6, $7, '[]', $8, $9)",
        )
        .bind(format!("T{n}"))
        .bind(us)
        .bind(kind)
        .bind(agency)
        .bind(dossier)
        .bind(amount)
        .bind(us - 60_000_000)
        .bind(closed.then_some(us + 9))
        .bind(if closed { "money_back" } else { "" })
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    for (agency, kind, n_open, amount) in
        [("tam-ky", "paid_not_recorded", 2, 1_300_000_i64), ("hoi-an", "amount_differs", 1, 5_000)]
    {
        sqlx::query(
            "INSERT INTO payment_mismatch_totals (agency, kind, opened, resolved, n_open, open_amount) \
             VALUES ($1, $2, $3, 0, $3, $4)",
        )
        .bind(agency)
        .bind(kind)
        .bind(n_open)
        .bind(amount)
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
}

async fn get(house: &House, user: &str, path: &str) -> (StatusCode, String) {
    let (status, _, body) = ask(house, as_user(request(Method::GET, path), user)).await;
    (status, body)
}

fn refs(body: &str) -> Vec<String> {
    let answer: serde_json::Value = serde_json::from_str(body).unwrap();
    let all = answer["mismatches"].as_array().unwrap().iter();
    all.map(|mismatch| mismatch["txnRef"].as_str().unwrap().to_string()).collect()
}

#[tokio::test]
async fn mismatches_are_listed_filtered_paged_and_seen_by_their_agency_only() {
    let house = locked("").await;
    fill(house.state.store()).await;
    let path = "/api/ioc/v1/mismatches";
    let rows = [
        ("viewer", "", "T0 T1 T2"),
        ("viewer", "?state=all", "T0 T1 T2 T3"),
        ("viewer", "?state=closed", "T3"),
        ("viewer", "?agency=hoi-an", "T2"),
        ("viewer", "?kind=paid_not_recorded", "T0 T1"),
        ("viewer", "?since=2026-05-28T20:26:42Z&state=all", "T2 T3"),
        ("viewer-tk", "?state=all", "T0 T1 T3"),
        ("viewer-tk", "?agency=hoi-an", ""),
    ];
    for (user, query, expected) in rows {
        let (status, body) = get(&house, user, &format!("{path}{query}")).await;
        assert_eq!((status, refs(&body).join(" ")), (StatusCode::OK, expected.to_string()), "{user} {query}");
    }
    let (_, body) = get(&house, "viewer", &format!("{path}?limit=2")).await;
    assert_eq!(refs(&body), ["T0", "T1"]);
    let next = serde_json::from_str::<serde_json::Value>(&body).unwrap()["next"].as_str().unwrap().to_string();
    let (_, body) = get(&house, "viewer", &format!("{path}?limit=2&after={next}")).await;
    assert_eq!(refs(&body), ["T2"]);
    assert!(body.contains("\"next\":null"), "{body}");
    for query in ["?kind=lost", "?state=gone", "?since=heute", "?after=x", "?format=xml"] {
        assert_eq!(get(&house, "viewer", &format!("{path}{query}")).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
    let (_, csv) = get(&house, "viewer-tk", &format!("{path}?format=csv&state=all")).await;
    let expected = "kind,agency,dossier,txn_ref,amount,since,opened,closed,closed_by\n\
        paid_not_recorded,tam-ky,H47-1,T0,1250000,2026-05-28T20:25:40Z,2026-05-28T20:26:40Z,,\n\
        paid_not_recorded,tam-ky,'=H47-2,T1,50000,2026-05-28T20:25:41Z,2026-05-28T20:26:41Z,,\n\
        paid_twice,tam-ky,H47-3,T3,70000,2026-05-28T20:25:43Z,2026-05-28T20:26:43Z,2026-05-28T20:26:43.000009Z,money_back\n";
    assert_eq!(csv, expected);
}

#[tokio::test]
async fn the_page_counts_by_agency_and_lists_dossiers_in_both_languages() {
    let house = locked("").await;
    let (_, empty) = get(&house, "viewer", "/payments?lang=en").await;
    assert!(empty.contains("No payment feeds are configured"), "{empty}");
    fill(house.state.store()).await;
    let (status, vi) = get(&house, "viewer", "/payments").await;
    assert_eq!(status, StatusCode::OK);
    for expected in ["UBND TP. Tam Kỳ", "1.300.000 đ", "đã thanh toán nhưng chưa ghi nhận", "H48-&lt;1&gt;", "<b>3</b>"]
    {
        assert!(vi.contains(expected), "{expected} in {vi}");
    }
    assert!(!vi.contains("H47-3"), "closed");
    let (_, en) = get(&house, "viewer", "/payments?lang=en&kind=amount_differs").await;
    assert!(en.contains("amount differs") && en.contains("1,305,000 đ") && !en.contains("H47-1"), "{en}");
    let (_, own) = get(&house, "viewer-tk", "/payments").await;
    assert!(own.contains("H47-1") && !own.contains("H48") && own.contains("<b>2</b>"), "{own}");
}
