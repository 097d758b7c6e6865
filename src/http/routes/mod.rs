//! Every route, and who may ask it: one table, from which the router and the OpenAPI document are made. Only the
//! document itself and its pages are not in it, and have no guard.

mod access;
mod contacts;
mod docs;
mod erase;
mod events;
mod health;
mod history;
pub mod identify;
mod ledger;
mod lookup;
mod metrics;
mod personal_data;
mod proof;
mod stream;
mod why;

use super::parts::problem::{Problem, documented};
use super::server::around::around;
use super::server::guard::{Guard, Note, Who, refusals, wrong_role};
use super::server::noted::{not_a_purpose, purpose_parameter};
use super::{Access, App};
use crate::access::Role;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use std::sync::Arc;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem, Paths};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, Ref};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

/// What the OpenAPI document calls the tokens.
const SCHEME: &str = "token";

/// Who may ask `/identify`, which bypasses the router. Its event says who asked; a retry has none, and is noted.
pub const IDENTIFY: (Who, Note) = (CALLERS, Note::Replays);

const CALLERS: Who = Who::Holders(&[Role::Caller]);
const CALLERS_AND_AUDITORS: Who = Who::Holders(&[Role::Caller, Role::Auditor]);
const AUDITORS: Who = Who::Holders(&[Role::Auditor]);
const OPERATORS: Who = Who::Holders(&[]);

/// Who may ask a route, what is put on record of that, the problems it may be answered with, and the route.
type Row = (Who, Note, fn() -> Vec<Problem>, UtoipaMethodRouter<Arc<App>>);

/// Operators may ask every route.
fn table() -> Vec<Row> {
    vec![
        (IDENTIFY.0, IDENTIFY.1, identify::problems, routes!(identify::identify)),
        (CALLERS_AND_AUDITORS, Note::Reads, lookup::problems, routes!(lookup::lookup)),
        (AUDITORS, Note::Reads, contacts::problems, routes!(contacts::contact)),
        (AUDITORS, Note::Reads, history::problems, routes!(history::history)),
        (AUDITORS, Note::Reads, why::problems, routes!(why::why)),
        (AUDITORS, Note::Reads, personal_data::problems, routes!(personal_data::personal_data)),
        // The event says who.
        (OPERATORS, Note::Nothing, erase::problems, routes!(erase::erase)),
        (AUDITORS, Note::Reads, events::problems, routes!(events::events)),
        (AUDITORS, Note::Nothing, ledger::ledger_problems, routes!(ledger::ledger)),
        // What holds the service to the ledger is for everyone: a signature and hashes, no one's data.
        (Who::Anybody, Note::Nothing, ledger::checkpoint_problems, routes!(ledger::checkpoint)),
        (Who::Anybody, Note::Nothing, ledger::key_problems, routes!(ledger::key)),
        (AUDITORS, Note::Nothing, proof::inclusion_problems, routes!(proof::inclusion)),
        (AUDITORS, Note::Nothing, proof::consistency_problems, routes!(proof::consistency)),
        (OPERATORS, Note::Nothing, access::problems, routes!(access::access)),
        (Who::Anybody, Note::Nothing, Vec::new, routes!(health::live)),
        (Who::Anybody, Note::Nothing, health::problems, routes!(health::ready)),
        (Who::ThisMachine, Note::Nothing, Vec::new, routes!(metrics::metrics)),
    ]
}

/// All routes, guarded if there are tokens, and the document that describes them.
pub fn routes(access: Option<&Access>) -> (Router<Arc<App>>, OpenApi) {
    let mut api = docs::Api::openapi();
    let components = api.components.get_or_insert_default();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "Made by `identity-ledger token new`. A service without a tokens file asks for none.",
    ));
    let scheme = SecurityScheme::Http(scheme.build());
    components.security_schemes.insert(SCHEME.to_owned(), scheme.into());
    components.responses.extend(refusals());

    let mut router = OpenApiRouter::with_openapi(api);
    for (who, note, problems, mut route) in table() {
        describe(&mut route.1, who, note, problems());
        router = router.routes(match access {
            Some(access) => {
                let guard = Arc::new(Guard { who, note, access: access.clone() });
                route
                    .map(|route| route.route_layer(from_fn_with_state(guard, around::<Arc<Guard>>)))
            }
            None => route,
        });
    }
    router.split_for_parts()
}

/// The document, and a page to browse it: routes that are not in the document. It shows only what the source
/// shows, so no token is needed.
pub fn pages(router: Router<Arc<App>>, openapi: &OpenApi) -> Router<Arc<App>> {
    let document = docs::document(openapi);
    router
        .route("/openapi.json", get(async || document))
        .route("/docs", get(docs::to_index))
        .route("/docs/", get(docs::index))
        .route("/docs/{*file}", get(docs::file))
}

/// Adds to the document who may ask, and the problems that may be the answer.
fn describe(paths: &mut Paths, who: Who, note: Note, problems: Vec<Problem>) {
    let purpose = (note != Note::Nothing).then(not_a_purpose);
    let problems = documented(problems.into_iter().chain(purpose).chain(wrong_role(who)));
    for operation in paths.paths.values_mut().flat_map(operations) {
        operation.responses.responses.extend(problems.clone());
        operation.security = Some(requirements(who));
        if note != Note::Nothing {
            operation.parameters.get_or_insert_default().push(purpose_parameter().into());
        }
        if who != Who::Anybody {
            let refusals = refusals().into_keys().map(|status| {
                let reference = Ref::from_response_name(&status);
                (status, reference.into())
            });
            operation.responses.responses.extend(refusals);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete]
        .into_iter()
        .flatten()
}

/// A token of any of these roles will do. An empty requirement says that no token is needed.
fn requirements(who: Who) -> Vec<SecurityRequirement> {
    let open = matches!(who, Who::ThisMachine).then(SecurityRequirement::default);
    let roles = who.roles().map(|role| SecurityRequirement::new(SCHEME, [role.as_str()]));
    open.into_iter().chain(roles).collect()
}
