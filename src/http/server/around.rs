//! What is done around each request of a route. axum's `from_fn` does the same, but clones and boxes the route
//! and the request for it, at a cost for every request.

use crate::http::parts::question::panicked;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use std::convert::Infallible;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// What is done before a request is answered, and after.
pub trait Around: Clone + Send + Sync + 'static {
    /// What `before` keeps for `after`.
    type Kept: Send;
    /// Lets a request through, or answers it.
    fn before(&self, request: &mut Request) -> Result<Self::Kept, Box<Response>>;
    /// Sees the answer to each request that `before` has let through, and may add to it.
    fn after(&self, kept: Self::Kept, response: Response) -> Response;
}

/// `None` does nothing.
impl<A: Around> Around for Option<A> {
    type Kept = Option<A::Kept>;

    fn before(&self, request: &mut Request) -> Result<Self::Kept, Box<Response>> {
        self.as_ref().map(|around| around.before(request)).transpose()
    }

    fn after(&self, kept: Self::Kept, response: Response) -> Response {
        match (self, kept) {
            (Some(around), Some(kept)) => around.after(kept, response),
            _ => response,
        }
    }
}

/// Puts it around a route, or all of them. A panic inside is answered, too.
#[derive(Clone)]
pub struct AroundLayer<A>(pub A);

#[derive(Clone)]
pub struct Surrounded<A, S> {
    around: A,
    inner: S,
}

impl<A: Around, S> Layer<S> for AroundLayer<A> {
    type Service = Surrounded<A, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded { around: self.0.clone(), inner }
    }
}

impl<A, S> Service<Request> for Surrounded<A, S>
where
    A: Around,
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let kept = match self.around.before(&mut request) {
            Ok(kept) => kept,
            Err(response) => return Box::pin(ready(Ok(*response))),
        };
        let answering = self.inner.call(request);
        let around = self.around.clone();
        Box::pin(async move {
            let response = despite_panic(answering).await;
            Ok(around.after(kept, response))
        })
    }
}

/// What a route answers, or that it has panicked. sqlx panics if a time is later than chrono can say, which
/// only tampering with a table can have written.
pub async fn despite_panic(
    answering: impl Future<Output = Result<Response, Infallible>>,
) -> Response {
    match AssertUnwindSafe(answering).catch_unwind().await {
        Ok(Ok(response)) => response,
        Err(_) => panicked().into_response(),
    }
}
