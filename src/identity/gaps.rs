//! The positions that were skipped, and what that does to the tree, which has no gaps.

use super::event::Event;
use super::fact::{Fact, LedgerRestored};
use super::id::Position;
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
    size: u64,
    /// The root of the tree over them, as the `LedgerRestored` after the gap names it.
    root: Root,
    /// Size and root of the tree that was signed and lost.
    lost: (u64, Root),
    /// The position of that `LedgerRestored`.
    end: Position,
}

impl Gaps {
    /// Notes what a line says, if it accepts a loss. Lines come in order. Whether a line is right is
    /// checked elsewhere.
    pub fn note(&mut self, line: &str) {
        if line.contains(r#""kind":"LedgerRestored""#)
            && let Ok(Event { fact: Fact::LedgerRestored(restored), position, .. }) =
                Event::parse(line)
        {
            let LedgerRestored { new_size, new_root, old_size, old_root, .. } = restored;
            self.0.push(Gap {
                // A forged size that is negative becomes one that no ledger reaches.
                size: new_size.cast_unsigned(),
                root: new_root,
                lost: (old_size.cast_unsigned(), old_root),
                end: position,
            });
        }
    }

    /// The position of the first event that accepts a loss and cannot follow the one before it, if any.
    pub fn out_of_order(&self) -> Option<Position> {
        let follows = |pair: &&[Gap]| pair[0].size < pair[1].size && pair[0].end < pair[1].end;
        self.0.windows(2).find(|pair| !follows(pair)).map(|pair| pair[1].end)
    }

    /// The gaps that the first `size` events tell of.
    pub fn within(&self, size: u64) -> Self {
        Self(self.0.iter().copied().filter(|gap| gap.size < size).collect())
    }

    /// How many events there are up to and including a position.
    pub fn size_at(&self, position: Position) -> u64 {
        let before = self.0.partition_point(|gap| gap.end <= position);
        let size = match self.0[..before].last() {
            // There is nothing up to a forged position that is negative.
            None => u64::try_from(position.get()).unwrap_or(0),
            Some(gap) => {
                let after = position.get().abs_diff(gap.end.get());
                gap.size.saturating_add(1).saturating_add(after)
            }
        };
        // A position within a gap has no event, so the events before the gap are counted.
        self.0.get(before).map_or(size, |next| size.min(next.size))
    }

    /// How many positions up to this one were skipped. As many numbers of observations were: a loss skips
    /// both alike.
    pub fn skipped_len_at(&self, position: Position) -> i64 {
        position.get().saturating_sub_unsigned(self.size_at(position))
    }

    /// The position of the last of the first `size` events.
    pub fn position_at(&self, size: u64) -> Position {
        match self.last_before(size) {
            None => Position::default().plus(size),
            Some(gap) => gap.end.plus(size - gap.size - 1),
        }
    }

    /// The position of the last event that accepts a loss, among the first `size` events.
    pub fn restored_at(&self, size: u64) -> Option<Position> {
        self.last_before(size).map(|gap| gap.end)
    }

    /// The positions of all events that accept a loss, in order.
    pub fn restored(&self) -> impl DoubleEndedIterator<Item = Position> {
        self.0.iter().map(|gap| gap.end)
    }

    /// Size and root of the tree over the events before each gap.
    pub fn roots(&self) -> impl Iterator<Item = (u64, Root)> {
        self.0.iter().map(|gap| (gap.size, gap.root))
    }

    /// The position of the event that accepts the loss of a tree of this size and root.
    pub fn accepted(&self, size: u64, root: Root) -> Option<Position> {
        self.0.iter().find(|gap| gap.lost == (size, root)).map(|gap| gap.end)
    }

    fn last_before(&self, size: u64) -> Option<&Gap> {
        let before = self.0.partition_point(|gap| gap.size < size);
        // Forged gaps may be out of order, and then be found in the wrong half.
        self.0[..before].last().filter(|gap| gap.size < size)
    }
}

#[cfg(test)]
mod tests {
    use super::{Gap, Gaps, Position, Root};
    use crate::identity::{Event, Fact, LedgerRestored, ObservationId};
    use proptest::prelude::*;

    const ROOT: Root = Root([0; 32]);

