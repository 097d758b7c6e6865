//! Which keys no contact holds. A request with such keys alone, as a new customer's mostly is, can be
//! decided without reading.
//!
//! The keys of the contact table are in a Bloom filter (Bloom, 1970), which may take an absent key for
//! one that is held, and never the other way round. Nothing but speed depends on it: were a key that is
//! held taken for absent, its unique index would refuse the append, and the careful path would read.

use super::decide::Batch;
use super::shared::Shared;
use crate::identity::{ContactId, Field, Key, Position, RulesDigest};
use crate::ledger::{Fault, in_time};
use crate::projection::{self, Head, held};
use fastbloom::AtomicBloomFilter;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use sqlx::PgConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep;

/// One absent key in a thousand is taken for one that is held: nine batches of ten have no such key.
const FALSE_POSITIVE: f64 = 0.001;
/// Number of keys. Each takes some two bytes.
const FILTER_LEN_MIN: usize = 1_000_000;
/// Number of keys that the first filter has room for at the most, since the number of observations may be a
/// damaged one. If there are more, a larger filter follows.
const FIRST_FILTER_LEN_MAX: usize = 1 << 27;
/// A contact holds more than one key, and not every observation is a contact.
const KEYS_AN_OBSERVATION: f64 = 1.5;
/// Number of contacts. A page is filled in at one go, during which the task gives way to no other.
const PAGE_LEN: i64 = 1_000;
/// The pause between two fillings: each time that another node has written, one is needed.
const FILL_PAUSE: Duration = Duration::from_secs(1);

/// The filter of keys that contacts hold, and how far it can be relied on.
pub struct AbsentKeys {
    filters: Mutex<Option<Filters>>,
    unfilled: Notify,
    /// The metric: 1 while all keys are known.
    known: Gauge,
}

struct Filters {
    current: Kept,
    /// A larger one, which is filled while the current one, though full, is still of use.
    next: Option<Kept>,
    /// The end of the last batch that this node appended, whose keys are in both.
    own_to: Position,
}

struct Kept {
    filter: Arc<KeyFilter>,
    /// All that was appended after this position was appended by this node, and is in the filter.
    own_since: Position,
}

/// The keys that contacts hold, those of emails and of phone numbers in one filter.
pub struct KeyFilter {
    bits: AtomicBloomFilter<RandomState>,
    rules_digest: RulesDigest,
    contact_table: i64,
    len: AtomicUsize,
    len_max: usize,
    /// The last contact that was read from the table.
    read_to: AtomicI64,
    /// The position at which all contacts had been read, or 0 before that.
    filled_to: AtomicI64,
}

impl AbsentKeys {
    pub fn new(known: Gauge) -> Self {
        Self { filters: Mutex::default(), unfilled: Notify::new(), known }
    }

    /// Begins at this head, with an empty filter that is to be filled.
    pub fn begin(&self, head: &Head) {
        *self.filters.lock() = Some(Filters::new(head));
        self.unfilled.notify_one();
    }

    /// Takes the keys of a batch that was appended.
    pub fn appended(&self, batch: &Batch) {
        let mut filters = self.filters.lock();
        let filters = filters.get_or_insert_with(|| Filters::new(&batch.before));
        filters.follow(&batch.before);
        for contact in &batch.contacts {
            filters.insert(held(contact.email_key.as_ref()), held(contact.phone_key.as_ref()));
        }
        filters.own_to = batch.last_position();
        if filters.unfilled().is_some() {
            self.unfilled.notify_one();
        }
        self.known.set(filters.current.is_filled().into());
    }

    /// The filter, if it has all keys that are in the table at one of these positions.
    pub fn at(&self, positions: &[Position]) -> Option<Arc<KeyFilter>> {
        let filters = self.filters.lock();
        let filters = filters.as_ref()?;
        let is_whole = filters.current.is_filled() && positions.contains(&filters.own_to);
        is_whole.then(|| filters.current.filter.clone())
    }

    fn unfilled(&self) -> Option<Arc<KeyFilter>> {
        self.filters.lock().as_ref()?.unfilled()
    }

