//! Bearer tokens: random text, of which the service knows only a hash.

use crate::identity::TOKEN_PREFIX;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const RANDOM_LEN: usize = 32;

/// Its holder may ask. It cannot be logged: it implements neither `Debug` nor `Display`.
pub struct Token(String);

/// SHA-256 over the text of a token.
///
/// What is hashed has 256 random bits, which no one can try: the salt and the slowness that
/// passwords need would add nothing here (NIST SP 800-63B, section 5.1.2.2, from 112 bits on).
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl Token {
    pub fn random() -> Self {
        let mut bytes = [0; RANDOM_LEN];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(format!("{TOKEN_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Whether a text begins as tokens do, and is not to be repeated.
    pub fn begins(text: &str) -> bool {
        text.starts_with(TOKEN_PREFIX)
    }

    /// To be shown once, to its holder.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.0.as_bytes())
    }
}

impl TokenHash {
    /// The hash of what a request shows as its token.
    pub fn of(shown: &[u8]) -> Self {
        Self(Sha256::digest(shown).into())
    }

    /// 64 hexadecimal digits, as `sha256sum` prints them.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some(Self(hash))
    }

    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Takes equally long whatever the two are.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::{Token, TokenHash};

    #[test]
    fn a_token_is_new_each_time_and_known_by_its_hash() {
        let [one, other] = [Token::random(), Token::random()];
        assert!(one.expose().starts_with("idl_") && one.expose().len() == 4 + 43);
        assert!(one.hash().is(&TokenHash::of(one.expose().as_bytes())));
        assert!(!one.hash().is(&other.hash()));
        let again = TokenHash::from_hex(&one.hash().to_hex()).unwrap();
        assert!(again.is(&one.hash()));
    }

    /// Computed apart: `printf abc | sha256sum`.
    #[test]
    fn a_hash_is_that_of_sha256sum() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of(b"abc").to_hex(), expected);
        for bad in ["", "ba78", &expected[1..], &expected.replace('b', "+"), &"é".repeat(32)] {
            assert!(TokenHash::from_hex(bad).is_none(), "{bad}");
        }
    }
}
