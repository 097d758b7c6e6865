//! `GET /ledger/proof/inclusion` and `/ledger/proof/consistency`: Merkle proofs of RFC 6962.

use super::ledger::{last_checkpoint, not_sealed};
use crate::http::App;
use crate::http::parts::json::json;
use crate::http::parts::number::{not_a_number, number};
use crate::http::parts::parameters::{Parameters, not_these};
use crate::http::parts::problem::Problem;
use crate::http::parts::question::{ask, unanswered};
use crate::identity::Position;
use crate::ledger;
use crate::seal::{self, Question, StoredCheckpoint};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Text, so that an error can say which of the two to change.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WhichEvent {
    /// The position of the event.
    #[param(value_type = i64, minimum = 1, required = true)]
    position: Option<String>,
    /// The size of the tree, in events [default: that of the last checkpoint].
    #[param(value_type = Option<i64>, minimum = 1)]
    size: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WhichTrees {
    /// The size of the earlier tree.
    #[param(value_type = i64, minimum = 1, required = true)]
    from: Option<String>,
    /// The size of the later tree [default: that of the last checkpoint].
    #[param(value_type = Option<i64>, minimum = 1)]
    to: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    /// How many events are before it: the position less one, unless positions were skipped.
    #[schema(minimum = 0)]
    leaf_index: u64,
    /// The size of the tree.
    #[schema(minimum = 1)]
    size: u64,
    /// The audit path (RFC 6962, section 2.1.1): from the leaf up, each of 32 bytes, in base64.
    hashes: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct Consistency {
    /// The size of the earlier tree.
    #[schema(minimum = 1)]
    from: i64,
    /// The size of the later tree.
    #[schema(minimum = 1)]
    to: i64,
    /// The consistency proof (RFC 6962, section 2.1.2): each of 32 bytes, in base64.
    hashes: Vec<String>,
}

/// That an event is in the tree of some size, unchanged.
#[utoipa::path(
    get,
    path = "/ledger/proof/inclusion",
    tag = "auditors",
    params(WhichEvent),
    responses(
        (
            status = 200,
            description = "An audit path",
            body = Inclusion,
            example = json!({
                "leafIndex": 1,
                "size": 3,
                "hashes": [
                    "jxAt5vt7DqUUI6nuuqfxGzTJoQd8jmi0gCdRgdvYwQA=",
                    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
                ],
            }),
        ),
    ),
)]
pub async fn inclusion(
    State(app): State<Arc<App>>,
    Parameters(which): Parameters<WhichEvent>,
) -> Result<Response, Problem> {
    let last = last_checkpoint(&app).await?;
    let size = number("size", which.size.as_deref(), Some(last.size), 1..=last.size)?;
    let size = size.cast_unsigned();
    // Nothing is proven by what was not signed.
    let gaps = ask(ledger::gaps(app.auditor.sessions())).await?.within(last.size.cast_unsigned());
    let last_position = gaps.position_at(size).get();
    let position = number("position", which.position.as_deref(), None, 1..=last_position)?;
    let position = Position::new(position);
    let size_there = gaps.size_at(position);
    if gaps.position_at(size_there) != position {
        return Err(skipped());
    }
    let leaf_index = size_there - 1;
    let question = Question::Inclusion { index: leaf_index, size };
    let hashes = prove(&app, &last, question).await?;
    Ok(json(&Inclusion { leaf_index, size, hashes }))
}

/// That the tree of some size begins with the earlier one: that nothing was rewritten between.
#[utoipa::path(
    get,
    path = "/ledger/proof/consistency",
    tag = "auditors",
    params(WhichTrees),
    responses(
        (
            status = 200,
            description = "A consistency proof",
            body = Consistency,
            example = json!({
                "from": 2,
                "to": 3,
                "hashes": ["CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="],
            }),
        ),
    ),
)]
pub async fn consistency(
    State(app): State<Arc<App>>,
    Parameters(which): Parameters<WhichTrees>,
) -> Result<Response, Problem> {
    let last = last_checkpoint(&app).await?;
    let to = number("to", which.to.as_deref(), Some(last.size), 1..=last.size)?;
    let from = number("from", which.from.as_deref(), None, 1..=to)?;
    let question = Question::Consistency { from: from.cast_unsigned(), to: to.cast_unsigned() };
    let hashes = prove(&app, &last, question).await?;
    Ok(json(&Consistency { from, to, hashes }))
}

async fn prove(
    app: &App,
    last: &StoredCheckpoint,
    question: Question,
) -> Result<Vec<String>, Problem> {
    let hashes = ask(seal::prove(app.auditor.sessions(), last, question)).await?;
    Ok(hashes.iter().map(ToString::to_string).collect())
}

pub fn inclusion_problems() -> Vec<Problem> {
    let invalid = [not_a_number("position", 1..=1040), not_these::<WhichEvent>(), skipped()];
    invalid.into_iter().chain([not_sealed()]).chain(unanswered()).collect()
}

pub fn consistency_problems() -> Vec<Problem> {
    let invalid = [not_a_number("from", 1..=1040), not_these::<WhichTrees>()];
    invalid.into_iter().chain([not_sealed()]).chain(unanswered()).collect()
}

fn skipped() -> Problem {
    let detail =
        "No event has this position: it was skipped when a loss was accepted. Ask for another.";
    Problem::new(StatusCode::NOT_FOUND, detail)
}
