use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::transport::server::Connected as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::connections::{Caps, ConnectionMeters};

mod trust;

/// A certificate authority with its own folder.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Writes `<name>.crt` and `<name>.key`.
    fn issue(&self, name: &str, organizations: &[&str]) -> IdentityFiles {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        for organization in organizations {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        let key = KeyPair::generate().unwrap();
        let files =
            IdentityFiles { crt: self.path(&format!("{name}.crt")), key: self.path(&format!("{name}.key")) };
        std::fs::write(&files.crt, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn server(&self, with_client_ca: bool) -> ServerFiles {
        ServerFiles {
            client_ca: with_client_ca.then(|| self.path("ca.crt")),
            client_crl: None,
            identity: self.issue("server", &[]),
        }
    }

    fn client(&self, identity: Option<IdentityFiles>) -> ClientFiles {
        ClientFiles { ca: Some(self.path("ca.crt")), identity }
    }
}

async fn listen(tls: Option<Arc<ServerTls>>) -> (u16, impl Stream<Item = Connection> + Unpin) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let caps = Caps { total: 100, per_address: 8 };
    let connections = incoming(listener, tls, caps, ConnectionMeters::new().unwrap());
    (port, Box::pin(connections.map(|connection| connection.unwrap())))
}

/// Connects with tonic's client to a health service.
async fn check(port: u16, files: &ClientFiles) -> Result<(), String> {
    let channel = Channel::from_shared(format!("https://localhost:{port}"))
        .unwrap()
        .tls_config(client_config(files, None).unwrap())
        .unwrap()
        .connect()
        .await
        .map_err(|error| format!("{error:?}"))?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    answer.map(drop).map_err(|status| format!("{status:?}"))
}

async fn serve(tls: Arc<ServerTls>) -> u16 {
    let (port, connections) = listen(Some(tls)).await;
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder()
        .add_service(health)
        .serve_with_incoming(connections.map(Ok::<_, std::io::Error>));
    tokio::spawn(async move { server.await.unwrap() });
    port
}

#[tokio::test]
async fn client_certificates_are_required_where_an_authority_is_given() {
    let authority = Authority::new();
    let port = serve(Arc::new(ServerTls::load(authority.server(true)).unwrap())).await;
    let known = authority.client(Some(authority.issue("bridge", &[])));
    assert_eq!(check(port, &known).await, Ok(()));
    assert!(check(port, &authority.client(None)).await.is_err());
    let other = Authority::new();
    let stranger = authority.client(Some(other.issue("bridge", &[])));
    assert!(check(port, &stranger).await.is_err());
}

#[tokio::test]
async fn without_an_authority_clients_need_no_certificate() {
    let authority = Authority::new();
    let port = serve(Arc::new(ServerTls::load(authority.server(false)).unwrap())).await;
    assert_eq!(check(port, &authority.client(None)).await, Ok(()));
}

#[tokio::test]
async fn the_peer_is_known_by_its_certificate() {
    let authority = Authority::new();
    let tls = Arc::new(ServerTls::load(authority.server(true)).unwrap());
    let (port, mut connections) = listen(Some(tls)).await;
    let files = authority.client(Some(authority.issue("ops", &["staff", "spaceport:admin"])));
    tokio::spawn(async move { check(port, &files).await });
    let info = connections.next().await.unwrap().connect_info();
    let peer = info.peer.clone().unwrap();
    assert_eq!(peer.common_name, "ops");
    assert!(peer.organizations.contains(&"spaceport:admin".to_owned()), "{peer:?}");
    assert!(info.encrypted && info.remote_addr.unwrap().ip().is_loopback());
    assert!(roles_of(&info).contains(Role::Admin));
}

#[tokio::test]
async fn a_silent_client_does_not_delay_others() {
    let authority = Authority::new();
    let port = serve(Arc::new(ServerTls::load(authority.server(false)).unwrap())).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let client = authority.client(None);
    tokio::time::timeout(Duration::from_secs(5), check(port, &client)).await.unwrap().unwrap();
}

/// A socket from another client address.
async fn connect_from(address: &str, port: u16) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
}

