//! The keys of a log, written as C2SP signed-note says.

use crate::files;
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

const ED25519: u8 = 1;
const SEED_LEN: usize = 32;

/// Signs the checkpoints of one log. The name of the key is the name of the log, its origin.
pub struct SigningKey {
    signer: StandardSigner,
    verifier_keys: VerifierKeys,
}

/// Whose signatures count: the key of the log, and those that it had before.
#[derive(Clone)]
pub struct VerifierKeys {
    keys: Vec<StandardVerifier>,
    text: String,
}

/// The name of a log whose owner has chosen none.
pub fn default_name(ledger: &LedgerName) -> String {
    format!("identity-ledger/{}", ledger.as_str())
}

/// Makes a new key for the log of this name, in a file for its owner only. Never overwrites.
/// Returns the verifier key.
pub fn create(path: &Path, name: &str) -> anyhow::Result<String> {
    ensure!(
        is_key_name_valid(name),
        "a key's name has no blanks and no +; it looks like ledger.example.com/shop"
    );
    let mut seed = [0; SEED_LEN];
    getrandom::fill(&mut seed).context("this machine gives no random numbers")?;
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    let id = key_id(name, &[&[ED25519], &public.to_bytes()[..]].concat());
    let secret = BASE64_STANDARD.encode([&[ED25519], &seed[..]].concat());
    let line = format!("PRIVATE+KEY+{name}+{id:08x}+{secret}\n");
    files::create(path, line.as_bytes(), files::PRIVATE).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} is there already, and no key is overwritten", path.display())
        }
        _ => anyhow::anyhow!("cannot write {}: {error}", path.display()),
    })?;
    Ok(new_ed25519_verifier_key(name, &public))
}

impl SigningKey {
    /// Reads a key file: the private key on the first line, and on each further line the
    /// verifier key of an earlier key of this log, if it had others.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read the key {}", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!("{} is no key that `identity-ledger key new` made", path.display())
        })
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let (private, earlier) = text.trim_ascii().split_once('\n').unwrap_or((text.trim(), ""));
        let signer = StandardSigner::new(private)?;
        let verifier_key = verifier_key(private).context("malformed key")?;
        let verifier_keys = VerifierKeys::parse(&format!("{verifier_key}\n{earlier}"))?;
        Ok(Self { signer, verifier_keys })
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        self.signer.name()
    }

    pub fn verifier_keys(&self) -> &VerifierKeys {
        &self.verifier_keys
    }

    pub fn signer(&self) -> &StandardSigner {
        &self.signer
    }
}

impl VerifierKeys {
    /// Reads verifier keys, one a line. All of them have the name of the log.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<_> = lines().map(StandardVerifier::new).collect::<Result<_, _>>()?;
        let first = keys.first().context("there is no verifier key")?;
        ensure!(
            keys.iter().all(|key| key.name() == first.name()),
            "the verifier keys are of several logs"
        );
        Ok(Self { text: lines().map(|line| format!("{line}\n")).collect(), keys })
    }

    /// The name of the log.
    pub fn origin(&self) -> &str {
        self.keys[0].name()
    }

    /// One a line, the present one first.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn list(&self) -> VerifierList {
        let boxed = |key: &StandardVerifier| Box::new(key.clone()) as Box<dyn Verifier>;
        VerifierList::new(self.keys.iter().map(boxed).collect())
    }
}

/// The verifier key of a well-formed private key.
fn verifier_key(private: &str) -> Option<String> {
    let mut parts = private.splitn(5, '+').skip(2);
    let (name, _id, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let secret = BASE64_STANDARD.decode(secret).ok()?;
    let seed: [u8; SEED_LEN] = secret.get(1..)?.try_into().ok()?;
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    Some(new_ed25519_verifier_key(name, &public))
}
