//! Checkpoints: C2SP tlog-checkpoint, as signed notes.

use super::key::{SigningKey, VerifierKeys};
use super::proof::TreeHead;
use signed_note::Note;

/// What was signed: that the log of this name had this root at this size.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub head: TreeHead,
    /// The signed note.
    pub note: String,
}

/// Why a note is no checkpoint of this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACheckpoint {
    #[error("it is not a signed note of a log's size and root")]
    Malformed,
    #[error("it is not signed by the key of this log")]
    NotSigned,
    #[error("its signature is wrong")]
    WrongSignature,
    #[error("it is of another log")]
    OtherLog,
}

impl Checkpoint {
    pub fn sign(key: &SigningKey, head: TreeHead) -> Self {
        let text = tlog_tiles::Checkpoint::new(key.origin(), head.size, head.root, "")
            .expect("a key's name is a good origin")
            .to_bytes();
        let mut note = Note::new(&text, &[]).expect("a checkpoint is text");
        note.add_sigs(&[key.signer()]).expect("the key's name was checked when it was read");
        let note = String::from_utf8(note.to_bytes()).expect("a checkpoint is text");
        Self { head, note }
    }

    /// Takes a note as a checkpoint if it is signed by one of the keys.
    pub fn read(note: &str, keys: &VerifierKeys) -> Result<Self, NotACheckpoint> {
        let signed = Note::from_bytes(note.as_bytes()).map_err(|_| NotACheckpoint::Malformed)?;
        signed.verify(&keys.list()).map_err(|error| match error {
            signed_note::NoteError::InvalidSignature { .. } => NotACheckpoint::WrongSignature,
            _ => NotACheckpoint::NotSigned,
        })?;
        let checkpoint = Self::read_unsigned(note)?;
        if !note.starts_with(&format!("{}\n", keys.origin())) {
            return Err(NotACheckpoint::OtherLog);
        }
        Ok(checkpoint)
    }

    /// As `read`, but without keys the signatures are not looked at.
    pub fn read_by(note: &str, keys: Option<&VerifierKeys>) -> Result<Self, NotACheckpoint> {
        keys.map_or_else(|| Self::read_unsigned(note), |keys| Self::read(note, keys))
    }

    /// Reads what a note says, whoever signed it.
    fn read_unsigned(note: &str) -> Result<Self, NotACheckpoint> {
        let malformed = |_| NotACheckpoint::Malformed;
        let signed = Note::from_bytes(note.as_bytes()).map_err(|_| NotACheckpoint::Malformed)?;
        let text = tlog_tiles::Checkpoint::from_bytes(signed.text()).map_err(malformed)?;
        let head = TreeHead { size: text.size(), root: *text.hash() };
        Ok(Self { head, note: note.to_owned() })
    }
}
