//! The root of a Merkle tree over events, as an event names it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// 32 bytes, written in base64 (RFC 4648, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Root(pub [u8; 32]);

impl From<Root> for String {
    fn from(root: Root) -> Self {
        BASE64_STANDARD.encode(root.0)
    }
}

impl TryFrom<String> for Root {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| "a root is base64")?;
        bytes.try_into().map(Self).map_err(|_| "a root has 32 bytes")
    }
}
