//! Proofs of RFC 6962, sections 2.1.1 and 2.1.2, from tiles.

use super::tree::{
    HASH_LEN, TILE_HEIGHT, TILE_WIDTH, Tile, TileId, Tree, edge_of, is_filled, subtree_of,
};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use tlog_tiles::{Error, Hash, HashReader, prove_record, prove_tree, tree_hash};

/// What a tree can be asked about itself, or about a smaller tree that it grew from.
#[derive(Clone, Copy, Debug)]
pub enum Question {
    /// The audit path of the event with this index, counted from 0, in the tree of this size.
    Inclusion { index: u64, size: u64 },
    /// The proof that the tree of size `to` begins with the one of size `from`.
    Consistency { from: u64, to: u64 },
    /// The root that the tree had at this size.
    Root { size: u64 },
}

/// A tree, as a checkpoint names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TreeHead {
    pub size: u64,
    pub root: Hash,
}

pub type Tiles = HashMap<TileId, Vec<u8>>;

/// The tiles do not make the tree that was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored tiles are not those of the last checkpoint")]
pub struct TilesDiffer;

impl Question {
    /// The tiles that the answer needs, and those that prove these right: about one for each level of
    /// tiles, and the edge.
    pub fn tiles(self, of: TreeHead) -> BTreeSet<TileId> {
        let noted = Noted::default();
        // Fails as soon as the hashes are noted.
        let _ = self.ask(&noted);
        let mut tiles: BTreeSet<_> = edge_of(of.size).map(|(id, _)| id).collect();
        for index in noted.0.into_inner() {
            let mut id = id(index);
            // A filled tile is proven by its parent, and so on up to the edge.
            while is_filled(id, of.size) && tiles.insert(id) {
                id = id.parent();
            }
        }
        tiles
    }

    /// The hashes, in the order of RFC 6962. Each is proven to be in the tree.
    ///
    /// Tiles that have grown since then do as well as those of the tree.
    pub fn answer(self, of: TreeHead, tiles: &Tiles) -> Result<Vec<Hash>, TilesDiffer> {
        check(of, &self.tiles(of), tiles)?;
        self.ask(&Fetched(tiles)).map_err(|_| TilesDiffer)
    }

    fn ask<R: HashReader>(self, hashes: &R) -> Result<Vec<Hash>, Error> {
        match self {
            Self::Inclusion { index, size } => prove_record(size, index, hashes),
            Self::Consistency { from, to } => prove_tree(to, from, hashes),
            Self::Root { size } => tree_hash(size, hashes).map(|root| vec![root]),
        }
    }
}

/// Fails unless the edge makes the root, and each filled tile the hash in its parent.
///
/// `TileHashReader` of tlog_tiles 0.2 is not used: if two subtrees of the edge share a tile, it leaves
/// filled ones unchecked.
fn check(of: TreeHead, needed: &BTreeSet<TileId>, tiles: &Tiles) -> Result<(), TilesDiffer> {
    let first = |id, width: usize| tiles.get(&id)?.get(..width * HASH_LEN);
    let mut edge = Vec::new();
    for (id, width) in edge_of(of.size) {
        let hashes = first(id, width).ok_or(TilesDiffer)?.to_vec();
        edge.push(Tile { id, hashes });
    }
    if Tree::resume(of.size, &edge).root() != of.root {
        return Err(TilesDiffer);
    }
    for &id in needed.iter().filter(|&&id| is_filled(id, of.size)) {
        let hashes = first(id, TILE_WIDTH).ok_or(TilesDiffer)?;
        let at = id.index as usize % TILE_WIDTH;
        let in_parent = first(id.parent(), at + 1).ok_or(TilesDiffer)?;
        if !in_parent.ends_with(&subtree_of(hashes).0) {
            return Err(TilesDiffer);
        }
    }
    Ok(())
}

/// The tile that holds a hash, by the number that tlog_tiles gives to each hash of a tree.
fn id(index: u64) -> TileId {
    let tile = tlog_tiles::Tile::from_index(TILE_HEIGHT, index);
    TileId { level: tile.level(), index: tile.level_index() }
}

/// Notes which hashes are asked for, and has none.
#[derive(Default)]
struct Noted(RefCell<Vec<u64>>);

/// Has the hashes of these tiles.
struct Fetched<'a>(&'a Tiles);

impl HashReader for Noted {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        self.0.borrow_mut().extend(indexes);
        Err(Error::InvalidTile)
    }
}

impl HashReader for Fetched<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let read = |&index: &u64| {
            let tile = tlog_tiles::Tile::from_index(TILE_HEIGHT, index);
            let hashes = self.0.get(&id(index)).ok_or(Error::InvalidTile)?;
            tile.hash_at_index(hashes, index)
        };
        indexes.iter().map(read).collect()
    }
}
