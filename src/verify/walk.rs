//! Walks the whole ledger and checks it against everything that vouches for it, while requests run.

use super::CHECKING;
use super::activated::check_activated;
use super::commitments::is_of_erasure;
use super::decisions::Decisions;
use super::edges::{check_edges, check_gaps};
use super::lines::check_time;
use super::mismatch::Mismatch;
use super::numbers::Numbers;
use super::outside::{OUTSIDE, kept_outside, named};
use super::page::{MISSING, PAGE_LEN, Page, PageReader};
use super::tree::{StoredPart, TreeCheck, check_tile, roots};
use crate::identity::{Event, Fact, Gaps, Identifiers, ObservationId, Position, Timestamp};
use crate::ledger::{self, Database};
use crate::progress::Progress;
use crate::projection::resolved;
use crate::seal::{self, Checkpoint, CheckpointDir, Tile, TreeHead, VerifierKeys};
use crate::threads::on_a_thread;
use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use std::sync::Arc;

/// Each is read on a connection of its own; while one is read, others are hashed.
const PAGES_AT_ONCE: usize = 3;
const SESSIONS_MAX: u32 = 4;

/// What vouches for the ledger from outside.
#[derive(Default)]
pub struct Trust {
    /// Without them, signatures are not checked.
    pub keys: Option<VerifierKeys>,
    /// Where the service keeps its last checkpoint, too.
    pub outside: Option<CheckpointDir>,
}

/// A ledger that is right.
#[derive(Clone, Copy)]
pub struct Walked {
    pub events_len: u64,
    pub observations_len: i64,
    pub checkpoints_len: usize,
    /// Events under the last checkpoint.
    pub sealed: u64,
    /// Events under the checkpoint that is kept outside, if that was to be checked.
    pub outside: Option<u64>,
    /// Observations whose decisions were not made again, because their rules need another version of
    /// a normaliser.
    pub not_remade_len: i64,
    /// Observations that were erased.
    pub erased_len: usize,
    /// Observations whose decisions are believed: the erased ones, and those that matched one of
    /// their identities.
    pub believed_len: i64,
}

struct Walk {
    database: Database,
    reader: Arc<PageReader>,
    tree: TreeCheck,
    /// What is known of the tree from elsewhere than its stored checkpoints, and the part that says it.
    vouched: Vec<(&'static str, TreeHead)>,
    observations: Numbers,
    last_time: Option<Timestamp>,
    /// Tiles that the lines made, to be compared with what is stored in their place.
    upper: Vec<Tile>,
    /// Events whose decisions are still to be made again, with the identifiers of their observations.
    undecided: Vec<(Vec<Event>, Vec<Option<Identifiers>>)>,
    decisions: Decisions,
    progress: Progress,
}

/// Checks lines, columns, tree, checkpoints, signatures, commitments and decisions. Fails with the
/// first [`Mismatch`]. Also returns the decisions, with the fold of all events. The caller blocks
/// erasures.
pub async fn walk(database: &Database, trust: Trust) -> anyhow::Result<(Walked, Decisions)> {
    // Read this first: what it covers is then in the ledger that is read below.
    let outside = match trust.outside {
        Some(dir) => {
            let keys = trust.keys.clone();
            Some(on_a_thread(move || kept_outside(&dir, keys.as_ref())).await?)
        }
        None => None,
    };
    let sessions = database.readers(SESSIONS_MAX);
    let sealed = seal::sealed_size(&sessions).await?;
    // Read this last: everything that was signed is in the ledger by now.
    let head = ledger::position(&sessions).await?;
    let gaps = ledger::gaps(&sessions).await?;
    let events_len = gaps.size_at(head);
    let outside = match check_outside(outside, head, sealed, &gaps) {
        Ok(outside) => outside,
        Err(wrong) => {
            check_gaps(&sessions, &gaps).await?;
            return Err(wrong);
        }
    };
    let erasures = Arc::new(
        ledger::erasures(&mut *sessions.acquire().await?, Position::default(), head).await?,
    );
    let mut walk = Walk {
        database: database.clone(),
        tree: TreeCheck::new(trust.keys, gaps.clone(), sealed),
        vouched: outside.into_iter().chain(roots(&gaps)).collect(),
        observations: Numbers::default(),
        last_time: None,
        upper: Vec::new(),
        undecided: Vec::new(),
        decisions: Decisions::beside(erasures.clone()),
        progress: Progress::of(CHECKING, events_len),
        reader: Arc::new(PageReader { sessions, gaps, events_len, sealed, erasures }),
    };
    walk.check_pages().await?;
    let Walk { reader, tree, observations, mut decisions, .. } = walk;
    decisions.end()?;
    check_edges(&reader.sessions, &reader.gaps, observations.last_given, head).await?;
    reader.sessions.close().await;
    let walked = Walked {
        events_len,
        observations_len: observations.len,
        checkpoints_len: tree.checkpoints_len,
        sealed,
        outside: outside.map(|(_, head)| head.size),
        not_remade_len: decisions.not_remade_len,
        erased_len: decisions.erased_len(),
        believed_len: decisions.believed_len,
    };
    Ok((walked, decisions))
}

/// Fails if events are gone that were signed. Returns what the checkpoint outside covers.
fn check_outside(
    outside: Option<Checkpoint>,
    head: Position,
    sealed: u64,
    gaps: &Gaps,
) -> anyhow::Result<Option<(&'static str, TreeHead)>> {
    let outside = outside.map(|kept| named(kept, gaps)).transpose()?;
    let outside = outside.map(|head| (OUTSIDE, head));
    let covered = outside.map(|(part, head)| (part, head.size));
    for (part, size) in [("checkpoint", sealed)].into_iter().chain(covered) {
        if size > gaps.size_at(head) {
            let expected = format!("an event: a checkpoint covers {size}");
            return Err(Mismatch::at(head.next(), part, expected, "the end of the ledger").into());
        }
    }
    Ok(outside)
}

impl Walk {
    async fn check_pages(&mut self) -> anyhow::Result<()> {
        let reader = self.reader.clone();
        let begins = (0..reader.events_len).step_by(PAGE_LEN as usize);
        // Each page is read by a task: deciding a rule change again takes long, and if no one took a
        // page's rows meanwhile, its statement would time out.
        let pages = begins.map(|after| {
            let reader = reader.clone();
            tokio::spawn(async move { reader.read(after).await })
        });
        let mut pages = stream::iter(pages).buffered(PAGES_AT_ONCE);
        let mut end = 0;
        while let Some(page) = pages.next().await {
            let unreadable = "what is stored of these events cannot be read: it was tampered with";
            let page = match page.context(unreadable)? {
                Ok(page) => page,
                Err(wrong) => return Err(self.blame(end, wrong).await),
            };
            end = page.end;
            self.check_page(&page)?;
            self.undecided.push((page.lines.events, page.identifiers));
            // Until then: if a line was changed, a tile or a decision would be blamed.
            if !self.tree.is_undecided() {
                self.check_rest().await?;
            }
            self.progress.at(end);
        }
        self.check_rest().await
    }

