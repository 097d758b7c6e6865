//! Lets in who shows a token that is good.

use super::limit::Limit;
use super::role::Role;
use super::token::TokenHash;
use super::tokens_file::read;
use crate::identity::{Asker, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The tokens that are good, as a file says. Cheap to ask.
pub struct Gate {
    file: PathBuf,
    holders: watch::Sender<Vec<Arc<Holder>>>,
}

/// Whoever has a token.
pub struct Holder {
    pub asker: Asker,
    pub role: Role,
    pub(super) hash: TokenHash,
    pub(super) expires: Option<Timestamp>,
    pub(super) limit: Option<Limit>,
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody has this token, or not any more.
    NotGood,
    /// It is used more often than it may be.
    TooOften { wait: Duration },
}

impl Gate {
    /// Reads a tokens file. An error is one line that says what to change.
    pub fn open(file: PathBuf) -> anyhow::Result<Self> {
        let holders = read(&file)?.into_iter().map(Arc::new).collect();
        Ok(Self { file, holders: watch::Sender::new(holders) })
    }

    /// Reads the file again and returns how many tokens there are. Where it cannot be read, all
    /// stays as it was.
    pub fn reopen(&self) -> anyhow::Result<usize> {
        let holders = read(&self.file)?;
        let len = holders.len();
        self.holders.send_modify(|known| {
            let kept = |holder: Holder| holder.as_known(known).unwrap_or_else(|new| Arc::new(new));
            *known = holders.into_iter().map(kept).collect();
        });
        Ok(len)
    }

    /// Who shows this token, if that is anybody, and how often it was shown allows it.
    pub fn admit(
        &self,
        shown: &[u8],
        now: Instant,
        today: Timestamp,
    ) -> Result<Arc<Holder>, Refused> {
        let holder = self.holder(&TokenHash::of(shown)).ok_or(Refused::NotGood)?;
        if holder.expires.is_some_and(|expires| expires <= today) {
            return Err(Refused::NotGood);
        }
        match holder.limit.as_ref().map_or(Ok(()), |limit| limit.take(now)) {
            Ok(()) => Ok(holder),
            Err(wait) => Err(Refused::TooOften { wait }),
        }
    }

    /// Looks at each, so that the time it takes tells nothing of those that are not shown.
    fn holder(&self, hash: &TokenHash) -> Option<Arc<Holder>> {
        let holders = self.holders.borrow();
        let found = holders
            .iter()
            .fold(None, |found, holder| if holder.hash.is(hash) { Some(holder) } else { found });
        found.cloned()
    }
}

impl Holder {
    /// The one that is known already and is the same in all: it has used up some of its limit.
    fn as_known(self, known: &[Arc<Self>]) -> Result<Arc<Self>, Self> {
        let per_second = |holder: &Self| holder.limit.as_ref().map(|limit| limit.per_second);
        let same = known.iter().find(|it| {
            it.hash.is(&self.hash)
                && (&it.asker, it.role, it.expires) == (&self.asker, self.role, self.expires)
                && per_second(it) == per_second(&self)
        });
        same.cloned().ok_or(self)
    }
}
