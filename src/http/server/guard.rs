//! Lets a request through to its route, or says which token it takes.

use super::around::Around;
use super::head::is_asked_locally;
use super::noted::ReadRequest;
use super::serve::is_stream;
use crate::access::{Holder, Refused, Role};
use crate::http::Access;
use crate::http::parts::idempotency::REPLAY;
use crate::http::parts::problem::{Problem, documented};
use crate::identity::Asker;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};
use utoipa::openapi::{RefOr, response};

/// Who may ask a route.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Anybody,
    /// Anyone on this machine who asks by an address or as localhost; others, if they are auditors or
    /// operators. A name may have led a web page here, as `HeadCheck` says.
    ThisMachine,
    /// Holders of tokens of these roles, and operators, who may ask everything.
    Holders(&'static [Role]),
}

/// Whether it is put on record which auditor or operator asked a route.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It shows identifiers.
    Reads,
    /// It shows identifiers, and records nothing itself if it answers a retry.
    Replays,
    Nothing,
}

/// Where a request comes from.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Stands before one route.
pub struct Guard {
    pub who: Who,
    pub note: Note,
    pub access: Access,
}

/// Why a request is not let through.
enum Refusal {
    NoToken,
    NotGood,
    WrongRole(Who),
    TooOften { wait: Duration },
}

/// Who is let through, and what is put on record of it.
pub struct Admitted {
    holder: Arc<Holder>,
    asked: Option<ReadRequest>,
}

/// Who asks, as the guard of the route has found out; none if no token is needed.
pub struct AskedBy(pub Option<Asker>);

impl<S: Sync> FromRequestParts<S> for AskedBy {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}

impl Admitted {
    pub fn asker(&self) -> &Asker {
        &self.holder.asker
    }
}

impl Around for Arc<Guard> {
    /// None if no token is needed.
    type Kept = Option<Admitted>;

    fn before(&self, request: &mut Request) -> Result<Self::Kept, Box<Response>> {
        let admitted = self.check(request)?;
        if let Some(admitted) = &admitted {
            request.extensions_mut().insert(admitted.asker().clone());
        }
        Ok(admitted)
    }

    fn after(&self, admitted: Self::Kept, response: Response) -> Response {
        let Some(Admitted { holder, asked }) = admitted else { return response };
        if let Some(asked) = asked
            && response.status().is_success()
            && self.note.is_of(&response)
        {
            self.access.reads.note(asked.read(&holder, &response));
        }
        if is_stream(&response) { self.while_good(holder, response) } else { response }
    }
}

impl Guard {
    /// Lets a request through, or answers it. None if no token is needed.
    pub fn check(&self, request: &Request) -> Result<Option<Admitted>, Box<Response>> {
        let refused = |refusal: Refusal| Box::new(refusal.into_response());
        let Some(holder) = self.admit(request).map_err(refused)? else { return Ok(None) };
        let is_noted = self.note != Note::Nothing && holder.role != Role::Caller;
        let asked = is_noted.then(|| ReadRequest::of(request)).transpose();
        let asked = asked.map_err(|problem| Box::new(problem.into_response()))?;
        Ok(Some(Admitted { holder, asked }))
    }

    /// Who asks; none if no token is needed.
    fn admit(&self, request: &Request) -> Result<Option<Arc<Holder>>, Refusal> {
        let peer = request.extensions().get::<Peer>();
        match self.who {
            Who::Anybody => return Ok(None),
            Who::ThisMachine
                if peer.is_some_and(Peer::is_this_machine) && is_asked_locally(request) =>
            {
                return Ok(None);
            }
            Who::ThisMachine | Who::Holders(_) => {}
        }
        let token = bearer(request.headers()).ok_or(Refusal::NoToken)?;
        let admitted = self.access.gate.admit(token, Instant::now(), SystemTime::now().into());
        let holder = admitted.map_err(|refused| match refused {
            Refused::NotGood => Refusal::NotGood,
            Refused::TooOften { wait } => Refusal::TooOften { wait },
        })?;
        if self.who.roles().all(|role| role != holder.role) {
            return Err(Refusal::WrongRole(self.who));
        }
        Ok(Some(holder))
    }