    /// Finds what is to blame for a mismatch in the page after so many events. That may be a line further
    /// on that was changed and that says which observations are erased or which positions are skipped.
    async fn blame(&mut self, after: u64, wrong: anyhow::Error) -> anyhow::Error {
        let line = match wrong.downcast_ref() {
            Some(wrong) if is_of_erasure(wrong) => self.check_lines(after).await,
            Some(Mismatch { part: MISSING, .. }) => {
                check_gaps(&self.reader.sessions, &self.reader.gaps).await
            }
            _ => Ok(()),
        };
        line.err().filter(|line| line.is::<Mismatch>()).unwrap_or(wrong)
    }

    /// Checks the lines and the tree after so many events, and nothing else.
    async fn check_lines(&mut self, after: u64) -> anyhow::Result<()> {
        for after in (after..self.reader.events_len).step_by(PAGE_LEN as usize) {
            let page = self.reader.read_lines(after).await?;
            self.check_page(&page)?;
        }
        Ok(())
    }

    /// Compares the next page with what came before it, and with the tree.
    fn check_page(&mut self, page: &Page) -> Result<(), Mismatch> {
        let Page { lines, stored, .. } = page;
        if let Some(first) = lines.events.first() {
            check_time(first.position, self.last_time, first.recorded_at)?;
            self.last_time = lines.last_time;
        }
        lines.events.iter().try_for_each(|event| self.observations.check(event))?;
        // The edge of the last checkpoint's tree can only be compared where that tree ends.
        let sealed_len = self.reader.sealed.saturating_sub(self.tree.tree().size()) as usize;
        let (before, after) = lines.leaves.split_at(sealed_len.min(lines.leaves.len()));
        self.upper.extend(self.tree.extend(before, stored, &self.vouched)?);
        if self.tree.tree().size() == self.reader.sealed {
            self.upper.extend(self.tree.tree().edge());
        }
        self.tree.extend(after, &StoredPart::default(), &self.vouched)?;
        Ok(())
    }

    /// Checks what follows from lines that are right: tiles and decisions.
    async fn check_rest(&mut self) -> anyhow::Result<()> {
        self.check_tiles().await?;
        for (events, identifiers) in std::mem::take(&mut self.undecided) {
            self.decide_again(&events, &identifiers).await?;
        }
        Ok(())
    }

    async fn decide_again(
        &mut self,
        events: &[Event],
        identifiers: &[Option<Identifiers>],
    ) -> anyhow::Result<()> {
        let decisions = &mut self.decisions;
        let mut identifiers = identifiers.iter();
        for event in events {
            match &event.fact {
                Fact::RulesActivated(activated) => {
                    let found =
                        ledger::rules_to_decide_by(&self.reader.sessions, &activated.digest).await;
                    let decided = match check_activated(event.position, activated, found)? {
                        Some(rules) => {
                            let last = decisions.last_observation();
                            let progress = &mut self.progress;
                            progress.begin("resolving observations", last.get());
                            let tell = |id: ObservationId| progress.at(id.get());
                            let census = resolved(&self.database, &rules, last, tell).await?;
                            progress.begin(CHECKING, self.reader.events_len);
                            Some((rules, census))
                        }
                        None => None,
                    };
                    decisions.activate(event, decided)?;
                }
                Fact::ContactObserved(_) => {
                    let identifiers = identifiers.next().context("an observation was just read")?;
                    decisions.check(event, identifiers.as_ref())?;
                }
                _ => decisions.check(event, None)?,
            }
        }
        Ok(())
    }

    async fn check_tiles(&mut self) -> anyhow::Result<()> {
        let tiles = std::mem::take(&mut self.upper);
        let ids = tiles.iter().map(|tile| tile.id).collect();
        let stored = seal::tiles(&self.reader.sessions, &ids).await?;
        tiles.iter().try_for_each(|tile| check_tile(tile, &stored, &self.reader.gaps))?;
        Ok(())
    }
}
