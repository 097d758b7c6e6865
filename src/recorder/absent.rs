//! Which keys nobody has. A request that brings such keys alone, as a new customer's does, needs
//! no reading.
//!
//! The keys of the contact table are in a Bloom filter (Bloom, 1970), which may take an absent key
//! for one that is there, and never the other way round. Nothing but speed depends on it: a key
//! that is held stands under a unique index, which refuses whoever takes it for absent, and the
//! careful path then reads.

use super::decide::Batch;
use super::steps::Shared;
use crate::identity::{ContactId, Field, Key, Position, RulesDigest};
use crate::ledger::{Fault, in_time};
use crate::projection::{self, Head, held};
use fastbloom::AtomicBloomFilter;
use foldhash::quality::RandomState;
use prometheus_client::metrics::gauge::Gauge;
use sqlx::PgConnection;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep;

/// One absent key in a thousand is taken for one that is there: of ten batches, nine bring none.
const FALSE_POSITIVE: f64 = 0.001;
/// In keys; some two bytes each.
const FILTER_LEN_MIN: usize = 1_000_000;
/// A contact holds more than one key, and not every observation is a contact.
const KEYS_AN_OBSERVATION: f64 = 1.5;
/// In contacts. They are taken in one go, for which everybody else waits.
const PAGE_LEN: i64 = 1_000;
/// From one filling to the next: another node that writes makes one necessary each time.
const FILL_PAUSE: Duration = Duration::from_secs(1);

/// The filter, and up to where it can be relied on.
pub struct AbsentKeys {
    books: Mutex<Option<Books>>,
    unfilled: Notify,
    /// A metric: 1 while all keys are known.
    known: Gauge,
}

struct Books {
    filter: Arc<KeyFilter>,
    /// All that was appended after this was appended here, and put into the filter.
    own_since: Position,
    own_to: Position,
}

/// Keys of contacts, in one filter whether of emails or of phone numbers.
pub struct KeyFilter {
    bits: AtomicBloomFilter<RandomState>,
    rules_digest: RulesDigest,
    contact_table: i64,
    len: AtomicUsize,
    len_max: usize,
    /// The last contact that was read from the table.
    read_to: AtomicI64,
    /// The position at which nothing more was there to be read; 0 before.
    filled_to: AtomicI64,
}

impl AbsentKeys {
    pub fn new(known: Gauge) -> Self {
        Self { books: Mutex::default(), unfilled: Notify::new(), known }
    }

    /// Nobody knows of any key, from this head on.
    pub fn begin(&self, head: &Head) {
        *self.books() = Some(Books::new(head, 0));
        self.unfilled.notify_one();
    }

    /// A batch was appended: its keys are in the table from here on.
    pub fn appended(&self, batch: &Batch) {
        let before = &batch.before;
        let mut all = self.books();
        let books = all.get_or_insert_with(|| Books::new(before, 0));
        if !books.filter.is_of(&before.rules_digest, before.contact_table) {
            *books = Books::new(before, 0);
        } else if books.filter.is_full() {
            *books = Books::new(before, 2 * books.filter.len_max);
        } else if books.own_to != before.position {
            books.own_since = before.position;
        }
        books.own_to = batch.last_position();
        for contact in &batch.contacts {
            books.filter.insert(held(contact.email_key.as_ref()), held(contact.phone_key.as_ref()));
        }
        let is_filled = books.is_filled();
        if !is_filled {
            self.unfilled.notify_one();
        }
        self.known.set(is_filled.into());
    }

    /// The filter, where it has all keys that are in the table at one of these positions.
    pub fn at(&self, positions: &[Position]) -> Option<Arc<KeyFilter>> {
        let books = self.books();
        let books = books.as_ref()?;
        let is_whole = books.is_filled() && positions.contains(&books.own_to);
        is_whole.then(|| books.filter.clone())
    }

    fn books(&self) -> MutexGuard<'_, Option<Books>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unfilled(&self) -> Option<Arc<KeyFilter>> {
        self.books().as_ref().filter(|books| !books.is_filled()).map(|books| books.filter.clone())
    }
}

impl Books {
    fn new(head: &Head, len_min: usize) -> Self {
        let filter = KeyFilter::new(head, len_min);
        Self { filter: Arc::new(filter), own_since: head.position, own_to: head.position }
    }

    fn is_filled(&self) -> bool {
        self.filter.filled_to.load(Ordering::Acquire) >= self.own_since.get()
    }
}

impl KeyFilter {
    fn new(head: &Head, len_min: usize) -> Self {
        let expected = (head.observation_id.get() as f64 * KEYS_AN_OBSERVATION) as usize;
        let len_max = expected.max(len_min).max(FILTER_LEN_MIN);
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

    pub fn may_have_email(&self, key: &Key) -> bool {
        self.bits.contains(&(Field::Email, key.as_str()))
    }

    pub fn may_have_phone(&self, key: &Key) -> bool {
        self.bits.contains(&(Field::PhoneNumber, key.as_str()))
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
    /// By other rules, or in another table: the filter is of no more use.
    Otherwise,
}

/// Reads the keys that were there before, and those that others append, for ever.
pub async fn fill(shared: Arc<Shared>) {
    loop {
        shared.absent.unfilled.notified().await;
        while let Some(filter) = shared.absent.unfilled() {
            // Meanwhile the recorder reads what it needs.
            match fill_one(&shared, &filter).await {
                Ok(Filled::Whole) => {}
                // The next append makes another one, and says so.
                Ok(Filled::Otherwise) => break,
                Err(fault) => {
                    tracing::debug!("not all keys in the contact table are known: {fault}")
                }
            }
            shared.absent.known.set(shared.absent.unfilled().is_none().into());
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
        // The callers have most of a core: five million contacts take some eight seconds of one.
        sleep(3 * since.elapsed()).await;
    }
}

/// None where there is more. Contacts are committed in the order of their ids, so that what was read
/// is all up to the last of them, unless a rule change introduces old ones; then the filter is of
/// no more use.
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
