//! The holders of all keys of a ledger, in a few bytes a key.

use super::id::ContactId;
use super::key::Key;
use super::observation::Keys;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;

/// Many small tables, since each grows alone: a large one would be there twice while it grows.
const SHARDS_LEN: usize = 256;

/// Which contact holds which key: the oldest that has it. 88 bits of its SHA-256 stand for a key: the
/// chance that any two of ten million keys are mistaken for one another is 10^-13.
pub struct Holders {
    shards: Vec<HashMap<KeyHash, Holder, BuildHasherDefault<AsItIs>>>,
}

/// A contact's id in 40 bits, so that an entry has 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Holder([u8; 5]);

/// Which of its keys a contact holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    pub email: bool,
    pub phone_number: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash([u8; 11]);

/// The hash that stands for a key, and whether the key links.
#[derive(Clone, Copy)]
pub struct HashedKey {
    pub(super) hash: KeyHash,
    pub(super) is_link: bool,
}

impl Holders {
    /// Gives a contact those of its keys that have no holder yet, and returns which of them it holds then.
    /// Contacts come in order of id. A contact that comes again gets the same answer.
    pub fn claim(&mut self, contact: ContactId, keys: &Keys) -> Holds {
        self.claim_hashed(contact, &HashedKey::of_all(keys))
    }

    pub(super) fn claim_hashed(&mut self, contact: ContactId, keys: &Keys<HashedKey>) -> Holds {
        Holds {
            email: self.claim_key(contact, keys.email.as_ref()),
            phone_number: self.claim_key(contact, keys.phone_number.as_ref()),
        }
    }

    fn claim_key(&mut self, contact: ContactId, key: Option<&HashedKey>) -> bool {
        let Some(HashedKey { hash, .. }) = key.filter(|key| key.is_link) else { return false };
        let holder = Holder::from(contact);
        *self.shards[hash.shard()].entry(*hash).or_insert(holder) == holder
    }

    /// Brings the holders of keys into the processor's cache.
    pub(super) fn touch(&self, keys: &Keys<HashedKey>) {
        for key in [&keys.email, &keys.phone_number].into_iter().flatten() {
            black_box(self.shards[key.hash.shard()].contains_key(&key.hash));
        }
    }

    pub(super) fn holder(&self, key: &HashedKey) -> Option<ContactId> {
        let holder = self.shards[key.hash.shard()].get(&key.hash);
        holder.map(|holder| ContactId::from(*holder))
    }
}

impl Default for Holders {
    fn default() -> Self {
        Self { shards: (0..SHARDS_LEN).map(|_| HashMap::default()).collect() }
    }
}

impl HashedKey {
    /// Hashes the keys of an observation. An email and a phone number with the same text differ.
    pub fn of_all(keys: &Keys) -> Keys<Self> {
        Keys {
            email: keys.email.as_ref().map(|key| Self::of(b'e', key)),
            phone_number: keys.phone_number.as_ref().map(|key| Self::of(b'p', key)),
        }
    }

    fn of(kind: u8, key: &Key) -> Self {
        Self { hash: KeyHash::of(kind, key), is_link: key.is_link() }
    }
}

impl KeyHash {
    fn of(kind: u8, key: &Key) -> Self {
        let digest = Sha256::new().chain_update([kind]).chain_update(key.as_str()).finalize();
        Self(digest[..11].try_into().expect("a digest has more than eleven bytes"))
    }

    fn shard(self) -> usize {
        usize::from(self.0[10]) % SHARDS_LEN
    }
}

impl std::hash::Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let first = self.0[..8].try_into().expect("eleven bytes begin with eight");
        state.write_u64(u64::from_le_bytes(first));
    }
}

impl From<ContactId> for Holder {
    fn from(id: ContactId) -> Self {
        let [.., a, b, c, d, e] = id.get().to_be_bytes();
        assert!(id.get() < 1 << 40, "a ledger of a million million observations");
        Self([a, b, c, d, e])
    }
}

impl From<Holder> for ContactId {
    fn from(Holder([a, b, c, d, e]): Holder) -> Self {
        Self::new(i64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
    }
}

/// Takes a key's hash as it is, since it need not be hashed again.
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
