//! The body that `/identify` and `/lookup` share: an email, a phone number, or both.

use super::problem::Problem;
use crate::identity::{Email, Identifiers, Invalid, PhoneNumber};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};

const BODY_LEN_MAX: usize = 16 * 1024;
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);

/// The identifiers that a request brings.
pub fn identifiers(request: Request) -> impl Future<Output = Result<Identifiers, Problem>> {
    json(request).map(|body| parse(&body?))
}

/// The body of a request that says it is JSON. It is not empty.
pub fn json(request: Request) -> impl Future<Output = Result<Bytes, Problem>> {
    let is_json = expect_json(request.headers());
    // The future has no room for the head, which is not needed any more.
    let body = request.into_body();
    async move {
        is_json?;
        let body = receive(body).await?;
        if body.is_empty() { Err(no_body()) } else { Ok(body) }
    }
}

/// All that can be wrong with a body, as the documentation shows it.
pub fn problems() -> Vec<Problem> {
    let invalid = Invalid { field: Email::FIELD, expected: "at most 254 characters" };
    let others = [neither_given(), invalid.into(), not_an_object()];
    others.into_iter().chain(json_problems()).collect()
}

/// All that can be wrong with a body before its members are looked at.
pub fn json_problems() -> [Problem; 6] {
    [no_body(), not_json(1, 1), too_slow(), too_large(), not_announced_as_json(), encoded()]
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    if !encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(encoded());
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let subtype = match essence.split_once('/') {
        Some((kind, subtype)) if kind.eq_ignore_ascii_case("application") => subtype,
        _ => return Err(not_announced_as_json()),
    };
    // Most callers send `application/json`; others, such as `application/vnd.api+json`, mean JSON. A charset
    // has no effect (RFC 8259, section 11): JSON is UTF-8.
    let suffix = subtype.rsplit('+').next().unwrap_or_default();
    if suffix.eq_ignore_ascii_case("json") { Ok(()) } else { Err(not_announced_as_json()) }
}

async fn receive(body: Body) -> Result<Bytes, Problem> {
    let arrival = Limited::new(body, BODY_LEN_MAX).collect();
    let body = timeout(BODY_WAIT_MAX, arrival).await.map_err(|_| too_slow())?;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => too_large(),
        false => broke_off(),
    })?;
    Ok(body.to_bytes())
}

/// At least one identifier. Unknown members are ignored.
// Values stay as they were written: a number type would round a phone number.
#[derive(Default, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Observed<'a> {
    /// At most 254 characters, with a local part, an @ and a domain. Compared as the rules in
    /// force say. Blank counts as absent.
    #[schema(value_type = Option<String>)]
    email: Option<&'a RawValue>,
    #[schema(schema_with = string_or_integer)]
    phone_number: Option<&'a RawValue>,
    #[schema(ignore)]
    has_member_twice: bool,
}

fn string_or_integer() -> Schema {
    let one = |schema_type| ObjectBuilder::new().schema_type(schema_type);
    AnyOfBuilder::new()
        .item(one(Type::String))
        .item(one(Type::Integer).minimum(Some(0)))
        .item(one(Type::Null))
        .description(Some(
            "At most 32 characters: digits, with +, space, dot, dash and parentheses \
             allowed. Compared as the rules in force say. Blank counts as absent.",
        ))
        .build()
        .into()
}

fn parse(body: &[u8]) -> Result<Identifiers, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Problem::bad_request("The body is not UTF-8. Send JSON in UTF-8."))?;
    let observed: Observed<'_> = serde_json::from_str(text).map_err(not_one_object)?;
    if observed.has_member_twice {
        return Err(Problem::bad_request("A member is there twice. Send each member once."));
    }
    let email = observed.email.map(email).transpose()?.flatten();
    let phone_number = observed.phone_number.map(phone_number).transpose()?.flatten();
    Identifiers::new(email, phone_number).ok_or_else(neither_given)
}

fn email(written: &RawValue) -> Result<Option<Email>, Invalid> {
    let invalid = Invalid { field: Email::FIELD, expected: "a string or null" };
    match written.get().as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => Email::parse(&unescaped(written, Email::FIELD)?),
        _ => Err(invalid),
    }
}

