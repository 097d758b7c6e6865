//! What answers a request: the router, except for `/identify`. A router looks up, clones and boxes its way
//! through each request, which would add a tenth to what an observation costs the service.

use super::around::{Around as _, despite_panic};
use super::guard::{Admitted, AskedBy, Guard, Peer};
use super::head::HeadCheck;
use super::measure::Measure;
use crate::http::App;
use crate::http::parts::problem::InLedger;
use crate::http::parts::question::panicked;
use crate::http::routes::identify::{PATH, identify};
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use futures_util::future::Either;
use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use tower_service::Service as _;

/// Cheap to clone.
#[derive(Clone)]
pub struct Answering {
    router: Router,
    straight: Arc<Straight>,
}

/// What the router would do for `/identify`.
pub struct Straight {
    pub app: Arc<App>,
    pub measure: Measure,
    pub head: HeadCheck,
    /// `None` if anyone may ask.
    pub guard: Option<Arc<Guard>>,
}

impl Answering {
    pub fn new(router: Router, straight: Straight) -> Self {
        Self { router, straight: Arc::new(straight) }
    }

    pub fn answer(&self, peer: Peer, mut request: Request) -> impl Future<Output = Response> {
        if bypasses_router(&request) {
            return Either::Left(self.straight.answer(request));
        }
        // For the guards of routes that depend on it.
        request.extensions_mut().insert(peer);
        Either::Right(self.router.clone().call(request).map(|Ok(answer)| answer))
    }
}

impl Straight {
    async fn answer(&self, mut request: Request) -> Response {
        let asked = match self.measure.before(&mut request) {
            Ok(asked) => asked,
            Err(refused) => return *refused,
        };
        let checked = self.head.before(&mut request);
        let admitted = checked.and_then(|()| match &self.guard {
            Some(guard) => guard.check(&request),
            None => Ok(None),
        });
        let answered = match admitted {
            Ok(admitted) => {
                let asked_by = AskedBy(admitted.as_ref().map(Admitted::asker).cloned());
                // Pinned here: each function that it is passed to would have room for it in its own future.
                let answering = pin!(identify(State(self.app.clone()), asked_by, request));
                let panicked = || panicked().recorded(InLedger::Unknown);
                let answering = answering.map(IntoResponse::into_response);
                let answered = despite_panic(answering, panicked).await;
                match &self.guard {
                    Some(guard) => guard.after(admitted, answered),
                    None => answered,
                }
            }
            Err(refused) => *refused,
        };
        self.measure.after(asked, answered)
    }
}

/// The pattern of the path of a request, such as `/contacts/{id}`.
pub fn pattern(request: &Request) -> Option<Cow<'static, str>> {
    let extensions = request.extensions();
    let matched = extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned().into());
    matched.or_else(|| bypasses_router(request).then_some(PATH.into()))
}

fn bypasses_router(request: &Request) -> bool {
    request.method() == Method::POST && request.uri().path() == PATH
}
