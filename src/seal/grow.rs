//! Extends the tree by what is new in the ledger, and signs it.

use super::checkpoint::Checkpoint;
use super::error::{By, SealError, SignedHead};
use super::outside::OutsideError;
use super::proof::{Question, TilesDiffer, TreeHead};
use super::sealer::SealInputs;
use super::store;
use super::tree::{HASH_LEN, Tile, Tree, edge_of};
use crate::identity::{Gaps, Position, Root};
use crate::ledger::{self, CopiedRows, Fault, in_time};
use crate::threads::on_a_thread;
use sqlx::PgConnection;
use tlog_tiles::record_hash;

/// The length of a page, in events. Their lines have about three megabytes.
const PAGE_LEN: u64 = 8_192;
/// The greatest length of a step, in events. A sealer that has more to catch up on signs on the way, too.
const STEP_LEN_MAX: u64 = 8 * PAGE_LEN;

/// The tree as it was signed last, and what was signed elsewhere.
pub struct Growing {
    inputs: SealInputs,
    tree: Option<Tree>,
    /// The gaps of the ledger when it was read last.
    pub(super) gaps: Gaps,
    /// The last checkpoint that this node has seen in the database.
    seen: Option<TreeHead>,
    /// What was signed beyond what is sealed in the database, as after a crash between the two. The
    /// smallest comes first.
    pub(super) ahead: Vec<SignedHead>,
}

impl Growing {
    pub fn new(inputs: SealInputs) -> Self {
        Self { inputs, tree: None, gaps: Gaps::default(), seen: None, ahead: Vec::new() }
    }

    /// Forgets what is known of the database, since it may not hold any more.
    pub fn forget(&mut self) {
        self.tree = None;
    }

    /// Seals all that is in the ledger now. Calls `at` with the size that it has reached, the size of the
    /// ledger, and the ledger's last position.
    pub async fn seal(
        &mut self,
        session: &mut PgConnection,
        mut at: impl FnMut(u64, u64, Position),
    ) -> Result<(), SealError> {
        // Taken until the end: if anything fails, the next call begins with what is stored.
        let begun = self.tree.take();
        let is_new = begun.is_none();
        let mut tree = match begun {
            Some(tree) => tree,
            None => self.resume(session).await?,
        };
        // Read once: under load the head moves on all the time. If it were read after each step, the sealer
        // would sign as fast as it can.
        let head = self.reached(session).await?;
        self.check_length(tree.size(), head)?;
        if let Some(outside) = self.inputs.outside.clone().filter(|_| is_new) {
            // Checked before anything is hashed in vain.
            off_runtime(move || outside.check_writable()).await?;
        }
        let position = self.gaps.position_at(head);
        while tree.size() < head {
            at(tree.size(), head, position);
            tree = self.step(session, tree, head).await?;
        }
        at(head, head, position);
        self.tree = Some(tree);
        Ok(())
    }

    /// Fails if the database contradicts anything that was signed, above all what the checkpoint outside
    /// covers. Signs nothing.
    pub async fn check(
        &mut self,
        session: &mut PgConnection,
        outside: Option<TreeHead>,
    ) -> Result<(), SealError> {
        self.read_gaps(session, outside).await?;
        let resumed = self.resume_beside(session, outside).await;
        // Read last: what was signed by then was committed before. Even if the last checkpoint or the tiles
        // are damaged, or events alone are missing, the length tells.
        let head = self.reached(session).await?;
        if let Some(TreeHead { size, .. }) = outside.filter(|outside| outside.size > head) {
            return Err(SealError::WentBack { head, size, by: By::Outside });
        }
        self.check_length(resumed.as_ref().map_or(0, Tree::size), head)?;
        let tree = resumed?;
        let end = self.ahead.last().map_or(tree.size(), |signed| signed.head.size);
        self.extend_to(session, tree, end).await?;
        Ok(())
    }

    /// The number of events in the ledger now.
    pub(super) async fn reached(&mut self, session: &mut PgConnection) -> Result<u64, Fault> {
        let (position, gaps) = extent(session).await?;
        self.gaps = gaps;
        Ok(self.gaps.size_at(position))
    }

