//! `GET /ledger`, its last checkpoint and its key: what anyone needs to hold the service to it.

use crate::http::App;
use crate::http::parts::json::json;
use crate::http::parts::parameters::{NoParameters, Parameters, not_these};
use crate::http::parts::problem::Problem;
use crate::http::parts::question::{WAIT_MAX, ask, unanswered};
use crate::http::parts::rule_set::RuleSet;
use crate::identity::{Gaps, Position, rfc_3339};
use crate::ledger;
use crate::seal::{self, Sealing, StoredCheckpoint, Summary};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Serialize, ToSchema)]
struct Ledger<'a> {
    /// The position of the last event.
    #[schema(minimum = 1)]
    position: i64,
    /// The rules in force.
    rules: RuleSet<'a>,
    /// The last one, null before the first.
    #[schema(required)]
    checkpoint: Option<LastCheckpoint>,
    /// Events that no checkpoint covers yet.
    #[schema(minimum = 0)]
    lag: u64,
    /// What this node does: `off` (it has no key), `standby` (another node seals, or none has
    /// begun yet), `active`, `refused` (the ledger contradicts what was signed), or `stuck` (its
    /// checkpoint directory cannot be read or written, or its role lacks a right in Postgres).
    sealing: SealingView,
    /// Why it is `refused` or `stuck`.
    #[schema(required)]
    refusal: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Sealing)]
enum SealingView {
    Off,
    Standby,
    Active,
    Refused,
    Stuck,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LastCheckpoint {
    /// Events that it covers, from the first one on.
    #[schema(minimum = 1)]
    size: i64,
    #[schema(format = DateTime)]
    signed_at: String,
}

/// How far the ledger has come, the rules in force, and how the sealing goes.
#[utoipa::path(
    get,
    path = "/ledger",
    tag = "auditors",
    responses(
        (
            status = 200,
            description = "The ledger in short",
            body = Ledger,
            example = json!({
                "position": 1042,
                "rules": {
                    "name": "default",
                    "version": 1,
                    "digest": "a8c477753941a1b4460e17faf14a14bed3daa1312e45e2ad544e737d7e933336",
                },
                "checkpoint": {"size": 1040, "signedAt": "2026-11-01T12:00:00.000000Z"},
                "lag": 2,
                "sealing": "active",
                "refusal": null,
            }),
        ),
    ),
)]
pub async fn ledger(
    State(app): State<Arc<App>>,
    _: Parameters<NoParameters>,
) -> Result<Response, Problem> {
    let summary = ask(seal::summary(app.auditor.sessions())).await?;
    // Of a position, they never change.
    let gaps = ask(ledger::gaps(app.auditor.sessions())).await?;
    Ok(json(&view(&summary, &gaps, app.status.sealing())))
}

fn view<'a>(summary: &'a Summary, gaps: &Gaps, sealing: Sealing) -> Ledger<'a> {
    let events_len = gaps.size_at(Position::new(summary.position));
    let checkpoint = summary.size.zip(summary.signed_at);
    let (sealing, refusal) = match sealing {
        Sealing::Off => (SealingView::Off, None),
        Sealing::Standby => (SealingView::Standby, None),
        Sealing::Active => (SealingView::Active, None),
        Sealing::Refused(why) => (SealingView::Refused, Some(why)),
        Sealing::Stuck(why) => (SealingView::Stuck, Some(why)),
    };
    Ledger {
        position: summary.position,
        rules: summary.into(),
        // A database that has gone back in time may end before what was sealed.
        lag: events_len.saturating_sub(summary.size.map_or(0, i64::cast_unsigned)),
        checkpoint: checkpoint.map(|(size, at)| LastCheckpoint { size, signed_at: rfc_3339(at) }),
        sealing,
        refusal,
    }
}

/// The last checkpoint: a signed note (C2SP tlog-checkpoint) of how many events there were, and
/// of the root of the Merkle tree over them.
#[utoipa::path(
    get,
    path = "/ledger/checkpoint",
    tag = "auditors",
    responses(
        (
            status = 200,
            description = "A signed note",
            body = String,
            content_type = "text/plain",
            example = "identity-ledger/ledger\n1040\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— identity-ledger/ledger 8o0lBza5Hhh32waN6C0cUZaWBN5W8ri0CDX7DKYSPoMJ+qk4rKhHH6Dofb9RA+x/q40D0rXrfF0cEZYqbsr/0nG3swI=\n",
        ),
    ),
)]
pub async fn checkpoint(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Problem> {
    let question = seal::checkpoint(app.auditor.sessions());
    let checkpoint = app.shared.checkpoint.ask(Duration::ZERO, WAIT_MAX, question).await?;
    Ok(([(CONTENT_TYPE, TEXT)], checkpoint.ok_or_else(not_sealed)?.note))
}

/// The key that checkpoints are checked with (C2SP signed-note). If the ledger had other keys before,
/// or another name before a loss was accepted, they follow, one a line.
#[utoipa::path(
    get,
    path = "/ledger/key",
    tag = "auditors",
    responses(
        (
            status = 200,
            description = "Verifier keys",
            body = String,
            content_type = "text/plain",
            example = "identity-ledger/ledger+f28d2507+AQPt8BJrTqUplSo9X23DRFbdAuPhBogE7DeSNR9e3dD2\n",
        ),
    ),
)]
pub async fn key(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Problem> {
    let keys = app.status.verifier_keys().ok_or_else(no_key)?;
    let question = ledger::gaps(app.auditor.sessions());
    let gaps = app.shared.gaps.ask(Duration::ZERO, WAIT_MAX, question).await?;
    Ok(([(CONTENT_TYPE, TEXT)], keys.of(&gaps).text().to_owned()))
}

pub async fn last_checkpoint(app: &App) -> Result<StoredCheckpoint, Problem> {
    let checkpoint = ask(seal::checkpoint(app.auditor.sessions())).await?;
    checkpoint.ok_or_else(not_sealed)
}

pub fn ledger_problems() -> Vec<Problem> {
    [not_these::<NoParameters>()].into_iter().chain(unanswered()).collect()
}

pub fn checkpoint_problems() -> Vec<Problem> {
    [not_sealed()].into_iter().chain(unanswered()).collect()
}

pub fn key_problems() -> Vec<Problem> {
    [no_key()].into_iter().chain(unanswered()).collect()
}

pub fn not_sealed() -> Problem {
    let detail = "No checkpoint has been signed yet. GET /ledger says whether one will be.";
    Problem::new(StatusCode::NOT_FOUND, detail)
}

fn no_key() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "This node has no key. Start it with --signing-key.")
}
