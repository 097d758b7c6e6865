//! Error answers: problem documents (RFC 9457).

use crate::identity::Invalid;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ContentBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder};

const PROBLEM_JSON: &str = "application/problem+json";

/// Why there is no answer, and what to change. Repeats nothing that the caller sent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind of problem this is.
    r#type: &'static str,
    /// The name of the status.
    title: &'static str,
    status: u16,
    /// What to change.
    detail: Cow<'static, str>,
    /// The member of the request that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'static str>,
    /// What is expected there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expected: Option<Cow<'static, str>>,
    /// Whether the observation is in the ledger all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    recorded: Option<InLedger>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InLedger {
    No,
    Unknown,
    /// It was before, under the same Idempotency-Key.
    Yes,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            r#type: "about:blank",
            title: title(status),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            expected: None,
            recorded: None,
        }
    }

    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn bad_field(field: &'static str, expected: impl Into<Cow<'static, str>>) -> Self {
        let expected = expected.into();
        let problem = Self::bad_request(format!("Change {field}: expected {expected}."));
        Self { expected: Some(expected), ..problem.field(field) }
    }

    pub fn status(self, status: StatusCode) -> Self {
        Self { title: title(status), status: status.as_u16(), ..self }
    }

    pub fn field(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    pub fn recorded(self, recorded: InLedger) -> Self {
        Self { recorded: Some(recorded), ..self }
    }
}

/// As RFC 9110 names it: crate http has older names of two.
fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Content Too Large",
        StatusCode::UNPROCESSABLE_ENTITY => "Unprocessable Content",
        _ => status.canonical_reason().unwrap_or_default(),
    }
}

/// The OpenAPI text of these problems, made of the very documents that are sent.
pub fn documented(
    problems: impl IntoIterator<Item = Problem>,
) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut by_status = BTreeMap::<u16, Vec<Problem>>::new();
    for problem in problems {
        by_status.entry(problem.status).or_default().push(problem);
    }
    by_status.into_iter().map(described).collect()
}

fn described(
    (status, problems): (u16, Vec<Problem>),
) -> (String, RefOr<utoipa::openapi::Response>) {
    let title = problems[0].title;
    let examples = problems.into_iter().zip(1..).map(|(problem, number): (_, u8)| {
        let example = ExampleBuilder::new().summary(&*problem.detail).value(Some(json!(problem)));
        (number.to_string(), example.build())
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(examples)
        .build();
    let mut response = ResponseBuilder::new().description(title).content(PROBLEM_JSON, content);
    let header = match status {
        401 | 403 => Some(("www-authenticate", Type::String, "As RFC 6750 says")),
        429 | 503 => Some(("retry-after", Type::Integer, "Seconds")),
        _ => None,
    };
    if let Some((name, schema_type, description)) = header {
        let schema = ObjectBuilder::new().schema_type(schema_type);
        let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description));
        response = response.header(name, header.build());
    }
    (status.to_string(), response.build().into())
}

impl From<Invalid> for Problem {
    fn from(Invalid { field, expected }: Invalid) -> Self {
        Self::bad_field(field, expected)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("it was made from a status");
        let body = serde_json::to_vec(&self).expect("a problem is plain data");
        // A cache may keep a 404 or a 410 unless it is told not to (RFC 9110, section 15.1).
        let headers = [(CONTENT_TYPE, PROBLEM_JSON), (CACHE_CONTROL, "no-store")];
        let mut response = (status, headers, body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

pub fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "There is nothing at this path. /docs lists what there is.")
}

/// `OPTIONS *` asks of no path, but whether the service answers at all (RFC 9110, section 9.3.7).
pub async fn no_route(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS && uri.path() == "*" {
        return StatusCode::NO_CONTENT.into_response();
    }
    not_found().into_response()
}

/// The router adds the header `allow`.
pub async fn method_not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail = "Use a method that the header allow lists.";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response()
}
