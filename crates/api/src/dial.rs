//! Connections of this server to others: TLS and HTTP/1.1, one for each request, with what goes wrong in the words of Go's
//! clients, which users know.

use std::io::{Error as IoError, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::auth::{Identity, provider};

/// How long reaching somebody may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to `host`, which proves to be `name` as the configuration wants it.
pub(crate) async fn open<B>(
    config: Arc<ClientConfig>,
    host: &str,
    port: u16,
    name: ServerName<'static>,
) -> Result<SendRequest<B>, String>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let reach = async {
        let stream = TcpStream::connect((host, port)).await.map_err(|error| dialing(&error, &address))?;
        // What goes back and forth is small, as events, lines and keys are.
        let _ = stream.set_nodelay(true);
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| distrusted(&error))
    };
    let stream = tokio::time::timeout(PATIENCE, reach)
        .await
        .map_err(|_| format!("dial tcp {address}: i/o timeout"))??;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends when its sender and its answer are dropped; how, is seen by who reads the answer.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

/// A certificate and its key, as TLS takes them.
pub(crate) fn certified(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
    Ok((vec![certificate.map_err(|error| error.to_string())?], key.map_err(|error| error.to_string())?))
}

/// Carries bytes between two upgraded connections until both are done.
pub(crate) async fn relay(ours: OnUpgrade, theirs: OnUpgrade) {
    let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
    // How it ended is seen by the two who spoke.
    let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
}

fn dialing(error: &IoError, address: &str) -> String {
    let cause = match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {cause}")
}

fn distrusted(error: &IoError) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        // Of an authority of the same name the signature is another's.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned(),
        _ => format!("tls: {error}"),
    }
}

/// Believes every certificate; that its holder has the key is still checked.
#[derive(Debug)]
pub(crate) struct Blind(Arc<CryptoProvider>);

impl Default for Blind {
    fn default() -> Blind {
        Blind(provider())
    }
}

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