    /// Breaks a stream off when its token is no longer good.
    fn while_good(&self, holder: Arc<Holder>, response: Response) -> Response {
        let gate = self.access.gate.clone();
        let until = async move { gate.until_revoked(holder, SystemTime::now().into()).await };
        let mut revoked = Box::pin(until);
        response.map(|body| {
            let mut chunks = body.into_data_stream();
            Body::from_stream(poll_fn(move |context| match revoked.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err("the token is no longer good".into()))),
                Poll::Pending => chunks.poll_next_unpin(context).map_err(axum::Error::into_inner),
            }))
        })
    }
}

impl Note {
    fn is_of(self, answer: &Response) -> bool {
        match self {
            Self::Reads => true,
            Self::Replays => answer.headers().contains_key(REPLAY.0),
            Self::Nothing => false,
        }
    }
}

impl Who {
    /// The roles whose tokens are let in; none if no token is needed.
    pub fn roles(self) -> impl Iterator<Item = Role> {
        let (others, operator) = match self {
            Self::Anybody => (&[][..], None),
            Self::ThisMachine => (&[Role::Auditor][..], Some(Role::Operator)),
            Self::Holders(roles) => (roles, Some(Role::Operator)),
        };
        others.iter().copied().chain(operator)
    }
}

impl Peer {
    fn is_this_machine(&self) -> bool {
        self.0.to_canonical().is_loopback()
    }
}

/// The token that a request shows (RFC 6750, section 2.1): one, or none.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(AUTHORIZATION).into_iter();
    let (value, None) = (given.next()?, given.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The OpenAPI text of the refusals that all guarded routes share, by their status.
pub fn refusals() -> BTreeMap<String, RefOr<response::Response>> {
    let all =
        [Refusal::NoToken, Refusal::NotGood, Refusal::TooOften { wait: Duration::from_secs(1) }];
    documented(all.iter().map(Refusal::problem))
}

/// What a token of another role is told, if there is one that a route does not let in.
pub fn wrong_role(who: Who) -> Option<Problem> {
    let is_let_in = |role: &Role| who.roles().any(|other| other == *role);
    let is_for_all = who == Who::Anybody || Role::all().iter().all(is_let_in);
    (!is_for_all).then(|| Refusal::WrongRole(who).problem())
}

impl Refusal {
    fn problem(&self) -> Problem {
        match self {
            Self::NoToken => {
                let detail = "Send a token with the header authorization: Bearer <token>.";
                Problem::new(StatusCode::UNAUTHORIZED, detail)
            }
            Self::NotGood => {
                let detail =
                    "This token is unknown, expired or revoked. Ask an operator for another.";
                Problem::new(StatusCode::UNAUTHORIZED, detail)
            }
            Self::WrongRole(who) => {
                let roles = who.roles().map(Role::as_str).collect::<Vec<_>>().join(" or ");
                let detail = format!("Send a token with the role {roles}.");
                Problem::new(StatusCode::FORBIDDEN, detail)
            }
            Self::TooOften { .. } => {
                let detail =
                    "This token asks too often. Wait as long as the header retry-after says.";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
            }
        }
    }

    /// RFC 6750, section 3, which wants a parameter in each challenge.
    fn header(&self) -> (axum::http::HeaderName, HeaderValue) {
        let challenge = match self {
            Self::NoToken => r#"Bearer realm="identity-ledger""#,
            Self::NotGood => r#"Bearer realm="identity-ledger", error="invalid_token""#,
            Self::WrongRole(_) => r#"Bearer realm="identity-ledger", error="insufficient_scope""#,
            Self::TooOften { wait } => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                return (RETRY_AFTER, seconds.into());
            }
        };
        (WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        ([self.header()], self.problem()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_is_read_however_the_scheme_is_written() {
        let read = |values: &[&str]| {
            let headers = values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap()));
            bearer(&HeaderMap::from_iter(headers)).map(<[u8]>::to_vec)
        };
        assert_eq!(read(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(read(&["bearer   abc "]), Some(b"abc".to_vec()));
        for none in [&[][..], &["Basic abc"], &["Bearer"], &["Bearer abc", "Bearer abc"]] {
            assert_eq!(read(none), None, "{none:?}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        let is_here = |address: &str| Peer(address.parse().unwrap()).is_this_machine();
        assert!(["127.0.0.1", "127.9.0.1", "::1", "::ffff:127.0.0.1"].into_iter().all(is_here));
        assert!(!["10.0.0.1", "::", "::ffff:10.0.0.1", "0.0.0.0"].into_iter().any(is_here));
    }
}