    /// Sets the metric, after something was filled.
    fn show(&self) {
        let filters = self.filters.lock();
        let is_known = filters.as_ref().is_some_and(|filters| filters.current.is_filled());
        self.known.set(is_known.into());
    }
}

impl Filters {
    fn new(head: &Head) -> Self {
        Self { current: Kept::new(head, 0), next: None, own_to: head.position }
    }

    /// Notes that a batch is appended at this head. Between this and the last one, another node may have
    /// appended, and the rules or the table may have changed.
    fn follow(&mut self, before: &Head) {
        if !self.current.filter.is_of(&before.rules_digest, before.contact_table) {
            *self = Self::new(before);
        }
        if self.own_to != before.position {
            for kept in self.all_mut() {
                kept.own_since = before.position;
            }
        }
        if let Some(next) = self.next.take_if(|next| next.is_filled()) {
            self.current = next;
        }
        if self.current.filter.is_full() && self.next.is_none() {
            self.next = Some(Kept::new(before, 2 * self.current.filter.len_max));
        }
    }

    fn insert(&mut self, email_key: Option<&str>, phone_key: Option<&str>) {
        for kept in self.all_mut() {
            kept.filter.insert(email_key, phone_key);
        }
    }

    /// The filter to fill next: the current one first, since it lacks little.
    fn unfilled(&self) -> Option<Arc<KeyFilter>> {
        let unfilled = [&self.current].into_iter().chain(&self.next).find(|kept| !kept.is_filled());
        unfilled.map(|kept| kept.filter.clone())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Kept> {
        [&mut self.current].into_iter().chain(&mut self.next)
    }
}

impl Kept {
    fn new(head: &Head, len_min: usize) -> Self {
        Self { filter: Arc::new(KeyFilter::new(head, len_min)), own_since: head.position }
    }

    fn is_filled(&self) -> bool {
        self.filter.filled_to.load(Ordering::Acquire) >= self.own_since.get()
    }
}

impl KeyFilter {
    fn new(head: &Head, len_min: usize) -> Self {
        let expected = (head.observation_id.get() as f64 * KEYS_AN_OBSERVATION) as usize;
        let len_max = expected.clamp(FILTER_LEN_MIN, FIRST_FILTER_LEN_MAX).max(len_min);
        let bits = AtomicBloomFilter::with_false_pos(FALSE_POSITIVE)
            .hasher(RandomState::default())
            .expected_items(len_max);
        Self {
            bits,
            rules_digest: head.rules_digest.clone(),
            contact_table: head.contact_table,
            len: AtomicUsize::new(0),
            len_max,
            read_to: AtomicI64::new(0),
            filled_to: AtomicI64::new(0),
        }
    }

    fn is_of(&self, rules_digest: &RulesDigest, contact_table: i64) -> bool {
        self.rules_digest == *rules_digest && self.contact_table == contact_table
    }

    pub fn may_have(&self, field: Field, key: &Key) -> bool {
        self.bits.contains(&(field, key.as_str()))
    }

