//! Devices over the years: reloads, moves, retirements, restarts, what is old and what is too much.

use super::super::Outcome;
use super::super::inventory::{Commons, Inventory, Life, Listing};
use super::Settings;
use super::tests::{World, id, inventory, listing, listings, settings};
use crate::attribution::{State, SubjectKind};
use crate::config::devices::{DeviceKind, Shard};
use std::sync::Arc;
use std::time::Duration;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// cam-1 and ap-1 under these listings; the others as they were.
fn changed(change: impl Fn(&mut Listing)) -> Inventory {
    let mut listings = listings();
    change(&mut listings[0]);
    Inventory { devices: listings.into_iter().collect() }
}

#[tokio::test]
async fn a_reload_leaves_no_gap_and_ends_what_is_no_more() {
    let world = World::new(0).await;
    world.telemetry(1, "camera/cam-1", r#"{"fps":24}"#);
    let up =
        |world: &World| (world.value("ioc_device_up", "cam-1"), world.value("ioc_camera_frames_per_second", "cam-1"));
    let replace = |inventory: &Inventory| world.fleet.replace(settings(0), inventory, world.at(2));

    let renamed = changed(|device| {
        (device.name, device.village, device.place) = ("Cổng mới".into(), "Thôn 2".into(), Some((15.5, 108.25)))
    });
    replace(&renamed);
    assert_eq!(up(&world), (Some(1.0), Some(24.0)), "a name is no new device");
    let info = world.shown("ioc_device_info{");
    let own: Vec<&String> = info.iter().filter(|line| line.contains("cam-1")).collect();
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(own[0].contains(r#"village="Thôn 2",name="Cổng mới",lat="15.500000",lon="108.250000""#), "{own:?}");
    let villages = world.shown("ioc_village_cameras_up{");
    assert!(villages.iter().any(|line| line.contains("Thôn 2") && line.ends_with(" 1")), "{villages:?}");
    assert!(villages.iter().any(|line| line.contains("Thôn 1") && line.ends_with(" 0")), "{villages:?}");
    let unchanged = world.ledger_state(SubjectKind::Camera, "cam-1");
    replace(&renamed);
    assert_eq!((up(&world), world.ledger_state(SubjectKind::Camera, "cam-1")), ((Some(1.0), Some(24.0)), unchanged));

    replace(&changed(|device| device.site = "nvh-9".into()));
    let lines = world.shown(r#"ioc_device_up{"#);
    let own: Vec<&String> = lines.iter().filter(|line| line.contains("cam-1")).collect();
    assert!(own.len() == 1 && own[0].contains(r#"site="nvh-9""#) && own[0].ends_with(" 1"), "moved, still up: {own:?}");
    assert_eq!(world.shown("ioc_camera_frames_per_second{"), Vec::<String>::new(), "until it speaks at its new place");

    let mut grown = changed(|device| device.agency = id("ioc"));
    grown.devices.push(listing("cam-7", DeviceKind::Camera, Life::Installed));
    replace(&grown);
    assert!(world.shown("device=\"cam-1\"").iter().all(|line| line.contains(r#"agency="ioc""#)), "another owner");
    assert_eq!(world.fleet.state("cam-7"), Some(State::Unknown), "a new one is waited for");
    assert_eq!(world.fleet.state("cam-1"), Some(State::Up));

    replace(&changed(|device| device.life = Life::Retired));
    assert_eq!(world.shown("device=\"cam-1\""), Vec::<String>::new());
    assert_eq!(world.ledger_state(SubjectKind::Camera, "cam-1"), None);
    assert_eq!(world.telemetry(3, "camera/cam-1", "{}"), Outcome::Retired);
    let rest = [listing("ap-1", DeviceKind::Hotspot, Life::Installed)];
    replace(&Inventory { devices: rest.into_iter().collect() });
    assert_eq!(world.shown("cam-"), Vec::<String>::new());
    assert_eq!(world.telemetry(3, "camera/cam-1", "{}"), Outcome::Unlisted);
}

#[tokio::test]
async fn what_waited_too_long_revives_nothing() {
    let world = World::new(0).await;
    let start = world.start.wall.as_second();
    let say =
        |at: u64, told: i64| world.telemetry(at, "camera/cam-1", &format!(r#"{{"fps":24,"ts":{}}}"#, start + told));
    assert_eq!(say(10, 9), Outcome::Ok, "its clock is right");
    world.fleet.sweep(world.at(400));
    assert_eq!(world.fleet.state("cam-1"), Some(State::Down));
    assert_eq!(say(500, 60), Outcome::Stale, "sent seven minutes ago");
    assert_eq!(world.fleet.state("cam-1"), Some(State::Down));
    assert_eq!(world.value("ioc_camera_frames_per_second", "cam-1"), None);
    let seen = world.value("ioc_device_last_seen_timestamp_seconds", "cam-1").unwrap();
    assert!((seen - (start + 61) as f64).abs() < 1.0, "but it spoke then: {}", seen - start as f64);
    assert_eq!(say(501, 350), Outcome::Ok, "two and a half minutes on the way are none");
    assert_eq!(world.fleet.state("cam-1"), Some(State::Up));

    // The power fails, the clock forgets the year: it is alive all the same.
    world.fleet.sweep(world.at(1_000));
    assert_eq!(say(2_000, -1_000_000_000), Outcome::Ok);
    assert_eq!(world.fleet.state("cam-1"), Some(State::Up));
    assert_eq!(say(2_500, -999_999_500), Outcome::Ok, "a wrong clock proves nothing");
    assert_eq!(say(3_000, 2_999), Outcome::Ok, "it is right again");
    assert_eq!(say(4_000, 3_500), Outcome::Stale);

    // A restart knows the clock; what the broker kept meanwhile revives nothing.
    world.fleet.flush(world.at(4_000).wall).await.unwrap();
    let world = world.restarted(settings(0), 20_000).await;
    let say =
        |at: u64, told: i64| world.telemetry(at, "camera/cam-1", &format!(r#"{{"fps":24,"ts":{}}}"#, start + told));
    assert_eq!(say(20_001, 10_000), Outcome::Stale);
    assert_eq!(world.fleet.state("cam-1"), Some(State::Unknown));
    world.fleet.sweep(world.at(20_200));
    assert_eq!(world.fleet.state("cam-1"), Some(State::Down));
    // Of a device whose clock nobody knows, everything counts as said now.
    let told = start + 5;
    assert_eq!(world.telemetry(20_201, "hotspot/ap-1", &format!(r#"{{"clients":2,"ts":{told}}}"#)), Outcome::Ok);
}

#[tokio::test]
async fn after_a_restart_the_brokers_retained_words_are_right_at_once() {
    let world = World::new(0).await;
    let word = |world: &World, at: u64, device: &str, word: &str, retain: bool| {
        world.send(at, &format!("ioc/tam-ky/{device}/status"), word.as_bytes(), retain)
    };
    word(&world, 1, "camera/cam-1", "online", false);
    word(&world, 1, "hotspot/ap-1", "offline", false);
    world.fleet.flush(world.at(2).wall).await.unwrap();
    let seen = world.value("ioc_device_last_seen_timestamp_seconds", "cam-1");

    let world = world.restarted(settings(0), DAY).await;
    for device in ["cam-1", "ap-1"] {
        assert_eq!(world.fleet.state(device), Some(State::Unknown), "{device}");
    }
    assert_eq!(word(&world, DAY + 1, "camera/cam-1", "online", true), Outcome::Ok);
    assert_eq!(word(&world, DAY + 1, "hotspot/ap-1", "offline", true), Outcome::Ok);
    assert_eq!(
        world.send(DAY + 1, "ioc/tam-ky/camera/cam-1/telemetry", br#"{"fps":5}"#, true),
        Outcome::RetainedIgnored
    );
    assert_eq!((world.fleet.state("cam-1"), world.fleet.state("ap-1")), (Some(State::Up), Some(State::Down)));
    assert_eq!(world.value("ioc_device_usable", "cam-1"), None, "a word is no picture");
    assert_eq!(world.value("ioc_camera_frames_per_second", "cam-1"), None);
    assert_eq!(world.value("ioc_device_last_seen_timestamp_seconds", "cam-1"), seen, "nor a sign of life");
}

#[tokio::test]
async fn a_listed_dead_camera_counts_after_a_year_and_a_discovered_one_is_forgotten() {
    let world = World::new(1).await;
    world.telemetry(1, "camera/cam-1", r#"{"fps":24}"#);
    world.telemetry(1, "camera/new-1", r#"{"fps":24}"#);
    world.fleet.flush(world.at(2).wall).await.unwrap();
    let year = 366 * DAY;
    for at in [HOUR, DAY + HOUR, year] {
        world.fleet.sweep(world.at(at));
        world.fleet.forget(world.at(at));
        world.fleet.flush(world.at(at).wall).await.unwrap();
    }
    let check = |world: &World, state: State| {
        assert_eq!(world.fleet.state("cam-1"), Some(state));
        assert_eq!(world.value("ioc_device_installed", "cam-1"), Some(1.0));
        assert_eq!(world.ledger_state(SubjectKind::Camera, "cam-1"), Some(state), "the score reads the ledger");
        assert_eq!(world.fleet.state("new-1"), None);
        assert_eq!(world.shown("new-1"), Vec::<String>::new());
    };
    check(&world, State::Down);
    let seen = world.value("ioc_device_last_seen_timestamp_seconds", "cam-1");
    let world = world.restarted(settings(1), year + 60).await;
    check(&world, State::Unknown);
    world.fleet.sweep(world.at(year + 60 + 180));
    check(&world, State::Down);
    assert_eq!(world.value("ioc_device_last_seen_timestamp_seconds", "cam-1"), seen);
}

#[tokio::test]
async fn a_device_that_sends_too_much_is_cut_and_counted_and_its_last_will_is_heard() {
    let world = World::new(0).await;
    world.fleet.replace(Settings { rate_limit: Some(2.0), ..settings(0) }, &inventory(), world.at(0));
    let sent = |at: u64| world.telemetry(at, "camera/cam-1", r#"{"fps":24}"#);
    let n_taken = (0..500).filter(|_| sent(1) == Outcome::Ok).count();
    assert_eq!(n_taken, 120, "two a second over a minute");
    assert_eq!(world.telemetry(1, "hotspot/ap-1", "{}"), Outcome::Ok, "others are not its prey");
    assert_eq!(sent(2), Outcome::Ok);
    assert_eq!((sent(2), sent(2)), (Outcome::Ok, Outcome::RateLimited));
    assert_eq!(world.send(2, "ioc/tam-ky/camera/cam-1/status", b"offline", false), Outcome::Ok);
    assert_eq!(world.fleet.state("cam-1"), Some(State::Down));
    let (listed, _) = world.fleet.list(&super::Filter::default(), 10, |_| true);
    let limited: Vec<u32> =
        listed.iter().filter(|device| device.id == "cam-1").map(|device| device.n_limited).collect();
    assert_eq!(limited, [381]);
}

#[tokio::test]
async fn several_daemons_divide_the_agencies() {
    let world = World::new(1).await;
    let mut both = inventory();
    let other = Listing { agency: id("ioc"), ..listing("cam-8", DeviceKind::Camera, Life::Installed) };
    both.devices.push(other);
    let shards: Vec<Shard> = (0..3).map(|index| Shard { index, of: 3 }).collect();
    let own = shards.iter().position(|shard| shard.owns("tam-ky")).unwrap();
    let other_has_ioc = !shards[own].owns("ioc");
    assert!(other_has_ioc, "the test wants its two agencies apart");
    world.fleet.replace(Settings { shard: Some(shards[own]), ..settings(1) }, &both, world.at(0));
    assert_eq!(world.telemetry(1, "camera/cam-1", r#"{"fps":24}"#), Outcome::Ok);
    let elsewhere = |device: &str| world.send(1, &format!("ioc/ioc/camera/{device}/telemetry"), b"{}", false);
    assert_eq!((elsewhere("cam-8"), elsewhere("new-8")), (Outcome::OtherShard, Outcome::OtherShard));
    assert_eq!((world.fleet.n_unlisted(0), world.fleet.state("cam-8")), (0, None));
    let filters = world.fleet.filters(&super::tests::broker());
    let names: Vec<&str> = filters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ioc/tam-ky/+/+/telemetry", "ioc/tam-ky/+/+/status"]);
    let shared = crate::config::mqtt::Broker { share: Some("ioc".into()), ..super::tests::broker() };
    let filters = world.fleet.filters(&shared);
    assert_eq!(filters[0].0, "$share/ioc/ioc/tam-ky/+/+/telemetry");
    assert_eq!(filters[1].0, "ioc/tam-ky/+/+/status", "a group gets no retained words");
}

#[tokio::test]
async fn each_broker_answers_for_what_was_heard_over_it() {
    let world = World::new(0).await;
    world.fleet.configure_links(&[id("main"), id("second")]);
    for link in [0, 1] {
        world.fleet.link_changed(link, true, world.at(0).tick);
    }
    world.telemetry(1, "camera/cam-1", r#"{"fps":24}"#);
    world.over(1).telemetry(1, "hotspot/ap-1", r#"{"clients":1}"#);
    world.fleet.link_changed(1, false, world.at(2).tick);
    world.fleet.sweep(world.at(190));
    assert_eq!(world.fleet.state("cam-1"), Some(State::Down), "silent on a broker that is there");
    assert_eq!(world.fleet.state("ap-1"), Some(State::Unknown), "its broker is away");
    world.over(0).telemetry(191, "hotspot/ap-1", r#"{"clients":2}"#);
    assert_eq!(world.value("ioc_hotspot_clients", "ap-1"), Some(2.0), "it may change over");
    world.fleet.link_changed(0, false, world.at(190).tick);
    world.fleet.sweep(world.at(400));
    assert_eq!(world.fleet.state("ap-1"), Some(State::Unknown));
}

#[test]
fn a_rate_is_averaged_over_a_minute() {
    let now = super::Now::read();
    let listing = Commons::default().device(listing("cam-1", DeviceKind::Camera, Life::Installed));
    let mut unit = super::Unit::new(Arc::new(listing), now);
    for second in 0..600 {
        for _ in 0..10 {
            assert!(unit.may_speak(10.0, now.tick + Duration::from_secs(second)), "at the limit all day");
        }
    }
}

#[test]
fn a_unit_is_small() {
    // For each of 100,000 devices.
    assert_eq!(size_of::<super::Unit>(), 96);
}

#[tokio::test]
async fn a_device_that_comes_and_goes_is_counted_one_that_was_long_away_is_not() {
    let world = World::new(0).await;
    let says = |at: u64, word: &str| world.send(at, "ioc/tam-ky/camera/cam-1/status", word.as_bytes(), false);
    // Never heard: nobody knows since when it was away.
    world.fleet.sweep(world.at(200));
    assert_eq!(world.fleet.state("cam-1"), Some(State::Down));
    assert_eq!(says(210, "online"), Outcome::Ok);
    for at in [300, 400, 500] {
        says(at, "offline");
        says(at + 20, "offline");
        says(at + 40, "online");
    }
    says(1_000, "offline");
    says(1_000 + HOUR, "online");
    let (listed, _) = world.fleet.list(&super::Filter::default(), 10, |_| true);
    let flaps: Vec<(&str, u32)> =
        listed.iter().filter(|device| device.n_flaps > 0).map(|device| (device.id.as_str(), device.n_flaps)).collect();
    assert_eq!(flaps, [("cam-1", 3)]);
    assert_eq!(world.shown("ioc_device_flaps_total{"), ["ioc_device_flaps_total{agency=\"tam-ky\",kind=\"camera\"} 3"]);
    let nobody = Settings { agencies: Default::default(), ..settings(0) };
    world.fleet.replace(nobody, &Inventory::default(), world.at(5_000));
    assert_eq!(world.shown("ioc_device_flaps_total{"), Vec::<String>::new(), "its agency is gone");
}

#[tokio::test]
async fn some_of_a_large_fleet_are_written_at_a_time_and_all_in_turn() {
    let world = World::new(0).await;
    for device in ["camera/cam-1", "hotspot/ap-1"] {
        world.telemetry(1, device, "{}");
    }
    let written = async || {
        let mut n_rows = 0;
        super::seen::load(&world.store, |_| n_rows += 1).await.unwrap();
        n_rows
    };
    let now = world.at(2).wall;
    world.fleet.flush_at_most(1, now).await.unwrap();
    assert_eq!(written().await, 1);
    // What was just written waits behind what was not.
    world.telemetry(3, "camera/cam-1", "{}");
    world.fleet.flush_at_most(1, now).await.unwrap();
    assert_eq!(written().await, 2);
    world.fleet.flush_at_most(5, now).await.unwrap();
    assert!(world.fleet.lock().dirty.is_empty());
}
