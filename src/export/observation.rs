//! Writes an observation as a line of JSON.

use crate::ledger::CopiedRow;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// What an event commits to. Members are in alphabetical order.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservationLine {
    pub email: Option<String>,
    pub id: i64,
    pub phone_number: Option<String>,
    /// The position of the event that commits to it.
    pub position: i64,
    /// 16 bytes, in base64.
    pub salt: String,
}

impl ObservationLine {
    /// Reads a row with the columns id, position, email, phone_number and salt.
    pub fn of_row(row: &mut CopiedRow<'_>) -> Self {
        let (id, position) = (row.number().unwrap_or(0), row.number().unwrap_or(0));
        let (email, phone_number) = (row.text(), row.text());
        let salt = row.bytes().unwrap_or_default();
        Self {
            email: email.map(str::to_owned),
            id,
            phone_number: phone_number.map(str::to_owned),
            position,
            salt: BASE64_STANDARD.encode(salt),
        }
    }

    /// The line, without a line feed.
    pub fn written(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an observation is plain data")
    }
}