#[tokio::test]
async fn a_thousand_silent_sockets_of_one_address_do_not_block_other_clients() {
    let authority = Authority::new();
    let port = serve(Arc::new(ServerTls::load(authority.server(false)).unwrap())).await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(connect_from("127.0.0.2", port).await);
    }
    let client = authority.client(None);
    tokio::time::timeout(Duration::from_secs(5), check(port, &client)).await.unwrap().unwrap();
    // Other sockets of that address also get in: the oldest silent ones are displaced.
    for _ in 0..200 {
        silent.push(connect_from("127.0.0.1", port).await);
    }
    tokio::time::timeout(Duration::from_secs(5), check(port, &client)).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_beyond_the_cap_of_an_address_are_closed_at_once() {
    let (port, mut connections) = listen(None).await;
    let (mut held, mut clients) = (Vec::new(), Vec::new());
    let connect = async |from: &str| {
        let mut client = connect_from(from, port).await;
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client
    };
    for _ in 0..8 {
        clients.push(connect("127.0.0.1").await);
        held.push(connections.next().await.unwrap());
    }
    let mut refused = connect("127.0.0.1").await;
    clients.push(connect("127.0.0.2").await);
    let next = connections.next().await.unwrap();
    assert_eq!(next.connect_info().remote_addr.unwrap().ip().to_string(), "127.0.0.2");
    let mut rest = Vec::new();
    // Closed, or reset because the preface was not read.
    let closed = tokio::time::timeout(Duration::from_secs(5), refused.read_to_end(&mut rest));
    assert!(closed.await.is_ok_and(|read| read.is_err() || rest.is_empty()));
    drop(held);
    clients.push(connect("127.0.0.1").await);
    connections.next().await.unwrap();
}

#[tokio::test]
async fn plaintext_connections_pass_once_they_speak_http_2() {
    let (port, mut connections) = listen(None).await;
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let info = connections.next().await.unwrap().connect_info();
    assert!(!info.encrypted && info.peer.is_none());
}

#[tokio::test]
async fn valid_files_are_reloaded_and_invalid_ones_are_ignored() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = Arc::new(ServerTls::load(old.server(false)).unwrap());
    let port = serve(Arc::clone(&tls)).await;
    assert!(!tls.reload().unwrap(), "nothing has changed");

    std::fs::write(old.path("server.crt"), "-----BEGIN CERTIFICATE-----").unwrap();
    tls.reload().unwrap_err();
    assert!(!tls.reload().unwrap(), "a bad file is reported once");
    assert_eq!(check(port, &old.client(None)).await, Ok(()));

    let renewed = new.issue("server", &[]);
    std::fs::copy(&renewed.crt, old.path("server.crt")).unwrap();
    let error = tls.reload().unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "the key is still the old one: {error:?}");
    std::fs::copy(&renewed.key, old.path("server.key")).unwrap();
    assert!(tls.reload().unwrap());
    assert_eq!(check(port, &new.client(None)).await, Ok(()));
    assert!(check(port, &old.client(None)).await.is_err());
}

#[tokio::test]
async fn files_are_followed_until_the_shutdown() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = Arc::new(ServerTls::load(old.server(false)).unwrap());
    let before = tls.current();
    let shutdown = CancellationToken::new();
    tokio::time::pause();
    let following = tokio::spawn(Arc::clone(&tls).follow(shutdown.clone()));
    let renewed = new.issue("server", &[]);
    std::fs::copy(&renewed.crt, old.path("server.crt")).unwrap();
    std::fs::copy(&renewed.key, old.path("server.key")).unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(!Arc::ptr_eq(&before, &tls.current()));
    shutdown.cancel();
    following.await.unwrap().unwrap();
}

#[test]
fn errors_name_the_file() {
    let authority = Authority::new();
    let load = |files| ServerTls::load(files).unwrap_err().to_string();
    let mut files = authority.server(true);
    files.identity.key = authority.path("missing.key");
    let missing =
        format!("failed to read {}: there is no such file", authority.path("missing.key").display());
    assert_eq!(load(files.clone()), missing);
    files.identity.key = authority.path("ca.crt");
    let swapped = "holds no private key, but a certificate: were certificate and key swapped?";
    assert_eq!(load(files.clone()), format!("{} {swapped}", authority.path("ca.crt").display()));
}

