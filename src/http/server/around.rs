//! What is done around each request of a route.

use crate::http::parts::problem::Problem;
use crate::http::parts::question::panicked;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;

/// What is done before a request is answered, and after.
pub trait Around: Clone + Send + Sync + 'static {
    /// What `before` keeps for `after`.
    type Kept: Send;
    /// Lets a request through, or answers it.
    fn before(&self, request: &mut Request) -> Result<Self::Kept, Box<Response>>;
    /// Sees the answer to each request that `before` has let through, and may add to it.
    fn after(&self, kept: Self::Kept, response: Response) -> Response;
}

/// Stands around a route, or all of them, as a middleware. A panic inside is answered, too.
pub async fn around<A: Around>(
    State(around): State<A>,
    mut request: Request,
    next: Next,
) -> Response {
    match around.before(&mut request) {
        Ok(kept) => around.after(kept, despite_panic(next.run(request), panicked).await),
        Err(response) => *response,
    }
}

/// What a route answers, or the problem that it has panicked. sqlx panics if a time is later than chrono can
/// say, which only tampering with a table can have written.
pub async fn despite_panic(
    answering: impl Future<Output = Response>,
    panicked: impl FnOnce() -> Problem,
) -> Response {
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    answered.unwrap_or_else(|_| panicked().into_response())
}
