//! Connections that no one reads on the way.

use crate::support::{
    SERVE, Service, TestLedger, command, refuses, scratch_dir, until, until_async,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// A certificate for localhost that no one else vouches for, in two files.
struct Certificate {
    dir: TempDir,
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new() -> Self {
        let dir = scratch_dir();
        let der = renew(dir.path());
        Self { dir, der }
    }

    fn files(&self) -> [PathBuf; 2] {
        files(self.dir.path())
    }
}

fn files(dir: &Path) -> [PathBuf; 2] {
    ["cert.pem", "key.pem"].map(|name| dir.join(name))
}

fn renew(dir: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [certificate, key] = files(dir);
    std::fs::write(certificate, cert.pem()).unwrap();
    std::fs::write(key, signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn serve(url: &str, [certificate, key]: &[PathBuf; 2]) -> std::process::Command {
    let mut serve = command(SERVE);
    serve.args(["--database-url", url]);
    serve.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
    serve
}

/// The head of an answer to a client that trusts this certificate alone.
async fn live(address: &str, trusted: &CertificateDer<'static>) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = "localhost".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let request = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn the_service_is_who_its_certificate_says_and_changes_it_at_a_signal() {
    let (ledger, certificate) = (TestLedger::new().await, Certificate::new());
    let service = Service::spawn(&mut serve(&ledger.url, &certificate.files()));
    assert!(service.log().contains("listening on https://"));
    let answer = live(&service.address, &certificate.der).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let renewed = renew(certificate.dir.path());
    live(&service.address, &renewed).await.unwrap_err();
    service.signal(Signal::HUP);
    until("it is read", || service.log().contains("the TLS certificate was read again"));
    assert!(live(&service.address, &renewed).await.unwrap().contains(" 200 OK"));
    live(&service.address, &certificate.der).await.unwrap_err();

    std::fs::write(&certificate.files()[1], "no key").unwrap();
    service.signal(Signal::HUP);
    until("it is told", || {
        service.log().contains("the certificate stays as it was: cannot read the TLS key")
    });
    assert!(live(&service.address, &renewed).await.unwrap().contains(" 200 OK"));
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_is_not_answered_and_keeps_no_one_waiting() {
    let (ledger, certificate) = (TestLedger::new().await, Certificate::new());
    let service = Service::spawn(&mut serve(&ledger.url, &certificate.files()));
    let _silent = TcpStream::connect(&service.address).await.unwrap();
    let mut plain = TcpStream::connect(&service.address).await.unwrap();
    plain.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    until_async("the connection is closed", async || {
        let _ = plain.read_to_end(&mut answer).await;
        true
    })
    .await;
    assert!(!answer.starts_with(b"HTTP"));
    let begun = std::time::Instant::now();
    let _silent_at_the_end = TcpStream::connect(&service.address).await.unwrap();
    // Those who come later are accepted later.
    assert!(live(&service.address, &certificate.der).await.unwrap().contains(" 200 OK"));
    assert!(service.stop().success());
    assert!(begun.elapsed().as_secs() < 9, "a handshake under way is broken off");
}

/// sqlx reads them when the server has agreed to TLS, and says "No such file or directory" alone.
#[test]
fn a_file_for_tls_with_postgres_that_cannot_be_read_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut clients = Vec::new();
        for client in listener.incoming() {
            let mut client = client.unwrap();
            client.read_exact(&mut [0; 8]).unwrap();
            client.write_all(b"S").unwrap();
            clients.push(client);
        }
    });
    for (parameter, others) in [("sslrootcert", ""), ("sslcert", "&sslkey=/none.key")] {
        let url = format!(
            "postgres://shop@{address}/shop?sslmode=verify-full&{parameter}=/none.pem{others}"
        );
        let said = refuses(command(SERVE).args(["--database-url", &url]));
        let expected = format!(
            "error: cannot read /none.pem, the {parameter} for the connection to Postgres (No such file or \
             directory (os error 2))\n"
        );
        assert_eq!(said, expected);
    }
    // Nothing listens there.
    let url = "postgres://shop@[::1]:1/shop?sslmode=verify-full&sslrootcert=/none.pem";
    let said = refuses(command(SERVE).args(["--database-url", url]));
    assert!(said.starts_with("error: cannot reach Postgres ("), "{said}");
}

#[tokio::test]
async fn files_that_are_no_certificate_and_key_are_refused_by_name() {
    let (ledger, certificate, other) =
        (TestLedger::new().await, Certificate::new(), Certificate::new());
    let [good, key] = certificate.files();
    let [_, other_key] = other.files();
    let nowhere = PathBuf::from("nowhere.pem");
    for (files, expected) in [
        ([nowhere.clone(), key.clone()], "cannot read the TLS certificate nowhere.pem: No such"),
        ([good.clone(), nowhere], "cannot read the TLS key nowhere.pem: No such file"),
        ([key.clone(), key], "key.pem: there is none in it"),
        ([good, other_key], "does not fit"),
    ] {
        let said = refuses(&mut serve(&ledger.url, &files));
        assert!(said.contains(expected), "{said}");
    }
}
