//! What answers a request: the router, except for `/identify`. A router looks up, clones and boxes its way
//! through each request, which would add a tenth to what an observation costs the service.

use super::around::{Around as _, despite_panic};
use super::guard::Guard;
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
use std::borrow::Cow;
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

/// Marks a request that bypasses the router.
#[derive(Clone)]
struct Identifies;

impl Answering {
    pub fn new(router: Router, straight: Straight) -> Self {
        Self { router, straight: Arc::new(straight) }
    }

    pub async fn answer(&self, request: Request) -> Response {
        if request.method() == Method::POST && request.uri().path() == PATH {
            return self.straight.answer(request).await;
        }
        let Ok(answer) = self.router.clone().call(request).await;
        answer
    }
}

impl Straight {
    async fn answer(&self, mut request: Request) -> Response {
        request.extensions_mut().insert(Identifies);
        let asked = match self.measure.before(&mut request) {
            Ok(asked) => asked,
            Err(refused) => return *refused,
        };
        let checked = self.head.before(&mut request);
        let answered = match checked.and_then(|()| self.guard.before(&mut request)) {
            Ok(admitted) => self.guard.after(admitted, self.identify(request).await),
            Err(refused) => *refused,
        };
        self.measure.after(asked, answered)
    }

    async fn identify(&self, request: Request) -> Response {
        let answering = identify(State(self.app.clone()), request);
        let panicked = || panicked().recorded(InLedger::Unknown);
        despite_panic(answering.map(IntoResponse::into_response), panicked).await
    }
}

/// The pattern of the path of a request, such as `/contacts/{id}`.
pub fn pattern(request: &Request) -> Option<Cow<'static, str>> {
    let extensions = request.extensions();
    let matched = extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned().into());
    matched.or_else(|| extensions.get::<Identifies>().map(|_| PATH.into()))
}
