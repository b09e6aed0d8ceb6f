//! Trust in client certificates: at the handshake, after a reload, and over the lifetime of a connection.

use rcgen::string::BmpString;
use rcgen::{
    CertificateRevocationListParams, DnValue, KeyIdMethod, RevokedCertParams, SanType, SerialNumber,
};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::*;

impl Authority {
    /// Writes a revocation list of these certificates with this next update, and one that is overdue.
    fn revoke(&self, file: &str, revoked: &[&IdentityFiles], due: Duration) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let start = rcgen::date_time_ymd(1970, 1, 1);
        let issued = start + now - Duration::from_hours(48);
        let serial = |files: &&IdentityFiles| {
            let der = CertificateDer::from_pem_file(&files.crt).unwrap();
            let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
            SerialNumber::from_slice(certificate.raw_serial())
        };
        let revoked_certs = revoked.iter().map(|files| RevokedCertParams {
            serial_number: serial(files),
            revocation_time: issued,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: issued,
            next_update: issued + due,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        std::fs::write(self.path(file), list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
    }
}

/// Connects as this client; returns the lifetime of the connection and its open ends.
async fn connected(
    port: u16,
    client: &ClientFiles,
    connections: &mut (impl Stream<Item = Connection> + Unpin),
) -> (Lifetime, Connection) {
    let client = client.clone();
    tokio::spawn(async move { check(port, &client).await });
    let connection = connections.next().await.unwrap();
    (connection.connect_info().lifetime, connection)
}

#[tokio::test]
async fn connections_end_when_the_authority_of_their_clients_changes() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = Arc::new(ServerTls::load(old.server(true)).unwrap());
    let (port, mut connections) = listen(Some(Arc::clone(&tls))).await;
    let client = old.client(Some(old.issue("bridge", &[])));
    let (lifetime, _open) = connected(port, &client, &mut connections).await;
    std::fs::copy(old.issue("server", &[]).crt, old.path("unused")).unwrap();
    tls.reload().unwrap();
    assert_eq!(lifetime.end(), None, "a new certificate of the server is no reason");
    std::fs::copy(new.path("ca.crt"), old.path("ca.crt")).unwrap();
    assert!(tls.reload().unwrap());
    assert_eq!(lifetime.end(), Some(End::Distrusted));
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_open_connection_ends() {
    let authority = Authority::new();
    let far = Duration::from_hours(96);
    authority.revoke("crl.pem", &[], far);
    let files = ServerFiles { client_crl: Some(authority.path("crl.pem")), ..authority.server(true) };
    let tls = Arc::new(ServerTls::load(files).unwrap());
    let (port, mut connections) = listen(Some(Arc::clone(&tls))).await;
    let served = serve(Arc::clone(&tls)).await;
    let (bad, good) = (authority.issue("bad", &[]), authority.issue("good", &[]));
    let clients = [&bad, &good].map(|identity| authority.client(Some(identity.clone())));
    let (of_bad, _open) = connected(port, &clients[0], &mut connections).await;
    let (of_good, _open) = connected(port, &clients[1], &mut connections).await;
    assert_eq!(check(served, &clients[0]).await, Ok(()));

    authority.revoke("crl.pem", &[&bad], far);
    assert!(tls.reload().unwrap());
    assert_eq!((of_bad.end(), of_good.end()), (Some(End::Distrusted), None));
    assert!(check(served, &clients[0]).await.is_err());
    assert_eq!(check(served, &clients[1]).await, Ok(()));

    std::fs::write(authority.path("crl.pem"), "nothing").unwrap();
    tls.reload().unwrap_err();
    assert!(check(served, &clients[0]).await.is_err(), "the last good list stays");

    authority.revoke("crl.pem", &[&bad], Duration::from_hours(1));
    assert!(tls.reload().unwrap());
    assert!(check(served, &clients[0]).await.is_err(), "an overdue list still counts");
    assert_eq!(check(served, &clients[1]).await, Ok(()), "and keeps nobody else out");
}

#[test]
fn a_file_without_a_revocation_list_is_refused_at_the_start() {
    let authority = Authority::new();
    let certificate = std::fs::read_to_string(authority.path("ca.crt")).unwrap();
    for (content, expected) in [
        ("", "crl.pem is empty"),
        ("nothing", "crl.pem is not PEM"),
        (&certificate, "crl.pem holds no revocation list, but other PEM sections"),
        (
            "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
            "crl.pem is damaged: it is not a revocation list",
        ),
    ] {
        std::fs::write(authority.path("crl.pem"), content).unwrap();
        let files = ServerFiles { client_crl: Some(authority.path("crl.pem")), ..authority.server(true) };
        let error = ServerTls::load(files).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Kinds of two handshakes of a client that tries to resume its session.
async fn handshakes(
    authority: &Authority,
    port: u16,
    version: &'static rustls::SupportedProtocolVersion,
) -> Vec<Option<HandshakeKind>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("ca.crt")).unwrap()).unwrap();
    let identity = authority.issue("bridge", &[]);
    let chain = vec![CertificateDer::from_pem_file(&identity.crt).unwrap()];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), connection).await.unwrap();
        // Tickets come after the handshake.
        let _ = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut [0; 1])).await;
        kinds.push(stream.get_ref().1.handshake_kind());
    }
    kinds
}

#[tokio::test]
async fn no_session_is_resumed_so_that_each_connection_verifies_its_client() {
    let authority = Authority::new();
    let port = serve(Arc::new(ServerTls::load(authority.server(true)).unwrap())).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let kinds = handshakes(&authority, port, version).await;
        let full = |kind: &Option<HandshakeKind>| {
            matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest))
        };
        assert!(kinds.iter().all(full), "{kinds:?}");
    }
}

#[test]
fn names_are_read_in_every_encoding_and_alphabet_and_too_many_are_refused() {
    let authority = Authority::new();
    let read = |common_name: DnValue, names: &[&str]| {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        for name in names {
            params.subject_alt_names.push(SanType::URI((*name).try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        PeerIdentity::from_certificate(params.signed_by(&key, &authority.issuer).unwrap().der())
    };
    let identity = read(DnValue::Utf8String("Žofie 🛰".to_owned()), &["spiffe://x/y"]).unwrap();
    assert_eq!(identity.common_name, "Žofie 🛰");
    assert_eq!(identity.names, ["a.example", "spiffe://x/y"]);
    let identity = read(DnValue::BmpString(BmpString::try_from("Žofie").unwrap()), &[]).unwrap();
    assert_eq!(identity.common_name, "Žofie");
    let long = format!("spiffe://{}", "x".repeat(5000));
    assert_eq!(read(DnValue::Utf8String("x".to_owned()), &[&long]), None);
}
