//! On a real PostgreSQL. Nothing sleeps until a lease is over: the row says that it is.

use super::*;
use crate::store::testing::Database;

/// Two daemons on one database.
async fn two() -> (Database, [Store; 2], [Lease; 2]) {
    let database = Database::postgres().await;
    let other = Store::open(&database.state, database.dir.path()).await.unwrap();
    let stores = [database.store.clone(), other];
    let lease = async |n: usize| Lease::open(&stores[n], ["a:1", "b:2"][n]).await.unwrap().unwrap();
    let leases = [lease(0).await, lease(1).await];
    (database, stores, leases)
}

async fn expire(store: &Store) {
    sqlx::query("UPDATE leadership_lease SET expires_us = 1").execute(store.reader()).await.unwrap();
}

async fn take(lease: &Lease) -> Option<i64> {
    let standing = lease.look().await.unwrap();
    lease.take(&standing, false).await.unwrap()
}

async fn write(store: &Store) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    sqlx::query("INSERT INTO keys (name, secret, created_us) VALUES ('of a test', '', 0)")
        .execute(&mut *tx)
        .await
        .doing("writing something")?;
    tx.commit().await
}

async fn n_written(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM keys").fetch_one(store.reader()).await.unwrap()
}

#[tokio::test]
async fn one_leads_until_it_gives_the_lead_back() {
    let (_database, stores, leases) = two().await;
    assert_eq!(take(&leases[0]).await, Some(1));
    assert_eq!(take(&leases[1]).await, None);
    let standing = leases[1].look().await.unwrap();
    assert_eq!((standing.name.as_str(), standing.is_expired, standing.epoch), ("a:1", false, 1));
    assert!(leases[0].renew(1).await.unwrap());
    assert!(!leases[1].renew(0).await.unwrap(), "not its term");
    let others = leases[0].others().await.unwrap();
    assert_eq!(others, Others { standing_by: 1, missing: 0 });
    leases[0].release(Some(1)).await.unwrap();
    assert_eq!(leases[1].others().await.unwrap(), Others::default(), "it was stopped properly");
    assert_eq!(take(&leases[1]).await, Some(2), "at once");
    assert!(!leases[0].renew(1).await.unwrap());
    drop(stores);
}

#[tokio::test]
async fn a_term_that_ran_out_goes_on_unless_another_began() {
    let (database, _stores, leases) = two().await;
    assert_eq!(take(&leases[0]).await, Some(1));
    expire(&database.store).await;
    let seen = leases[1].look().await.unwrap();
    assert!(seen.is_expired);
    assert!(leases[0].renew(1).await.unwrap());
    assert_eq!(leases[1].take(&seen, false).await.unwrap(), None, "renewed since");
    // The database's clock was set back: the lease seems to last for hours, but nobody renews it.
    let seen = leases[1].look().await.unwrap();
    assert_eq!(leases[1].take(&seen, true).await.unwrap(), Some(2));
    assert!(!leases[0].renew(1).await.unwrap());
}

#[tokio::test]
async fn the_leader_of_a_past_term_writes_nothing() {
    let (database, stores, leases) = two().await;
    let first = take(&leases[0]).await.map(|epoch| stores[0].fenced(epoch)).unwrap();
    assert!(first.leads().await.unwrap());
    expire(&database.store).await;
    // It ran out, but nobody else leads.
    write(&first).await.unwrap();
    let second = take(&leases[1]).await.map(|epoch| stores[1].fenced(epoch)).unwrap();
    assert!(!first.leads().await.unwrap());
    assert!(matches!(write(&first).await, Err(StoreError::Deposed)));
    assert_eq!(n_written(&second).await, 1);
    assert!(second.leads().await.unwrap());
}

/// It was stopped between its last statement and its commit: the new term does not wait for ever, and what the old one
/// then commits is not there.
#[tokio::test]
async fn a_transaction_that_stands_still_is_ended_by_the_new_term() {
    let (database, stores, leases) = two().await;
    let first = take(&leases[0]).await.map(|epoch| stores[0].fenced(epoch)).unwrap();
    let mut standing_still = first.begin().await.unwrap();
    sqlx::query("INSERT INTO keys (name, secret, created_us) VALUES ('late', '', 0)")
        .execute(&mut *standing_still)
        .await
        .unwrap();
    expire(&database.store).await;
    assert_eq!(take(&leases[1]).await, Some(2));
    assert!(standing_still.commit().await.is_err());
    assert_eq!(n_written(&database.store).await, 0);
    assert!(matches!(first.begin().await, Err(StoreError::Deposed)));
}

#[tokio::test]
async fn sqlite_has_one_daemon() {
    let database = Database::sqlite().await;
    assert!(Lease::open(&database.store, "a:1").await.unwrap().is_none());
    assert!(database.store.leads().await.unwrap());
}