    fn gap(size: u64, end: i64) -> Gap {
        Gap { size, root: ROOT, lost: (size + 1, ROOT), end: Position::new(end) }
    }

    /// The line of an event that accepts a loss, whatever numbers someone has put there.
    fn line(position: i64, new_size: i64, old_size: i64) -> String {
        let fact = Fact::LedgerRestored(LedgerRestored {
            accepted_by: "ops".to_owned(),
            new_root: ROOT,
            new_size,
            next_observation_id: ObservationId::new(1),
            old_root: ROOT,
            old_size,
            reason: "r".to_owned(),
        });
        let recorded_at = Default::default();
        Event { position: Position::new(position), recorded_at, fact }.line()
    }

    #[test]
    fn without_a_gap_an_event_is_as_many_as_its_position_says() {
        let gaps = Gaps::default();
        let seventh = Position::new(7);
        assert_eq!((gaps.size_at(seventh), gaps.position_at(7)), (7, seventh));
        assert_eq!(gaps.restored_at(7), None);
    }

    #[test]
    fn positions_go_on_after_a_gap_and_sizes_do_not_see_it() {
        let gaps = Gaps(vec![gap(5, 100), gap(7, 200)]);
        let there = [1, 5, 100, 101, 200, 201].map(Position::new);
        for (size, position) in [1, 5, 6, 7, 8, 9].into_iter().zip(there) {
            assert_eq!((gaps.size_at(position), gaps.position_at(size)), (size, position));
        }
        for (position, size) in [(6, 5), (99, 5), (102, 7), (199, 7)] {
            assert_eq!(gaps.size_at(Position::new(position)), size, "{position} was skipped");
        }
        assert_eq!(
            [5, 6, 7, 8].map(|size| gaps.restored_at(size).map(Position::get)),
            [None, Some(100), Some(100), Some(200)]
        );
        assert_eq!([5, 6, 7, 8].map(|size| gaps.within(size).0.len()), [0, 1, 1, 2]);
    }

    #[test]
    fn gaps_come_in_order() {
        for (second, told) in [((7, 200), None), ((7, 100), Some(100)), ((5, 200), Some(200))] {
            let gaps = Gaps(vec![gap(5, 100), gap(second.0, second.1)]);
            assert_eq!(gaps.out_of_order(), told.map(Position::new));
        }
    }

    /// So what reads as many events as there should be finds that some are missing.
    #[test]
    fn a_size_that_is_negative_is_never_reached() {
        let mut gaps = Gaps::default();
        gaps.note(&line(100, -5, -4));
        assert_eq!(gaps.size_at(Position::new(99)), 99);
        assert!(gaps.size_at(Position::new(110)) > i64::MAX as u64);
        assert_eq!((gaps.position_at(110), gaps.restored_at(110)), (Position::new(110), None));
    }

    proptest! {
        #[test]
        fn each_event_has_one_place(parts in prop::collection::vec((1..5_i64, 2..9_i64), 0..4)) {
            let (mut positions, mut gaps, mut next) = (Vec::new(), Gaps::default(), 1);
            for (len, skip) in parts {
                positions.extend(next..next + len);
                next += len + skip;
                gaps.0.push(gap(positions.len() as u64, next));
            }
            positions.extend(next..next + 3);
            for (size, position) in (1..).zip(positions.into_iter().map(Position::new)) {
                prop_assert_eq!(gaps.position_at(size), position);
                prop_assert_eq!(gaps.size_at(position), size);
            }
        }

        /// Lines are noted before they are checked.
        #[test]
        fn no_forged_number_overflows(
            forged in prop::collection::vec((number(), number(), number()), 0..5),
            sizes in prop::collection::vec(number(), 5),
        ) {
            let mut gaps = Gaps::default();
            for (position, new_size, old_size) in &forged {
                gaps.note(&line(*position, *new_size, *old_size));
            }
            prop_assert_eq!(gaps.restored().count(), forged.len());
            for size in sizes {
                let _ = gaps.size_at(Position::new(size));
                let _ = gaps.position_at(size.cast_unsigned());
                let _ = gaps.within(size.cast_unsigned()).out_of_order();
            }
        }
    }

    fn number() -> impl Strategy<Value = i64> {
        let extremes = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        prop_oneof![any::<i64>(), -9..9_i64, prop::sample::select(extremes.to_vec())]
    }
}