    /// The tree that was stored last. Fails if it contradicts anything that was signed.
    async fn resume(&mut self, session: &mut PgConnection) -> Result<Tree, SealError> {
        let outside = self.read_outside().await?;
        self.read_gaps(session, outside).await?;
        self.resume_beside(session, outside).await
    }

    /// What the checkpoint outside covers.
    async fn read_outside(&self) -> Result<Option<TreeHead>, SealError> {
        let Some(outside) = self.inputs.outside.clone() else { return Ok(None) };
        let keys = self.inputs.key.verifier_keys().clone();
        Ok(off_runtime(move || outside.read(Some(&keys))).await?.map(|it| it.head))
    }

    /// Reads the gaps. Fails if the loss of what the checkpoint outside covers was accepted already.
    pub(super) async fn read_gaps(
        &mut self,
        session: &mut PgConnection,
        outside: Option<TreeHead>,
    ) -> Result<(), SealError> {
        self.gaps = in_time(ledger::gaps(session)).await?;
        let accepted = |head: TreeHead| self.gaps.accepted(head.size, Root(head.root.0));
        match outside.and_then(accepted) {
            Some(position) => Err(SealError::NotFinished(position)),
            None => Ok(()),
        }
    }

    /// As `resume`, beside what the checkpoint outside covers. The gaps must have been read.
    pub(super) async fn resume_beside(
        &mut self,
        session: &mut PgConnection,
        outside: Option<TreeHead>,
    ) -> Result<Tree, SealError> {
        let stored = match in_time(store::last_checkpoint(&mut *session)).await? {
            None => None,
            Some(row) => {
                let keys = self.inputs.key.verifier_keys().of(&self.gaps);
                let checkpoint = Checkpoint::read(&row.note, &keys)?.named_as(&self.gaps)?;
                let head = row.head().filter(|head| *head == checkpoint.head);
                Some(head.ok_or(SealError::RowDiffers)?)
            }
        };
        let signed = [(self.seen, By::HereBefore), (outside, By::Outside)];
        self.ahead.clear();
        for (head, by) in signed {
            let Some(head) = head else { continue };
            match stored {
                Some(stored) if head.size <= stored.size => {
                    check_root(session, stored, SignedHead { head, by }).await?;
                }
                _ => self.ahead.push(SignedHead { head, by }),
            }
        }
        self.ahead.sort_by_key(|signed| signed.head.size);
        match stored {
            None => Ok(Tree::default()),
            Some(stored) => read_tree(session, stored).await,
        }
    }

    fn check_length(&self, size: u64, head: u64) -> Result<(), SealError> {
        let ahead = self.ahead.last().map(|signed| (signed.head.size, signed.by));
        let (size, by) = ahead.unwrap_or((size, By::HereBefore));
        if head < size {
            return Err(SealError::WentBack { head, size, by });
        }
        Ok(())
    }

    /// Extends the tree by some events, and signs and stores the result. A tree is signed only if it reaches
    /// as far as all that was signed before.
    async fn step(
        &mut self,
        session: &mut PgConnection,
        tree: Tree,
        head: u64,
    ) -> Result<Tree, SealError> {
        let from = tree.size();
        let end = match self.ahead.last() {
            Some(signed) => signed.head.size,
            None => head.min(from + STEP_LEN_MAX),
        };
        let (tree, mut tiles) = self.extend_to(session, tree, end).await?;
        let sealed = tree.head();
        tiles.extend(tree.edge());
        self.sign(session, from, sealed, tiles).await?;
        Ok(tree)
    }

    /// Extends the tree to a size that the ledger has reached, and compares it on the way with what was
    /// signed. Returns the tiles that this fills, too.
    pub(super) async fn extend_to(
        &mut self,
        session: &mut PgConnection,
        mut tree: Tree,
        end: u64,
    ) -> Result<(Tree, Vec<Tile>), SealError> {
        let mut tiles = Vec::new();
        while tree.size() < end {
            let next = self.ahead.first().map_or(end, |signed| signed.head.size);
            let page_end = next.min(tree.size() + PAGE_LEN);
            let gaps = self.gaps.clone();
            let [after, last] = [tree.size(), page_end].map(|size| gaps.position_at(size));
            let page = ledger::copy_events(session, "position, line", after, last);
            let rows = in_time(page).await?;
            // On a thread of its own: the threads of the runtime are few, and for requests.
            let extended = tokio::task::spawn_blocking(move || extend(tree, &rows, tiles, &gaps));
            (tree, tiles) = extended.await.expect("hashing does not panic")?;
            if tree.size() < page_end {
                return Err(SealError::Missing(self.gaps.position_at(tree.size() + 1)));
            }
            self.agree(&tree)?;
        }
        Ok((tree, tiles))
    }

