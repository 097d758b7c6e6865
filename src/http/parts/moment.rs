//! `as_of`: the position or the time that something is asked of.

use super::problem::Problem;
use super::question::ask;
use crate::audit::Moment;
use crate::http::App;
use crate::identity::Position;
use serde::Deserialize;
use utoipa::IntoParams;

const FIELD: &str = "as_of";

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AsOf {
    /// A position, or a time (RFC 3339) such as `2026-11-01T12:00:00Z`, which means the last
    /// position whose event was not recorded after it. What is recorded takes its time before it is
    /// committed: until a time is half a minute ago, its last position can still change; and even later, if
    /// a commit had to wait for a standby that was away. A position that a loss skipped means the last one
    /// before the loss. Not given: now.
    pub as_of: Option<String>,
}

/// The position to answer at. `None` if no moment is asked for.
pub async fn position(as_of: Option<String>, app: &App) -> Result<Option<Position>, Problem> {
    let Some(text) = as_of else { return Ok(None) };
    let moment = parse(&text).ok_or_else(not_a_moment)?;
    let position = ask(app.auditor.position_at(moment)).await?;
    position.map(Some).ok_or_else(beyond_the_head)
}

pub fn problems() -> [Problem; 2] {
    [not_a_moment(), beyond_the_head()]
}

fn parse(text: &str) -> Option<Moment> {
    // In a query, a plus that was not escaped is a blank.
    text.replace(' ', "+").parse().ok()
}

fn not_a_moment() -> Problem {
    Problem::bad_field(FIELD, "a position, or a time such as 2026-11-01T12:00:00Z")
}

fn beyond_the_head() -> Problem {
    Problem::bad_field(FIELD, "a position that the ledger has reached, or a time that has come")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_position_or_a_time_with_its_zone() {
        assert_eq!(parse("17"), Some(Moment::Position(Position::new(17))));
        for time in [
            "2026-11-01T12:00:00Z",
            "2026-11-01T13:00:00.000+01:00",
            "2026-11-01T13:00:00 01:00",
            "2026-11-01T06:30:00-05:30",
        ] {
            let expected = "2026-11-01T12:00:00Z".parse().unwrap();
            assert_eq!(parse(time), Some(Moment::Time(expected)), "{time}");
        }
        for time in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            assert!(matches!(parse(time), Some(Moment::Time(_))), "{time}");
        }
        for bad in [
            "",
            "-1",
            "1.5",
            "yesterday",
            "2026-11-01",
            "2026-11-01T12:00:00",
            "9".repeat(20).as_str(),
            "-5000-01-01T00:00:00Z",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:00:00+01:00",
            "+10000-01-01T00:00:00Z",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
