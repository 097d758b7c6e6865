//! Writes the ledger to a folder, so that anyone can check it without this service. docs/proof.md says
//! what is in it.
//!
//! Promises: the events have the root of the checkpoint beside them; a later run goes on with the folder,
//! even if it was left half written, and takes out what was erased since; memory stays flat.
//! Never: writes an email or a phone number unless it was asked to.

mod folder;
mod lines;
mod observation;

pub use lines::{watched_lines, whole_lines};
pub use observation::ObservationLine;

use crate::files;
use crate::identity::{Gaps, ObservationId, Position, Rules};
use crate::ledger::{self, CopiedRow, CopiedRows, Database};
use crate::progress::Progress;
use crate::seal::{self, Checkpoint, StoredCheckpoint, Tree, TreeHead, VerifierKeys};
use crate::threads::on_a_thread;
use anyhow::{Context as _, ensure};
use lines::LinesFile;
use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};
use std::path::{Path, PathBuf};
use tlog_tiles::record_hash;

pub const EVENTS: &str = "events.ndjson";
pub const OBSERVATIONS: &str = "observations.ndjson";
pub const CHECKPOINT: &str = "checkpoint";
pub const KEY: &str = "key";
const RULES_DIR: &str = "rules";
/// The extension of the file that says which normaliser makes the keys of some rules. Its name is that of
/// the rules.
pub const NORMALISER: &str = "normaliser";

/// The file with the document of some rules.
pub fn rules_file(dir: &Path, digest: &str) -> PathBuf {
    dir.join(RULES_DIR).join(format!("{digest}.toml"))
}

/// In rows.
const PAGE_LEN: u64 = 10_000;

/// What is in the folder now.
pub struct Exported {
    /// Events, including those of earlier exports.
    pub events_len: u64,
    pub is_sealed: bool,
    /// Events that were left out because no checkpoint covers them yet.
    pub beyond: u64,
}

/// How far the ledger goes.
struct Extent {
    last: Option<StoredCheckpoint>,
    /// What the last checkpoint says.
    signed: Option<TreeHead>,
    /// The position of the last event.
    head: Position,
    gaps: Gaps,
}

struct Export {
    owner: PgConnection,
    dir: PathBuf,
    gaps: Gaps,
}

/// Exports the events up to the last checkpoint. Without a checkpoint it exports all events, which then
/// prove nothing.
pub async fn export(
    database: &Database,
    keys: Option<&VerifierKeys>,
    dir: &Path,
    with_observations: bool,
) -> anyhow::Result<Exported> {
    folder::check_goes_on(dir, with_observations)?;
    let mut owner = database.pager().await?;
    let before = Extent::read(&mut owner, keys).await?;
    let kept = folder::check_kept(dir, before.signed)?;
    std::fs::create_dir_all(dir.join(RULES_DIR))
        .with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let _alone = folder::lock(dir)?;
    let size = before.size();
    let mut export = Export { owner, dir: dir.to_owned(), gaps: before.gaps };
    // Check this first, so that nothing is taken out of a folder that is not this ledger's.
    let begun = export.check_begins(size).await?;
    // The folder may be large, so it is read before erasures have to wait.
    let mut tree = export.tree(kept).await?;
    ledger::block_erasures(&mut export.owner, "export").await?;
    // Someone may have been erased since.
    let extent = Extent::read(&mut export.owner, keys).await?;
    let (size, end) = (extent.size(), extent.end());
    let Extent { last, signed, head, gaps } = extent;
    let beyond = gaps.size_at(head).saturating_sub(size);
    let keys = keys.map(|keys| keys.of(&gaps));
    export.gaps = gaps;
    if with_observations {
        export.check_sealed_erasures(end, head).await?;
        export.take_out_erased(begun, end).await?;
    }
    export.events(size, &mut tree).await?;
    check_root(&tree, signed)?;
    if with_observations {
        export.observations(end).await?;
    }
    export.rules(end).await?;
    if let Some(keys) = keys {
        replace(&dir.join(KEY), keys.text())?;
    }
    // Write this last, when everything that it covers is there.
    if let Some(last) = &last {
        replace(&dir.join(CHECKPOINT), &last.note)?;
    }
    Ok(Exported { events_len: size, is_sealed: last.is_some(), beyond })
}

