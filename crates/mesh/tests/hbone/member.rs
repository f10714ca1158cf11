//! Somebody who speaks HBONE and does not do as the mesh does.
#![allow(dead_code, reason = "tests of the crate and beside it use parts of it")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use mesh::h2::{Connection, Event, Field, Limits, Side};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use crate::authority::Issued;
use crate::site::PATIENCE;

/// Believes anybody: it is not who is tested.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS over a connection to somebody's port of HBONE. Without `shown` there is no certificate.
pub(crate) fn greet(stream: TcpStream, shown: Option<&Issued>) -> StreamOwned<ClientConnection, TcpStream> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let mut config = match shown {
        Some(Issued { certificate, key }) => {
            let key = PrivateKeyDer::try_from(key.clone()).unwrap();
            config.with_client_auth_cert(vec![certificate.clone().into()], key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::IpAddress(stream.peer_addr().unwrap().ip().into());
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// Sends a CONNECT over a connection to somebody's port of HBONE; the status of the answer, or `None` where the connection ends before there is
/// one. Without `shown` there is no certificate.
pub(crate) fn ask(stream: TcpStream, shown: Option<&Issued>, authority: &str) -> Option<u16> {
    let mut tls = greet(stream, shown);
    let mut connection = Connection::new(Side::Client, Limits::default());
    let fields = [Field::new(":method", "CONNECT"), Field::new(":authority", authority)];
    connection.open(fields.iter().copied(), false).unwrap();
    let mut came = Vec::new();
    loop {
        tls.write_all(connection.output()).ok()?;
        tls.flush().ok()?;
        connection.sent(connection.output().len());
        let mut piece = [0; 4096];
        match tls.read(&mut piece) {
            Ok(count @ 1..) => came.extend_from_slice(&piece[..count]),
            _ => return None,
        }
        let mut status = None;
        while let Ok((used @ 1.., event)) = connection.receive(Instant::now(), &came) {
            if let Some(Event::Head { .. }) = event {
                let text = connection.fields().get(b":status").unwrap();
                status = std::str::from_utf8(text).unwrap().parse().ok();
            }
            came.drain(..used);
        }
        if status.is_some() {
            return status;
        }
    }
}
