//! The parameters of a query, each once, and none that its route does not know: one that is misspelt
//! would be another question, answered in silence. And how the document describes headers.

use super::problem::Problem;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required};

/// What is made of them must deny unknown fields, and take any text.
pub struct Parameters<T>(pub T);

/// For routes that take none.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

impl<S: Sync, T: DeserializeOwned + IntoParams> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        query.map(|Query(asked)| Self(asked)).map_err(|_| not_these::<T>())
    }
}

/// How the document describes a header that may be sent. Of an `Option`, utoipa would say that it may be null.
pub fn header(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

pub fn not_these<T: IntoParams>() -> Problem {
    let known: Vec<_> = T::into_params(|| None).into_iter().map(|it| it.name).collect();
    if known.is_empty() {
        return Problem::bad_request("Send no parameters.");
    }
    let known = known.join(", ");
    Problem::bad_request(format!("Send each parameter once, and none but these: {known}."))
}