/// What the last checkpoint says. Fails if it does not count. Without keys its signature is not checked.
fn signed(
    last: &StoredCheckpoint,
    keys: Option<&VerifierKeys>,
    gaps: &Gaps,
) -> anyhow::Result<TreeHead> {
    let read = Checkpoint::read_by(&last.note, keys);
    let counts = read.and_then(|checkpoint| checkpoint.named_as(gaps));
    let signed = counts.context("the last checkpoint does not count")?.head;
    ensure!(
        last.head() == Some(signed),
        "the last checkpoint does not count: its columns say something else; run identity-ledger verify"
    );
    Ok(signed)
}

/// Checks that the events have the root that was signed. Anyone who checks the folder would find out, too.
fn check_root(tree: &Tree, signed: Option<TreeHead>) -> anyhow::Result<()> {
    let Some(signed) = signed else { return Ok(()) };
    ensure!(
        tree.head() == signed,
        "the {} events do not have the root that was signed: an event was changed; run identity-ledger \
         verify, which names it; if it finds nothing, export to a new folder",
        signed.size
    );
    Ok(())
}

impl Extent {
    async fn read(owner: &mut PgConnection, keys: Option<&VerifierKeys>) -> anyhow::Result<Self> {
        let last = seal::last_checkpoint(&mut *owner).await?;
        let head = ledger::position(&mut *owner).await?;
        let gaps = ledger::gaps(owner).await?;
        let keys = keys.map(|keys| keys.of(&gaps));
        let signed = last.as_ref().map(|last| signed(last, keys.as_ref(), &gaps)).transpose()?;
        Ok(Self { last, signed, head, gaps })
    }

    /// How many events are to be exported.
    fn size(&self) -> u64 {
        let all = || self.gaps.size_at(self.head);
        self.signed.map_or_else(all, |signed| signed.size)
    }

    /// The position of the last event that is to be exported.
    fn end(&self) -> Position {
        self.gaps.position_at(self.size())
    }
}

impl Export {
    /// The tree over the events in the folder, up to the last whole line.
    async fn tree(&self, kept: Option<TreeHead>) -> anyhow::Result<Tree> {
        let file = self.dir.join(EVENTS);
        on_a_thread(move || folder::tree(&file, kept)).await
    }

