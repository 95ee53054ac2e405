//! Room in vectors of which a fleet fills the most.

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

#[cfg(test)]
mod tests {
    use super::*;

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
