//! An answer that is JSON.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

pub fn json(answer: &impl Serialize) -> Response {
    let body = serde_json::to_vec(answer).expect("an answer is plain data");
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
