//! The keys of a log, in the form of C2SP signed-note.

use crate::files;
use crate::identity::{Gaps, Position};
use crate::ledger::LedgerName;
use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use signed_note::{
    Signer as _, StandardSigner, StandardVerifier, Verifier, VerifierList, is_key_name_valid,
    key_id, new_ed25519_verifier_key,
};
use std::io;
use std::path::Path;
use std::str::FromStr;

const ED25519: u8 = 1;
const SEED_LEN: usize = 32;
/// What every private key begins with.
const PRIVATE: &str = "PRIVATE+KEY+";

/// Signs the checkpoints of one log. The name of the key is the name of the log, its origin.
#[derive(Clone)]
pub struct SigningKey {
    name: String,
    seed: [u8; SEED_LEN],
    verifier_keys: VerifierKeys,
}

/// The first name of a log. Its checkpoints begin with it, unless a loss was accepted.
#[derive(Clone, Debug)]
pub struct LogName(String);

/// The keys whose signatures are valid, by the name that they sign under: the key of the log and its
/// earlier ones, each under the first name of the log and under those that it took when a loss was
/// accepted.
#[derive(Clone)]
pub struct VerifierKeys {
    keys: Vec<StandardVerifier>,
    text: String,
}

/// What follows the name of a log after an accepted loss, before the position of that event.
const RESTORED: &str = "/restored-";

/// The name that a log has after the loss that was accepted at a position. `None`: before any.
pub fn origin(name: &str, restored_at: Option<Position>) -> String {
    restored_at.map_or_else(|| name.to_owned(), |at| format!("{name}{RESTORED}{at}"))
}

/// The first name of a log, and the position of the accepted loss that gave it this one.
pub fn parts(origin: &str) -> (&str, Option<Position>) {
    let parts = origin.rsplit_once(RESTORED);
    let numbered = parts.and_then(|(name, at)| Some((name, Position::new(at.parse().ok()?))));
    numbered.map_or((origin, None), |(name, at)| (name, Some(at)))
}

impl LogName {
    /// The name of a log for which none was chosen.
    pub fn of(ledger: &LedgerName) -> Self {
        Self(format!("identity-ledger/{}", ledger.as_str()))
    }
}

impl FromStr for LogName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if !is_key_name_valid(name) {
            return Err(
                "expected a name without blanks and +, such as ledger.example.com/shop".to_owned()
            );
        }
        if parts(name).1.is_some() {
            return Err(format!(
                "a name that ends with {RESTORED} and a number is for a ledger after an accepted loss; \
                 choose another"
            ));
        }
        Ok(Self(name.to_owned()))
    }
}

/// Makes a new key for the log of this name, in a file for its owner only. Never overwrites a file. Returns
/// the verifier key.
pub fn create(path: &Path, LogName(name): &LogName) -> anyhow::Result<String> {
    let mut seed = [0; SEED_LEN];
    getrandom::fill(&mut seed).context("the operating system gives no random bytes")?;
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    let line = private_key(name, &seed) + "\n";
    files::create(path, line.as_bytes(), files::PRIVATE).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!(
                "{} exists already, and a key is never overwritten; choose another file",
                path.display()
            )
        }
        _ => anyhow::anyhow!("cannot write {}: {error}", path.display()),
    })?;
    Ok(new_ed25519_verifier_key(name, &public))
}

impl SigningKey {
    /// Reads a key file: the private key on the first line, and on each further line the verifier key of an
    /// earlier key of this log, if it had any.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read the key {}", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!("{} is not a key that `identity-ledger key new` made", path.display())
        })
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let (private, earlier) = text.trim_ascii().split_once('\n').unwrap_or((text.trim(), ""));
        let name = StandardSigner::new(private)?.name().to_owned();
        let seed = seed(private).context("malformed key")?;
        let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
        let verifier_key = new_ed25519_verifier_key(&name, &public);
        let verifier_keys = VerifierKeys::parse(&format!("{verifier_key}\n{earlier}"))?;
        Ok(Self { name, seed, verifier_keys })
    }

    pub fn verifier_keys(&self) -> &VerifierKeys {
        &self.verifier_keys
    }

    /// Signs under the name that the log has after the loss that was accepted at a position.
    pub fn signer(&self, restored_at: Option<Position>) -> StandardSigner {
        let private = private_key(&origin(&self.name, restored_at), &self.seed);
        StandardSigner::new(&private).expect("the name was checked when the key was read")
    }
}

