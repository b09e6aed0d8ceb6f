//! Connecting: addresses, deadlines, and TLS failures.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::fake::Fake;
use super::{Ran, run, spaceport};
use crate::flags::Environment;

const DEAD: &str = "http://127.0.0.1:1";

/// A server that handles each connection with `serve`; returns `127.0.0.1:port`.
async fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Accepts, and sends nothing.
async fn silent() -> String {
    server(|stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await
}

/// Reads the request, writes `answer` and closes.
async fn saying(answer: &'static [u8]) -> String {
    server(move |mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(answer).await;
    })
    .await
}

/// Runs `cluster leader` and returns how long it took.
async fn timed(flags: &str) -> (Ran, Duration) {
    let began = Instant::now();
    let ran = run(&format!("cluster leader {flags}"), &Environment::default()).await;
    (ran, began.elapsed())
}

/// The failure of `cluster leader`, in one line.
async fn failure(flags: &str) -> String {
    let (ran, _) = timed(&format!("{flags} --timeout 4s")).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    ran.err
}

#[tokio::test]
async fn the_first_address_that_answers_is_taken() {
    let server = Fake::default();
    let ran = spaceport(&format!("{DEAD},{}", server.serve().await), "cluster leader -o json").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.out).unwrap()["replica"], "a");

    let ran = spaceport(DEAD, "cluster leader").await;
    assert_eq!(ran.code, 1);
    let expected = "spaceport: UNAVAILABLE: no server can be reached: http://127.0.0.1:1 (nothing listens at 127.0.0.1:1: \
                    check the address, and that a manager runs there)\n";
    assert_eq!(ran.err, expected);
}

#[tokio::test]
async fn a_host_name_without_an_address_is_named() {
    let pki = Pki::new();
    let text = failure(&format!("--endpoint https://nowhere.invalid:8080 --ca {}", pki.ca())).await;
    let expected = "https://nowhere.invalid:8080 (the host name nowhere.invalid is not known (";
    assert!(text.contains(expected) && text.contains("check the address"), "{text}");
    assert!(!text.contains("os error") && !text.contains("lookup"), "{text}");
}