    fn insert(&self, email_key: Option<&str>, phone_key: Option<&str>) {
        let mut len = 0;
        if let Some(key) = email_key {
            len += usize::from(!self.bits.insert(&(Field::Email, key)));
        }
        if let Some(key) = phone_key {
            len += usize::from(!self.bits.insert(&(Field::PhoneNumber, key)));
        }
        self.len.fetch_add(len, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.len.load(Ordering::Relaxed) >= self.len_max
    }
}

/// How the filling of a filter ends.
enum Filled {
    Whole,
    /// The rules or the table have changed: the filter is of no more use.
    Otherwise,
}

/// Reads the keys that were there before, and those that other nodes append, for ever.
pub async fn fill(shared: Arc<Shared>) {
    loop {
        shared.absent.unfilled.notified().await;
        while let Some(filter) = shared.absent.unfilled() {
            // Meanwhile the recorder reads what it needs.
            match fill_one(&shared, &filter).await {
                Ok(Filled::Whole) => {}
                // The next append makes another filter, and notifies this task.
                Ok(Filled::Otherwise) => break,
                Err(fault) => {
                    tracing::debug!("not all keys in the contact table are known: {fault}")
                }
            }
            shared.absent.show();
            sleep(FILL_PAUSE).await;
        }
    }
}

async fn fill_one(shared: &Shared, filter: &KeyFilter) -> Result<Filled, Fault> {
    let mut session = shared.database.recorder().await?;
    loop {
        let since = Instant::now();
        if let Some(filled) = fill_page(&mut session, filter).await? {
            return Ok(filled);
        }
        // Leaves three quarters of a core to the callers: five million contacts take some eight
        // seconds of one.
        sleep(3 * since.elapsed()).await;
    }
}

/// Reads the next page of keys. Returns `None` if there are more. Contacts are committed in the order of
/// their ids, so that nothing is missing before the last one that was read. Only a rule change introduces
/// older ones, and then the filter is of no more use.
async fn fill_page(
    session: &mut PgConnection,
    filter: &KeyFilter,
) -> Result<Option<Filled>, Fault> {
    let read_to = ContactId::new(filter.read_to.load(Ordering::Relaxed));
    let page = in_time(projection::keys_after(session, read_to, PAGE_LEN)).await?;
    if !filter.is_of(&page.rules_digest, page.contact_table) {
        return Ok(Some(Filled::Otherwise));
    }
    let mut len = 0;
    for contact in page.contacts() {
        filter.insert(contact.email_key, contact.phone_key);
        filter.read_to.store(contact.id, Ordering::Relaxed);
        len += 1;
    }
    let is_last = len < PAGE_LEN;
    if is_last {
        tracing::debug!(position = %page.position, "all keys that contacts hold are known");
        filter.filled_to.store(page.position.get(), Ordering::Release);
    }
    Ok(is_last.then_some(Filled::Whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(filters: &mut Filters, keys: std::ops::Range<usize>) {
        let before = Head::at(filters.own_to.get());
        filters.follow(&before);
        for key in keys {
            filters.insert(Some(&key.to_string()), None);
        }
        filters.own_to = Position::new(before.position.get() + 1);
    }

    fn fill(kept: &Kept, to: Position) {
        kept.filter.filled_to.store(to.get(), Ordering::Release);
    }

    #[test]
    fn a_full_filter_is_used_until_a_larger_one_is_filled() {
        let mut filters = Filters::new(&Head::at(1));
        fill(&filters.current, filters.own_to);
        append(&mut filters, 0..FILTER_LEN_MIN + FILTER_LEN_MIN / 50);
        let full = filters.current.filter.clone();
        assert!(full.is_full() && filters.unfilled().is_none());

        append(&mut filters, FILTER_LEN_MIN * 2..FILTER_LEN_MIN * 2 + 1);
        assert!(filters.current.is_filled() && Arc::ptr_eq(&filters.current.filter, &full));
        let larger = filters.unfilled().unwrap();
        assert!(!Arc::ptr_eq(&larger, &full) && larger.len_max == 2 * full.len_max);

        // What is appended meanwhile is in both.
        append(&mut filters, FILTER_LEN_MIN * 2 + 1..FILTER_LEN_MIN * 2 + 2);
        let last = Key::links(&(FILTER_LEN_MIN * 2 + 1).to_string());
        assert!(full.may_have(Field::Email, &last) && larger.may_have(Field::Email, &last));

        fill(filters.next.as_ref().unwrap(), filters.own_to);
        append(&mut filters, 0..0);
        assert!(Arc::ptr_eq(&filters.current.filter, &larger) && filters.unfilled().is_none());
    }

    #[test]
    fn what_another_node_appended_is_read_before_either_is_relied_on() {
        let mut filters = Filters::new(&Head::at(1));
        fill(&filters.current, filters.own_to);
        append(&mut filters, 0..1);
        filters.follow(&Head::at(filters.own_to.get() + 1));
        assert!(!filters.current.is_filled());
    }
}
