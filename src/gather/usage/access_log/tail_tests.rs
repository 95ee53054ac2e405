//! Rotations as logrotate makes them, at every moment of our reading.

use super::*;
use std::io::Write;

struct Log {
    dir: tempfile::TempDir,
    file: File,
    n_written: u64,
    /// Files get times in the order they were written in, whatever the clock's resolution.
    clock: u64,
}

impl Log {
    fn new() -> Log {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("dvc.log")).unwrap();
        Log { dir, file, n_written: 0, clock: 1_000_000 }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("dvc.log")
    }

    fn write(&mut self, n: u64) {
        for _ in 0..n {
            self.n_written += 1;
            writeln!(self.file, "{}", self.n_written).unwrap();
        }
        self.touch();
    }

    fn touch(&mut self) {
        self.clock += 1;
        self.file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.clock)).unwrap();
    }

    fn age(&self) {
        for n in (1..9).rev() {
            let _ = std::fs::rename(
                self.dir.path().join(format!("dvc.log.{n}")),
                self.dir.path().join(format!("dvc.log.{}", n + 1)),
            );
        }
    }

    /// `create`: until `reopen`, the writer goes on with the renamed file.
    fn rename(&mut self) {
        self.age();
        std::fs::rename(self.path(), self.dir.path().join("dvc.log.1")).unwrap();
    }

    fn reopen(&mut self) {
        self.file = File::create(self.path()).unwrap();
        self.touch();
    }

    fn copytruncate(&mut self) {
        self.age();
        let copy = self.dir.path().join("dvc.log.1");
        std::fs::copy(self.path(), &copy).unwrap();
        self.clock += 1;
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.clock);
        File::options().append(true).open(copy).unwrap().set_modified(time).unwrap();
        self.file = File::options().write(true).truncate(true).open(self.path()).unwrap();
        self.touch();
    }
}

/// All numbers that come until nothing does for some looks, and whether anything was lost.
fn drain(tail: &mut Tail) -> (Vec<u64>, u32) {
    let (mut numbers, mut n_lost, mut n_idle) = (Vec::new(), 0, 0);
    while n_idle < 5 {
        match tail.step().unwrap() {
            Step::Idle => n_idle += 1,
            Step::Lines { bytes, after, .. } => {
                let text = String::from_utf8(bytes).unwrap();
                numbers.extend(text.lines().map(|line| line.parse::<u64>().unwrap()));
                assert_eq!(after.line > 0, after.offset > 0);
                tail.stirred();
                tail.accept(after);
            }
            Step::TooLong { after, .. } => tail.accept(after),
            Step::Moved { after, lost } => {
                n_lost += u32::from(lost);
                tail.accept(after);
            }
        }
    }
    (numbers, n_lost)
}

#[test]
fn every_line_comes_once_through_rotations_of_both_kinds_while_running_and_while_stopped() {
    for kind in ["rename", "copytruncate"] {
        for restart in [false, true] {
            let mut log = Log::new();
            let mut tail = Tail::new(log.path(), None);
            let mut seen = Vec::new();
            let read = |tail: &mut Tail, seen: &mut Vec<u64>| {
                let (numbers, n_lost) = drain(tail);
                assert_eq!(n_lost, 0, "{kind} {restart}");
                seen.extend(numbers);
            };
            log.write(500);
            for round in 0..6_u64 {
                read(&mut tail, &mut seen);
                log.write(3);
                // Up to three rotations between two looks.
                for _ in 0..=round % 3 {
                    match kind {
                        "rename" => {
                            log.rename();
                            log.write(2);
                            log.reopen();
                        }
                        _ => log.copytruncate(),
                    }
                    log.write(4);
                }
                if restart {
                    tail = Tail::new(log.path(), tail.mark.clone());
                }
            }
            read(&mut tail, &mut seen);
            assert_eq!(seen, (1..=log.n_written).collect::<Vec<_>>(), "{kind}, restart: {restart}");
        }
    }
}

#[test]
fn a_renamed_file_is_read_to_its_end_even_if_it_is_compressed_at_once() {
    let mut log = Log::new();
    let mut tail = Tail::new(log.path(), None);
    log.write(10);
    assert_eq!(drain(&mut tail).0.len(), 10);
    log.rename();
    log.write(5);
    std::fs::rename(log.dir.path().join("dvc.log.1"), log.dir.path().join("dvc.log.1.gz")).unwrap();
    assert_eq!(drain(&mut tail), ((11..=15).collect(), 0));
    // Nothing under the name yet: the writer is still at the old file.
    log.write(1);
    assert_eq!(drain(&mut tail), (vec![16], 0));
    log.reopen();
    write!(log.file, "17").unwrap();
    assert_eq!(drain(&mut tail), (vec![], 0), "a line without its end waits");
    writeln!(log.file).unwrap();
    assert_eq!(drain(&mut tail), (vec![17], 0));
}

