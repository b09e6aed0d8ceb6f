use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::transport::server::Connected as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;

/// A certificate authority with a folder of its own.
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
    (port, Box::pin(incoming(listener, tls).map(|connection| connection.unwrap())))
}

/// Connects for real: tonic's client, health service behind it.
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
async fn a_silent_client_delays_nobody() {
    let authority = Authority::new();
    let port = serve(Arc::new(ServerTls::load(authority.server(false)).unwrap())).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let client = authority.client(None);
    tokio::time::timeout(Duration::from_secs(5), check(port, &client)).await.unwrap().unwrap();
}

#[tokio::test]
async fn plaintext_connections_pass_without_a_handshake() {
    let (port, mut connections) = listen(None).await;
    let _client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let info = connections.next().await.unwrap().connect_info();
    assert!(!info.encrypted && info.peer.is_none());
}

#[tokio::test]
async fn new_files_come_into_force_and_bad_ones_do_not() {
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
    assert!(matches!(error, Error::Identity { .. }), "the key is still the old one: {error:?}");
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
    assert_eq!(load(files.clone()), format!("failed to read {}", authority.path("missing.key").display()));
    files.identity.key = authority.path("ca.crt");
    assert_eq!(load(files.clone()), format!("{} holds no private key", authority.path("ca.crt").display()));
}

#[test]
fn roles_come_from_the_organization_alone() {
    let roles = |encrypted: bool, remote: &str, organizations: Option<&[&str]>| {
        let peer = organizations.map(|names| PeerIdentity {
            common_name: "spaceport:admin".to_owned(),
            organizations: names.iter().map(|name| (*name).to_owned()).collect(),
        });
        let roles = roles_of(&ConnectInfo { remote_addr: Some(remote.parse().unwrap()), encrypted, peer });
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

/// Shakes hands as a client that knows only these versions; the one that was agreed on.
async fn version_agreed(
    authority: &Authority,
    port: u16,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Option<rustls::ProtocolVersion> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(authority.path("ca.crt")).unwrap();
    for certificate in rustls_pemfile::certs(&mut &pem[..]) {
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

    // The hello of a client that knows nothing later than 1.1: its version, 32 random bytes, no session, two ciphers, no
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
