//! How the sealing goes, for whoever asks.

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
    /// The ledger contradicts what was signed, in this way. Nothing is signed until it is put right.
    Refused(String),
    /// The checkpoint directory cannot be read or written, for this reason. Nothing is signed until it
    /// can.
    Stuck(String),
}

/// Shared between the sealer and those who answer for it.
pub struct Status {
    verifier_keys: Option<VerifierKeys>,
    sealing: Mutex<Sealing>,
}

impl Status {
    /// Of a node without a key.
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

    /// Returns what it was before.
    pub(super) fn set(&self, sealing: Sealing) -> Sealing {
        let mut now = self.sealing.lock();
        std::mem::replace(&mut now, sealing)
    }
}
