//! Lets in a request that shows a good token.

use super::limit::Limit;
use super::role::Role;
use super::token::TokenHash;
use super::tokens_file::read;
use crate::identity::{Asker, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// The good tokens, as a file lists them. Cheap to ask.
pub struct Gate {
    file: PathBuf,
    holders: watch::Sender<Vec<Arc<Holder>>>,
}

/// The holder of a token.
pub struct Holder {
    pub asker: Asker,
    pub role: Role,
    pub(super) hash: TokenHash,
    pub(super) expires: Option<Timestamp>,
    pub(super) limit: Option<Limit>,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The token is unknown, expired or revoked.
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

    /// Reads the file again and returns how many tokens there are. If it cannot be read, all
    /// stays as it was.
    pub fn reopen(&self) -> anyhow::Result<usize> {
        let holders = read(&self.file)?;
        let len = holders.len();
        self.holders.send_modify(|known| {
            *known = holders.into_iter().map(|holder| known_or_new(holder, known)).collect();
        });
        Ok(len)
    }

    /// The holder of this token, if it is good and has not been used too often.
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

    /// Ends when the line of this holder is gone or changed, or when it expires.
    pub async fn until_revoked(&self, holder: Arc<Holder>, today: Timestamp) {
        let mut holders = self.holders.subscribe();
        let is_gone = |all: &Vec<Arc<Holder>>| !all.iter().any(|it| Arc::ptr_eq(it, &holder));
        let gone = holders.wait_for(is_gone);
        let rest = holder.expires.map(|expires| (expires - today).to_std().unwrap_or_default());
        let _ = timeout(rest.unwrap_or(Duration::MAX), gone).await;
    }

    /// Looks at all of them, so that the time it takes tells nothing about the others.
    fn holder(&self, hash: &TokenHash) -> Option<Arc<Holder>> {
        let holders = self.holders.borrow();
        let found = holders
            .iter()
            .fold(None, |found, holder| if holder.hash.is(hash) { Some(holder) } else { found });
        found.cloned()
    }
}

/// The known holder if nothing about it has changed, for it has used up some of its limit; otherwise
/// the new one.
fn known_or_new(new: Holder, known: &[Arc<Holder>]) -> Arc<Holder> {
    let per_second = |holder: &Holder| holder.limit.as_ref().map(|limit| limit.per_second);
    let said = |it: &Holder| (it.asker.clone(), it.role, it.expires, per_second(it));
    let same = known.iter().find(|it| it.hash.is(&new.hash) && said(it) == said(&new));
    same.cloned().unwrap_or_else(|| Arc::new(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// `printf abc | sha256sum`, to be asked with once a second.
    const LINES: &str = r#"
        [[token]]
        name = "shop"
        role = "caller"
        sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        expires = "2027-01-01T00:00:00Z"
        requests_per_second = 1
    "#;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, LINES).unwrap();
        let gate = Gate::open(file.path().to_owned()).unwrap();
        let now = Instant::now();
        let admit = |token: &[u8], today| gate.admit(token, now, time(today)).map(|it| it.role);
        assert_eq!(admit(b"abc", "2027-01-01T00:00:00Z"), Err(Refused::NotGood));
        assert_eq!(admit(b"abc", "2026-12-31T23:59:59Z"), Ok(Role::Caller));
        assert_eq!(admit(b"abd", "2026-12-31T23:59:59Z"), Err(Refused::NotGood));
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_under_a_token_ends_when_it_expires() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, LINES).unwrap();
        let gate = Gate::open(file.path().to_owned()).unwrap();
        let today = time("2026-12-31T23:59:50Z");
        let holder = gate.admit(b"abc", Instant::now(), today).unwrap();
        let begun = tokio::time::Instant::now();
        gate.until_revoked(holder, today).await;
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[test]
    fn what_is_used_up_stays_used_up_when_the_file_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, LINES).unwrap();
        let gate = Gate::open(file.path().to_owned()).unwrap();
        let (now, today) = (Instant::now(), time("2026-12-01T00:00:00Z"));
        assert!(gate.admit(b"abc", now, today).is_ok());
        assert_eq!(gate.reopen().unwrap(), 1);
        let wait = Duration::from_secs(1);
        assert_eq!(gate.admit(b"abc", now, today).err(), Some(Refused::TooOften { wait }));
        fs::write(&file, LINES.replace("second = 1", "second = 2")).unwrap();
        gate.reopen().unwrap();
        assert!(gate.admit(b"abc", now, today).is_ok(), "another limit begins anew");
    }

    #[test]
    fn what_the_file_says_otherwise_holds_when_it_is_read_again() {
        let reread = |was: &str, is: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(&file, LINES).unwrap();
            let gate = Gate::open(file.path().to_owned()).unwrap();
            fs::write(&file, LINES.replace(was, is)).unwrap();
            gate.reopen().unwrap();
            gate
        };
        let (now, today) = (Instant::now(), time("2026-12-01T00:00:00Z"));
        let admit = |gate: Gate| gate.admit(b"abc", now, today);
        assert_eq!(admit(reread("caller", "auditor")).unwrap().role, Role::Auditor);
        assert_eq!(admit(reread("shop", "crm")).unwrap().asker.as_str(), "crm");
        assert_eq!(admit(reread("2027", "2026")).err(), Some(Refused::NotGood));
        let [abc, abd] = [b"abc", b"abd"].map(|token| TokenHash::of(token).to_hex());
        let gate = reread(&abc, &abd);
        assert!(gate.admit(b"abd", now, today).is_ok());
        assert_eq!(admit(gate).err(), Some(Refused::NotGood));
    }
}
