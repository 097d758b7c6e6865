//! Compares lines with the stored tree and the signed checkpoints.

use super::mismatch::Mismatch;
use crate::identity::{Gaps, Position};
use crate::seal::{
    Checkpoint, HASH_LEN, Hash, StoredCheckpoint, TILE_WIDTH, Tile, TileId, Tiles, Tree, TreeHead,
    VerifierKeys,
};

const CHECKPOINT: &str = "checkpoint";

/// A tree that grows from the lines alone, and is compared with what is stored and signed.
pub struct TreeCheck {
    tree: Tree,
    gaps: Gaps,
    keys: Option<VerifierKeys>,
    /// How many events of the ledger are under a checkpoint, and so in the stored tiles.
    sealed: u64,
    /// The first line that does not have the hash that is stored for it. The next checkpoint tells
    /// whether the line or the tile was changed.
    suspect: Option<Suspect>,
    pub checkpoints_len: usize,
}

struct Suspect {
    position: Position,
    of_line: Hash,
    stored: String,
}

/// What is stored of some events and the tree over them.
#[derive(Default)]
pub struct StoredPart {
    /// The tiles of the lowest level, for as many of the events as were sealed.
    pub lowest: Tiles,
    pub checkpoints: Vec<StoredCheckpoint>,
}

impl TreeCheck {
    /// An empty tree, to be compared with tiles over the first `sealed` events: 0 if none are stored.
    pub fn new(keys: Option<VerifierKeys>, gaps: Gaps, sealed: u64) -> Self {
        Self { tree: Tree::default(), gaps, keys, sealed, suspect: None, checkpoints_len: 0 }
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether a line does not have the hash in its tile, and no checkpoint has told yet which of the
    /// two was changed.
    pub fn is_undecided(&self) -> bool {
        self.suspect.is_some()
    }

    /// Appends the next events. Returns the tiles that they filled.
    pub fn extend(
        &mut self,
        leaves: &[Hash],
        stored: &StoredPart,
        vouched: &[(&'static str, TreeHead)],
    ) -> Result<Vec<Tile>, Mismatch> {
        let mut filled = Vec::new();
        let mut checkpoints = stored.checkpoints.iter().peekable();
        for leaf in leaves {
            if self.tree.size() < self.sealed && self.suspect.is_none() {
                let position = self.gaps.position_at(self.tree.size() + 1);
                self.suspect = suspect(self.tree.size(), position, *leaf, &stored.lowest);
            }
            self.tree.push(*leaf, &mut filled);
            let size = self.tree.size();
            while let Some(row) = checkpoints.next_if(|row| row.size.cast_unsigned() <= size) {
                self.check_row(row)?;
            }
            for (part, head) in vouched.iter().filter(|(_, head)| head.size == size) {
                self.check_head(part, *head)?;
            }
        }
        Ok(filled)
    }

    fn check_row(&mut self, row: &StoredCheckpoint) -> Result<(), Mismatch> {
        let read = Checkpoint::read_by(&row.note, self.keys.as_ref());
        let read = read.and_then(|checkpoint| checkpoint.named_as(&self.gaps));
        let position = self.gaps.position_at(row.size.cast_unsigned());
        let wrong =
            |expected: &str, found: String| Mismatch::at(position, CHECKPOINT, expected, found);
        let checkpoint = read.map_err(|error| {
            wrong("a note signed by the log's key", format!("a note, but {error}"))
        })?;
        if row.head() != Some(checkpoint.head) {
            return Err(wrong("the size and root of the note", "others in the columns".to_owned()));
        }
        self.check_head(CHECKPOINT, checkpoint.head)?;
        self.checkpoints_len += 1;
        Ok(())
    }

    /// Checks that a signed head is that of the tree as it is now.
    fn check_head(&mut self, part: &'static str, head: TreeHead) -> Result<(), Mismatch> {
        let root = self.tree.root();
        let signed_is_right = head.size == self.tree.size() && head.root == root;
        match (self.suspect.take(), signed_is_right) {
            (None, true) => Ok(()),
            (None, false) => {
                let expected = format!("root {} of the first {} events", head.root, head.size);
                let position = self.gaps.position_at(head.size);
                Err(Mismatch::at(position, part, expected, root))
            }
            // The lines are as they were signed, so the tile was changed.
            (Some(suspect), true) => {
                Err(Mismatch::at(suspect.position, "tile", suspect.of_line, suspect.stored))
            }
            (Some(suspect), false) => {
                let expected = format!("a line with the sealed hash {}", suspect.stored);
                Err(Mismatch::at(suspect.position, "line", expected, suspect.of_line))
            }
        }
    }
}

/// The trees that are named by events that accept a loss.
pub fn roots(gaps: &Gaps) -> impl Iterator<Item = (&'static str, TreeHead)> {
    gaps.roots().map(|(size, root)| ("newRoot", TreeHead { size, root: Hash(root.0) }))
}

/// Compares a tile with what is stored in its place, which may have grown since.
pub fn check_tile(tile: &Tile, stored: &Tiles, gaps: &Gaps) -> Result<(), Mismatch> {
    let expected = tile.hashes.chunks(HASH_LEN);
    let stored = stored.get(&tile.id).map_or(&[][..], Vec::as_slice);
    let mut found = stored.chunks(HASH_LEN);
    for (at, expected) in (0..).zip(expected) {
        let found = found.next();
        if found != Some(expected) {
            let first = ((tile.id.index * TILE_WIDTH as u64 + at) << (8 * tile.id.level)) + 1;
            let position = gaps.position_at(first);
            return Err(Mismatch::at(position, "tile", hash(expected), hash_or_none(found)));
        }
    }
    Ok(())
}

fn suspect(index: u64, position: Position, of_line: Hash, lowest: &Tiles) -> Option<Suspect> {
    let width = TILE_WIDTH as u64;
    let id = TileId { level: 0, index: index / width };
    let begin = (index % width) as usize * HASH_LEN;
    let stored = lowest.get(&id).and_then(|hashes| hashes.get(begin..begin + HASH_LEN));
    (stored != Some(&of_line.0)).then(|| Suspect {
        position,
        of_line,
        stored: hash_or_none(stored),
    })
}

fn hash_or_none(stored: Option<&[u8]>) -> String {
    stored.map_or_else(|| "none".to_owned(), hash)
}

fn hash(bytes: &[u8]) -> String {
    bytes.try_into().map_or_else(|_| "half a hash".to_owned(), |bytes| Hash(bytes).to_string())
}
