//! The answer that `/identify`, `/lookup` and `/contacts/{id}` share.

use crate::identity::{Answer, ContactId, Email, PhoneNumber, Position};
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

pub const LEDGER_POSITION: HeaderName = HeaderName::from_static("ledger-position");

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
    /// All other contacts of this customer, in ascending order.
    #[schema(value_type = Vec<i64>)]
    secondary_contact_ids: &'a [ContactId],
}

/// A long answer is written once, and its body shared by all who get it.
pub fn answered(answer: &Answer, position: Position) -> Response {
    let write = || write(answer);
    let body = match answer.is_long() {
        true => Bytes::from_owner(answer.written.or_write(write)),
        false => write().into(),
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(LEDGER_POSITION, position.get().into());
    response
}

fn write(answer: &Answer) -> Vec<u8> {
    let identified = Identified {
        contact: Consolidated {
            primary_contact_id: answer.primary_contact_id,
            emails: &answer.emails,
            phone_numbers: &answer.phone_numbers,
            secondary_contact_ids: &answer.secondary_contact_ids,
        },
    };
    serde_json::to_vec(&identified).expect("an answer is plain data")
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
    use crate::identity::Written;
    use http_body_util::BodyExt as _;
    use std::sync::Arc;

    #[tokio::test]
    async fn an_answer_has_its_members_in_order_and_names_its_position() {
        let answer = Answer {
            primary_contact_id: ContactId::new(11),
            emails: vec![Email::recorded("a\"@x"), Email::recorded("ü@x")],
            phone_numbers: vec![PhoneNumber::recorded("017")],
            secondary_contact_ids: vec![ContactId::new(27), ContactId::new(30)],
            written: Written::default(),
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
    async fn the_body_of_a_long_answer_is_shared_and_goes_with_it() {
        let answer = Answer {
            primary_contact_id: ContactId::new(1),
            emails: vec![Email::recorded("a@x")],
            phone_numbers: Vec::new(),
            secondary_contact_ids: (2..500).map(ContactId::new).collect(),
            written: Written::default(),
        };
        let body = async || {
            let response = answered(&answer, Position::new(1));
            response.into_body().collect().await.unwrap().to_bytes()
        };
        let first = body().await;
        assert_eq!(first, write(&answer));
        assert_eq!(body().await.as_ptr(), first.as_ptr());
        let kept = Arc::downgrade(&answer.written.or_write(|| unreachable!("it is written")));
        drop(answer);
        assert!(kept.upgrade().is_some(), "it is being sent");
        drop(first);
        assert!(kept.upgrade().is_none(), "nothing else remembers it");
    }
}
