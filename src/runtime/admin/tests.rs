use prometheus::IntCounter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::telemetry;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn admin() -> Admin {
    let (subscriber, log_filter) = telemetry::subscriber(telemetry::Format::Text, "info").unwrap();
    // The filter exists as long as its subscriber.
    std::mem::forget(subscriber);
    let registry = Registry::new();
    let starts = IntCounter::new("starts_total", "Starts.").unwrap();
    starts.inc();
    registry.register(Box::new(starts)).unwrap();
    let meters = ConnectionMeters::new().unwrap();
    Admin { readiness: Readiness::default(), registry, log_filter, meters }
}

async fn serve(admin: &Admin, prometheus: Option<SocketAddr>) -> (Vec<SocketAddr>, AbortOnDropHandle<()>) {
    let server = admin.clone().bind(ANY, prometheus).await.unwrap();
    let addresses = server.addresses();
    let task = tokio::spawn(async move { server.serve(CancellationToken::new()).await.unwrap() });
    (addresses, AbortOnDropHandle::new(task))
}

async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn readiness_follows_the_gates() {
    let admin = admin();
    let (addresses, _task) = serve(&admin, None).await;
    let gate = admin.readiness.gate("etcd");
    assert_eq!(ask(addresses[0], "GET", "/livez", "").await, (200, "ok".to_owned()));
    assert_eq!(ask(addresses[0], "GET", "/healthz", "").await.0, 200);
    let (status, body) = ask(addresses[0], "GET", "/readyz", "").await;
    assert_eq!(
        (status, body.as_str()),
        (503, r#"{"ready":false,"closing":false,"gates":{"etcd":false},"degraded":{}}"#)
    );
    gate.release();
    assert_eq!(ask(addresses[0], "GET", "/readyz", "").await.0, 200);
}

#[tokio::test]
async fn equal_addresses_share_one_listener_and_others_do_not() {
    let admin = admin();
    let (shared, _task) = serve(&admin, Some(ANY)).await;
    assert_eq!(shared.len(), 1);
    assert!(ask(shared[0], "GET", "/metrics", "").await.1.contains("starts_total 1"));
    let (apart, _task) = serve(&admin, Some("127.0.0.2:0".parse().unwrap())).await;
    assert_eq!(apart.len(), 2);
    assert_eq!(ask(apart[0], "GET", "/metrics", "").await.0, 404);
    assert_eq!(ask(apart[1], "GET", "/metrics", "").await.0, 200);
    assert_eq!(ask(apart[1], "GET", "/livez", "").await.0, 404);
}

#[tokio::test]
async fn the_log_filter_can_be_changed() {
    let admin = admin();
    let (addresses, _task) = serve(&admin, None).await;
    assert_eq!(ask(addresses[0], "PUT", "/log-level", "debug").await.0, 204);
    assert_eq!(ask(addresses[0], "GET", "/log-level", "").await, (200, "debug".to_owned()));
    assert_eq!(ask(addresses[0], "PUT", "/log-level", "a=loud").await.0, 400);
    assert_eq!(ask(addresses[0], "PUT", "/log-level", &"x".repeat(MAX_BODY + 1)).await.0, 400);
    assert_eq!(admin.log_filter.current().unwrap(), "debug");
}

#[tokio::test]
async fn a_taken_port_fails_before_anything_is_served() {
    let taken = TcpListener::bind(ANY).await.unwrap();
    let error = admin().bind(taken.local_addr().unwrap(), None).await.unwrap_err();
    assert!(error.to_string().starts_with("failed to listen on 127.0.0.1:"));
}

#[tokio::test]
async fn a_silent_client_is_cut_off() {
    let (addresses, _task) = serve(&admin(), None).await;
    let mut stream = TcpStream::connect(addresses[0]).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    let limit = HEADER_DEADLINE + Duration::from_secs(5);
    tokio::time::timeout(limit, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
}

/// Opens a connection, sends one request, and keeps it open.
async fn keep_alive(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn probes_are_answered_while_many_clients_keep_their_connections_open() {
    let admin = admin();
    admin.readiness.gate("etcd").release();
    let (addresses, _task) = serve(&admin, None).await;
    let mut held = Vec::new();
    for _ in 0..CAPS.total * 2 {
        held.push(keep_alive(addresses[0]).await);
    }
    // Silent ones, too.
    for _ in 0..CAPS.total * 2 {
        held.push(TcpStream::connect(addresses[0]).await.unwrap());
    }
    for path in ["/livez", "/readyz"] {
        let asking = ask(addresses[0], "GET", path, "");
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), asking).await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn a_flood_from_one_address_does_not_close_connections_of_another() {
    let admin = admin();
    let (addresses, _task) = serve(&admin, None).await;
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(addresses[0]).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..CAPS.total * 2 {
        held.push(keep_alive(addresses[0]).await);
    }
    other.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    other.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
}
