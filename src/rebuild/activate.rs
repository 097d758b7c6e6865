//! Puts rules in force for all of history: one short transaction after a long preparation.

use super::swap::Successor;
use super::turn::Turn;
use super::{next, row, swap, tombstone};
use crate::identity::{
    Census, Change, Contact, ContactId, Differences, Fact, ObservationId, Position, Rules,
    RulesActivated, Timestamp,
};
use crate::ledger::{self, Database, ObservationRow, Paged as _};
use crate::projection::{Replay, resolve_page, resolved};
use anyhow::{bail, ensure};
use sqlx::{PgConnection, query};
use std::time::Duration;

/// Number of rows that are sent to Postgres at once.
const CHUNK_LEN: usize = 20_000;

/// Rules that are to be put in force, by whom and why.
pub struct ActivationRequest {
    /// The digest of the rules that these are to replace. The impact that was shown is the
    /// difference to them.
    pub from: String,
    pub rules: Rules,
    /// The text of the rules file.
    pub document: String,
    pub activated_by: String,
    pub reason: String,
}

/// What an activation has done.
pub struct Activated {
    /// The position of its `RulesActivated`.
    pub position: Position,
    /// Number of events, with that one.
    pub events_len: usize,
    /// Number of contacts after it.
    pub contacts_len: usize,
    /// For how long no one could append, all attempts together.
    pub pause: Duration,
}

/// The ledger as it is, and as it would be with the new rules.
struct Shift<'a> {
    request: &'a ActivationRequest,
    before: Replay,
    after: Census,
    /// Contacts that the change concerns, whose rows were written before its time was known.
    undated: Vec<ContactId>,
    /// The position of the first event that the last attempt appended, and the number of its events.
    appended: Option<(Position, usize)>,
}

/// Puts rules in force, and returns `None` if they are in force already. One rebuild or activation
/// runs at a time. Until the end everything is as it was.
pub async fn activate(
    database: &Database,
    request: ActivationRequest,
) -> anyhow::Result<Option<Activated>> {
    let mut turn = Turn::take(database, "activation").await?;
    let activated = put_in_force(&mut turn, &request)
        .await
        .map_err(|error| swap::in_vain(error, "the old rules are in force"))?;
    turn.end().await;
    Ok(activated)
}

async fn put_in_force(
    turn: &mut Turn,
    request: &ActivationRequest,
) -> anyhow::Result<Option<Activated>> {
    let from = in_force(&mut turn.owner).await?;
    if from == request.rules.digest().as_str() {
        return Ok(None);
    }
    ensure!(
        from == request.from,
        "other rules have been put in force meanwhile; look at what the change would do now"
    );
    check_kept(&mut turn.owner, &request.rules).await?;
    let before = Replay::whole(&turn.database, &mut turn.progress).await?;
    let last = before.links.last();
    turn.progress.begin("resolving observations", last.get());
    let tell = |id: ObservationId| turn.progress.at(id.get());
    let after = resolved(&turn.database, &request.rules, last, tell).await?;
    if let Some(id) = before.links.first_unlike(&after.links) {
        bail!(
            "observation {id} is missing or has lost its values, or the event that erased it is \
             missing; run identity-ledger verify"
        );
    }
    let mut shift = Shift { request, before, after, undated: Vec::new(), appended: None };
    shift.prepare();
    next::fill(turn, last, |seen| shift.row(seen)).await?;
    let pause = swap::swap_in(turn, &mut shift, "the new rules are in force").await?;
    let (position, events_len) = shift.appended.expect("the swap appends before it commits");
    let contacts_len = shift.after.links.contacts_len();
    Ok(Some(Activated { position, events_len, contacts_len, pause }))
}

async fn in_force(owner: &mut PgConnection) -> Result<String, sqlx::Error> {
    Ok(query!("select rules_digest from head").fetch_one(owner).await?.rules_digest)
}

/// Fails if something else is stored under the digest of these rules, since no node could decide by them.
async fn check_kept(owner: &mut PgConnection, rules: &Rules) -> anyhow::Result<()> {
    ensure!(
        ledger::can_keep(owner, rules).await?,
        "table rules has something else under the digest of these rules, so it was tampered with; \
         nothing was changed: run identity-ledger verify, and give these rules another version to \
         activate them"
    );
    Ok(())
}

