//! Checkpoints: C2SP tlog-checkpoint, as signed notes.

use super::key::{self, SigningKey, VerifierKeys};
use super::proof::TreeHead;
use crate::identity::{Gaps, Position};
use signed_note::{Note, Signature, Signer as _, Verifiers as _};

/// What was signed: that the log of this name had this root at this size.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub head: TreeHead,
    /// The name that the log went by.
    pub origin: String,
    /// The signed note.
    pub note: String,
}

/// Why a note is no checkpoint of this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACheckpoint {
    #[error("it is not a signed note of a log's size and root")]
    Malformed,
    #[error("it is not signed with a key of this log")]
    NotSigned,
    #[error("its signature is wrong")]
    WrongSignature,
    #[error("it is the checkpoint of another log")]
    OtherLog,
    #[error("it has a name that the log did not have at that size")]
    OtherName,
}

impl Checkpoint {
    /// Signs a tree under the name that the log has at its size.
    pub fn sign(key: &SigningKey, head: TreeHead, gaps: &Gaps) -> Self {
        let signer = key.signer(gaps.restored_at(head.size));
        let origin = signer.name().to_owned();
        let text = tlog_tiles::Checkpoint::new(&origin, head.size, head.root, "")
            .expect("a key's name is a good origin")
            .to_bytes();
        let mut note = Note::new(&text, &[]).expect("a checkpoint is text");
        note.add_sigs(&[&signer]).expect("the key's name was checked when it was read");
        let note = String::from_utf8(note.to_bytes()).expect("a checkpoint is text");
        Self { head, origin, note }
    }

    /// Reads a note. Fails if it is not signed with one of the keys, under the name that it has, or if any
    /// signature by one of them is wrong.
    pub fn read(note: &str, keys: &VerifierKeys) -> Result<Self, NotACheckpoint> {
        let (checkpoint, signed) = Self::parse(note)?;
        let keys = keys.list(&checkpoint.origin).ok_or(NotACheckpoint::OtherLog)?;
        let (_, signatures) = note.rsplit_once("\n\n").ok_or(NotACheckpoint::Malformed)?;
        let mut is_signed = false;
        // `Note::verify` passes over all signatures by a key after the first.
        for line in signatures.lines() {
            let signature =
                Signature::from_bytes(line.as_bytes()).map_err(|_| NotACheckpoint::Malformed)?;
            let known = keys.verifier(signature.name(), signature.id());
            let Ok(key) = known else { continue };
            if !key.verify(signed.text(), signature.signature()) {
                return Err(NotACheckpoint::WrongSignature);
            }
            is_signed = true;
        }
        if is_signed { Ok(checkpoint) } else { Err(NotACheckpoint::NotSigned) }
    }

    /// Fails if it does not have the name that a log with these gaps had at its size.
    pub fn named_as(self, gaps: &Gaps) -> Result<Self, NotACheckpoint> {
        let is_named = self.restored_at() == gaps.restored_at(self.head.size);
        if is_named { Ok(self) } else { Err(NotACheckpoint::OtherName) }
    }

    /// The position at which a loss was accepted that gave the log this name. `None` if it is the first
    /// name of the log.
    pub fn restored_at(&self) -> Option<Position> {
        key::parts(&self.origin).1
    }

    /// As `read`, but without keys no signature is checked.
    pub fn read_by(note: &str, keys: Option<&VerifierKeys>) -> Result<Self, NotACheckpoint> {
        match keys {
            Some(keys) => Self::read(note, keys),
            None => Self::parse(note).map(|(checkpoint, _)| checkpoint),
        }
    }

    /// Reads what a note says, without a look at who signed it.
    fn parse(note: &str) -> Result<(Self, Note), NotACheckpoint> {
        let malformed = |_| NotACheckpoint::Malformed;
        let signed = Note::from_bytes(note.as_bytes()).map_err(|_| NotACheckpoint::Malformed)?;
        let text = tlog_tiles::Checkpoint::from_bytes(signed.text()).map_err(malformed)?;
        let head = TreeHead { size: text.size(), root: *text.hash() };
        let origin = text.origin().to_owned();
        Ok((Self { head, origin, note: note.to_owned() }, signed))
    }
}
