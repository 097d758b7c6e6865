//! `GET /contacts/{id}/history`: every event that made a customer what it is.

use super::contacts::{erased, not_erased, not_observed};
use crate::audit::Happened;
use crate::http::App;
use crate::http::parts::entry::{Entry, entry};
use crate::http::parts::json::json;
use crate::http::parts::number::{PathId, not_an_id};
use crate::http::parts::paging::{Paging, paging_problems};
use crate::http::parts::parameters::Parameters;
use crate::http::parts::problem::Problem;
use crate::http::parts::question::{ask, unanswered};
use crate::http::parts::rule_set::RuleSet;
use crate::http::server::noted::Shown;
use crate::identity::ContactId;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
struct History<'a> {
    events: Vec<HistoryEntry<'a>>,
    /// Where to go on. Null if this page is not full.
    #[schema(required)]
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct HistoryEntry<'a> {
    #[serde(flatten)]
    #[schema(inline)]
    entry: Entry<'a>,
    /// The rules that were in force then.
    rules: RuleSet<'a>,
    /// What happened, in one line. Holds no identifier.
    reading: &'a str,
}

/// Every event that made a customer what it is now, in order.
///
/// What its contacts brought, observations that brought nothing new included; how its contacts came
/// together; and how those that were linked to one of them went away, if a rule change took them.
/// If a rule change took away an observation that brought nothing new, or a contact that had come here with
/// another primary, only the history of the customer that has it now tells so.
/// Each page is of the customer as it is when the page is read: if it grew between two, begin again.
#[utoipa::path(
    get,
    path = "/contacts/{id}/history",
    tag = "auditors",
    params(
        ("id" = i64, Path, minimum = 1, description = "The number of an observation", example = 2),
        Paging,
    ),
    responses(
        (
            status = 200,
            description = "A page of events",
            body = History,
            example = json!({
                "events": [{
                    "event": {
                        "data": {"contactId": 2, "primaryId": 1},
                        "kind": "ContactLinked",
                        "position": 4,
                        "recordedAt": "2026-11-01T12:00:00.000000Z",
                    },
                    "observation": null,
                    "rules": {
                        "name": "default",
                        "version": 1,
                        "digest": "a8c477753941a1b4460e17faf14a14bed3daa1312e45e2ad544e737d7e933336",
                    },
                    "reading": "Contact 2 belongs to contact 1.",
                }],
                "next": "/contacts/2/history?after=4&limit=1",
            }),
        ),
    ),
)]
pub async fn history(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    Parameters(paging): Parameters<Paging>,
) -> Result<Response, Problem> {
    let (after, limit) = paging.read()?;
    let found = ask(app.auditor.history(id.into(), after, limit)).await?;
    not_erased(&app, id.into()).await?;
    let history = paged(id, &found.ok_or_else(not_observed)?, limit)?;
    Ok(Shown::of(id, after).by(history))
}

pub fn problems() -> Vec<Problem> {
    let others = [not_an_id("id"), not_observed(), erased()];
    others.into_iter().chain(unanswered()).chain(paging_problems()).collect()
}

fn paged(id: ContactId, happened: &[Happened], limit: i64) -> Result<Response, Problem> {
    let is_full = i64::try_from(happened.len()) == Ok(limit);
    let last = happened.last().filter(|_| is_full).map(|last| last.row.position);
    let history = History {
        events: happened.iter().map(view).collect::<Result<_, _>>()?,
        next: last.map(|last| format!("/contacts/{id}/history?after={last}&limit={limit}")),
    };
    Ok(json(&history))
}

fn view(happened: &Happened) -> Result<HistoryEntry<'_>, Problem> {
    Ok(HistoryEntry {
        entry: entry(&happened.row)?,
        rules: happened.rules.as_ref().into(),
        reading: &happened.reading,
    })
}
