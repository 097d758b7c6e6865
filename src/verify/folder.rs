//! Checks an export against itself, its checkpoint and a key, without a database.

use super::CHECKING;
use super::activated::check_activated;
use super::commitments;
use super::decisions::Decisions;
use super::lines::{CheckedLines, Committed};
use super::mismatch::Mismatch;
use super::numbers::Numbers;
use super::outside::{OUTSIDE, kept_outside, named};
use super::tree::{StoredPart, TreeCheck, roots};
use crate::export::{
    CHECKPOINT, EVENTS, NORMALISER, OBSERVATIONS, rules_file, watched_lines, whole_lines,
};
use crate::files;
use crate::identity::{
    Census, Erasures, Event, Fact, Gaps, Identifiers, ObservationId, Rules, RulesActivated,
    RulesDigest,
};
use crate::ledger::{self, RulesFault};
use crate::progress::Progress;
use crate::seal::{Checkpoint, CheckpointDir, TreeHead, VerifierKeys};
use anyhow::{Context as _, ensure};
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

/// In events.
const PAGE_LEN: usize = 8_192;

/// An export that is right.
pub struct VerifiedFolder {
    /// What its checkpoint covers: all of its events.
    pub head: TreeHead,
    /// `None` if the export was made without observations. Their decisions were made again, except for
    /// those that were erased or matched the identity of one that was.
    pub observations_len: Option<u64>,
    pub erased_len: usize,
    /// Observations whose decisions were not made again, because their rules need another version of
    /// a normaliser.
    pub not_remade_len: i64,
    /// Events under the earlier checkpoint that these begin with, if one was given.
    pub since: Option<u64>,
    /// Events after those under the checkpoint that is kept outside, if that was to be checked. Negative
    /// if the export ends before them, so that the two cannot be compared.
    pub after_outside: Option<i64>,
}

type Lines = Peekable<Box<dyn Iterator<Item = anyhow::Result<String>>>>;

struct Folder<'a> {
    dir: &'a Path,
    tree: TreeCheck,
    lines: CheckedLines,
    observations: Option<Lines>,
    numbers: Numbers,
    gaps: Gaps,
    erasures: Arc<Erasures>,
    decisions: Decisions,
    events_len: u64,
    signed: Vec<(&'static str, TreeHead)>,
    progress: Progress,
}

/// Checks an export against its checkpoint. Checks that it begins with what the checkpoint `since` covers,
/// and with what the checkpoint covers that the service keeps outside, unless that is newer. Fails with
/// the first [`Mismatch`], or with what is missing or cannot be read.
pub fn verify_folder(
    dir: &Path,
    keys: &VerifierKeys,
    since: Option<&Path>,
    outside: Option<&CheckpointDir>,
) -> anyhow::Result<VerifiedFolder> {
    let (erasures, gaps) = read_ahead(dir)?;
    // The name of the checkpoint vouches for the last gap. A forged one before it must not end after it:
    // room is made for as many observations as it skips before the root is compared.
    if let Some(position) = gaps.out_of_order() {
        let expected = "a LedgerRestored after those before it";
        return Err(Mismatch::at(position, "line", expected, "one that is not").into());
    }
    let last = read_checkpoint("checkpoint", &dir.join(CHECKPOINT), keys, &gaps)?;
    let mut signed = vec![("checkpoint", last)];
    signed.extend(roots(&gaps));
    let since = since.map(|since| read_checkpoint("since", since, keys, &gaps)).transpose()?;
    if let Some(since) = since.filter(|since| since.size > last.size) {
        let expected = format!("an event: the earlier checkpoint covers {}", since.size);
        let position = gaps.position_at(last.size).next();
        return Err(Mismatch::at(position, "since", expected, "the end").into());
    }
    let outside = outside.map(|dir| named(kept_outside(dir, Some(keys))?, &gaps)).transpose()?;
    // The service may have gone on since the export.
    let covered = outside.filter(|outside| outside.size <= last.size);
    let also_signed = [("since", since), (OUTSIDE, covered)];
    signed.extend(also_signed.into_iter().filter_map(|(part, head)| Some((part, head?))));
    let observations = dir.join(OBSERVATIONS);
    // Not `exists`: a link that leads nowhere would look as if the export was made without observations.
    let has_observations = observations.symlink_metadata().is_ok();
    let observations = has_observations.then(|| whole_lines(&observations)).transpose()?;
    let erasures = Arc::new(erasures);
    let mut folder = Folder {
        dir,
        tree: TreeCheck::new(None, gaps.clone(), 0),
        lines: CheckedLines::default(),
        observations: observations
            .map(|lines| (Box::new(lines) as Box<dyn Iterator<Item = _>>).peekable()),
        numbers: Numbers::default(),
        gaps,
        decisions: Decisions::beside(erasures.clone()),
        events_len: last.size,
        erasures,
        signed,
        progress: Progress::of(CHECKING, last.size),
    };
    folder.events(last.size)?;
    Ok(VerifiedFolder {
        head: last,
        observations_len: has_observations.then_some(folder.numbers.len.cast_unsigned()),
        erased_len: folder.erasures.len(),
        not_remade_len: folder.decisions.not_remade_len,
        since: since.map(|since| since.size),
        after_outside: outside.map(|head| last.size.cast_signed() - head.size.cast_signed()),
    })
}