#[test]
fn roles_come_from_the_organization_alone() {
    let roles = |encrypted: bool, remote: &str, organizations: Option<&[&str]>| {
        let peer = organizations.map(|names| PeerIdentity {
            common_name: "spaceport:admin".to_owned(),
            organizations: names.iter().map(|name| (*name).to_owned()).collect(),
            names: Vec::new(),
        });
        let (remote_addr, lifetime) = (Some(remote.parse().unwrap()), Lifetime::default());
        let roles = roles_of(&ConnectInfo { remote_addr, encrypted, peer, lifetime });
        [Role::Client, Role::Admin, Role::Replica].map(|role| roles.contains(role))
    };
    let (local, remote) = ("127.0.0.1:9", "10.0.0.1:9");
    assert_eq!(roles(true, remote, Some(&[])), [true, false, false]);
    assert_eq!(roles(true, remote, Some(&["spaceport:admin"])), [true, true, false]);
    assert_eq!(roles(true, remote, Some(&["spaceport:replica"])), [true, false, true]);
    assert_eq!(roles(true, local, None), [true, false, false]);
    assert_eq!(roles(false, local, None), [true, true, true]);
    assert_eq!(roles(false, "[::ffff:127.0.0.1]:9", None), [true, true, true]);
    assert_eq!(roles(false, remote, None), [false, false, false]);
}

/// The version that a handshake negotiates with a client that supports only these.
async fn version_agreed(
    authority: &Authority,
    port: u16,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Option<rustls::ProtocolVersion> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(authority.path("ca.crt")).unwrap();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), connection).await.unwrap();
    stream.get_ref().1.protocol_version()
}

#[tokio::test]
async fn the_newest_version_that_both_know_is_spoken_and_none_before_1_2() {
    let authority = Authority::new();
    let port = serve(Arc::new(ServerTls::load(authority.server(false)).unwrap())).await;
    let (old, new) = (&rustls::version::TLS12, &rustls::version::TLS13);
    assert_eq!(version_agreed(&authority, port, &[new, old]).await, Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(version_agreed(&authority, port, &[old]).await, Some(rustls::ProtocolVersion::TLSv1_2));

    // ClientHello of a client that supports at most 1.1: its version, 32 random bytes, no session, two ciphers, no
    // compression, no extensions.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    connection.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    // One fatal alert, and the connection is closed.
    assert_eq!((answer[0], answer[5], answer.len()), (21, 2, 7), "{answer:?}");
}

/// Connects as one replica to another, at this name.
async fn connect_to_replica(authority: &Authority, host: &str, port: u16) -> std::io::Result<()> {
    let identity = authority.issue("replica-0", &["spaceport:replica"]);
    let tls = PeerTls::load(&authority.client(Some(identity))).unwrap();
    tls.connect(host.to_owned(), port).await.map(drop)
}

#[tokio::test]
async fn another_replica_must_be_one_by_its_certificate_and_its_name() {
    let authority = Authority::new();
    let server = |organizations: &[&str]| {
        let identity = authority.issue("manager", organizations);
        let files = ServerFiles { client_ca: Some(authority.path("ca.crt")), client_crl: None, identity };
        Arc::new(ServerTls::load(files).unwrap())
    };
    let replica = serve(server(&["staff", "spaceport:replica"])).await;
    connect_to_replica(&authority, "localhost", replica).await.unwrap();
    let error = connect_to_replica(&authority, "127.0.0.1", replica).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "the name is another: {error}");

    let other = serve(server(&["spaceport:admin"])).await;
    let error = connect_to_replica(&authority, "localhost", other).await.unwrap_err();
    assert_eq!(error.to_string(), "its certificate is not of organization spaceport:replica");

    let stranger = Authority::new();
    let error = connect_to_replica(&stranger, "localhost", replica).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");

    let (plain, _connections) = listen(None).await;
    let connecting = connect_to_replica(&authority, "localhost", plain);
    let connected = tokio::time::timeout(Duration::from_millis(500), connecting).await;
    assert!(!matches!(connected, Ok(Ok(()))), "a server that speaks no TLS is no replica");
}
