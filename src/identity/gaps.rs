//! The positions that were skipped, and what that does to the tree, which has no gaps.

use super::event::Event;
use super::fact::{Fact, LedgerRestored};
use super::root::Root;

/// Where a ledger skipped positions: before each event that accepts a loss, since the lost events may
/// have had them. Up to the first gap the event at position p is the p-th.
///
/// A size is a number of events, counted from the first one; the tree over them has that size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<Gap>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    /// How many events are before the gap.
    size: i64,
    /// The root of the tree over them, as the `LedgerRestored` after the gap names it.
    root: Root,
    /// Size and root of the tree that was signed and lost.
    lost: (i64, Root),
    /// The position of that `LedgerRestored`.
    end: i64,
}

impl Gaps {
    /// Notes what a line says, if it accepts a loss. Lines come in order. Whether a line is right is
    /// checked elsewhere.
    pub fn note(&mut self, line: &str) {
        if line.contains(r#""kind":"LedgerRestored""#)
            && let Ok(Event { fact: Fact::LedgerRestored(restored), position, .. }) =
                Event::parse(line)
        {
            let LedgerRestored { new_size: size, new_root: root, old_size, old_root, .. } =
                restored;
            self.0.push(Gap { size, root, lost: (old_size, old_root), end: position.get() });
        }
    }

    /// The position of the first event that accepts a loss and cannot follow the one before it, if any.
    pub fn out_of_order(&self) -> Option<i64> {
        let follows = |pair: &&[Gap]| pair[0].size < pair[1].size && pair[0].end < pair[1].end;
        self.0.windows(2).find(|pair| !follows(pair)).map(|pair| pair[1].end)
    }

    /// The gaps that the first `size` events tell of.
    pub fn within(&self, size: i64) -> Self {
        Self(self.0.iter().copied().filter(|gap| gap.size < size).collect())
    }

    /// How many events there are up to and including a position.
    pub fn size_at(&self, position: i64) -> i64 {
        let before = self.0.partition_point(|gap| gap.end <= position);
        let size = match before.checked_sub(1) {
            None => position,
            Some(last) => self.0[last].size + (position - self.0[last].end) + 1,
        };
        // A position within a gap has no event, so the events before the gap are counted.
        self.0.get(before).map_or(size, |next| size.min(next.size))
    }

    /// The position of the last of the first `size` events.
    pub fn position_at(&self, size: i64) -> i64 {
        match self.last_before(size) {
            None => size,
            Some(gap) => gap.end + (size - gap.size) - 1,
        }
    }

    /// The position of the last event that accepts a loss, among the first `size` events.
    pub fn restored_at(&self, size: i64) -> Option<i64> {
        self.last_before(size).map(|gap| gap.end)
    }

    /// The positions of all events that accept a loss, in order.
    pub fn restored(&self) -> impl DoubleEndedIterator<Item = i64> {
        self.0.iter().map(|gap| gap.end)
    }

    /// Size and root of the tree over the events before each gap.
    pub fn roots(&self) -> impl Iterator<Item = (i64, Root)> {
        self.0.iter().map(|gap| (gap.size, gap.root))
    }

    /// The position of the event that accepts the loss of a tree of this size and root.
    pub fn accepted(&self, size: i64, root: Root) -> Option<i64> {
        self.0.iter().find(|gap| gap.lost == (size, root)).map(|gap| gap.end)
    }

    fn last_before(&self, size: i64) -> Option<&Gap> {
        let before = self.0.partition_point(|gap| gap.size < size);
        self.0.get(before.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Gap, Gaps, Root};
    use proptest::prelude::*;

    fn gap(size: i64, end: i64) -> Gap {
        let root = Root([0; 32]);
        Gap { size, root, lost: (size + 1, root), end }
    }

    #[test]
    fn without_a_gap_an_event_is_as_many_as_its_position_says() {
        let gaps = Gaps::default();
        assert_eq!((gaps.size_at(7), gaps.position_at(7), gaps.restored_at(7)), (7, 7, None));
    }

    #[test]
    fn positions_go_on_after_a_gap_and_sizes_do_not_see_it() {
        let gaps = Gaps(vec![gap(5, 100), gap(7, 200)]);
        let there = [1, 5, 100, 101, 200, 201];
        for (size, position) in [1, 5, 6, 7, 8, 9].into_iter().zip(there) {
            assert_eq!((gaps.size_at(position), gaps.position_at(size)), (size, position));
        }
        for (position, size) in [(6, 5), (99, 5), (102, 7), (199, 7)] {
            assert_eq!(gaps.size_at(position), size, "{position} was skipped");
        }
        assert_eq!(
            [5, 6, 7, 8].map(|size| gaps.restored_at(size)),
            [None, Some(100), Some(100), Some(200)]
        );
    }

    #[test]
    fn gaps_come_in_order() {
        for (second, told) in [((7, 200), None), ((7, 100), Some(100)), ((5, 200), Some(200))] {
            let gaps = Gaps(vec![gap(5, 100), gap(second.0, second.1)]);
            assert_eq!(gaps.out_of_order(), told);
        }
    }

    proptest! {
        #[test]
        fn each_event_has_one_place(parts in prop::collection::vec((1..5_i64, 2..9_i64), 0..4)) {
            let (mut positions, mut gaps, mut next) = (Vec::new(), Gaps::default(), 1);
            for (len, skip) in parts {
                positions.extend(next..next + len);
                next += len + skip;
                gaps.0.push(gap(positions.len() as i64, next));
            }
            positions.extend(next..next + 3);
            for (size, position) in (1..).zip(&positions) {
                prop_assert_eq!(gaps.position_at(size), *position);
                prop_assert_eq!(gaps.size_at(*position), size);
            }
        }
    }
}
