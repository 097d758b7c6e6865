//! TLS: the certificate that connections are answered with, and its key.

use anyhow::{Context as _, anyhow};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// A certificate and its key, as two files have them. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    files: Arc<Files>,
    config: watch::Sender<Arc<ServerConfig>>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Tls {
    /// Reads a certificate, with those that vouch for it, and its key: both PEM. An error is one
    /// line that says which file to change.
    pub fn open(certificate: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        let files = Files { certificate, key };
        let config = watch::Sender::new(files.read()?.into());
        Ok(Self { files: files.into(), config })
    }

    /// Reads both files again, for connections to come. If they cannot be read, all stays as
    /// it was.
    pub fn reopen(&self) -> anyhow::Result<()> {
        self.config.send_replace(self.files.read()?.into());
        Ok(())
    }

    /// Shakes hands with a client.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        let config = self.config.borrow().clone();
        TlsAcceptor::from(config).accept(stream).await
    }
}

impl Files {
    fn read(&self) -> anyhow::Result<ServerConfig> {
        let Self { certificate, key } = self;
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| unreadable("certificate", certificate, error))?;
        if chain.is_empty() {
            return Err(unreadable("certificate", certificate, pem::Error::NoItemsFound));
        }
        let secret =
            PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("key", key, error))?;
        let fit = || format!("{} does not fit {}", key.display(), certificate.display());
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .with_context(fit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Says nothing of what is in the file.
fn unreadable(what: &str, file: &Path, error: pem::Error) -> anyhow::Error {
    let why: &dyn Display = match &error {
        pem::Error::Io(error) => error,
        pem::Error::NoItemsFound => &"there is none in it",
        _ => &"it is not PEM",
    };
    anyhow!("cannot read the TLS {what} {}: {why}", file.display())
}
