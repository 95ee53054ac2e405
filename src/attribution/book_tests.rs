//! Whatever is observed in whatever order, and whether or not the database takes it: the rows fit together.

use super::*;
use crate::config;
use proptest::prelude::*;
use std::path::Path;

const SECOND: i64 = 1_000_000;
const START: i64 = 1_795_000_000 * SECOND;
/// As rows of [`Op::See`]: two dependencies and two services that need them.
const IDS: [(&str, SubjectKind); 4] = [
    ("line", SubjectKind::Dependency),
    ("platform", SubjectKind::Dependency),
    ("a", SubjectKind::Service),
    ("b", SubjectKind::Service),
];

#[derive(Debug, Clone)]
enum Op {
    /// Which subject is in which state, and how many seconds ago its check began.
    See(usize, State, i64),
    Tick,
    /// Whether the database takes it.
    Flush(bool),
    End(usize),
    Reload,
}

fn op() -> impl Strategy<Value = (i64, Op)> {
    let state = prop_oneof![4 => Just(State::Up), 4 => Just(State::Down), 1 => Just(State::Unknown)];
    let op = prop_oneof![
        12 => (0..IDS.len(), state, 0..10_i64).prop_map(|(subject, state, ago)| Op::See(subject, state, ago)),
        6 => Just(Op::Tick),
        4 => prop_oneof![3 => Just(true), 1 => Just(false)].prop_map(Op::Flush),
        1 => (0..IDS.len()).prop_map(Op::End),
        1 => Just(Op::Reload),
    ];
    // Mostly seconds, sometimes half an hour.
    (prop_oneof![8 => 0..20_i64, 1 => 60..2_000_i64], op)
}

fn graph() -> Graph {
    let text = "site: {name: IOC, agency: ioc}\n\
        people: [{id: it, name: IT, email: it@vn.example}]\n\
        agencies: [{id: ioc, name: IOC, leader: it}]\n\
        dependencies:\n\
        \x20 - {id: line, cause: telecom, every: 20s, timeout: 5s, probe: {http: {url: 'http://127.0.0.1:9/'}}}\n\
        \x20 - {id: platform, cause: platform, depends_on: [line], probe: {http: {url: 'http://127.0.0.1:9/'}}}\n\
        maintenance: [{services: [b], from: '2026-11-18T18:16:40', to: '2026-11-18T18:20:00', reason: x}]\n\
        services:\n\
        \x20 - {id: a, agency: ioc, depends_on: [platform], http: {url: 'http://127.0.0.1:9/'}}\n\
        \x20 - {id: b, agency: ioc, depends_on: [line], http: {url: 'http://127.0.0.1:9/'}}\n";
    let config = config::load_text(Path::new("test.yml"), text, &|_| None).unwrap_or_else(|p| panic!("{p:#?}"));
    Graph::new(&config, [])
}

fn subject(index: usize) -> Subject {
    Subject { kind: IDS[index].1, id: IDS[index].0.into() }
}

/// Stands for the database.
type Rows = HashMap<Subject, Vec<Piece>>;

fn flush(book: &mut Book, rows: &mut Rows, taken: bool) -> Result<(), TestCaseError> {
    let (changes, dirty) = book.take_changes();
    if !taken {
        book.not_written(dirty);
        return Ok(());
    }
    let final_us = book.settled_us();
    for change in &changes {
        let held = rows.entry(change.subject.clone()).or_default();
        let n_kept = held.len() - change.old.len();
        prop_assert_eq!(&held[n_kept..], &change.old[..], "the book knows what the database holds");
        // What is final keeps its cause.
        let n_same = change.old.iter().zip(&change.new).take_while(|(old, new)| old == new).count();
        if let (Some(old), Some(new)) = (change.old.get(n_same), change.new.get(n_same)) {
            let until = |piece: &Piece| piece.until_us.unwrap_or(i64::MAX);
            let is_kept = old.verdict.cause == new.verdict.cause
                && old.from_us == new.from_us
                && until(new) >= until(old).min(final_us);
            let begins = old.from_us.min(new.from_us) >= final_us;
            let is_new = dirty
                .get(&change.subject)
                .is_some_and(|since_us| until(new) >= *since_us && old.from_us == new.from_us);
            prop_assert!(is_kept || begins || is_new, "{:?} became {:?}, final until {}", old, new, final_us);
        }
        held.truncate(n_kept);
        held.extend(change.new.iter().cloned());
    }
    let now_us = book.now_us;
    book.written(changes, &dirty, now_us);
    Ok(())
}

