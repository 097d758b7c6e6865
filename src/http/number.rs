//! A whole number among the parameters of a query.

use super::problem::Problem;
use std::ops::RangeInclusive;

/// The number, or the default where none is given; without a default it must be.
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
