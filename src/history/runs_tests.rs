//! Tests of `runs.rs`.

use super::*;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        (-1_000_000_i64..1_000_000).prop_map(|units| units as f64 / 10.0),
        (-1_000_i64..1_000).prop_map(|units| units as f64 / 1_000.0),
        (0_i64..1 << 53).prop_map(|micros| micros as f64 / 1e6),
        any::<i64>().prop_map(|whole| whole as f64),
        (0_i64..3).prop_map(|whole| whole as f64),
        Just(f64::from_bits(STALE_NAN_BITS)),
        Just(-0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::MIN_POSITIVE),
        Just(LARGEST_WHOLE),
    ]
}

fn bits(runs: impl IntoIterator<Item = Run>) -> Vec<(u32, u64)> {
    runs.into_iter().map(|run| (run.from, run.value.to_bits())).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Push(u32, f64),
    Forget(usize),
    Truncate(u32),
    Shift(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u32..4, value()).prop_map(|(gap, value)| Step::Push(gap, value)),
        1 => (0_u32..100_000, value()).prop_map(|(gap, value)| Step::Push(gap, value)),
        1 => (0_usize..6).prop_map(Step::Forget),
        1 => (0_u32..4).prop_map(Step::Truncate),
        1 => (0_u32..4).prop_map(Step::Shift),
    ]
}

proptest! {
    #[test]
    fn runs_come_back_to_the_bit_whatever_was_done(steps in prop::collection::vec(step(), 0..80)) {
        let (mut packed, mut plain) = (Runs::new(), Vec::<Run>::new());
        for step in steps {
            match step {
                Step::Push(gap, value) => {
                    let from = plain.last().map_or(gap, |last| last.from + gap);
                    let run = Run { from, value };
                    if plain.last().is_some_and(|last| last.from == from) {
                        plain.pop();
                    }
                    plain.push(run);
                    packed.push(run);
                }
                Step::Forget(count) => {
                    let count = count.min(plain.len().saturating_sub(1));
                    plain.drain(..count);
                    packed.forget(count);
                }
                Step::Truncate(back) => {
                    let tick = plain.last().map_or(0, |last| (last.from + 1).saturating_sub(back));
                    plain.retain(|run| run.from < tick);
                    packed.truncate(tick);
                }
                Step::Shift(ticks) => {
                    let ticks = ticks.min(plain.first().map_or(0, |first| first.from));
                    plain.iter_mut().for_each(|run| run.from -= ticks);
                    packed.shift(ticks);
                }
            }
            prop_assert_eq!(bits(packed.iter()), bits(plain.iter().copied()));
            prop_assert_eq!(bits(packed.last()), bits(plain.last().copied()));
            prop_assert_eq!(packed.begins(), plain.first().map_or(NOTHING, |first| first.from));
            for first in 0..5 {
                let n_outlived = plain.partition_point(|run| run.from <= first).saturating_sub(1);
                prop_assert_eq!(packed.n_outlived(first), n_outlived);
            }
        }
    }
}

#[test]
fn what_changes_at_every_tick_takes_a_few_bytes() {
    // Frames a second, bits a second, when it last spoke.
    let series: [(&dyn Fn(u32) -> f64, usize); 4] = [
        (&|tick| f64::from(120 + tick * 7 % 180) / 10.0, 2),
        (&|tick| f64::from(512_000 + tick * 97_000 % 5_489_000), 4),
        (&|tick| (1_760_000_000_000_000_i64 + i64::from(tick) * 15_000_123) as f64 / 1e6, 4),
        (&|tick| f64::from(tick) / 3.0, 9),
    ];
    for (value, most) in series {
        let packed: Runs = (0..1_000).map(|from| Run { from, value: value(from) }).collect();
        let head = Head::read(&packed.bytes).unwrap();
        assert!(head.used as usize <= Head::SIZE + 12 + most * 1_000, "{} for {most}", head.used);
        assert!(packed.heap() < head.used as usize * 5 / 4 + 32);
    }
    assert_eq!(size_of::<Runs>(), 32);
}

#[test]
fn room_is_given_back_when_little_is_left() {
    let mut packed: Runs = (0..1_000).map(|from| Run { from, value: f64::from(from % 7) }).collect();
    let before = packed.heap();
    packed.forget(990);
    assert!(packed.heap() < before / 10, "{}", packed.heap());
    packed.forget(9);
    assert_eq!((packed.heap(), packed.iter().count()), (0, 1));
}
