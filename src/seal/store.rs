//! Tiles and checkpoints in Postgres.

use super::checkpoint::Checkpoint;
use super::proof::{Tiles, TreeHead};
use super::tree::{HASH_LEN, Tile, TileId};
use crate::identity::Timestamp;
use crate::ledger::schema_version;
use sqlx::{PgExecutor, query, query_as, query_scalar};
use std::collections::BTreeSet;
use tlog_tiles::Hash;

/// A checkpoint as the table has it.
#[derive(Clone, Debug)]
pub struct StoredCheckpoint {
    pub size: i64,
    pub root: Vec<u8>,
    pub note: String,
    pub signed_at: Timestamp,
}

impl StoredCheckpoint {
    /// `None` if the columns are not what the note says. Its signature is not checked.
    pub fn noted_head(&self) -> Option<TreeHead> {
        let noted = Checkpoint::read_by(&self.note, None).ok()?.head;
        self.head().filter(|head| *head == noted)
    }

    /// `None` if the columns cannot be those of a tree.
    pub fn head(&self) -> Option<TreeHead> {
        let root: [u8; HASH_LEN] = self.root[..].try_into().ok()?;
        let size = u64::try_from(self.size).ok().filter(|size| *size > 0)?;
        Some(TreeHead { size, root: Hash(root) })
    }
}

/// The checkpoint of the largest tree, if any was signed yet.
pub async fn last_checkpoint(
    executor: impl PgExecutor<'_>,
) -> Result<Option<StoredCheckpoint>, sqlx::Error> {
    query_as!(
        StoredCheckpoint,
        "select size, root, note, signed_at
        from checkpoint
        order by size desc
        limit 1"
    )
    .fetch_optional(executor)
    .await
}

/// The size of the largest tree that was signed, or 0.
pub async fn sealed_size(executor: impl PgExecutor<'_>) -> Result<u64, sqlx::Error> {
    let size = query_scalar!(r#"select coalesce(max(size), 0) as "size!" from checkpoint"#);
    // No tree has a forged size that is negative.
    Ok(u64::try_from(size.fetch_one(executor).await?).unwrap_or(0))
}

/// The checkpoints of trees larger than `after`, up to those of size `end`, in order. They can be read
/// whatever someone has put in their place: a time that no calendar has is another one then.
pub async fn checkpoints_between(
    executor: impl PgExecutor<'_>,
    after: u64,
    end: u64,
) -> Result<Vec<StoredCheckpoint>, sqlx::Error> {
    query_as!(
        StoredCheckpoint,
        r#"
        select size, coalesce(root, '') as "root!", coalesce(note, '') as "note!",
            least(greatest(signed_at, '0001-01-01'), '9999-12-31') as "signed_at!"
        from checkpoint
        where size > $1 and size <= $2
        order by size
        "#,
        after.cast_signed(),
        end.cast_signed()
    )
    .fetch_all(executor)
    .await
}

/// Whether anything was ever signed.
pub async fn is_sealed(executor: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
    Ok(last_checkpoint(executor).await?.is_some())
}

/// The tiles with these ids, as far as they are stored.
pub async fn tiles(
    executor: impl PgExecutor<'_>,
    ids: &BTreeSet<TileId>,
) -> Result<Tiles, sqlx::Error> {
    let (levels, indexes): (Vec<_>, Vec<_>) = ids.iter().copied().map(columns).unzip();
    let rows = query!(
        r#"
        select t.level, t.index, coalesce(t.hashes, '') as "hashes!"
        from unnest($1::smallint[], $2::bigint[]) as wanted (level, index)
        join tile as t on t.level = wanted.level and t.index = wanted.index
        "#,
        &levels,
        &indexes
    );
    let tiles = rows.fetch_all(executor).await?.into_iter().filter_map(|row| {
        let level = u8::try_from(row.level).ok()?;
        Some((TileId { level, index: row.index.cast_unsigned() }, row.hashes))
    });
    Ok(tiles.collect())
}

/// Stores a checkpoint, and the tiles that it needs beyond those of the one before, which has the size
/// `from`. If another checkpoint is the last one, or the tables have changed, stores nothing and returns
/// `None`.
pub async fn append(
    executor: impl PgExecutor<'_>,
    from: u64,
    checkpoint: &Checkpoint,
    tiles: Vec<Tile>,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let (levels, indexes): (Vec<_>, Vec<_>) = tiles.iter().map(|tile| columns(tile.id)).unzip();
    let hashes: Vec<Vec<u8>> = tiles.into_iter().map(|tile| tile.hashes).collect();
    query_scalar!(
        r#"
        with signed as (
            insert into checkpoint (size, root, note, signed_at)
            select $1, $2, $3, clock_timestamp()
            where coalesce((select max(size) from checkpoint), 0) = $4::bigint
                and exists (select from head where schema_version = $8)
            returning signed_at
        ),
        stored as (
            insert into tile (level, index, hashes)
            select t.level, t.index, t.hashes
            from signed
            cross join unnest($5::smallint[], $6::bigint[], $7::bytea[])
                as t (level, index, hashes)
            on conflict (level, index) do update set hashes = excluded.hashes
        )
        select signed_at
        from signed
        "#,
        checkpoint.head.size.cast_signed(),
        &checkpoint.head.root.0[..],
        &checkpoint.note,
        from.cast_signed(),
        &levels,
        &indexes,
        &hashes,
        schema_version()
    )
    .fetch_optional(executor)
    .await
}

fn columns(id: TileId) -> (i16, i64) {
    (i16::from(id.level), id.index.cast_signed())
}
