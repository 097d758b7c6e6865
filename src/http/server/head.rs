//! What is required of every request's head, whatever it asks. Hyper sees to the rest of HTTP.

use super::around::Around;
use crate::http::parts::problem::Problem;
use axum::extract::Request;
use axum::http::header::{HOST, TRANSFER_ENCODING};
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse as _, Response};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Stands before all routes.
#[derive(Clone)]
pub struct HeadCheck {
    /// Refuses to be asked by a name that could be anyone's. A web page's own name may lead to this
    /// machine (DNS rebinding): to the browser, the service and the page are then one, and the page
    /// may ask whatever the person at the browser may.
    pub local_names_only: bool,
}

impl Around for HeadCheck {
    type Kept = ();

    fn before(&self, request: &mut Request) -> Result<(), Box<Response>> {
        self.check(request).map_err(|problem| Box::new(problem.into_response()))
    }

    fn after(&self, (): (), response: Response) -> Response {
        response
    }
}

impl HeadCheck {
    fn check(&self, request: &Request) -> Result<(), Problem> {
        if self.local_names_only && !is_asked_locally(request) {
            return Err(not_a_local_name());
        }
        let (mut hosts_len, mut encodings_len) = (0, 0);
        for (name, value) in request.headers() {
            if name == HOST {
                hosts_len += 1;
            } else if name == TRANSFER_ENCODING {
                encodings_len += 1;
                if encodings_len > 1 || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(not_an_encoding());
                }
            }
        }
        // RFC 9112, section 3.2: another server on the way may have taken another host for the one meant.
        if request.version() == Version::HTTP_11 && hosts_len != 1 {
            return Err(Problem::bad_request("Send the header host once."));
        }
        Ok(())
    }
}

/// Whether all names that a request is sent to are addresses or localhost.
pub fn is_asked_locally(request: &Request) -> bool {
    // In the absolute form of a target, the name that counts is there (RFC 9112, section 3.2.2).
    let target = request.uri().host();
    let hosts = request.headers().get_all(HOST).into_iter();
    let mut hosts = hosts.map(|host| without_port(host.to_str().unwrap_or_default()));
    target.is_none_or(is_local_or_address) && hosts.all(is_local_or_address)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // Within brackets it is a colon of an IPv6 address.
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

/// Whether no DNS server had a say in where the name leads: browsers and systems resolve `localhost`,
/// and what ends in it, by themselves (RFC 6761, section 6.3).
fn is_local_or_address(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let in_brackets = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = in_brackets {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_localhost = |label: &str| label.eq_ignore_ascii_case("localhost");
    name.parse::<Ipv4Addr>().is_ok() || name.rsplit('.').next().is_some_and(is_localhost)
}

fn not_a_local_name() -> Problem {
    let detail = "Without tokens, this service is asked by an IP address or as localhost. Ask by \
        127.0.0.1 or localhost, or start it with --tokens or --no-auth.";
    Problem::new(StatusCode::MISDIRECTED_REQUEST, detail)
}

/// RFC 9112, section 6.1: a body would be read in a form that is not known here.
fn not_an_encoding() -> Problem {
    let detail = "Send the body with no transfer-encoding but chunked.";
    Problem::new(StatusCode::NOT_IMPLEMENTED, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_dns_server_could_have_made_up_is_not_local() {
        let is_local = |host: &&str| is_local_or_address(without_port(host));
        let local = [
            "127.0.0.1",
            "127.0.0.1:10000",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:10000",
            "[2001:DB8::1]:443",
            "localhost",
            "LocalHost:10000",
            "localhost.",
            "localhost.:10000",
            "shop.localhost",
            "shop.LOCALHOST.:10000",
        ];
        for host in local {
            assert!(is_local(&host), "{host}");
        }
        let others = [
            "",
            ":10000",
            ".",
            "evil.example",
            "evil.example:10000",
            "evil.example.",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil-localhost",
            "evillocalhost:10000",
            "localhost..",
            "127.0.0.1.1",
            "::1",
            "[::1",
            "[evil.example]",
            "[::1]evil.example",
            "evil.example:localhost",
            "evil.example:[::1]:80",
        ];
        for host in others {
            assert!(!is_local(&host), "{host}");
        }
    }
}