impl Successor for Shift<'_> {
    /// The row of an observation after the change. A contact that the change leaves alone keeps the
    /// time that the events give it. The others get the time of the change, which is not known yet.
    fn row(&mut self, seen: &ObservationRow) -> Option<Contact> {
        let Census { links, holders, .. } = &mut self.after;
        let Some(mut contact) = row(links, holders, &self.request.rules, seen) else {
            return tombstone(&self.before.links, seen);
        };
        if self.is_unchanged(contact.id) {
            contact.updated_at = self.before.links.standing(contact.id)?.updated_at;
        } else {
            self.undated.push(contact.id);
        }
        Some(contact)
    }

    async fn catch_up(&mut self, turn: &mut Turn) -> anyhow::Result<(Vec<ContactId>, i64)> {
        let from = self.before.position;
        let head = ledger::position(&mut turn.owner).await?;
        self.before.catch_up(&mut turn.owner, head).await?;
        let mut changed = Vec::new();
        while self.after.links.last() < self.before.links.last() {
            let (after, last) = (self.after.links.last(), self.before.links.last());
            let page = ObservationRow::page(&mut turn.owner, after.get(), last.get()).await?;
            changed.extend(self.observe(&page));
            if page.is_empty() {
                let mut left = (after.get() + 1..=last.get()).map(ObservationId::new);
                if let Some(missing) = left.find(|id| !self.before.links.is_skipped(*id)) {
                    bail!("observation {missing} is missing; run identity-ledger verify");
                }
                self.after.links.skip_to(last.next());
            }
        }
        next::rewrite(&mut turn.owner, &changed, |seen| self.row(seen)).await?;
        Ok((changed, head.get() - from.get()))
    }

    fn prepare(&mut self) {
        self.before.links.compress_all();
        self.after.links.compress_all();
    }

    /// Appends the activation and the differences that it makes.
    async fn append(&mut self, owner: &mut PgConnection) -> anyhow::Result<()> {
        let request = self.request;
        // No plan may scan the large table that was made just now.
        // And finding the differences of very many contacts takes a while, in which the session is idle.
        let settings = "
            set local enable_seqscan = off;
            set local enable_hashjoin = off;
            set local enable_mergejoin = off;
            set local idle_in_transaction_session_timeout = '1min';
        ";
        sqlx::raw_sql(settings).execute(&mut *owner).await?;
        ledger::keep_rules(&mut *owner, &request.rules, &request.document).await?;
        // Checked again, since the first check was long ago.
        check_kept(&mut *owner, &request.rules).await?;
        let at = query!(r#"select greatest(clock_timestamp(), recorded_at) as "now!" from head"#)
            .fetch_one(&mut *owner)
            .await?
            .now;
        let differences = Differences::between(&self.before.links, &self.after.links);
        let first = self.before.position.next();
        let facts = std::iter::once(request.fact())
            .chain(differences.facts(&self.before.links, &self.after.links));
        let last = ledger::append_events(owner, first, at, facts).await?;
        self.date(owner, at, &differences).await?;
        query!(
            "update head set position = $1, recorded_at = $2, rules_digest = $3",
            last.get(),
            at,
            request.rules.digest().as_str()
        )
        .execute(owner)
        .await?;
        self.appended = Some((first, differences.facts_len() + 1));
        Ok(())
    }
}

impl Shift<'_> {
    /// Resolves observations by the new rules, and returns the contacts that this changes.
    fn observe(&mut self, observations: &[ObservationRow]) -> Vec<ContactId> {
        let decided = resolve_page(&mut self.after, &self.request.rules, observations);
        let changes = decided.iter().flat_map(|(_, decision)| decision.changes());
        changes.flatten().filter_map(|change| Change::contact(&change)).collect()
    }

    fn is_unchanged(&self, id: ContactId) -> bool {
        self.before.links.filing(id.into()) == self.after.links.filing(id.into())
    }

    /// Gives the contacts that the change concerns the time of the change.
    async fn date(
        &mut self,
        owner: &mut PgConnection,
        at: Timestamp,
        differences: &Differences,
    ) -> anyhow::Result<()> {
        let mut dates: Vec<_> = differences.relinked().map(|id| (id.get(), at)).collect();
        // Events that came meanwhile may have made a contact the same that was different when it was
        // written.
        for id in &self.undated {
            if self.is_unchanged(*id) {
                let standing = self.before.links.standing(*id);
                dates.extend(standing.map(|standing| (id.get(), standing.updated_at)));
            }
        }
        for chunk in dates.chunks(CHUNK_LEN) {
            let (ids, times): (Vec<_>, Vec<_>) = chunk.iter().copied().unzip();
            query!(
                "update contact_next as c
                set updated_at = d.updated_at
                from unnest($1::bigint[], $2::timestamptz[]) as d (id, updated_at)
                where c.id = d.id",
                &ids,
                &times
            )
            .execute(&mut *owner)
            .await?;
        }
        Ok(())
    }
}

impl ActivationRequest {
    fn fact(&self) -> Fact {
        Fact::RulesActivated(RulesActivated {
            activated_by: self.activated_by.clone(),
            digest: self.rules.digest().clone(),
            name: self.rules.name().to_owned(),
            reason: self.reason.clone(),
            version: self.rules.version(),
        })
    }
}
