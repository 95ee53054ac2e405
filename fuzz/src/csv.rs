//! Any file is cut into records that lie in it in order, the same ones whether it is read at once or goes on from a
//! place in the middle; and no cell makes the readers of values panic.

use ioc_watch::config::feeds::AmountScale;
use ioc_watch::feed::csv::{Place, Records};
use ioc_watch::feed::value;

/// Line, raw bytes and number of fields of every record from `place` on.
fn read(bytes: &[u8], place: Place) -> (Vec<(u64, Vec<u8>, usize)>, Vec<Place>) {
    let mut records = Records::new(&bytes[place.offset as usize..], b',', place);
    let (mut seen, mut places) = (Vec::new(), Vec::new());
    // An error ends the file, as it does for the feed.
    while let Ok(Some(record)) = records.read() {
        assert_eq!(record.iter().count(), record.len());
        for cell in record.iter().filter_map(|cell| std::str::from_utf8(cell).ok()) {
            let _ =
                (value::amount(cell, AmountScale::default()), value::count(cell), value::text(cell), value::fold(cell));
            let _ = value::iso_seconds(cell.as_bytes());
        }
        seen.push((record.line, record.raw.to_vec(), record.len()));
        places.push(records.place());
    }
    (seen, places)
}

pub fn run(bytes: &[u8]) {
    let (all, places) = read(bytes, Place::START);
    let Some(middle) = places.len().checked_sub(1).map(|last| last / 2) else { return };
    assert!(places.is_sorted_by_key(|place| place.offset));
    let (rest, _) = read(bytes, places[middle]);
    // A file that is damaged beyond the bound ends early when read at once, not when read in two parts.
    assert!(rest.starts_with(&all[middle + 1..]));
}
