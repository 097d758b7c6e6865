//! `GET /contacts/{id}/why`: why are two observations one customer, or why are they not?

use super::contacts::{erased, not_observed, not_observed_then};
use crate::audit::{LinkingRules, Relation, Why};
use crate::http::App;
use crate::http::parts::json::json;
use crate::http::parts::moment;
use crate::http::parts::number::{self, PathId, not_an_id};
use crate::http::parts::parameters::{Parameters, not_these};
use crate::http::parts::problem::Problem;
use crate::http::parts::question::{ask, corrupt, unanswered};
use crate::http::parts::rule_set::RuleSet;
use crate::http::parts::schema;
use crate::http::server::noted::Shown;
use crate::identity::{
    Chain, ContactId, Email, Field, Identifiers, ObservationId, PhoneNumber, Position,
    SharedIdentifier, Unlinked, rfc_3339,
};
use crate::ledger::Unanswered;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::openapi::ObjectBuilder;
use utoipa::{IntoParams, ToSchema};

/// Where a request names the one observation and the other.
const FIELDS: [&str; 2] = ["id", "with"];

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WhyQuery {
    /// The number of the other observation.
    #[param(value_type = i64, minimum = 1, example = 2, required = true)]
    with: Option<String>,
    /// A position or a time (RFC 3339), as for `/contacts/{id}`. Not given: now.
    as_of: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Explanation<'a> {
    /// Whether the two belong to one customer.
    linked: bool,
    /// The position that this holds at.
    #[schema(value_type = i64)]
    position: Position,
    /// The rules in force at that position.
    rules: RuleSet<'a>,
    /// The primary of the one that was asked of, then of the other.
    #[schema(value_type = Vec<i64>)]
    primary_contact_ids: [ContactId; 2],
    /// The shortest chain between them, of several the one through the oldest observations. Null
    /// if they are not linked, at a position within a rule change, whose links are still to come, and
    /// if it led through what has been erased since.
    #[schema(required)]
    chain: Option<ChainView<'a>>,
    /// What stands between them. Null if they are linked.
    #[schema(required)]
    apart: Option<Apart<'a>>,
}

/// Observations, each of which shares an identifier with the next.
#[derive(Serialize, ToSchema)]
#[schema(as = Chain)]
struct ChainView<'a> {
    observations: Vec<Step<'a>>,
    /// One fewer: the first is what the first two observations share.
    shared: Vec<SharedView<'a>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Step<'a> {
    #[schema(value_type = i64)]
    id: ObservationId,
    /// The position of its event.
    #[schema(value_type = i64)]
    position: Position,
    #[schema(format = DateTime)]
    recorded_at: String,
    /// The rules in force when it was recorded.
    rules: RuleSet<'a>,
    #[schema(required)]
    email: Option<&'a str>,
    #[schema(required)]
    phone_number: Option<&'a str>,
    /// Whether it is a contact: it brought something new.
    is_contact: bool,
    /// Without this observation the two fall apart. Not said of the two themselves.
    is_bridge: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Shared)]
struct SharedView<'a> {
    #[schema(schema_with = a_field)]
    field: &'static str,
    /// The normal form that makes them equal.
    key: &'a str,
    /// As the one and the other observation gave it.
    values: Vec<&'a str>,
    /// How many contacts share it.
    contacts: usize,
    /// If it linked no one, the two would fall apart.
    is_bridge: bool,
}

fn a_field() -> ObjectBuilder {
    let names = [Field::Email, Field::PhoneNumber].map(Field::name);
    schema::text().enum_values(Some(names))
}

/// Both empty: nothing that is known of them links them, under any rules that the ledger ever had
/// or that come with it. Known of them is what belongs to their customers or has belonged to them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Apart<'a> {
    /// Identifiers that both customers have, and that the rules say link no one.
    never_linking: Vec<NeverLinking<'a>>,
    /// Rules under which the two would be one customer, and how. Those in force are among them only at a
    /// position within a request or a rule change, whose links are still to come.
    under_other_rules: Vec<UnderOtherRules<'a>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NeverLinking<'a> {
    #[schema(schema_with = a_field)]
    field: &'static str,
    key: &'a str,
    /// The oldest observation of either customer that has it.
    #[schema(value_type = Vec<i64>)]
    observation_ids: [ObservationId; 2],
    /// As these two gave it.
    values: Vec<&'a str>,
    /// How many contacts have it, of all that is known of the two.
    contacts: usize,
}

#[derive(Serialize, ToSchema)]
struct UnderOtherRules<'a> {
    rules: RuleSet<'a>,
    chain: ChainView<'a>,
}