/// What was seen, without causes: each state from when to when.
fn seen(rows: &[(i64, Option<i64>, State)]) -> Vec<(i64, Option<i64>, State)> {
    let mut runs: Vec<(i64, Option<i64>, State)> = Vec::new();
    for &(from_us, until_us, state) in rows {
        match runs.last_mut() {
            Some(last) if last.1 == Some(from_us) && last.2 == state => last.1 = until_us,
            _ => runs.push((from_us, until_us, state)),
        }
    }
    runs
}

fn play(ops: &[(i64, Op)]) -> Result<(), TestCaseError> {
    let mut book = Book::default();
    book.set_graph(graph());
    let mut rows = Rows::new();
    let mut facts: HashMap<Subject, Vec<(i64, Option<i64>, State)>> = HashMap::new();
    let mut now_us = START;
    for (later, op) in ops {
        now_us += later * SECOND;
        match op {
            Op::See(index, state, ago) => {
                let (subject, at_us) = (subject(*index), now_us - ago * SECOND);
                book.observe(&subject, "ioc", *state, at_us, "");
                let facts = facts.entry(subject).or_default();
                match facts.last_mut() {
                    Some((_, None, last)) if last == state => {}
                    Some((from_us, until_us, _)) => {
                        let begin_us = at_us.max(until_us.unwrap_or(*from_us + 1));
                        until_us.get_or_insert(begin_us);
                        facts.push((begin_us, None, *state));
                    }
                    None => facts.push((at_us, None, *state)),
                }
            }
            Op::Tick => book.tick(now_us),
            Op::Flush(taken) => flush(&mut book, &mut rows, *taken)?,
            Op::End(index) => {
                book.end(&subject(*index), now_us);
                if let Some((from_us, until_us @ None, _)) = facts.get_mut(&subject(*index)).and_then(|f| f.last_mut())
                {
                    *until_us = Some(now_us.max(*from_us + 1));
                }
            }
            Op::Reload => book.set_graph(graph()),
        }
    }
    flush(&mut book, &mut rows, true)?;
    for (subject, facts) in &facts {
        let held = rows.get(subject).map_or(&[] as &[Piece], |held| held);
        prop_assert!(held.iter().all(|piece| piece.until_us.is_none_or(|until_us| piece.from_us < until_us)));
        prop_assert!(held.windows(2).all(|pair| pair[0].until_us.is_some_and(|until_us| until_us <= pair[1].from_us)));
        for piece in held {
            let is_own = *piece.verdict.cause.as_str() == *"own";
            match piece.verdict.sight.state {
                State::Up => prop_assert!(is_own),
                State::Unknown => prop_assert_eq!(piece.verdict.cause, Cause::Unknown),
                State::Down => prop_assert!(piece.verdict.cause != Cause::Unknown),
            }
        }
        let states: Vec<_> =
            held.iter().map(|piece| (piece.from_us, piece.until_us, piece.verdict.sight.state)).collect();
        prop_assert_eq!(seen(&states), seen(facts), "{}", subject.id);
    }
    Ok(())
}

#[test]
fn a_subject_that_came_back_and_ended_again_is_remembered_from_its_last_end_on() {
    let see = |later| (later, Op::See(3, State::Up, 0));
    let ops = [see(0), (0, Op::End(3)), (1_600, Op::Tick), see(0), (0, Op::End(3)), (0, Op::Flush(true)), see(0)];
    play(&ops).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rows_say_what_was_seen_without_gap_or_overlap(ops in proptest::collection::vec(op(), 1..120)) {
        play(&ops)?;
    }
}