#[test]
fn the_last_line_of_a_rotated_file_needs_no_line_feed() {
    let mut log = Log::new();
    let mut tail = Tail::new(log.path(), None);
    log.write(1);
    assert_eq!(drain(&mut tail), (vec![1], 0));
    write!(log.file, "2").unwrap();
    log.rename();
    log.reopen();
    assert_eq!(drain(&mut tail), (vec![2], 0));
}

#[test]
fn what_a_straggler_writes_to_a_file_that_was_left_does_not_bring_it_back() {
    let mut log = Log::new();
    let mut tail = Tail::new(log.path(), None);
    log.write(4);
    drain(&mut tail);
    log.rename();
    let mut straggler = log.file.try_clone().unwrap();
    log.reopen();
    assert_eq!(drain(&mut tail), (vec![], 0));
    writeln!(straggler, "99").unwrap();
    assert_eq!(drain(&mut tail), (vec![], 0));
    assert_eq!(drain(&mut Tail::new(log.path(), tail.mark.clone())), (vec![], 0));
    log.write(1);
    assert_eq!(drain(&mut tail), (vec![5], 0));
}

#[test]
fn what_is_rotated_before_its_first_line_was_read_is_found() {
    for kind in ["rename", "copytruncate"] {
        let mut log = Log::new();
        log.touch();
        let mut tail = Tail::new(log.path(), None);
        assert_eq!(drain(&mut tail), (vec![], 0));
        let mark = tail.mark.clone();
        log.write(3);
        if kind == "rename" {
            log.rename();
            log.reopen();
        } else {
            log.copytruncate();
        }
        log.write(2);
        assert_eq!(drain(&mut tail), ((1..=5).collect(), 0), "{kind}");
        assert_eq!(drain(&mut Tail::new(log.path(), mark)), ((1..=5).collect(), 0), "{kind}, after a restart");
    }
}

#[test]
fn what_was_compressed_while_we_were_away_is_counted_as_lost_and_never_read_as_lines() {
    let mut log = Log::new();
    let mut tail = Tail::new(log.path(), None);
    log.write(10);
    drain(&mut tail);
    let mark = tail.mark.clone();
    drop(tail);
    log.write(10);
    log.rename();
    std::fs::rename(log.dir.path().join("dvc.log.1"), log.dir.path().join("dvc.log.1.gz")).unwrap();
    log.reopen();
    log.write(3);
    let mut tail = Tail::new(log.path(), mark);
    assert_eq!(drain(&mut tail), (vec![21, 22, 23], 1));
}

#[test]
fn a_new_content_under_the_same_inode_that_is_already_longer_is_noticed() {
    let mut log = Log::new();
    let mut tail = Tail::new(log.path(), None);
    log.write(10);
    drain(&mut tail);
    log.file = File::options().write(true).truncate(true).open(log.path()).unwrap();
    log.write(500);
    assert_eq!(drain(&mut tail), ((11..=510).collect(), 1), "truncated without a copy: the rest may be lost");
}

#[test]
fn a_line_without_end_neither_fills_memory_nor_hides_what_follows() {
    let mut log = Log::new();
    let mut tail = Tail::new(log.path(), None);
    log.write(1);
    let piece = vec![b'x'; 100_000];
    for _ in 0..40 {
        log.file.write_all(&piece).unwrap();
    }
    writeln!(log.file).unwrap();
    log.write(2);
    let (mut lines, mut told) = (Vec::new(), 0);
    loop {
        let after = match tail.step().unwrap() {
            Step::Idle => break,
            Step::Lines { first, bytes, after } => {
                assert!(bytes.len() <= CHUNK);
                lines.push((first, String::from_utf8_lossy(&bytes).into_owned()));
                after
            }
            Step::TooLong { start, after, .. } => {
                told += u32::from(!start.is_empty());
                assert!(start.len() <= HEAD as usize);
                after
            }
            Step::Moved { after, .. } => after,
        };
        tail.accept(after);
    }
    assert_eq!(lines, [(1, "1\n".to_owned()), (3, "2\n3\n".to_owned())]);
    assert_eq!(told, 1);
}

#[test]
fn only_names_of_rotations_are_looked_at() {
    let is = |file: &str| is_rotation(OsStr::new(file), OsStr::new("dvc.log"));
    for file in ["dvc.log.1", "dvc.log-20261126", "dvc.log.2026-11-26", "dvc.log-20261126.1"] {
        assert!(is(file), "{file}");
    }
    for file in ["dvc.log", "dvc.log.1.gz", "dvc.log.", "dvc.log.bak", "dvc.log.swp", "dvc.log1", "other.log.1"] {
        assert!(!is(file), "{file}");
    }
}
