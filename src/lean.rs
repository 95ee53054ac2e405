//! Room in vectors of which a fleet fills the most, and in small blocks of which it has the most.

/// Makes room for `length` elements, and for an eighth more. Doubling would leave as much again unused, for ever in a fleet
/// that is complete.
pub fn make_room<T>(vector: &mut Vec<T>, length: usize) {
    if vector.capacity() < length {
        vector.reserve_exact(length - vector.len() + (vector.len() / 8).max(4));
    }
}

/// Adds an element, with [`make_room`].
pub fn push<T>(vector: &mut Vec<T>, value: T) {
    make_room(vector, vector.len() + 1);
    vector.push(value);
}

/// How many bytes the allocator's block for so many has: multiples of 16, and of a quarter of the next smaller power of two.
pub fn block(bytes: usize) -> usize {
    let power = 1 << bytes.saturating_sub(1).checked_ilog2().unwrap_or(0);
    bytes.next_multiple_of((power / 4).max(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_the_allocator_makes_them() {
        let rows =
            [(1, 16), (16, 16), (17, 32), (64, 64), (65, 80), (128, 128), (129, 160), (257, 320), (1_025, 1_280)];
        for (bytes, expected) in rows {
            assert_eq!(block(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn what_grows_by_one_is_seldom_moved() {
        let (mut vector, mut n_moves) = (Vec::new(), 0);
        for number in 0..100_000 {
            let before = vector.capacity();
            push(&mut vector, number);
            n_moves += usize::from(vector.capacity() != before);
        }
        assert!(n_moves < 100, "{n_moves}");
        assert!(vector.capacity() < 100_000 * 9 / 8 + 4, "{}", vector.capacity());
    }
}
