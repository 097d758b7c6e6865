//! The answer that `/identify`, `/lookup` and `/contacts/{id}` share.

use crate::identity::{Answer, ContactId, Email, PhoneNumber, Position};
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use utoipa::ToSchema;

pub const LEDGER_POSITION: HeaderName = HeaderName::from_static("ledger-position");

/// In contacts. Shorter ones are soon made, and would drive a long one out.
const LONG_LEN_MIN: usize = 100;

/// The customer.
// Borrows: an identity may have ten thousand values.
#[derive(Serialize, ToSchema)]
pub struct Identified<'a> {
    contact: Consolidated<'a>,
}

/// Everything known of one customer: the primary's values first, then in order of contact id.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Consolidated<'a> {
    /// The oldest contact of this customer.
    #[schema(value_type = i64, minimum = 1)]
    primary_contact_id: ContactId,
    /// Each once, in its first spelling.
    #[schema(value_type = Vec<String>)]
    #[serde(serialize_with = "emails")]
    emails: &'a [Email],
    /// Each once, in its first spelling.
    #[schema(value_type = Vec<String>)]
    #[serde(serialize_with = "phone_numbers")]
    phone_numbers: &'a [PhoneNumber],
    /// All other contacts of this customer, ascending.
    #[schema(value_type = Vec<i64>)]
    secondary_contact_ids: &'a [ContactId],
}

pub fn answered(answer: &Answer, position: Position) -> Response {
    response(body(answer), position)
}

/// The body of the last long answer: whoever gets the same one shares it.
#[derive(Default)]
pub struct LongBody {
    last: Mutex<Option<(Weak<Answer>, Bytes)>>,
}

impl LongBody {
    /// As `answered`.
    pub fn answered(&self, answer: &Arc<Answer>, position: Position) -> Response {
        let is_long = answer.secondary_contact_ids.len() >= LONG_LEN_MIN;
        let body = if is_long { self.body(answer) } else { body(answer) };
        response(body, position)
    }

    fn body(&self, answer: &Arc<Answer>) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // No other answer can be where this one is for as long as it is referred to.
        let same = last.as_ref().filter(|(last, _)| last.as_ptr() == Arc::as_ptr(answer));
        if let Some((_, body)) = same {
            return body.clone();
        }
        let body = body(answer);
        *last = Some((Arc::downgrade(answer), body.clone()));
        body
    }
}

fn body(answer: &Answer) -> Bytes {
    let identified = Identified {
        contact: Consolidated {
            primary_contact_id: answer.primary_contact_id,
            emails: &answer.emails,
            phone_numbers: &answer.phone_numbers,
            secondary_contact_ids: &answer.secondary_contact_ids,
        },
    };
    serde_json::to_vec(&identified).expect("an answer is plain data").into()
}

fn response(body: Bytes, position: Position) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (LEDGER_POSITION, HeaderValue::from(position.get())),
    ];
    (headers, body).into_response()
}

fn emails<S: Serializer>(emails: &[Email], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(emails.iter().map(Email::as_str))
}

fn phone_numbers<S: Serializer>(
    phone_numbers: &[PhoneNumber],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(phone_numbers.iter().map(PhoneNumber::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn an_answer_has_its_members_in_order_and_names_its_position() {
        let answer = Answer {
            primary_contact_id: ContactId::new(11),
            emails: vec![Email::recorded("a\"@x"), Email::recorded("ü@x")],
            phone_numbers: vec![PhoneNumber::recorded("017")],
            secondary_contact_ids: vec![ContactId::new(27), ContactId::new(30)],
        };
        let response = answered(&answer, Position::new(42));
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["ledger-position"], "42");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let expected = r#"{"contact":{"primaryContactId":11,"emails":["a\"@x","ü@x"],"phoneNumbers":["017"],"secondaryContactIds":[27,30]}}"#;
        assert_eq!(std::str::from_utf8(&body), Ok(expected));
    }

    #[tokio::test]
    async fn those_who_get_the_same_long_answer_share_its_body() {
        let long = |primary| {
            Arc::new(Answer {
                primary_contact_id: ContactId::new(primary),
                emails: vec![Email::recorded("a@x")],
                phone_numbers: Vec::new(),
                secondary_contact_ids: (2..500).map(ContactId::new).collect(),
            })
        };
        let bodies = LongBody::default();
        let body = async |answer: &Arc<Answer>| {
            let response = bodies.answered(answer, Position::new(1));
            response.into_body().collect().await.unwrap().to_bytes()
        };
        let (first, second) = (long(1), long(1));
        let made = body(&first).await;
        assert_eq!(made, super::body(&first));
        assert_eq!(body(&first).await.as_ptr(), made.as_ptr());
        let other = body(&second).await;
        assert_ne!(other.as_ptr(), made.as_ptr(), "it is an answer of its own");
        drop(second);
        let third = long(7);
        assert_eq!(body(&third).await, super::body(&third));
    }
}
