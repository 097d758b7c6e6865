//! The header `Idempotency-Key`, as in draft-ietf-httpapi-idempotency-key-header.

use super::parameters::header;
use super::problem::{InLedger, Problem};
use super::schema::text;
use crate::recorder::RetryKey;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

const FIELD: &str = "idempotency-key";
const NAME: HeaderName = HeaderName::from_static(FIELD);
const KEY_LEN_MAX: usize = 255;
/// As the draft writes it: a client that forgot its key would share it with all its requests.
const EMPTY_STRING: &[u8] = br#""""#;
/// Says that the observation was recorded by an earlier request with the same key.
pub const REPLAY: (HeaderName, HeaderValue) =
    (HeaderName::from_static("idempotent-replay"), HeaderValue::from_static("true"));

/// How the document describes the header.
pub struct IdempotencyKey;

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The same for each retry of one request, such as a UUID, best of version 7; 1 to \
            255 characters of ASCII, compared as they are sent, quotes included. Known for 24 hours, or \
            as the service is told.";
        let schema = text().min_length(Some(1)).max_length(Some(KEY_LEN_MAX));
        vec![header("Idempotency-Key", description, schema)]
    }
}

/// The key of a request, if it has one. A caller's keys are its own.
pub fn key(headers: &HeaderMap, caller: &str) -> Result<Option<RetryKey>, Problem> {
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.as_bytes();
    let is_empty = key.is_empty() || key == EMPTY_STRING;
    let is_visible = key.iter().all(|byte| (b' '..=b'~').contains(byte));
    if values.next().is_some() || !is_visible || is_empty || key.len() > KEY_LEN_MAX {
        return Err(not_a_key());
    }
    Ok(Some(RetryKey::new(caller, key)))
}

pub fn not_a_key() -> Problem {
    let expected = "one value of 1 to 255 characters of ASCII, such as a UUID";
    Problem::bad_field(FIELD, expected).recorded(InLedger::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_any_text_that_is_not_empty() {
        let is_taken = |value: &str| {
            let headers = HeaderMap::from_iter([(NAME, value.parse().unwrap())]);
            matches!(key(&headers, ""), Ok(Some(_)))
        };
        assert!([r#""a""#, "a", "a, b", r#"""""#, &"a".repeat(255)].into_iter().all(is_taken));
        assert!(!["", r#""""#, "ü", &"a".repeat(256)].into_iter().any(is_taken));
    }
}