    /// Fails if a tree has another root than what was signed at its size.
    fn agree(&mut self, tree: &Tree) -> Result<(), SealError> {
        while let Some(&SignedHead { head, by }) = self.ahead.first() {
            if head.size != tree.size() {
                break;
            }
            if head.root != tree.root() {
                return Err(SealError::Differs { size: head.size, by });
            }
            self.ahead.remove(0);
        }
        Ok(())
    }

    /// Signs a tree. The checkpoint is written outside first, so that every one that others can see is there.
    async fn sign(
        &mut self,
        session: &mut PgConnection,
        from: u64,
        sealed: TreeHead,
        tiles: Vec<Tile>,
    ) -> Result<(), SealError> {
        let checkpoint = Checkpoint::sign(&self.inputs.key, sealed, &self.gaps);
        let other = Fault::Lost("another sealer was at work, or the tables have changed");
        if let Some(outside) = self.inputs.outside.clone() {
            let checkpoint = checkpoint.clone();
            if !off_runtime(move || outside.write(&checkpoint)).await? {
                return Err(other.into());
            }
        }
        let stored = in_time(store::append(session, from, &checkpoint, tiles)).await?;
        stored.ok_or(other)?;
        self.seen = Some(sealed);
        Ok(())
    }
}

/// The position of the last event, and the gaps, which are read after it.
pub(super) async fn extent(session: &mut PgConnection) -> Result<(Position, Gaps), Fault> {
    let position = in_time(ledger::position(&mut *session)).await?;
    Ok((position, in_time(ledger::gaps(session)).await?))
}

/// Works on a thread off the runtime: the directory may be on another machine, which may be gone.
async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OutsideError> + Send + 'static,
) -> Result<T, SealError> {
    let done = on_a_thread(move || Ok(work())).await;
    // The system may have no thread left for a while.
    let done = done.map_err(|_| Fault::Lost("no thread for the checkpoint directory"))?;
    Ok(done?)
}

/// Fails if the stored tiles have another root at the size of what was signed.
async fn check_root(
    session: &mut PgConnection,
    stored: TreeHead,
    SignedHead { head, by }: SignedHead,
) -> Result<(), SealError> {
    // Compared without the tiles, which may be damaged.
    if head.size == stored.size && head.root != stored.root {
        return Err(SealError::Differs { size: head.size, by });
    }
    let question = Question::Root { size: head.size };
    let tiles = in_time(store::tiles(session, &question.tiles(stored))).await?;
    if question.answer(stored, &tiles)? != [head.root] {
        return Err(SealError::Differs { size: head.size, by });
    }
    Ok(())
}

async fn read_tree(session: &mut PgConnection, stored: TreeHead) -> Result<Tree, SealError> {
    let ids = edge_of(stored.size).map(|(id, _)| id).collect();
    let mut tiles = in_time(store::tiles(session, &ids)).await?;
    let mut edge = Vec::new();
    for (id, width) in edge_of(stored.size) {
        let hashes = tiles.remove(&id).filter(|hashes| hashes.len() == width * HASH_LEN);
        edge.push(Tile { id, hashes: hashes.ok_or(TilesDiffer)? });
    }
    let tree = Tree::resume(stored.size, &edge);
    if tree.root() != stored.root {
        return Err(TilesDiffer.into());
    }
    Ok(tree)
}

fn extend(
    mut tree: Tree,
    rows: &CopiedRows,
    mut tiles: Vec<Tile>,
    gaps: &Gaps,
) -> Result<(Tree, Vec<Tile>), SealError> {
    for mut row in rows.iter() {
        let expected = gaps.position_at(tree.size() + 1);
        if row.number() != Some(expected.get()) {
            return Err(SealError::Missing(expected));
        }
        tree.push(record_hash(row.bytes().unwrap_or_default()), &mut tiles);
    }
    Ok((tree, tiles))
}