/// What some events say about others before or after them.
fn read_ahead(dir: &Path) -> anyhow::Result<(Erasures, Gaps)> {
    let (mut erasures, mut gaps) = (Erasures::default(), Gaps::default());
    for line in watched_lines(&dir.join(EVENTS), "reading events (MB)")? {
        let line = line?;
        erasures.note(&line);
        gaps.note(&line);
    }
    Ok((erasures, gaps))
}

fn read_checkpoint(
    part: &'static str,
    file: &Path,
    keys: &VerifierKeys,
    gaps: &Gaps,
) -> anyhow::Result<TreeHead> {
    let note = files::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let checkpoint = Checkpoint::read(&note, keys).and_then(|checkpoint| checkpoint.named_as(gaps));
    Ok(checkpoint.map_err(|why| Mismatch::checkpoint(part, &why))?.head)
}

/// Fails with no mismatch: a file that cannot be read was not necessarily changed.
fn read_if_any(file: &Path) -> anyhow::Result<Option<String>> {
    files::read_if_any(file).with_context(|| format!("cannot read {}", file.display()))
}

impl Folder<'_> {
    fn events(&mut self, size: u64) -> anyhow::Result<()> {
        let mut len = 0;
        let (mut erasures, mut gaps) = (Erasures::default(), Gaps::default());
        for line in whole_lines(&self.dir.join(EVENTS))? {
            let line = line?;
            erasures.note(&line);
            gaps.note(&line);
            len += 1;
            ensure!(
                len <= size,
                "{EVENTS} goes on after what the checkpoint covers: an export was interrupted, so \
                 run it again"
            );
            self.lines.push(self.gaps.position_at(len), &line)?;
            if self.lines.leaves.len() == PAGE_LEN {
                self.page()?;
                self.progress.at(len);
            }
        }
        self.page()?;
        if len < size {
            let expected = format!("an event: the checkpoint covers {size}");
            let position = self.gaps.position_at(len + 1);
            return Err(Mismatch::at(position, "line", expected, "the end").into());
        }
        ensure!(
            (&erasures, &gaps) == (&*self.erasures, &self.gaps),
            "{EVENTS} was written to while it was read: check it again when nobody writes to it"
        );
        if let Some(line) = self.observations.as_mut().and_then(Iterator::next) {
            line?;
            let expected = format!("{} observations", self.numbers.len);
            return Err(Mismatch::anywhere("observation", expected, "more").into());
        }
        Ok(self.decisions.end()?)
    }

    fn page(&mut self) -> anyhow::Result<()> {
        let leaves = std::mem::take(&mut self.lines.leaves);
        self.tree.extend(&leaves, &StoredPart::default(), &self.signed)?;
        let mut observed = std::mem::take(&mut self.lines.observed).into_iter();
        for event in std::mem::take(&mut self.lines.events) {
            self.numbers.check(&event)?;
            match &event.fact {
                Fact::RulesActivated(activated) => self.activated(&event, activated)?,
                Fact::ContactObserved(_) => {
                    let observed = observed.next().context("an observation was just listed")?;
                    let identifiers = self.observation(&observed)?;
                    if self.observations.is_some() {
                        self.decisions.check(&event, identifiers.as_ref())?;
                    }
                }
                _ if self.observations.is_some() => self.decisions.check(&event, None)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// `None` if the export was made without observations, or if this one was erased.
    fn observation(&mut self, observed: &Committed) -> anyhow::Result<Option<Identifiers>> {
        let Some(lines) = &mut self.observations else { return Ok(None) };
        if self.erasures.contains(ObservationId::new(observed.id)) {
            let next = lines.peek().and_then(|line| line.as_deref().ok());
            commitments::check_no_line(observed, next)?;
            return Ok(None);
        }
        let line = lines.next().transpose()?;
        Ok(Some(commitments::check_line(observed, line.as_deref())?))
    }

    fn activated(&mut self, event: &Event, activated: &RulesActivated) -> anyhow::Result<()> {
        let found = self.rules(&activated.digest)?;
        let rules = check_activated(event.position, activated, found)?;
        if self.observations.is_none() {
            return Ok(());
        }
        let Some(rules) = rules else { return Ok(self.decisions.activate(event, None)?) };
        let last = self.decisions.last_observation().get();
        let mut census = Census::with_capacity(usize::try_from(last)?);
        let mut lines = whole_lines(&self.dir.join(OBSERVATIONS))?;
        self.progress.begin("resolving observations", last);
        for id in (1..=last).map(ObservationId::new) {
            self.progress.at(id.get());
            if self.erasures.contains(id) || self.decisions.is_skipped(id) {
                census.leave_out(id);
                continue;
            }
            let line = lines.next().transpose()?.context("it was read before")?;
            let identifiers = commitments::read_line(&line).context("it was read before")?;
            census.observe(id, &rules.keys(&identifiers), event.recorded_at);
        }
        self.progress.begin(CHECKING, self.events_len);
        Ok(self.decisions.activate(event, Some((rules, census)))?)
    }

    fn rules(&self, digest: &RulesDigest) -> anyhow::Result<Result<Rules, RulesFault>> {
        let file = rules_file(self.dir, digest.as_str());
        let Some(document) = read_if_any(&file)? else { return Ok(Err(RulesFault::Missing)) };
        let normaliser = read_if_any(&file.with_extension(NORMALISER))?.unwrap_or_default();
        Ok(ledger::read_rules(digest.as_str(), &document, normaliser.trim_end()))
    }
}
