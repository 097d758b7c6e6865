//! The Merkle tree of RFC 6962, section 2.1, kept as tiles of 256 hashes.

use super::proof::TreeHead;
use tlog_tiles::{EMPTY_HASH, Hash, node_hash};

/// The height of a tile, in levels of the tree: 256 hashes wide (C2SP tlog-tiles).
pub const TILE_HEIGHT: u8 = 8;
pub const TILE_WIDTH: usize = 1 << TILE_HEIGHT;
pub const HASH_LEN: usize = 32;

/// The place of a tile. A tile at level `l` holds the roots of subtrees of `256^l` events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    pub level: u8,
    pub index: u64,
}

impl TileId {
    /// The tile that holds the root of this one.
    pub fn parent(self) -> Self {
        Self { level: self.level + 1, index: self.index >> TILE_HEIGHT }
    }
}

/// Up to 256 hashes, 32 bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    pub id: TileId,
    pub hashes: Vec<u8>,
}

/// A tree that grows at its right edge, which is all that it remembers.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    size: u64,
    /// The unfilled tile of each level.
    edge: Vec<Vec<Hash>>,
}

/// The tiles at the right edge of a tree that are not filled.
pub fn edge_of(size: u64) -> impl Iterator<Item = (TileId, usize)> {
    levels(size).filter_map(move |level| {
        let width = (size >> (TILE_HEIGHT * level)) as usize % TILE_WIDTH;
        let index = tile_index(size, level);
        (width > 0).then_some((TileId { level, index }, width))
    })
}

impl Tree {
    /// The tree of this size with these tiles at its edge, which are those that `edge_of` lists, and as wide.
    pub fn resume(size: u64, edge: &[Tile]) -> Self {
        let mut tree = Self { size, edge: levels(size).map(|_| Vec::new()).collect() };
        for tile in edge {
            tree.edge[usize::from(tile.id.level)] = split(&tile.hashes);
        }
        tree
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends an event, and puts the tiles that it fills into `filled`.
    pub fn push(&mut self, leaf: Hash, filled: &mut Vec<Tile>) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if self.edge.len() == usize::from(level) {
                self.edge.push(Vec::with_capacity(TILE_WIDTH));
            }
            let tile = &mut self.edge[usize::from(level)];
            tile.push(hash);
            if tile.len() < TILE_WIDTH {
                return;
            }
            let index = tile_index(self.size, level) - 1;
            filled.push(Tile { id: TileId { level, index }, hashes: join(tile) });
            hash = subtree(tile.clone());
            tile.clear();
        }
    }

    /// The tiles that are not filled.
    pub fn edge(&self) -> impl Iterator<Item = Tile> {
        let tiles = (0..).zip(&self.edge).filter(|(_, hashes)| !hashes.is_empty());
        tiles.map(|(level, hashes)| {
            let id = TileId { level, index: tile_index(self.size, level) };
            Tile { id, hashes: join(hashes) }
        })
    }

    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root() }
    }

    pub fn root(&self) -> Hash {
        let mut root = None;
        for hashes in &self.edge {
            let mut end = hashes.len();
            // The complete subtrees from right to left. The lowest bit says how large each is.
            while end > 0 {
                let begin = end & (end - 1);
                let left = subtree(hashes[begin..end].to_vec());
                root = Some(root.map_or(left, |right| node_hash(left, right)));
                end = begin;
            }
        }
        root.unwrap_or(EMPTY_HASH)
    }
}

/// The levels of tiles of a tree.
fn levels(size: u64) -> impl Iterator<Item = u8> {
    (0..).take_while(move |level| size.checked_shr(u32::from(TILE_HEIGHT * level)) > Some(0))
}

/// The index of the tile that the next hash of a level goes to.
fn tile_index(size: u64, level: u8) -> u64 {
    size.checked_shr(u32::from(TILE_HEIGHT) * u32::from(level + 1)).unwrap_or(0)
}

/// Whether a tile is among the filled ones of a tree of this size.
pub fn is_filled(id: TileId, size: u64) -> bool {
    id.index < tile_index(size, id.level)
}

/// The root of a filled tile.
pub fn subtree_of(tile: &[u8]) -> Hash {
    subtree(split(tile))
}

/// The root of a complete subtree, from its hashes at one level.
fn subtree(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        hashes = hashes.chunks_exact(2).map(|pair| node_hash(pair[0], pair[1])).collect();
    }
    hashes[0]
}

fn join(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn split(bytes: &[u8]) -> Vec<Hash> {
    let (hashes, _) = bytes.as_chunks::<HASH_LEN>();
    hashes.iter().copied().map(Hash).collect()
}