#[tokio::test]
async fn flags_are_taken_before_and_after_the_verb() {
    let endpoint = Fake::default().serve().await;
    for line in [
        format!("--endpoint {endpoint} -o json cluster leader"),
        format!("cluster --endpoint {endpoint} -o json leader"),
        format!("cluster leader --endpoint {endpoint} -o json"),
        format!("--endpoint {DEAD} cluster leader -o json --endpoint {endpoint}"),
        format!("--output json --timeout 3s status --endpoint {endpoint}"),
    ] {
        let ran = run(&line, &Environment::default()).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
        assert!(ran.out.starts_with('{'), "{line}: {}", ran.out);
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_no_more_than_the_timeout() {
    let silent = silent().await;
    let plain = format!("--endpoint http://{silent} --timeout 400ms");
    let (ran, took) = timed(&plain).await;
    let expected = format!(
        "spaceport: DEADLINE_EXCEEDED: no server can be reached: http://{silent} (a connection, but no HTTP/2 within "
    );
    assert!(ran.code == 1 && ran.err.starts_with(&expected), "{}", ran.err);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_silent_address_delays_the_next_one_briefly() {
    let (silent, alive) = (silent().await, Fake::default().serve().await);
    let several = format!("http://{silent},http://{silent},{alive}");
    for timeout in ["30s", "1s"] {
        let (ran, took) = timed(&format!("--endpoint {several} --timeout {timeout}")).await;
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    let (ran, took) = timed(&format!("--endpoint {DEAD},http://{silent},{DEAD} --timeout 1s")).await;
    let nothing =
        format!("{DEAD} (nothing listens at 127.0.0.1:1: check the address, and that a manager runs there)");
    let expected = format!(
        "spaceport: UNAVAILABLE: no server can be reached: {nothing}, http://{silent} (a connection, but no HTTP/2 within "
    );
    assert!(ran.err.starts_with(&expected) && ran.err.trim_end().ends_with(&nothing), "{}", ran.err);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_server_that_accepts_no_tls_does_not_delay_one_that_does() {
    let (pki, silent) = (Pki::new(), silent().await);
    let alive = pki.serve(|_| {}, None).await;
    let flags = format!("--ca {} --server-name spaceport.test --timeout 30s", pki.ca());
    let (ran, took) = timed(&format!("--endpoint https://{silent},{alive} {flags}")).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_server_that_connects_and_answers_no_call_is_named() {
    // An empty SETTINGS frame, and nothing more.
    let mute = server(|mut stream| async move {
        let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        std::future::pending::<()>().await;
    })
    .await;
    let (ran, took) = timed(&format!("--endpoint http://{mute} --timeout 500ms")).await;
    let expected = format!("spaceport: DEADLINE_EXCEEDED: no answer from http://{mute} within 500ms\n");
    assert_eq!((ran.code, ran.err), (1, expected));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_server_without_grpc_is_reported_as_such() {
    let http1 = saying(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert!(failure(&format!("--endpoint http://{http1}")).await.contains("HTTP/1 at this port"));
    let ssh = saying(b"SSH-2.0-OpenSSH_9.9\r\n").await;
    assert!(failure(&format!("--endpoint http://{ssh}")).await.contains("no HTTP/2 at this port"));
    let closes = saying(b"").await;
    assert!(
        failure(&format!("--endpoint http://{closes}"))
            .await
            .contains("closed the connection without a response")
    );
}

/// A CA and what it signs, in a folder.
struct Pki {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// Paths of a certificate and its key.
type Files = (String, String);

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), authority }
    }

    fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self.folder.path().join(name).display().to_string()
    }

    fn ca(&self) -> String {
        self.file("ca.pem", &self.authority.pem())
    }

    /// PEM of a certificate and its key, for `spaceport.test`.
    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec!["spaceport.test".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    fn files(&self, name: &str, (crt, key): (String, String)) -> Files {
        (self.file(&format!("{name}.crt"), &crt), self.file(&format!("{name}.key"), &key))
    }

    /// A server that requires client certificates of `clients`.
    async fn serve(&self, change: impl FnOnce(&mut CertificateParams), clients: Option<&Self>) -> String {
        let (crt, key) = self.sign(change);
        let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(crt, key));
        if let Some(clients) = clients {
            tls = tls.client_ca_root(Certificate::from_pem(clients.authority.pem()));
        }
        Fake::default().serve_with(Some(tls)).await
    }
}

fn past(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_gets_it_or_says_why_it_does_not_take_it() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    let endpoint = pki.serve(|_| {}, Some(&pki)).await;
    let base = format!("--endpoint {endpoint} --ca {} --server-name spaceport.test", pki.ca());
    let with = |(crt, key): &Files| format!("{base} --cert {crt} --key {key}");
    let mine = pki.files("me", pki.sign(|_| {}));
    let (ran, _) = timed(&with(&mine)).await;
    assert_eq!(ran.code, 0, "{}", ran.err);

    let missing = failure(&base).await;
    assert!(missing.contains("UNAVAILABLE: no server can be reached: https://127.0.0.1:"), "{missing}");
    assert!(missing.contains("requires a client certificate: give one with --cert and --key"), "{missing}");
    let foreign = pki.files("foreign", strangers.sign(|_| {}));
    let refused = failure(&with(&foreign)).await;
    assert!(refused.contains("foreign.crt"), "{refused}");
    // From a CA of the same name: only the signature differs.
    assert!(
        refused.contains("another authority") || refused.contains("does not trust the authority"),
        "{refused}"
    );
    let expired = failure(&with(&pki.files("expired", pki.sign(past)))).await;
    assert!(expired.contains("expired.crt: it has expired, or is not valid yet"), "{expired}");
    let for_servers =
        pki.sign(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let refused = failure(&with(&pki.files("server", for_servers))).await;
    assert!(refused.contains("lacks clientAuth"), "{refused}");

    let ran = spaceport(&endpoint, &format!("cluster leader --ca {} --cert {}", pki.ca(), mine.0)).await;
    assert_eq!((ran.code, ran.err.as_str()), (2, "spaceport: --cert and --key belong together\n"));
    let swapped = failure(&with(&(mine.1.clone(), mine.0.clone()))).await;
    assert!(swapped.contains("were certificate and key swapped?"), "{swapped}");
    let mixed = failure(&with(&(mine.0, foreign.1))).await;
    assert!(mixed.contains("do not belong together"), "{mixed}");
}

#[tokio::test]
async fn each_fault_of_a_server_has_a_sentence() {
    let (pki, mut strangers) = (Pki::new(), Pki::new());
    let server = pki.serve(|_| {}, None).await;
    let named = "--server-name spaceport.test";
    let renamed = failure(&format!("--endpoint {server} --ca {} {named}", strangers.ca())).await;
    assert!(renamed.contains("another key signed it"), "{renamed}");
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "strangers");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    strangers.authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let unknown = failure(&format!("--endpoint {server} --ca {} {named}", strangers.ca())).await;
    assert!(unknown.contains("is not from the authority in") && unknown.contains("with --ca"), "{unknown}");
    let name = failure(&format!("--endpoint {server} --ca {}", pki.ca())).await;
    assert!(name.contains("is not for 127.0.0.1, but for spaceport.test"), "{name}");
    let expired = pki.serve(past, None).await;
    let text = failure(&format!("--endpoint {expired} --ca {} {named}", pki.ca())).await;
    assert!(text.contains("the server's certificate expired at 2020-02-01T00:00:00Z"), "{text}");

    let as_authority =
        |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = pki.serve(as_authority, None).await;
    let text = failure(&format!("--endpoint {authority} --ca {} {named}", pki.ca())).await;
    assert!(
        text.contains("the server's certificate is that of an authority: make one for the server"),
        "{text}"
    );
    let mut itself = CertificateParams::new(vec!["spaceport.test".to_owned()]).unwrap();
    itself.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let crt = itself.self_signed(&key).unwrap().pem();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&crt, key.serialize_pem()));
    let endpoint = Fake::default().serve_with(Some(tls)).await;
    let text = failure(&format!("--endpoint {endpoint} --ca {} {named}", pki.file("itself.pem", &crt))).await;
    assert!(text.contains("or a self-signed one without CA:TRUE") && !text.contains("CaUsed"), "{text}");

    let plain = Fake::default().serve().await.replace("http:", "https:");
    let text = failure(&format!("--endpoint {plain} --ca {}", pki.ca())).await;
    assert!(text.contains("without TLS") || text.contains("does not speak TLS"), "{text}");
    let text = failure(&format!("--endpoint {}", server.replace("https:", "http:"))).await;
    assert!(text.contains("speaks TLS at this port: use https://"), "{text}");
    let silent = silent().await;
    let (ran, took) = timed(&format!("--endpoint https://{silent} --ca {} --timeout 300ms", pki.ca())).await;
    assert!(
        ran.err.contains("DEADLINE_EXCEEDED") && ran.err.contains("but no TLS handshake within "),
        "{}",
        ran.err
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
    let bad_name = run(
        &format!("cluster leader --endpoint {server} --ca {} --server-name a/b", pki.ca()),
        &Environment::default(),
    )
    .await;
    assert!(bad_name.code == 2 && bad_name.err.contains("correct --server-name"), "{}", bad_name.err);
}

#[tokio::test]
async fn tls_without_an_authority_is_a_wrong_command_line() {
    let ran = spaceport("https://127.0.0.1:1", "cluster list").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("https needs --ca"), "{}", ran.err);
}
