use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use kube::client::Body;
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::*;
use crate::client::{Credentials, Limits, Link};

struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> Authority {
    let (mut params, key) = (params(name), KeyPair::generate().unwrap());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Authority { certificate: params.self_signed(&key).unwrap(), issuer: Issuer::new(params, key) }
}

impl Authority {
    fn sign(&self, params: &CertificateParams) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// What connecting comes to, at a server with this certificate, by this authority.
async fn fault(server: (Certificate, KeyPair), authority: &Certificate) -> String {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(server.1.serialize_der().into());
    let config = builder.with_single_cert(vec![server.0.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = acceptor.accept(stream).await;
        std::future::pending::<()>().await;
    };
    tokio::select! { text = connect(port, authority) => text, () = serving => unreachable!() }
}

async fn connect(port: u16, authority: &Certificate) -> String {
    let kubeconfig = format!(
        "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority-data: {}}}}}]\n\
         users: [{{name: u, user: {{token: hunter2}}}}]\n",
        STANDARD.encode(authority.pem())
    );
    let cluster = "eu".parse().unwrap();
    let credentials = Credentials::parse(&cluster, &kubeconfig).unwrap();
    let mut link = Link::new(&cluster, &credentials, &Limits::default()).unwrap();
    let answer = link.call(Request::get("/version").body(Body::empty()).unwrap()).await;
    answer.map(|_| ()).unwrap_err().to_string()
}

#[tokio::test]
async fn each_fault_of_a_servers_certificate_has_its_own_sentence() {
    let ours = authority("ours");
    let told = fault(ours.sign(&params("server")), &authority("theirs").certificate).await;
    assert!(told.contains("comes from another authority than certificate-authority-data holds"), "{told}");

    let (leaf, key) = ours.sign(&params("server"));
    let given = leaf.clone();
    let told = fault((leaf, key), &given).await;
    assert!(told.contains("holds the certificate of a server and not that of its authority"), "{told}");

    let mut expired = params("server");
    (expired.not_before, expired.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 3, 4));
    let told = fault(ours.sign(&expired), &ours.certificate).await;
    assert!(told.contains("expired at 2002-03-04T00:00:00Z"), "{told}");

    let mut old = params("ours");
    (old.not_before, old.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 3, 4));
    let old = old.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let told = fault(ours.sign(&params("server")), &old).await;
    assert!(
        told.contains("the authority in certificate-authority-data expired at 2002-03-04T00:00:00Z"),
        "{told}"
    );

    let mut early = params("server");
    early.not_before = date_time_ymd(2090, 1, 2);
    let told = fault(ours.sign(&early), &ours.certificate).await;
    assert!(told.contains("valid only from 2090-01-02T00:00:00Z on"), "{told}");

    let mut elsewhere = CertificateParams::new(vec!["api.example.com".to_owned()]).unwrap();
    elsewhere.distinguished_name.push(DnType::CommonName, "server");
    let told = fault(ours.sign(&elsewhere), &ours.certificate).await;
    assert!(told.contains("is for api.example.com and not for 127.0.0.1: set tls-server-name"), "{told}");

    let mut as_server = params("server");
    as_server.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let told = fault(ours.sign(&as_server), &ours.certificate).await;
    assert!(told.contains("is that of an authority: make one for the server"), "{told}");

    let told = fault(authority("ours").sign(&params("server")), &ours.certificate).await;
    assert!(
        told.contains("another key than that of the authority") || told.contains("another authority"),
        "{told}"
    );
}

#[tokio::test]
async fn a_port_that_does_not_speak_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    };
    let ours = authority("ours").certificate;
    let told = tokio::select! { text = connect(port, &ours) => text, () = serving => unreachable!() };
    assert!(told.contains("does not speak TLS"), "{told}");
}

#[test]
fn faults_without_a_server_at_hand_are_told_too() {
    let explain = |shows, error: rustls::Error| {
        let trust = Trust::of(None, shows);
        trust.explain(&std::io::Error::other(error)).map(Explained::into_text).unwrap_or_default()
    };
    let other = |error: webpki::Error| {
        rustls::Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(error))))
    };
    assert!(explain(false, other(webpki::Error::UnsupportedCertVersion)).contains("X.509 of version 1"));
    assert!(explain(false, other(webpki::Error::EndEntityUsedAsCa)).contains("none of an authority"));
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert!(explain(false, unknown).contains("no authority that this machine knows"));
    let alert = rustls::Error::AlertReceived;
    assert!(
        explain(false, alert(AlertDescription::CertificateRequired)).contains("demands a client certificate")
    );
    assert!(
        explain(true, alert(AlertDescription::CertificateExpired))
            .contains("client certificate: it has expired")
    );
    assert!(explain(true, alert(AlertDescription::UnknownCA)).contains("does not know"));
    assert!(
        explain(true, alert(AlertDescription::DecryptError)).contains("another authority of the same name")
    );
    assert!(
        explain(false, alert(AlertDescription::HandshakeFailure)).contains("demands a client certificate")
    );
    assert!(explain(true, alert(AlertDescription::ProtocolVersion)).contains("no TLS version"));
    assert!(explain(false, other(webpki::Error::NameConstraintViolation)).contains("may not sign"));
    assert_eq!(explain(true, rustls::Error::HandshakeNotComplete), "");
    assert_eq!(Trust::of(None, true).explain(&std::io::Error::other("else")), None);
}
