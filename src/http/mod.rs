//! The door for callers and auditors: requests in, answers out.
//!
//! Promises: what is refused gets a problem document (RFC 9457) that says what to change, except for a
//! head that hyper cannot read; every request ends within a limit of size and time, except for
//! a stream that is being read; the served OpenAPI document is the contract.
//! Never: SQL, a decision about identities, a caller's value in a log, an error or a metric.

mod parts;
mod routes;
mod server;

#[cfg(test)]
mod tests;

pub use parts::shared::SharedAnswers;
pub use server::serve::serve;
pub use server::tls::Tls;

use crate::access::{Gate, ReadLog};
use crate::audit::Auditor;
use crate::erasure::Eraser;
use crate::metrics::Metrics;
use crate::projection::Reader;
use crate::recorder::Recorder;
use crate::seal::Status;
use axum::middleware::from_fn_with_state;
use parts::problem;
use server::answering::{Answering, Straight};
use server::around::around;
use server::guard::Guard;
use server::head::HeadCheck;
use server::measure::Measure;
use std::sync::Arc;

/// What the handlers work with.
pub struct App {
    pub recorder: Recorder,
    pub reader: Reader,
    /// The state of the sealing.
    pub status: Arc<Status>,
    pub auditor: Auditor,
    pub eraser: Eraser,
    pub metrics: Arc<Metrics>,
    pub shared: SharedAnswers,
    /// None if anyone may ask.
    pub access: Option<Access>,
    /// Whether it is asked by an IP address or as localhost alone. See `HeadCheck`.
    pub local_names_only: bool,
}

/// Who may ask, and the record of those who read.
#[derive(Clone)]
pub struct Access {
    pub gate: Arc<Gate>,
    pub reads: ReadLog,
}

pub fn answering(app: App) -> Answering {
    let (router, openapi) = routes::routes(app.access.as_ref());
    let measure = Measure(app.metrics.clone());
    let head = HeadCheck { local_names_only: app.local_names_only };
    let (who, note) = routes::IDENTIFY;
    let guard = app.access.clone().map(|access| Arc::new(Guard { who, note, access }));
    let app = Arc::new(app);
    let router = routes::pages(router, &openapi)
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn_with_state(head.clone(), around::<HeadCheck>))
        .layer(from_fn_with_state(measure.clone(), around::<Measure>))
        .with_state(app.clone());
    Answering::new(router, Straight { app, measure, head, guard })
}
