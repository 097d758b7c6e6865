//! The tree against another implementation of RFC 6962.

use super::checkpoint::Checkpoint;
use super::key;
use super::outside::CheckpointDir;
use super::proof::{Question, Tiles, TreeHead};
use super::tree::{Tree, edge_of};
use crate::identity::Gaps;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use proptest::prelude::*;
use sha2::Sha256;
use tlog_tiles::{Hash, record_hash};

type Oracle = MemoryBackedTree<Sha256, Vec<u8>>;

fn line(n: u64) -> Vec<u8> {
    format!("event {n}").into_bytes()
}

/// A tree with its tiles, grown in steps as the sealer does: each ends with the edge stored
/// and read back.
fn grown(size: u64, step: u64) -> (Tree, Tiles) {
    let (mut tree, mut tiles) = (Tree::default(), Tiles::new());
    while tree.size() < size {
        let mut filled = Vec::new();
        for n in tree.size()..size.min(tree.size() + step) {
            tree.push(record_hash(&line(n)), &mut filled);
        }
        tiles.extend(filled.into_iter().chain(tree.edge()).map(|tile| (tile.id, tile.hashes)));
        let edge: Vec<_> = tree.edge().collect();
        let widths: Vec<_> = edge.iter().map(|tile| (tile.id, tile.hashes.len() / 32)).collect();
        assert!(edge_of(tree.size()).eq(widths));
        tree = Tree::resume(tree.size(), &edge);
    }
    (tree, tiles)
}

fn oracle(size: u64) -> Oracle {
    let mut oracle = Oracle::new();
    (0..size).for_each(|n| oracle.push(line(n)));
    oracle
}

fn root_hash(root: Hash, size: u64) -> RootHash<Sha256> {
    RootHash::new(root.0.into(), size)
}

fn ask(question: Question, head: TreeHead, tiles: &Tiles) -> Vec<u8> {
    let needed = question.tiles(head).into_iter().map(|id| (id, tiles[&id].clone())).collect();
    question.answer(head, &needed).unwrap().iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn the_root_of_no_events_is_the_hash_of_nothing() {
    assert_eq!(Tree::default().root(), tlog_tiles::EMPTY_HASH);
}

#[test]
fn roots_are_right_at_every_size_around_a_full_tile() {
    for size in (1..=20).chain(250..=260).chain(505..=520).chain([65_537]) {
        let (tree, _) = grown(size, 100_000);
        assert_eq!(tree.root().0, **oracle(size).root().as_bytes(), "size {size}");
    }
}

#[test]
fn the_checkpoint_outside_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    key::create(&file, &"ledger.test/shop".parse().unwrap()).unwrap();
    let key = key::SigningKey::read(&file).unwrap();
    let sign = |size| {
        let head = TreeHead { size, root: grown(size, size).0.root() };
        Checkpoint::sign(&key, head, &Gaps::default())
    };
    let outside = CheckpointDir::new(dir.path(), &"shop".parse().unwrap());
    for (size, is_written, kept) in [(4, true, 4), (3, false, 4), (5, true, 5)] {
        assert_eq!(outside.write(&sign(size)).unwrap(), is_written);
        assert_eq!(outside.read(None).unwrap().unwrap().head.size, kept);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn proofs_from_tiles_convince_another_implementation(
        size in 1_u64..2_000,
        step in 1_u64..700,
        smaller in any::<prop::sample::Index>(),
        index in any::<prop::sample::Index>(),
    ) {
        let (tree, tiles) = grown(size, step);
        let head = TreeHead { size, root: tree.root() };
        let whole = oracle(size).root();
        prop_assert_eq!(root_hash(head.root, size), whole.clone());

        let old_size = smaller.index(size as usize) as u64 + 1;
        let old = oracle(old_size).root();
        let old_root = ask(Question::Root { size: old_size }, head, &tiles);
        prop_assert_eq!(&old_root[..], &old.as_bytes()[..]);

        let index = index.index(old_size as usize) as u64;
        let path = ask(Question::Inclusion { index, size: old_size }, head, &tiles);
        let path = InclusionProof::from_bytes(path);
        prop_assert!(old.verify_inclusion(&line(index), index, &path).is_ok());

        if old_size < size {
            let proof = ask(Question::Consistency { from: old_size, to: size }, head, &tiles);
            let proof = ConsistencyProof::try_from_bytes(proof).unwrap();
            prop_assert!(whole.verify_consistency(&old, &proof).is_ok());
        }
    }

    #[test]
    fn no_proof_comes_from_a_tile_that_was_changed(
        size in 2_u64..2_000,
        at in any::<prop::sample::Index>(),
        which in any::<prop::sample::Index>(),
        index in any::<prop::sample::Index>(),
    ) {
        let (tree, mut tiles) = grown(size, size);
        let head = TreeHead { size, root: tree.root() };
        let question = Question::Inclusion { index: index.index(size as usize) as u64, size };
        let needed: Vec<_> = question.tiles(head).into_iter().collect();
        let tile = tiles.get_mut(&needed[which.index(needed.len())]).unwrap();
        let at = at.index(tile.len());
        tile[at] ^= 1;
        prop_assert!(question.answer(head, &tiles).is_err());
    }
}
