//! A portal and what it needs go down together: the owner of the dependency is told, and nobody else until it is back.

use crate::site::{Site, leader, number};
use crate::support::daemon::Daemon;
use crate::support::nginx::Nginx;
use crate::support::{get, wait_for};
use std::time::{Duration, Instant};

/// every + timeout + tick + group interval + for (30 s, a twelfth) + group_wait + 5 s.
const BOUND: Duration = Duration::from_secs(1 + 1 + 1 + 1 + 2 + 4 + 5);
/// In which a second mail would have come: as long again.
const QUIET: Duration = BOUND;

#[test]
fn only_the_owner_is_told_until_the_dependency_is_back() {
    let site = Site::new();
    let server = |name: &str| {
        let dir = site.dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Nginx::start(&dir, &site.authority.server(&dir, "good", false), "<h1>Xin chào</h1>")
    };
    let (mut portal, mut national) = (server("portal"), server("national"));
    site.configure(
        &["tinh", "tam-ky"],
        &format!(
            "rules: {{files: ['alerts/*.yml']}}\nincidents: {{group_wait: 4s, group_interval: 2s}}\n\
             dependencies:\n  - {{id: cong-quoc-gia, name: Cổng quốc gia, agency: tinh, cause: national, every: 1s, \
             probe: {{http: {{url: 'https://127.0.0.1:{}/', ca_file: ca.pem}}}}}}\n\
             services:\n  - {{id: dvc, agency: tam-ky, kind: portal, every: 1s, depends_on: [cong-quoc-gia], \
             http: {{url: 'https://127.0.0.1:{}/', ca_file: ca.pem}}}}\n",
            national.port, portal.port
        ),
    );
    let mut daemon = Daemon::start(site.dir(), &site.file(), site.port);
    wait_for("both to be up", Duration::from_secs(20), || {
        number(site.port, "sum(ioc_service_up) + sum(ioc_dependency_up)").filter(|sum| *sum == 2.0)
    });
    let (owner, other) = (leader("tinh"), leader("tam-ky"));

    // The portal first: its failure has the dependency looked at before anybody is told.
    portal.stop();
    national.stop();
    let told = site.mail.wait(&owner, 1, BOUND);
    // Its HTML is quoted-printable: "1 dịch vụ".
    let body = told[0].body.replace("=\n", "");
    assert!(body.contains("1 d=E1=BB=8Bch v=E1=BB=A5 (l"), "says what else is down: {told:#?}");
    let excused = "ioc_service_excused{agency=\"tam-ky\",service=\"dvc\",kind=\"portal\",cause=\"national\"}";
    assert_eq!(number(site.port, excused), Some(1.0));
    let (_, incidents) = get(site.port, "/api/ioc/v1/incidents").unwrap();
    assert!(incidents.contains("Cổng quốc gia"), "the portal's incident is there and excused: {incidents}");
    let begin = Instant::now();
    while begin.elapsed() < QUIET {
        assert!(site.mail.to(&other).is_empty(), "{:#?}", site.mail.to(&other));
        assert_eq!(site.mail.to(&owner).len(), 1);
        std::thread::sleep(Duration::from_millis(500));
    }

    // Back, while the portal stays down: now it is the portal's own.
    national.resume();
    let mails = site.mail.wait(&owner, 2, BOUND);
    assert!(mails[1].answers(&mails[0]), "{mails:#?}");
    let own = site.mail.wait(&other, 1, BOUND + BOUND);
    assert!(own[0].header("In-Reply-To").is_none(), "{own:#?}");
    wait_for("the excuse to vanish", BOUND, || number(site.port, excused).is_none().then_some(()));

    portal.resume();
    let mails = site.mail.wait(&other, 2, BOUND);
    assert!(mails[1].answers(&mails[0]), "{mails:#?}");
    assert_eq!((site.mail.to(&owner).len(), site.mail.to(&other).len()), (2, 2));
    assert!(daemon.stop(), "a clean end; its log:\n{}", daemon.log());
}
