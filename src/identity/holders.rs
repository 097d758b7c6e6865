//! The holders of all keys of a ledger, in a few bytes a key.

use super::id::ContactId;
use super::key::Key;
use super::observation::Keys;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Growing one of many small tables at a time needs less room than growing a large one.
const SHARDS_LEN: usize = 256;

/// Which contact holds which key: the oldest that has it. A key stands for itself by 128 bits of
/// its SHA-256, so two are mistaken for one never (some 2^-80 for ten million of them).
pub struct Holders {
    shards: Vec<HashMap<KeyHash, ContactId, BuildHasherDefault<AsItIs>>>,
}

/// Which of its keys a contact holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    pub email: bool,
    pub phone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash([u64; 2]);

impl Holders {
    pub fn new() -> Self {
        Self { shards: (0..SHARDS_LEN).map(|_| HashMap::default()).collect() }
    }

    /// How many keys have a holder.
    pub fn len(&self) -> usize {
        self.shards.iter().map(HashMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn email_holder(&self, key: &Key) -> Option<ContactId> {
        self.holder(KeyHash::of_email(key))
    }

    pub fn phone_holder(&self, key: &Key) -> Option<ContactId> {
        self.holder(KeyHash::of_phone(key))
    }

    /// Gives a contact the keys that nobody holds yet, and says what it holds then. Contacts come
    /// in order of id; one that comes again is told the same again.
    pub fn claim(&mut self, contact: ContactId, keys: &Keys) -> Holds {
        Holds {
            email: self
                .claim_key(contact, keys.email.as_ref().map(|key| (key, KeyHash::of_email(key)))),
            phone: self.claim_key(
                contact,
                keys.phone_number.as_ref().map(|key| (key, KeyHash::of_phone(key))),
            ),
        }
    }

    fn claim_key(&mut self, contact: ContactId, key: Option<(&Key, KeyHash)>) -> bool {
        let Some((_, hash)) = key.filter(|(key, _)| key.is_link()) else { return false };
        *self.shards[hash.shard()].entry(hash).or_insert(contact) == contact
    }

    fn holder(&self, hash: KeyHash) -> Option<ContactId> {
        self.shards[hash.shard()].get(&hash).copied()
    }
}

impl Default for Holders {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyHash {
    pub fn of_email(key: &Key) -> Self {
        Self::of(b'e', key)
    }

    pub fn of_phone(key: &Key) -> Self {
        Self::of(b'p', key)
    }

    fn of(kind: u8, key: &Key) -> Self {
        let digest = Sha256::new().chain_update([kind]).chain_update(key.as_str()).finalize();
        let half = |from: usize| {
            u64::from_le_bytes(digest[from..from + 8].try_into().expect("eight bytes are eight"))
        };
        Self([half(0), half(8)])
    }

    fn shard(self) -> usize {
        self.0[1] as usize % SHARDS_LEN
    }
}

impl std::hash::Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// A hash is its own hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a key hash writes one number");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
