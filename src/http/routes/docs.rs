//! `GET /openapi.json`, and a page to browse it at `/docs`.

use crate::http::parts::problem::{Problem, not_found};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::{Arc, LazyLock};
use utoipa::OpenApi;
use utoipa::openapi;
use utoipa_swagger_ui::Config;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Identity ledger",
        description = "Which customer do an email and a phone number belong to, since when, and \
            why?\n\nEvery error answer is a problem document (RFC 9457) that says what to change, except \
            for a head that cannot be read (400) or is too long (431), when the status says it all. \
            Problem documents, and all reads that show a customer, have `cache-control: no-store`. \
            Besides those listed, any path may answer 404 (there is nothing there), 405 (the header \
            `allow` lists the methods), 400 (the header `host` is missing, or there twice), 421 (the \
            service has no tokens, and the host is neither an IP address nor `localhost`) and 501 \
            (a `transfer-encoding` other than `chunked`).",
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "callers", description = "Post an observation, get the customer"),
        (name = "auditors", description = "Replay what was known and decided"),
        (name = "operators", description = "Watch the service"),
    ),
    components(schemas(Problem)),
)]
pub struct Api;

/// Disabling the validator keeps the page from sending the document to a public one. The base layout has no
/// bar that asks for other documents: the browser would load none.
static PAGE: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    Arc::new(Config::from("/openapi.json").validator_url("none").use_base_layout())
});

/// The browser holds the page to it: nothing is loaded from elsewhere, and no other page shows this one
/// within itself, where a person could be led to press its buttons.
const FROM_HERE_ONLY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

const INDEX: &str = "index.html";

/// The answer with the OpenAPI document. Written once, then shared.
pub fn document(openapi: &openapi::OpenApi) -> impl IntoResponse + Clone + use<> {
    let document = openapi.to_pretty_json().expect("an OpenAPI document is plain data");
    ([(CONTENT_TYPE, "application/json")], axum::body::Bytes::from(document))
}

/// The page names its files relative to a directory.
pub async fn to_index() -> Redirect {
    Redirect::permanent("/docs/")
}

pub async fn index() -> Response {
    page_file(INDEX)
}

pub async fn file(path: Result<Path<String>, PathRejection>) -> Response {
    match path {
        Ok(Path(path)) => page_file(&path),
        Err(_) => not_found().into_response(),
    }
}

fn page_file(path: &str) -> Response {
    let Ok(Some(file)) = utoipa_swagger_ui::serve(path, PAGE.clone()) else {
        return not_found().into_response();
    };
    let bytes = match path {
        INDEX => titled(&file.bytes).into(),
        // Not copied: a client that reads slowly would hold what is large.
        _ => file.bytes,
    };
    let mut response = ([(CONTENT_TYPE, file.content_type)], bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, FROM_HERE_ONLY);
    if file.gzpipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn titled(index: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(index).replace("Swagger UI", "identity-ledger API").into_bytes()
}
