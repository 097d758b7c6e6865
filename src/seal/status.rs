//! How the sealing of this node goes.

use super::key::VerifierKeys;
use parking_lot::Mutex;

/// What this node does about sealing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// There is no key.
    Off,
    /// Another node seals, or none has begun yet.
    Standby,
    /// This node seals.
    Active,
    /// The ledger contradicts what was signed, in this way. Nothing is signed until that is put right.
    Refused(String),
    /// The checkpoint directory cannot be read or written, or the role lacks a right, for this reason.
    /// Nothing is signed until that is put right.
    Stuck(String),
}

/// Shared by the sealer and the handlers that report on it.
pub struct Status {
    verifier_keys: Option<VerifierKeys>,
    sealing: Mutex<Sealing>,
}

impl Status {
    /// The status of a node without a key.
    pub fn off() -> Self {
        Self { verifier_keys: None, sealing: Mutex::new(Sealing::Off) }
    }

    pub(super) fn standby(verifier_keys: VerifierKeys) -> Self {
        let verifier_keys = Some(verifier_keys);
        Self { verifier_keys, sealing: Mutex::new(Sealing::Standby) }
    }

    pub fn verifier_keys(&self) -> Option<&VerifierKeys> {
        self.verifier_keys.as_ref()
    }

    pub fn sealing(&self) -> Sealing {
        self.sealing.lock().clone()
    }

    /// Sets what the node does now. Returns what it did before.
    pub(super) fn set(&self, sealing: Sealing) -> Sealing {
        let mut now = self.sealing.lock();
        std::mem::replace(&mut now, sealing)
    }
}
