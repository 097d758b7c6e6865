//! Whole numbers in the path and the query of a request.

use super::problem::Problem;
use crate::identity::ContactId;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use std::ops::RangeInclusive;

const IDS: RangeInclusive<i64> = 1..=i64::MAX;

/// The number in a path such as `/contacts/{id}`.
pub struct PathId(pub ContactId);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|_| not_an_id("id"))?;
        id("id", Some(&text)).map(Self)
    }
}

/// The number of an observation, which must be given.
pub fn id(name: &'static str, text: Option<&str>) -> Result<ContactId, Problem> {
    number(name, text, None, IDS).map(ContactId::new)
}

pub fn not_an_id(name: &'static str) -> Problem {
    not_a_number(name, IDS)
}

/// The number, or the default if none is given; without a default it must be given.
pub fn number(
    name: &'static str,
    text: Option<&str>,
    default: Option<i64>,
    allowed: RangeInclusive<i64>,
) -> Result<i64, Problem> {
    let number = match text {
        Some(text) => text.parse().ok().filter(|number| allowed.contains(number)),
        None => default,
    };
    number.ok_or_else(|| not_a_number(name, allowed))
}

pub fn not_a_number(name: &'static str, allowed: RangeInclusive<i64>) -> Problem {
    let (least, most) = allowed.into_inner();
    Problem::bad_field(name, format!("a whole number from {least} to {most}"))
}
