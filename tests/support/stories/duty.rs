//! The rota: its gaps, and how duty changes hands.

use super::{LADDER, PEOPLE, alert, town, town_with};
use ioc_watch::store::Store;

pub async fn a_gap_in_the_rota(store: &Store) {
    let gap = "overrides: [{nobody: true, from: 2026-06-01T12:00, to: 2026-06-01T14:00}]";
    let mut town = town_with(store, gap, LADDER, "mon 09:00").await;
    assert_eq!(town.until("mon 12:10").await, ["mon 12:00 binh goes off duty"]);
    assert!(town.last_mail("binh").await.contains("Nobody is on duty from then on"));
    let portal = alert("xa", "critical", "portal", town.now);
    town.fire(std::slice::from_ref(&portal)).await;
    // The leader does not wait for a quarter of an hour that nobody would have used.
    assert_eq!(town.until("mon 12:20").await, ["mon 12:10 chairman is called"]);
    assert_eq!(town.until("mon 13:00").await, ["mon 12:55 district is called"]);
    assert_eq!(town.until("mon 14:05").await, ["mon 14:00 binh comes on duty"]);
    let mail = town.last_mail("binh").await;
    assert!(mail.contains("On duty before: nobody") && mail.contains("Open incidents: 1"), "{mail}");
}

/// An's week begins on Monday at 8.
pub async fn while_it_burns(store: &Store) {
    let policy = LADDER.replace("15m", "2h").replace("1h", "12h");
    let mut town = town(store, &policy, "mon2 07:30").await;
    let (portal, well) = (alert("xa", "critical", "portal", town.now), alert("hamlet", "warning", "well", town.now));
    town.fire(&[portal.clone(), well]).await;
    assert_eq!(town.until("mon2 07:59").await, ["mon2 07:30 district is called", "mon2 07:30 binh is told"]);
    let handed_over = town.until("mon2 08:05").await;
    assert_eq!(handed_over, ["mon2 08:00 an comes on duty", "mon2 08:00 binh goes off duty"]);
    let mail = town.last_mail("an").await;
    assert!(mail.contains("Portal of the commune is down") && mail.contains("not acknowledged: 1"), "{mail}");
    assert!(!mail.contains("well is down"), "another agency's");
    assert!(mail.contains("https://ioc.vn.example/ack/"), "a link of An's own");
    assert!(mail.contains("Subject: [Duty begins] Commune: 1 incident is open"), "{mail}");
    // Not again, whatever happens to the daemon.
    let mut town = town.restart().await;
    assert_eq!(town.until("mon2 09:00").await, [""; 0]);
    // An hears what Binh was told, and may answer for it.
    assert!(matches!(town.acknowledge("an").await, ioc_watch::incident::Done::Acknowledged(Some(_))));
    assert_eq!(
        town.until("mon2 10:00").await,
        ["mon2 09:00 binh sees who answered", "mon2 09:00 an sees who answered"]
    );
    town.end(&portal).await;
    let over: Vec<String> = town.until("mon2 10:05").await;
    assert_eq!(over, ["mon2 10:00 binh over", "mon2 10:00 an over"]);
}

pub async fn while_the_daemon_is_away(store: &Store) {
    let mut town = town(store, LADDER, "sun 09:00").await;
    assert_eq!(town.until("sun 09:10").await, [""; 0], "a rota seen for the first time has nobody to hand over");
    let mut town = town.away_until("mon2 11:00").await;
    assert_eq!(town.until("mon2 11:10").await, ["mon2 11:00 an comes on duty", "mon2 11:00 binh goes off duty"]);
    assert!(town.last_mail("an").await.contains("You are on duty from 08/06/2026 08:00 until 15/06/2026 08:00"));
    let mut town = town.away_until("mon2 12:00").await;
    assert_eq!(town.until("mon2 12:10").await, [""; 0]);
    // A rota that is taken away is forgotten, and begins without a handover when it comes back.
    let without = format!("{}{LADDER}", PEOPLE.replace("    duty:", "    # duty:"));
    town.reload(&without);
    assert_eq!(town.until("mon2 12:20").await, [""; 0]);
    town.reload(&format!("{}{LADDER}", PEOPLE.replace("[an, binh]", "[binh, deputy]")));
    assert_eq!(town.until("mon2 12:30").await, [""; 0]);
    // Somebody else is put in: that is a handover too.
    town.reload(&format!("{}{LADDER}", PEOPLE.replace("[an, binh]", "[an, deputy]")));
    assert_eq!(town.until("mon2 12:40").await, ["mon2 12:30 an comes on duty", "mon2 12:30 binh goes off duty"]);
}

pub async fn no_mails(store: &Store) {
    let mut town = town_with(store, "handover: false", LADDER, "mon2 07:30").await;
    town.fire(&[alert("xa", "critical", "portal", town.now)]).await;
    assert_eq!(town.until("mon2 07:40").await, ["mon2 07:30 binh is told"]);
    let mails = town.until("mon2 08:20").await;
    assert_eq!(mails, ["mon2 07:45 chairman is called"], "{mails:?}");
}