/// A private key in the form of Go's `sumdb/note`.
fn private_key(name: &str, seed: &[u8; SEED_LEN]) -> String {
    let public = ed25519_dalek::SigningKey::from_bytes(seed).verifying_key();
    let id = key_id(name, &[&[ED25519], &public.to_bytes()[..]].concat());
    let secret = BASE64_STANDARD.encode([&[ED25519], &seed[..]].concat());
    format!("{PRIVATE}{name}+{id:08x}+{secret}")
}

impl VerifierKeys {
    /// Reads verifier keys, one on each line, and skips those of other algorithms. Fails if the others are of
    /// several logs.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        ensure!(
            !text.contains(PRIVATE),
            "it is the private signing key, which is not for checking; pass the verifier key, which \
             `identity-ledger key new` has printed and GET /ledger/key answers"
        );
        let mut lines: Vec<_> = Vec::new();
        let known = |line: &&str| !line.is_empty() && !is_of_another_algorithm(line);
        for line in text.lines().map(str::trim).filter(known) {
            // A file of several answers of the service has the same keys again and again.
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let keys = lines.iter().map(|line| StandardVerifier::new(line));
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        let first = keys.first().context("there is no Ed25519 verifier key")?;
        let (name, _) = parts(first.name());
        ensure!(
            keys.iter().all(|key| parts(key.name()).0 == name),
            "the verifier keys are of several logs"
        );
        Ok(Self { text: lines.iter().map(|line| format!("{line}\n")).collect(), keys })
    }

    /// The present name of the log.
    pub fn origin(&self) -> &str {
        self.keys[0].name()
    }

    /// The same keys under each name that a log with these gaps has had, the present one first.
    pub fn of(&self, gaps: &Gaps) -> Self {
        let earlier = gaps.restored().rev().map(Some);
        self.named(earlier.chain([None]))
    }

    /// The same keys under the name of a note, if that is a name of this log.
    pub fn as_in(&self, note: &str) -> Self {
        let origin = note.lines().next().unwrap_or_default();
        self.named([parts(origin).1])
    }

    fn named(&self, restored_at: impl IntoIterator<Item = Option<Position>>) -> Self {
        let named = |at| self.text.lines().filter_map(move |line| renamed(line, at));
        let lines: Vec<_> = restored_at.into_iter().flat_map(named).collect();
        Self::parse(&lines.join("\n")).expect("these are keys of one log under another name")
    }

    /// The keys, one on each line, the present one first.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The keys of a name. `None` if there are none: no other key may sign under it.
    pub fn list(&self, origin: &str) -> Option<VerifierList> {
        let of_name = self.keys.iter().filter(|key| key.name() == origin);
        let boxed: Vec<_> = of_name.map(|key| Box::new(key.clone()) as Box<dyn Verifier>).collect();
        (!boxed.is_empty()).then(|| VerifierList::new(boxed))
    }
}

fn is_of_another_algorithm(verifier_key: &str) -> bool {
    let public = verifier_key.splitn(3, '+').nth(2);
    let public = public.and_then(|public| BASE64_STANDARD.decode(public).ok());
    public.is_some_and(|public| public.first().is_some_and(|first| *first != ED25519))
}

/// A verifier key under another name of its log.
fn renamed(verifier_key: &str, restored_at: Option<Position>) -> Option<String> {
    let mut parts_of_key = verifier_key.splitn(3, '+');
    let (name, _id, public) = (parts_of_key.next()?, parts_of_key.next()?, parts_of_key.next()?);
    let name = origin(parts(name).0, restored_at);
    let id = key_id(&name, &BASE64_STANDARD.decode(public).ok()?);
    Some(format!("{name}+{id:08x}+{public}"))
}

/// The seed of a well-formed private key.
fn seed(private: &str) -> Option<[u8; SEED_LEN]> {
    let secret = private.splitn(5, '+').nth(4)?;
    BASE64_STANDARD.decode(secret).ok()?.get(1..)?.try_into().ok()
}