/// Why two observations belong to one customer, or what stands between them.
#[utoipa::path(
    get,
    path = "/contacts/{id}/why",
    tag = "auditors",
    params(
        ("id" = i64, Path, minimum = 1, description = "The number of an observation", example = 1),
        WhyQuery,
    ),
    responses(
        (
            status = 200,
            description = "The chain between them, or what is missing",
            body = Explanation,
            example = json!({
                "linked": true,
                "position": 4,
                "rules": {
                    "name": "default",
                    "version": 1,
                    "digest": "a8c477753941a1b4460e17faf14a14bed3daa1312e45e2ad544e737d7e933336",
                },
                "primaryContactIds": [1, 1],
                "chain": {
                    "observations": [
                        {
                            "id": 1,
                            "position": 2,
                            "recordedAt": "2026-11-01T12:00:00.000000Z",
                            "rules": {
                                "name": "default",
                                "version": 1,
                                "digest": "a8c477753941a1b4460e17faf14a14bed3daa1312e45e2ad544e737d7e933336",
                            },
                            "email": "ann@example.com",
                            "phoneNumber": "+49 30 123456",
                            "isContact": true,
                            "isBridge": false,
                        },
                        {
                            "id": 2,
                            "position": 3,
                            "recordedAt": "2026-11-01T12:00:01.000000Z",
                            "rules": {
                                "name": "default",
                                "version": 1,
                                "digest": "a8c477753941a1b4460e17faf14a14bed3daa1312e45e2ad544e737d7e933336",
                            },
                            "email": "ann@work.example",
                            "phoneNumber": "+49 30 123456",
                            "isContact": true,
                            "isBridge": false,
                        },
                    ],
                    "shared": [{
                        "field": "phoneNumber",
                        "key": "+4930123456",
                        "values": ["+49 30 123456", "+49 30 123456"],
                        "contacts": 2,
                        "isBridge": true,
                    }],
                },
                "apart": null,
            }),
        ),
    ),
)]
pub async fn why(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    Parameters(asked): Parameters<WhyQuery>,
) -> Result<Response, Problem> {
    let other = number::id("with", asked.with.as_deref())?;
    let (position, not_observed) = match moment::position(asked.as_of, &app).await? {
        Some(position) => (position, not_observed_then()),
        None => (ask(app.auditor.position()).await?, not_observed()),
    };
    let ids = [id, other].map(ObservationId::from);
    let found = ask(app.auditor.why(ids, position, explained)).await?;
    // Asked last: what was read before it is whole then.
    if let Some(place) = ask(app.auditor.first_erased(&ids)).await? {
        return Err(erased().field(FIELDS[place]));
    }
    let Some(response) = found else {
        let is_first = ask(app.auditor.identity_at(ids[0], position)).await?.is_none();
        return Err(not_observed.field(FIELDS[usize::from(!is_first)]));
    };
    let response = response.map_err(|_| corrupt())?;
    Ok(Shown { other_contact_id: Some(other), ..Shown::of(id, position) }.by(response))
}

pub fn problems() -> Vec<Problem> {
    let of_each = FIELDS.into_iter().flat_map(|field| {
        let of_number = [not_observed(), not_observed_then(), erased()];
        of_number.map(|problem| problem.field(field)).into_iter().chain([not_an_id(field)])
    });
    [not_these::<WhyQuery>()]
        .into_iter()
        .chain(of_each)
        .chain(unanswered())
        .chain(moment::problems())
        .collect()
}

fn explained(why: &Why) -> Result<Response, Unanswered> {
    let (chain, apart) = match &why.relation {
        Relation::Linked(chain) => {
            let view = chain.as_ref().map(|chain| chain_view(why, chain));
            (view.transpose()?, None)
        }
        Relation::Apart { never_linking, linking_rules } => {
            let under_other_rules = linking_rules.iter().map(|LinkingRules { rules, chain }| {
                Ok(UnderOtherRules { rules: rules.into(), chain: chain_view(why, chain)? })
            });
            let under_other_rules = under_other_rules.collect::<Result<_, Unanswered>>()?;
            let never_linking = never_linking.iter().map(|it| never_linking_view(why, it));
            (None, Some(Apart { never_linking: never_linking.collect(), under_other_rules }))
        }
    };
    let explanation = Explanation {
        linked: why.is_linked(),
        position: why.position,
        rules: (&*why.rules).into(),
        primary_contact_ids: why.primary_ids,
        chain,
        apart,
    };
    Ok(json(&explanation))
}

fn chain_view<'a>(why: &'a Why, chain: &'a Chain) -> Result<ChainView<'a>, Unanswered> {
    let steps = chain.observations.iter().map(|chained| {
        let observed = why.observed(chained.id);
        let identifiers = observed.identifiers.as_ref();
        Ok(Step {
            id: chained.id,
            position: observed.position,
            recorded_at: rfc_3339(observed.recorded_at),
            rules: why.rules_of(chained.id)?.into(),
            email: identifiers.and_then(|it| value(it, Field::Email)),
            phone_number: identifiers.and_then(|it| value(it, Field::PhoneNumber)),
            is_contact: why.is_contact(chained.id),
            is_bridge: chained.is_bridge,
        })
    });
    let neighbours = chain.observations.windows(2);
    let shared = chain.shared.iter().zip(neighbours).map(|(shared, neighbours)| {
        let SharedIdentifier { field, key, contacts_len, is_bridge } = shared;
        SharedView {
            field: field.name(),
            key: key.as_str(),
            values: values(why, neighbours.iter().map(|chained| chained.id), *field),
            contacts: *contacts_len,
            is_bridge: *is_bridge,
        }
    });
    Ok(ChainView {
        observations: steps.collect::<Result<_, Unanswered>>()?,
        shared: shared.collect(),
    })
}

fn never_linking_view<'a>(why: &'a Why, unlinked: &'a Unlinked) -> NeverLinking<'a> {
    let Unlinked { field, key, contacts_len, observations } = unlinked;
    NeverLinking {
        field: field.name(),
        key: key.as_str(),
        observation_ids: *observations,
        values: values(why, observations.iter().copied(), *field),
        contacts: *contacts_len,
    }
}

fn values(why: &Why, ids: impl Iterator<Item = ObservationId>, field: Field) -> Vec<&str> {
    ids.filter_map(|id| value(why.observed(id).identifiers.as_ref()?, field)).collect()
}

fn value(identifiers: &Identifiers, field: Field) -> Option<&str> {
    match field {
        Field::Email => identifiers.email().map(Email::as_str),
        Field::PhoneNumber => identifiers.phone_number().map(PhoneNumber::as_str),
    }
}
