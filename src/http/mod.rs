//! The door for callers and auditors: requests in, answers out.
//!
//! Promises: what is refused gets a problem document (RFC 9457) that says what to change; every
//! request ends within a limit of size and time; the served OpenAPI document is the contract.
//! Never: SQL, a decision about identities, a caller's value in a log, an error or a metric.

mod answer;
mod body;
mod connection;
mod contacts;
mod docs;
mod entry;
mod erase;
mod events;
mod health;
mod history;
mod idempotency;
mod identify;
mod json;
mod ledger;
mod lookup;
mod measure;
mod moment;
mod number;
mod personal_data;
mod problem;
mod proof;
mod question;
mod rule_set;
mod serve;
mod stream;
mod why;

#[cfg(test)]
mod tests;

pub use serve::serve;

use crate::audit::Auditor;
use crate::erasure::Eraser;
use crate::metrics::Metrics;
use crate::projection::Reader;
use crate::recorder::Recorder;
use crate::seal::Status;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use std::sync::Arc;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the handlers work with.
pub struct App {
    pub recorder: Recorder,
    pub reader: Reader,
    /// Of the sealing.
    pub status: Arc<Status>,
    pub auditor: Auditor,
    pub eraser: Eraser,
    pub metrics: Arc<Metrics>,
}

pub fn router(app: App) -> Router {
    let (documented, openapi) = OpenApiRouter::with_openapi(docs::Api::openapi())
        .routes(routes!(identify::identify))
        .routes(routes!(lookup::lookup))
        .routes(routes!(contacts::contact))
        .routes(routes!(history::history))
        .routes(routes!(why::why))
        .routes(routes!(personal_data::personal_data))
        .routes(routes!(erase::erase))
        .routes(routes!(events::events))
        .routes(routes!(ledger::ledger))
        .routes(routes!(ledger::checkpoint))
        .routes(routes!(ledger::key))
        .routes(routes!(proof::inclusion))
        .routes(routes!(proof::consistency))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(measure::metrics))
        .split_for_parts();
    let openapi = docs::document(&openapi);
    documented
        .route("/openapi.json", get(async || openapi))
        .route("/docs", get(docs::to_index))
        .route("/docs/", get(docs::index))
        .route("/docs/{*file}", get(docs::file))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(app.metrics.clone(), measure::measure))
        .with_state(Arc::new(app))
}
