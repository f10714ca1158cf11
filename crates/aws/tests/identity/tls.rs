//! Services that are reached by HTTPS, as AWS' own are: by an authority that `AWS_CA_BUNDLE` names, and by nobody's word else.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use aws::{Aws, Config, Environment};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use testkit::faulty::{answer, head};

use crate::world::{OFF, REGION, World, answered, ask};

/// An authority, whose certificate is in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    bundle: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::default());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let bundle = dir.join(name);
        fs::write(&bundle, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), bundle }
    }

    /// Answers as the world does, by HTTPS, for who reaches it under this name.
    fn serve(&self, world: &World, name: &str) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = config.unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
        let (config, state) = (Arc::new(config), world.shared());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, state) = (config.clone(), state.clone());
                thread::spawn(move || {
                    let connection = ServerConnection::new(config).unwrap();
                    let mut stream = StreamOwned::new(connection, stream.unwrap());
                    // Who does not believe the certificate says nothing else.
                    let Some(request) = head(&mut stream) else { return };
                    let (status, text) = answered(&state, &request);
                    answer(&mut stream, status, "", text.as_bytes());
                    stream.conn.send_close_notify();
                    // The client may have what it wants already.
                    let _ = stream.flush();
                });
            }
        });
        address
    }
}

/// A provider whose services are there.
fn provider(at: SocketAddr, bundle: Option<&Path>) -> Aws {
    let at = format!("https://{at}");
    let mut variables = vec![
        REGION,
        OFF,
        ("AWS_ENDPOINT_URL", at.as_str()),
        ("AWS_ACCESS_KEY_ID", "base"),
        ("AWS_SECRET_ACCESS_KEY", "hush-base"),
    ];
    variables.extend(bundle.map(|path| ("AWS_CA_BUNDLE", path.to_str().unwrap())));
    let config: Config = "[Global]\nRoleARN = arn:aws:iam::1:role/cloud\n".parse().unwrap();
    let environment: Environment = variables.into_iter().collect();
    Aws::new(config, environment).unwrap()
}

#[tokio::test]
async fn services_prove_themselves_by_the_bundles_authority() {
    let (world, dir) = (World::start(), tempfile::tempdir().unwrap());
    let authority = Authority::new(dir.path(), "ca.pem");
    let address = authority.serve(&world, "127.0.0.1");
    let provider = provider(address, Some(&authority.bundle));
    ask(&provider).await.unwrap();
    ask(&provider).await.unwrap();
    let heard = [
        "AssumeRole cloud by base for eu-central-1/sts",
        "DescribeInstances by cloud-1 for eu-central-1/ec2",
        "DescribeInstances by cloud-1 for eu-central-1/ec2",
    ];
    assert_eq!(world.heard(), heard);
}

/// Nothing is sent to any of them: neither a key nor what a role would be taken on by.
#[tokio::test]
async fn who_does_not_prove_itself_hears_nothing() {
    let (world, dir) = (World::start(), tempfile::tempdir().unwrap());
    let (own, other) = (Authority::new(dir.path(), "own.pem"), Authority::new(dir.path(), "other.pem"));
    let address = own.serve(&world, "127.0.0.1");
    let unknown = provider(address, None);
    let others = provider(address, Some(&other.bundle));
    let misnamed = provider(own.serve(&world, "ec2.eu-central-1.amazonaws.com"), Some(&own.bundle));
    // Without TLS at all: a server of today says so in plain text.
    let plain = provider(world.at("").trim_start_matches("http://").parse().unwrap(), Some(&own.bundle));
    let asked = tokio::join!(ask(&unknown), ask(&others), ask(&misnamed), ask(&plain));
    let (unknown, others, misnamed, plain) = asked;
    for (name, error, told) in [
        ("unknown", unknown, "UnknownIssuer"),
        ("others", others, "UnknownIssuer"),
        ("misnamed", misnamed, "not valid for name"),
        ("plain", plain, "cannot reach https://127.0.0.1"),
    ] {
        let error = error.unwrap_err();
        assert!(error.contains(told) && !error.contains("hush"), "{name}: {error}");
    }
    assert_eq!(world.heard(), [""; 0]);
}

#[test]
fn a_bundle_that_is_none_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, empty, torn) =
        (dir.path().join("missing"), dir.path().join("empty"), dir.path().join("torn"));
    fs::write(&empty, "no certificate\n").unwrap();
    let torn_text = "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n";
    fs::write(&torn, torn_text).unwrap();
    for path in [missing, empty, torn] {
        let text = path.to_str().unwrap();
        let environment: Environment = [REGION, ("AWS_CA_BUNDLE", text)].into_iter().collect();
        let error = Aws::new(Config::default(), environment).unwrap_err().to_string();
        assert!(error.contains(&format!("cannot use AWS_CA_BUNDLE {text}")), "{error}");
    }
}
