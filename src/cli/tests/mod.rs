//! The verbs against a fake server over loopback.

use clap::{CommandFactory, Parser};

use super::terminal::Terminal;
use super::{Cli, Command, dispatch, failure};
use fake::Fake;

mod clusters;
mod docs;
mod fake;
mod workspaces;

/// What a verb left behind.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

/// Runs a verb against the server at `endpoint`.
async fn spaceport(endpoint: &str, line: &str) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let line = format!("spaceport {line} --endpoint {endpoint} --timeout 5s");
    let Command::Client(command) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
        panic!("{line} is no verb");
    };
    let mut terminal = Terminal { out: &mut out, err: &mut err, redraws: false };
    let result = dispatch(command, &mut terminal).await;
    let (code, text) = result.map_or_else(|error| failure::report(&error), |()| (0, String::new()));
    let err = String::from_utf8(err).unwrap() + &text;
    Ran { code, out: String::from_utf8(out).unwrap(), err }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_managers_flags_take_a_value_or_none() {
    let json_log = |flags: &str| {
        let line = format!("spaceport manager --config a.json {flags}");
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Manager(args) => args.json_log,
            _ => panic!("not the manager"),
        }
    };
    assert_eq!([json_log(""), json_log("--json-log"), json_log("--json-log=false")], [true, true, false]);
}

#[tokio::test]
async fn the_first_address_that_answers_is_taken() {
    let server = Fake::default();
    let dead = "http://127.0.0.1:1";
    let ran = spaceport(&format!("{dead},{}", server.serve().await), "cluster leader -o json").await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.out).unwrap()["replica"], "a");

    let ran = spaceport(dead, "cluster leader").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("spaceport: no server can be reached: http://127.0.0.1:1/ ("), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1);
}

#[tokio::test]
async fn tls_without_an_authority_is_a_wrong_command_line() {
    let ran = spaceport("https://127.0.0.1:1", "cluster list").await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("https needs --ca"), "{}", ran.err);
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_gets_it() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let (server, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["spaceport.test".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &authority).unwrap();
    let file = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let ca = file("ca.pem", authority.pem());
    let (crt, key_file) = (file("crt.pem", certificate.pem()), file("key.pem", key.serialize_pem()));
    let tls = tonic::transport::ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(certificate.pem(), key.serialize_pem()))
        .client_ca_root(tonic::transport::Certificate::from_pem(authority.pem()));
    let endpoint = server.serve_with(Some(tls)).await;

    let with_ca = format!("cluster leader --ca {ca} --server-name spaceport.test");
    let ran = spaceport(&endpoint, &format!("{with_ca} --cert {crt} --key {key_file}")).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = spaceport(&endpoint, &with_ca).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.to_lowercase().contains("certificate"), "{}", ran.err);
    let ran = spaceport(&endpoint, &format!("{with_ca} --cert {crt}")).await;
    assert_eq!((ran.code, ran.err.as_str()), (2, "spaceport: --cert and --key belong together\n"));
}