    /// Appends new events, to the tree, too.
    async fn events(&mut self, size: u64, tree: &mut Tree) -> anyhow::Result<()> {
        let (mut file, last) = LinesFile::open(&self.dir.join(EVENTS), files::PUBLIC)?;
        let mut after = self.gaps.size_at(position_of(last.as_deref())?);
        let mut progress = Progress::of("writing events", size);
        while after < size {
            let end = size.min(after + PAGE_LEN);
            let [first, last] = [after, end].map(|size| self.gaps.position_at(size));
            let rows = ledger::copy_events(&mut self.owner, "line", first, last).await?;
            let line = |row: &mut CopiedRow<'_>| {
                let line = row.bytes().unwrap_or_default().to_vec();
                tree.push(record_hash(&line), &mut Vec::new());
                line
            };
            let len = write(&mut file, &rows, line)?;
            ensure!(len == end - after, "an event is missing; run identity-ledger verify");
            after = end;
            progress.at(after);
        }
        file.finish()
    }

    /// Fails if an erasure is not sealed: its observations would be missing, and no event would say why.
    async fn check_sealed_erasures(&mut self, end: Position, head: Position) -> anyhow::Result<()> {
        ensure!(
            ledger::erasures(&mut self.owner, end, head).await?.is_empty(),
            "a customer was erased after event {end}, which is the last one that is sealed: start the \
             service, or give the key, so that the rest is sealed, and export again"
        );
        Ok(())
    }

    /// Takes out the observations that were erased since an earlier export. This comes before the events
    /// that erased them are written, so that it is done again if it is interrupted.
    async fn take_out_erased(&mut self, after: Position, end: Position) -> anyhow::Result<()> {
        let file = self.dir.join(OBSERVATIONS);
        lines::clear(&file)?;
        let erasures = ledger::erasures(&mut self.owner, after, end).await?;
        if erasures.is_empty() || !file.exists() {
            return Ok(());
        }
        let is_erased = move |line: &str| {
            let line = serde_json::from_str::<ObservationLine>(line);
            line.is_ok_and(|line| erasures.contains(ObservationId::new(line.id)))
        };
        on_a_thread(move || lines::without(&file, files::PRIVATE, is_erased)).await
    }

    /// Checks that the folder holds the beginning of this ledger. Returns the position that it ends with.
    async fn check_begins(&mut self, size: u64) -> anyhow::Result<Position> {
        let (last, torn) = lines::tail(&self.dir.join(EVENTS))?;
        let after = position_of(last.as_deref())?;
        ensure!(
            after <= self.gaps.position_at(size),
            "{} goes up to event {after}, and the ledger's checkpoint covers {size} events: the \
             database has gone back in time, or this is the folder of another ledger",
            self.dir.display()
        );
        // A torn first line must be the beginning of the first event.
        let position = after.get().max(1);
        let recorded = query_scalar!("select line from event where position = $1", position)
            .fetch_optional(&mut self.owner)
            .await?;
        ensure!(
            recorded.is_some_and(|line| match &last {
                Some(last) => line == *last,
                None => line.as_bytes().starts_with(&torn),
            }),
            "event {position} in {} is another one than in the ledger: one of the two was rewritten, \
             or this is the folder of another ledger",
            self.dir.display()
        );
        Ok(after)
    }

    /// Appends new observations, and checks that none is missing.
    async fn observations(&mut self, last_position: Position) -> anyhow::Result<()> {
        let path = self.dir.join(OBSERVATIONS);
        let (mut file, last) = LinesFile::open(&path, files::PRIVATE)?;
        let mut after = number_in(last.as_deref(), "id")?;
        let mut len = on_a_thread(move || lines::len(&path)).await?;
        let last = query!(
            r#"
            select observation_id as "id!", position
            from event
            where position <= $1 and kind = 'ContactObserved'
            order by position desc
            limit 1
            "#,
            last_position.get()
        );
        let Some(last) = last.fetch_optional(&mut self.owner).await? else { return file.finish() };
        let last_id = last.id;
        let mut progress = Progress::of("writing observations", last_id);
        loop {
            let page = format!(
                "select id, position, email, phone_number, salt
                from observation
                where id > {after} and id <= {last_id} and salt is not null
                order by id
                limit {PAGE_LEN}"
            );
            let line = |row: &mut CopiedRow<'_>| {
                let observation = ObservationLine::of_row(row);
                after = observation.id;
                observation.written()
            };
            let rows = ledger::copy_out(&mut self.owner, &page).await?;
            let page_len = write(&mut file, &rows, line)?;
            len += page_len;
            progress.at(after);
            if page_len < PAGE_LEN {
                break;
            }
        }
        file.finish()?;
        let skipped_len = self.gaps.skipped_len_at(Position::new(last.position));
        let erased = ledger::erasures(&mut self.owner, Position::default(), last_position).await?;
        ensure!(
            len.cast_signed() == last_id - skipped_len - erased.len() as i64,
            "an observation is missing: run identity-ledger verify, which names it; if it finds nothing, \
             export to a new folder"
        );
        Ok(())
    }

    /// Writes all rules that were activated.
    async fn rules(&mut self, last_position: Position) -> anyhow::Result<()> {
        let all = ledger::activations(&mut self.owner, last_position).await;
        for activation in all.context("the rules cannot be exported; run identity-ledger verify")? {
            let digest = &activation.rules.digest;
            // If another version activated them, only that one can read them.
            let here = Rules::parse(&activation.document).ok();
            let here =
                here.filter(|it| it.normaliser().unwrap_or_default() == activation.normaliser);
            ensure!(
                here.is_none_or(|here| here.digest() == digest),
                "the document of the rules {} was changed; run identity-ledger verify",
                digest.as_str()
            );
            let file = rules_file(&self.dir, digest.as_str());
            replace(&file, &activation.document)?;
            if !activation.normaliser.is_empty() {
                replace(&file.with_extension(NORMALISER), &(activation.normaliser + "\n"))?;
            }
        }
        Ok(())
    }
}

/// Writes a line for each row; returns how many.
fn write(
    file: &mut LinesFile,
    rows: &CopiedRows,
    mut line: impl FnMut(&mut CopiedRow<'_>) -> Vec<u8>,
) -> anyhow::Result<u64> {
    let mut len = 0;
    for mut row in rows.iter() {
        file.write(&line(&mut row))?;
        len += 1;
    }
    Ok(len)
}

fn replace(file: &Path, content: &str) -> anyhow::Result<()> {
    files::replace(file, content.as_bytes(), files::PUBLIC)
        .with_context(|| files::cannot_write(file))
}

/// The position of the last event that an earlier export wrote. 0 if there is none.
fn position_of(line: Option<&str>) -> anyhow::Result<Position> {
    number_in(line, "position").map(Position::new)
}

/// A number in the last line that an earlier export wrote. 0 if there is no line.
fn number_in(line: Option<&str>, member: &str) -> anyhow::Result<i64> {
    let Some(line) = line else { return Ok(0) };
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    value[member].as_i64().context("the last line in the folder is not one that an export wrote")
}