fn phone_number(written: &RawValue) -> Result<Option<PhoneNumber>, Invalid> {
    let expected = "a string, a whole number that is not negative, or null";
    let invalid = Invalid { field: PhoneNumber::FIELD, expected };
    match written.get().as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => PhoneNumber::parse(&unescaped(written, PhoneNumber::FIELD)?),
        digits if digits.iter().all(u8::is_ascii_digit) => PhoneNumber::parse(written.get()),
        _ => Err(invalid),
    }
}

/// Half of a surrogate pair is JSON, but no text.
fn unescaped<'a>(written: &'a RawValue, field: &'static str) -> Result<Cow<'a, str>, Invalid> {
    let text: Result<Text<'a>, _> = serde_json::from_str(written.get());
    text.map(|Text(text)| text)
        .map_err(|_| Invalid { field, expected: "no half of a surrogate pair" })
}

/// Borrows if nothing is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Observed<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EachMember)
    }
}

/// Sees every member: a parser that takes the first or the last of two would let a caller and
/// a proxy before us read the same body differently.
struct EachMember;

impl<'de> Visitor<'de> for EachMember {
    type Value = Observed<'de>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut observed = Observed::default();
        let mut others = HashSet::new();
        while let Some(Text(name)) = members.next_key()? {
            let value = members.next_value()?;
            let seen_before = match &*name {
                Email::FIELD => observed.email.replace(value).is_some(),
                PhoneNumber::FIELD => observed.phone_number.replace(value).is_some(),
                _ => !others.insert(name),
            };
            observed.has_member_twice |= seen_before;
        }
        Ok(observed)
    }
}

/// The parser's own text may repeat what the caller sent, so it goes no further than this.
fn not_one_object(error: serde_json::Error) -> Problem {
    match error.classify() {
        Category::Data => not_an_object(),
        Category::Syntax | Category::Eof | Category::Io => not_json(error.line(), error.column()),
    }
}

fn neither_given() -> Problem {
    Problem::bad_request("Send at least one of email and phoneNumber.")
}

fn no_body() -> Problem {
    Problem::bad_request("There is no body. Send a JSON object.")
}

pub fn not_json(line: usize, column: usize) -> Problem {
    Problem::bad_request(format!("The body is not JSON: see line {line}, column {column}."))
}

fn broke_off() -> Problem {
    Problem::bad_request("The body broke off. Send it whole.")
}

fn not_an_object() -> Problem {
    Problem::bad_request("The body is not a JSON object. Send one with email or phoneNumber.")
}

fn not_announced_as_json() -> Problem {
    let detail = "Send JSON with the header content-type: application/json.";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

fn encoded() -> Problem {
    let detail = "Send the body as it is, without the header content-encoding.";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Send a body of at most 16 KiB.")
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "Send the whole body within 10 seconds.")
}

#[cfg(test)]
mod tests {
    use super::{Email, PhoneNumber, parse};

    fn check(body: &str, email: Option<&str>, phone_number: Option<&str>) {
        let identifiers = parse(body.as_bytes()).expect(body);
        assert_eq!(identifiers.email().map(Email::as_str), email, "{body}");
        assert_eq!(identifiers.phone_number().map(PhoneNumber::as_str), phone_number, "{body}");
    }

    #[test]
    fn a_phone_number_given_as_a_json_number_keeps_its_exact_digits() {
        check(r#"{"phoneNumber": 0}"#, None, Some("0"));
        check(r#"{"phoneNumber":12345678901234567890}"#, None, Some("12345678901234567890"));
        let digits_32 = "98765432109876543210987654321098";
        check(&format!(r#"{{"phoneNumber": {digits_32} }}"#), None, Some(digits_32));
    }

    #[test]
    fn null_and_blank_count_as_absent_and_unknown_members_are_ignored() {
        check(r#"{"email": "a@x", "phoneNumber": null}"#, Some("a@x"), None);
        check(r#"{"email": "", "phoneNumber": "1"}"#, None, Some("1"));
        check(r#"{"Email": 1, "": [], "a": {"email": 1}, "email": "a@x"}"#, Some("a@x"), None);
    }

    #[test]
    fn escapes_are_read_in_names_and_values() {
        check(r#"{"\u0065mail": "\u00fc\/\ud83d\ude00@x"}"#, Some("ü/😀@x"), None);
    }

    #[test]
    fn an_unknown_member_may_be_nested_as_deep_as_the_body_is_long() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        check(&format!(r#"{{"a": {deep}, "email": "a@x"}}"#), Some("a@x"), None);
    }
}
