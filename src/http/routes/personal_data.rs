//! `GET /contacts/{id}/personal-data`: all that is held on a customer.

use super::contacts::{erased, not_observed};
use crate::erasure::{Held, HeldContact, HeldObservation, held};
use crate::http::App;
use crate::http::parts::answer::LEDGER_POSITION;
use crate::http::parts::json::json;
use crate::http::parts::number::{PathId, not_an_id};
use crate::http::parts::parameters::{NoParameters, Parameters, not_these};
use crate::http::parts::problem::Problem;
use crate::http::parts::question::{ask, unanswered};
use crate::http::server::noted::Shown;
use crate::identity::{ContactId, ObservationId, Position, rfc_3339};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// All that is held on a customer.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PersonalData<'a> {
    #[schema(value_type = i64, minimum = 1)]
    primary_contact_id: ContactId,
    /// The position that this holds at.
    #[schema(value_type = i64, minimum = 1)]
    position: Position,
    /// The observations that brought something new, and how they belong together.
    contacts: Vec<ContactView>,
    /// Everything that was ever observed of the customer, in order.
    observations: Vec<ObservationView<'a>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HeldContact)]
struct ContactView {
    #[schema(value_type = i64, minimum = 1)]
    id: ContactId,
    /// The primary. Null for the primary itself.
    #[schema(required, value_type = Option<i64>, minimum = 1)]
    linked_id: Option<ContactId>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HeldObservation)]
struct ObservationView<'a> {
    #[schema(value_type = i64, minimum = 1)]
    id: ObservationId,
    /// The contact that it is filed under: its own number if it brought something new.
    #[schema(value_type = i64, minimum = 1)]
    contact_id: ContactId,
    /// As received.
    #[schema(required)]
    email: Option<&'a str>,
    /// As received.
    #[schema(required)]
    phone_number: Option<&'a str>,
    #[schema(format = DateTime)]
    observed_at: String,
    /// The position of the event that says so.
    #[schema(value_type = i64, minimum = 1)]
    position: Position,
}

/// All that is held on a customer, as one document: what the person it is about may ask for.
///
/// Takes the number of any observation. Beside this the ledger has events, which hold numbers,
/// times and salted hashes: `/contacts/{id}/history` tells them.
#[utoipa::path(
    get,
    path = "/contacts/{id}/personal-data",
    tag = "auditors",
    params(("id" = i64, Path, minimum = 1, description = "The number of an observation", example = 2)),
    responses(
        (
            status = 200,
            description = "All that is held",
            body = PersonalData,
            headers(("ledger-position" = i64, description = "Position that the answer holds at")),
            example = json!({
                "primaryContactId": 1,
                "position": 5,
                "contacts": [{
                    "id": 1,
                    "linkedId": null,
                    "createdAt": "2026-11-01T12:00:00.000000Z",
                    "updatedAt": "2026-11-01T12:00:00.000000Z",
                }],
                "observations": [{
                    "id": 1,
                    "contactId": 1,
                    "email": "ann@example.com",
                    "phoneNumber": null,
                    "observedAt": "2026-11-01T12:00:00.000000Z",
                    "position": 2,
                }],
            }),
        ),
    ),
)]
pub async fn personal_data(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    _: Parameters<NoParameters>,
) -> Result<Response, Problem> {
    let found = ask(held(app.auditor.sessions(), id.into())).await?;
    match found {
        Some(held) if held.is_erased() => Err(erased()),
        Some(held) => {
            let position = [(LEDGER_POSITION, held.position.get())];
            let response = (position, json(&view(&held))).into_response();
            Ok(Shown::of(id, held.position).by(response))
        }
        None => Err(not_observed()),
    }
}

pub fn problems() -> Vec<Problem> {
    let others = [not_an_id("id"), not_these::<NoParameters>(), not_observed(), erased()];
    others.into_iter().chain(unanswered()).collect()
}

fn view(held: &Held) -> PersonalData<'_> {
    PersonalData {
        primary_contact_id: held.primary_id,
        position: held.position,
        contacts: held.contacts().map(ContactView::from).collect(),
        observations: held.observations.iter().map(ObservationView::from).collect(),
    }
}

impl From<HeldContact> for ContactView {
    fn from(contact: HeldContact) -> Self {
        let HeldContact { id, linked_id, created_at, updated_at } = contact;
        Self { id, linked_id, created_at: rfc_3339(created_at), updated_at: rfc_3339(updated_at) }
    }
}

impl<'a> From<&'a HeldObservation> for ObservationView<'a> {
    fn from(held: &'a HeldObservation) -> Self {
        Self {
            id: held.id,
            contact_id: held.contact_id,
            email: held.email.as_deref(),
            phone_number: held.phone_number.as_deref(),
            observed_at: rfc_3339(held.observed_at),
            position: held.position,
        }
    }
}
