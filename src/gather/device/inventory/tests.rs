use super::*;

const HEADER: &str = "id,kind,agency,site,village,name,lat,lon,state,offline_after";

fn read(content: impl AsRef<[u8]>) -> (Inventory, Vec<String>) {
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let path = directory.path().join("devices.csv");
    std::fs::write(&path, content).unwrap_or_else(|error| panic!("{error}"));
    let agencies = ["tam-ky", "hoi-an"].iter().filter_map(|id| Id::parse(id)).collect();
    let mut problems = Problems::default();
    let inventory = load(&path, &agencies, &mut problems);
    let told = problems.into_sorted();
    (inventory, told.iter().map(|p| format!("{}:{}: {}", p.line, p.column, p.message)).collect())
}

#[test]
fn an_inventory_is_read_with_bom_quotes_nfd_and_any_order_of_columns() {
    // "Thôn" with a combining circumflex, as macOS writes it.
    let text = "\u{feff}kind;id;agency;site;village;name;lat;lon;state\r\n\
                camera;cam-1;tam-ky;nvh-1;Tho\u{302}n 1;\"Cổng; \"\"A\"\"\";15.57;108.47;installed\r\n\
                \r\n\
                hotspot;ap-1;hoi-an;;;;;;planned\r\n";
    let (inventory, told) = read(text);
    assert_eq!(told, Vec::<String>::new());
    let [camera, hotspot] = &inventory.devices[..] else { panic!("two devices") };
    assert_eq!((&*camera.village, &*camera.name), ("Th\u{f4}n 1", "Cổng; \"A\""));
    assert_eq!(camera.place(), Some((15.57, 108.47)));
    assert_eq!((hotspot.kind, hotspot.life, &*hotspot.site), (DeviceKind::Hotspot, Life::Planned, ""));
    assert_eq!(hotspot.offline_after, None);
}

#[test]
fn every_problem_is_told_with_its_place() {
    let rows = [
        ("cam-1,camera,tam-ki,s,v,n,,,installed,", "2:14: no agency \"tam-ki\"; did you mean \"tam-ky\"?"),
        (
            "cam-1,kamera,tam-ky,s,v,n,,,installed,",
            "2:7: kind \"kamera\"; did you mean \"camera\"?; allowed: camera, hotspot",
        ),
        (
            "Cam 1,camera,tam-ky,s,v,n,,,installed,",
            "2:1: id \"Cam 1\" is not 1 to 64 of a-z, 0-9, '-', '_', '.', starting with a letter or digit",
        ),
        (
            "cam-1,camera,tam-ky,s,v,n,91,108,installed,",
            "2:27: lat \"91\"; allowed: degrees from -90 to 90, like 15.5736",
        ),
        (
            "cam-1,camera,tam-ky,s,v,n,15,NaN,installed,",
            "2:30: lon \"NaN\"; allowed: degrees from -180 to 180, like 15.5736",
        ),
        ("cam-1,camera,tam-ky,s,v,n,,,broken,", "2:29: state \"broken\"; allowed: planned, installed, retired"),
        (
            "cam-1,camera,tam-ky,s,v,n,,,installed,5 min",
            "2:39: offline_after \"5 min\"; allowed: like 30s, 5m, 2h, 7d, or never",
        ),
        (
            "cam-1,camera,tam-ky,S 1,v,n,,,installed,",
            "2:21: site \"S 1\" is not 1 to 64 of a-z, 0-9, '-', '_', '.', starting with a letter or digit",
        ),
        ("cam-1,camera,tam-ky", "2:1: 3 fields; the header has 10"),
        ("cam-1,camera,tam-ky,s,v,\"n\n2\",,,installed,", "2:25: name contains a control character or line break"),
        ("cam-1,camera,tam-ky,s,\"v,n,,,installed,", "2:23: this quote is never closed"),
    ];
    for (row, expected) in rows {
        let (inventory, told) = read(format!("{HEADER}\n{row}\n"));
        assert_eq!(told, [expected]);
        assert!(inventory.devices.is_empty(), "{row}");
    }
    let good = "cam-1,camera,tam-ky,s,v,n,,,installed,never\n";
    let (inventory, told) = read(format!("{HEADER}\n{good}{good}"));
    assert_eq!(told, ["3:1: device \"cam-1\" is already listed at line 2"]);
    assert_eq!(inventory.devices.first().map(|device| device.offline_after), Some(Some(None)));
}

#[test]
fn a_file_that_is_no_inventory_says_so() {
    let (_, told) = read("");
    assert_eq!(told, [format!("1:1: empty; the first line names the columns: {}", COLUMNS.join(","))]);
    let (_, told) = read("id,kind,agenzy,site,village,name,lat,lon,state\n");
    assert_eq!(told.len(), 2);
    assert!(told[1].starts_with("1:9: unknown column \"agenzy\"; did you mean \"agency\"?"), "{told:?}");
    let (_, told) = read(b"id,kind\ncam-1,\xff");
    assert_eq!(told, ["2:7: not UTF-8; save the file as \"CSV UTF-8\""]);
    let mut problems = Problems::default();
    load(Path::new("/nonexistent/devices.csv"), &BTreeSet::new(), &mut problems);
    assert_eq!(problems.len(), 1);
    let many = format!("{HEADER}\n{}", "x\n".repeat(2_000));
    let (_, told) = read(many);
    assert_eq!(told.len(), MAX_PROBLEMS + 1);
}
