//! Which page is asked for, of answers that come in pages.

use super::number::{not_a_number, number};
use super::parameters::not_these;
use super::problem::Problem;
use crate::identity::Position;
use serde::Deserialize;
use std::ops::RangeInclusive;
use utoipa::IntoParams;

pub const AFTER: RangeInclusive<i64> = 0..=i64::MAX;
const AFTER_DEFAULT: i64 = 0;
const LIMIT: RangeInclusive<i64> = 1..=1_000;
const LIMIT_DEFAULT: i64 = 100;

/// Which page of events, or of the record of reads. Text, so that an error can say which of them to
/// change.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// What comes after this: the position of an event, or the number of a read.
    #[param(value_type = Option<i64>, minimum = 0, default = 0)]
    after: Option<String>,
    /// At most this many.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<String>,
}

impl Paging {
    /// The position to begin after, and the most events to send.
    pub fn read(&self) -> Result<(Position, i64), Problem> {
        Ok((after(self.after.as_deref())?, limit(self.limit.as_deref())?))
    }
}

/// The position to begin after: from 0, which is the default.
pub fn after(text: Option<&str>) -> Result<Position, Problem> {
    number("after", text, Some(AFTER_DEFAULT), AFTER).map(Position::new)
}

/// The most events to send: from 1 to 1,000, by default 100.
pub fn limit(text: Option<&str>) -> Result<i64, Problem> {
    number("limit", text, Some(LIMIT_DEFAULT), LIMIT)
}

/// What can be wrong with a page that is asked for.
pub fn paging_problems() -> [Problem; 2] {
    [not_a_limit(), not_these::<Paging>()]
}

pub fn not_a_limit() -> Problem {
    not_a_number("limit", LIMIT)
}
