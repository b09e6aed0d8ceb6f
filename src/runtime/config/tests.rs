use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::tls::{ClientFiles, Transport};
use domain::names::ClassId;

const DOCS: &str = include_str!("../../../docs/configuration.md");

/// A certificate and its key.
static ISSUED: LazyLock<(String, String)> = LazyLock::new(|| {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (issued.cert.pem(), issued.signing_key.serialize_pem())
});

/// A folder with all files of the examples.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for group in ["tls", "etcd"] {
        for name in ["ca.crt", "tls.crt"] {
            write(&folder, &format!("{group}/{name}"), ISSUED.0.as_bytes());
        }
        write(&folder, &format!("{group}/tls.key"), ISSUED.1.as_bytes());
    }
    write(&folder, "sealing/2025-01.key", &[7; 32]);
    folder
}

fn write(folder: &TempDir, file: &str, content: &[u8]) {
    let path = folder.path().join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// The minimal configuration of a manager on loopback.
fn minimal() -> Value {
    json!({
        "manager": {
            "urlTemplate": "https://{{ .Prefix }}.ws.example",
            "portUrlTemplate": "https://{{ .WorkspacePort }}-{{ .Prefix }}.ws.example",
            "hostURL": "https://gitpod.example",
        },
        "rpcServer": {"plaintext": true},
        "etcd": {"endpoints": ["http://127.0.0.1:2379"]},
        "federation": {"sealing": {"keys": [{"id": "a", "file": "sealing/2025-01.key"}]}},
    })
}

/// Sets the value behind a JSON pointer in the minimal configuration.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut document = minimal();
    for (pointer, value) in changes {
        let mut place = &mut document;
        for key in pointer.trim_start_matches('/').split('/') {
            place = match key.parse::<usize>() {
                Ok(index) => &mut place[index],
                Err(_) => &mut place[key.replace("~1", "/").as_str()],
            };
        }
        *place = value.clone();
    }
    document
}

fn read_in(folder: &TempDir, document: &Value) -> Result<Config, Error> {
    let reading = read(document.clone(), &report(folder));
    reading.finish(Some(())).map(|(config, ())| config)
}

fn report(folder: &TempDir) -> Report {
    Report::new(folder.path(), |_| Ok(()))
}

fn valid(changes: &[(&str, Value)]) -> Config {
    read_in(&folder(), &with(changes)).unwrap()
}

#[track_caller]
fn check_problems(changes: &[(&str, Value)], expected: &[&str]) {
    let Err(Error::Invalid { problems }) = read_in(&folder(), &with(changes)) else {
        panic!("must have problems")
    };
    // Messages of the operating system and the folder differ from run to run.
    let stable = |problem: &Problem| problem.to_string().split(" /").next().unwrap_or_default().to_owned();
    let lines: Vec<String> = problems.iter().map(stable).collect();
    assert_eq!(lines, expected);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = valid(&[]);
    assert_eq!(config.manager.namespace.as_str(), "workspaces");
    assert_eq!(config.manager.timeouts.max_lifetime, Duration::from_hours(36));
    assert_eq!(config.manager.timeouts.after_close, Duration::from_mins(2));
    assert!(!config.manager.workspacekit);
    assert!(config.content.storage.is_none());
    assert_eq!(config.content.format, ContentFormat::Zst);
    assert_eq!((config.content.upload.part_size, config.content.upload.parallel), (16 << 20, 4));
    assert_eq!((config.content.pruning.keep, config.content.pruning.age), (3, Duration::from_hours(24)));
    assert_eq!(config.rpc_server.address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.prometheus.unwrap().to_string(), "127.0.0.1:9500");
    assert_eq!(config.health.to_string(), "127.0.0.1:9090");
    assert_eq!(config.etcd.prefix, "/spaceport/");
    assert!(config.federation.replica.ends_with(&std::process::id().to_string()));
    assert_eq!(config.federation.advertise_address.as_str(), "http://127.0.0.1:8080/");
    assert_eq!(config.federation.health.suspect_after, 3);
    assert_eq!(config.federation.peers, Some(Transport::Plaintext));
    assert_eq!(config.image_builder_proxy.transport, None);
}

#[test]
fn the_example_of_the_reference_is_valid() {
    let example = DOCS.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = folder();
    write(&folder, "manager.yaml", example.as_bytes());
    let config = Config::load(&folder.path().join("manager.yaml")).unwrap();
    let class = &config.manager.classes["g1-standard"];
    assert_eq!(class.description(), "4 vCPU, 18GB memory, 33GB disk");
    assert_eq!(config.manager.preferred_class.as_ref().map(ClassId::as_str), Some("g1-standard"));
    assert!(config.manager.workspacekit);
    assert_eq!(config.rpc_server.address.to_string(), "0.0.0.0:8080");
    let limit = &config.rpc_server.rate_limits["/wsman.WorkspaceManager/StartWorkspace"];
    assert_eq!(
        (limit.block, limit.bucket_size, limit.refill_interval),
        (true, 30, Duration::from_millis(100))
    );
    let tls = config.rpc_server.tls.unwrap();
    let files = ClientFiles { ca: tls.client_ca, identity: Some(tls.identity) };
    assert_eq!(config.federation.peers, Some(Transport::Tls(files)));
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    let folder = folder();
    let report = report(&folder);
    let document = with(&[
        ("/manager/workspaceClass", json!({"a": {}})),
        ("/etcd/username", json!("root")),
        ("/etcd/passwordFile", json!("tls/tls.key")),
        ("/etcd/plaintext", json!(true)),
        (
            "/rpcServer",
            json!({
                "tls": {"ca": "tls/ca.crt", "crt": "tls/tls.crt", "key": "tls/tls.key"},
                "clients": {"scopes": [{"commonName": "a", "owners": ["b"]}]},
                "ratelimits": {"/a.B/C": {"bucketSize": 1, "refillInterval": "1s"}},
            }),
        ),
    ]);
    read(document.clone(), &report).finish(Some(())).unwrap();
    let known = report.known();
    // Readers also know groups; the reference has only keys without keys below them.
    let is_group = |key: &str| {
        known
            .iter()
            .any(|other| other.starts_with(&format!("{key}.")) || other.starts_with(&format!("{key}[]")))
    };
    let leaves: BTreeSet<&str> = known.iter().map(String::as_str).filter(|key| !is_group(key)).collect();
    let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<&str> = rows.map(|(key, _)| key).collect();
    assert_eq!(documented, leaves);
}

#[test]
fn all_problems_are_reported_together() {
    check_problems(
        &[
            (
                "/manager/timeouts",
                json!({"startup": "5", "stopping": "1m", "maxLifetime": 0, "regularWorkspace": "-1m"}),
            ),
            ("/manager/hostURL", json!("gitpod.example")),
            ("/manager/urlTemplate", json!("https://{{ .Owner }}")),
            ("/manager/schedulerName", json!(7)),
            ("/manager/colour", json!("blue")),
            ("/manager/podAnnotations", json!(["example.com/*", "*", "gitpod.io/psi"])),
            ("/etcd/endpoints", json!([])),
            ("/federation/leader", json!({"lease": "2500ms", "renew": "9s"})),
            ("/extra", json!({})),
        ],
        &[
            r#"manager.timeouts.startup: "5" lacks a unit: one of ns, us, ms, s, m, h"#,
            "manager.timeouts.regularWorkspace: -1m0s is negative",
            "manager.timeouts.maxLifetime: must be more than zero",
            "manager.timeouts.stopping: must be at least contentFinalization",
            "manager.urlTemplate: unknown action {{ .Owner }}: one of .ID, .Prefix, .Host",
            "manager.hostURL: relative URL without a base",
            "manager.schedulerName: must be a text, not a number",
            "manager.podAnnotations[1]: must be an annotation's name such as example.com/team, or a domain and what follows such as example.com/*",
            "manager.podAnnotations[2]: only the manager sets this annotation",
            "manager.colour: unknown key",
            "etcd.endpoints: is required",
            "federation.leader.lease: must be whole seconds, at least two",
            "federation.leader.renew: must be less than stopAfter",
            "federation.leader.stopAfter: must be less than lease",
            "extra: unknown key",
        ],
    );
}

#[test]
fn the_error_lists_one_problem_a_line() {
    let error =
        read_in(&folder(), &with(&[("/extra", json!(1)), ("/manager/namespace", json!("A"))])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration has 2 problems to solve:\n  manager.namespace: \"A\" is not the name of a namespace\n  extra: unknown key"
    );
    let list = read(json!([]), &report(&folder()));
    let error = list.finish(Some(())).unwrap_err().to_string();
    assert!(error.contains("the document: must be a group of keys, not a list"), "{error}");
}

#[test]
fn classes_report_their_problems_below_their_name() {
    check_problems(
        &[
            (
                "/manager/workspaceClass",
                json!({
                    "g1": {"container": {"requests": {"cpu": "two", "gpu": 1}}, "templates": {"defaultPath": "none.yaml"}},
                    "": {},
                }),
            ),
            ("/manager/preferredWorkspaceClass", json!("g2")),
        ],
        &[
            r#"manager.workspaceClass: workspace class must be 1 to 63 letters, digits, dots, dashes or underscores, beginning and ending with a letter or digit, got """#,
            "manager.workspaceClass.g1.container.requests.gpu: unknown key",
            "manager.workspaceClass.g1.templates.defaultPath: cannot read",
            "manager.workspaceClass.g1.container.requests.cpu: \"two\" is not a quantity such as 500m, 2 or 16Gi",
            "manager.preferredWorkspaceClass: there is no class g2 in workspaceClass",
        ],
    );
}

#[test]
fn a_class_with_problems_may_be_preferred_and_its_template_is_checked_all_the_same() {
    let folder = folder();
    write(&folder, "pod.yaml", b"spec: {}");
    let templates = json!({ "defaultPath": "pod.yaml" });
    let document = with(&[
        (
            "/manager/workspaceClass",
            json!({"g1": {"container": {"requests": {"cpu": "two"}}, "templates": templates}}),
        ),
        ("/manager/preferredWorkspaceClass", json!("g1")),
        ("/manager/urlTemplate", json!("{{ .Owner }}")),
    ]);
    let report =
        Report::new(folder.path(), |path| Err(format!("{} has a typo", path.file_name().unwrap().display())));
    let mut reading = read(document.clone(), &report);
    assert!(reading.manager.is_some(), "rooms check their parts of it");
    let more = |path: &str, message: &str| Problem { path: path.to_owned(), message: message.to_owned() };
    let found =
        vec![more("manager.templateFolder", "is too deep"), more("manager.urlTemplate", "said already")];
    assert_eq!(reading.check::<()>(Err(found)), None);
    let error = reading.finish(Some(())).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().skip(1).map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "manager.urlTemplate: unknown action {{ .Owner }}: one of .ID, .Prefix, .Host",
            "manager.workspaceClass.g1.templates: pod.yaml has a typo",
            r#"manager.workspaceClass.g1.container.requests.cpu: "two" is not a quantity such as 500m, 2 or 16Gi"#,
            "manager.templateFolder: is too deep",
        ]
    );
}

#[test]
fn invalid_tls_files_are_problems_of_their_keys() {
    let folder = folder();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write(&folder, "other.key", other.signing_key.serialize_pem().as_bytes());
    write(&folder, "text", b"hunter2");
    let tls = |crt: &str, key: &str| json!({"ca": "text", "crt": crt, "key": key});
    let server = json!({"ca": "text", "crl": "text", "crt": "tls/tls.crt", "key": "other.key"});
    let document = with(&[
        ("/manager/colour", json!("blue")),
        ("/rpcServer", json!({ "tls": server })),
        ("/imageBuilderProxy", json!({ "targetAddr": "builder:8080", "tls": tls("text", "tls/tls.key") })),
        ("/etcd/endpoints", json!(["https://a:2379"])),
        ("/etcd/tls", tls("tls/tls.crt", "text")),
        ("/federation/peerTls", tls("text", "text")),
    ]);
    let error = read_in(&folder, &document).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
    let paths: Vec<&str> =
        error.lines().skip(1).filter_map(|line| Some(line.trim().split_once(':')?.0)).collect();
    assert_eq!(
        paths,
        [
            "manager.colour",
            "rpcServer.tls.ca",
            "rpcServer.tls.crl",
            "rpcServer.tls.key",
            "imageBuilderProxy.tls.ca",
            "imageBuilderProxy.tls.crt",
            "etcd.tls.ca",
            "etcd.tls.key",
            "federation.peerTls.ca",
            "federation.peerTls.crt",
            "federation.peerTls.key",
        ]
    );
}

#[test]
fn a_wrong_value_neither_hides_nor_adds_other_problems() {
    check_problems(
        &[("/etcd", json!({"endpoints": ["http://a:2379"], "username": "root", "passwordFile": "absent"}))],
        &[
            "etcd.passwordFile: cannot read",
            "etcd.endpoints: must be https with a username, or plaintext: true sends its password unencrypted",
        ],
    );
    check_problems(
        &[(
            "/etcd",
            json!({"endpoints": ["https://u:p@a:2379"], "username": "root", "passwordFile": "tls/tls.key", "tls": {"ca": "tls/ca.crt"}}),
        )],
        &["etcd.endpoints[0]: must not hold a name or password: use username and passwordFile"],
    );
    check_problems(
        &[
            ("/manager/timeouts", json!({"stopping": "30m", "contentFinalization": "20"})),
            (
                "/rpcServer",
                json!({"tls": {"ca": "tls/ca.crt", "crt": "tls/tls.crt"}, "streams": {"total": "x", "perCaller": 9_000}}),
            ),
            ("/federation/advertiseAddr", json!("https://a:1")),
            ("/federation/leader", json!({"lease": "10", "stopAfter": "7s"})),
            ("/federation/health", json!({"probe": "x", "lostAfter": "5s"})),
            ("/audit", json!({"target": "fiel", "file": "a.log"})),
        ],
        &[
            r#"manager.timeouts.contentFinalization: "20" lacks a unit: one of ns, us, ms, s, m, h"#,
            "rpcServer.tls.key: is required with crt",
            "rpcServer.streams.total: must be a whole number from 1 to 1000000",
            r#"federation.leader.lease: "10" lacks a unit: one of ns, us, ms, s, m, h"#,
            r#"federation.health.probe: "x" is not a duration such as 1h30m, 1.5s or 300ms"#,
            "audit.target: must be log, file or off",
        ],
    );
    check_problems(
        &[("/audit", json!({"target": "file", "file": "absent/a.log"}))],
        &["audit.file: the folder of"],
    );
}

#[test]
fn plaintext_is_for_loopback_and_must_be_configured() {
    let no_tls = "rpcServer.tls: is required, or plaintext: true on a loopback address";
    check_problems(&[("/rpcServer", json!({}))], &[no_tls]);
    check_problems(&[("/rpcServer", json!({"tls": {"ca": "", "crt": "", "key": ""}}))], &[no_tls]);
    check_problems(
        &[("/rpcServer/addr", json!(":8080"))],
        &["rpcServer.addr: must be a loopback address with plaintext"],
    );
    check_problems(
        &[("/rpcServer/tls", json!({"ca": "tls/ca.crt", "crt": "tls/tls.crt", "key": "tls/tls.key"}))],
        &["rpcServer.plaintext: cannot be used together with tls"],
    );
    check_problems(
        &[("/rpcServer", json!({"tls": {"ca": "tls/ca.crt", "crt": "tls/tls.crt"}}))],
        &["rpcServer.tls.key: is required with crt"],
    );
}

#[test]
fn clients_without_a_certificate_must_be_configured() {
    let tls = json!({"crt": "tls/tls.crt", "key": "tls/tls.key"});
    let with_ca = json!({"ca": "tls/ca.crt", "crt": "tls/tls.crt", "key": "tls/tls.key"});
    let server = |rpc: Value| [("/rpcServer", rpc), ("/federation/advertiseAddr", json!("https://a:1"))];
    check_problems(
        &server(json!({"tls": tls})),
        &[
            "rpcServer.tls.ca: is required, or anonymousClients: true, which lets every client in that reaches the address",
        ],
    );
    let config = valid(&server(json!({"tls": tls, "anonymousClients": true})));
    assert_eq!(config.federation.peers, None, "no authority is there to check other managers by");
    check_problems(
        &server(json!({"tls": with_ca, "anonymousClients": true})),
        &["rpcServer.anonymousClients: cannot be used together with tls.ca"],
    );
    check_problems(
        &[("/rpcServer/anonymousClients", json!(true))],
        &["rpcServer.anonymousClients: has no effect without tls"],
    );
    valid(&server(json!({"tls": with_ca, "anonymousClients": false})));
}

#[test]
fn rules_for_clients_need_certificates_and_name_whom_they_are_for() {
    let tls = json!({"ca": "tls/ca.crt", "crt": "tls/tls.crt", "key": "tls/tls.key"});
    let server = |clients: Value| {
        let rpc = json!({"tls": tls, "clients": clients});
        [("/rpcServer", rpc), ("/federation/advertiseAddr", json!("https://a:1"))]
    };
    let config =
        valid(&server(json!({"organization": "staff", "scopes": [{"commonName": "a", "owners": ["b"]}]})));
    assert_eq!(config.rpc_server.clients.organization.as_deref(), Some("staff"));
    assert!(config.rpc_server.clients.scopes[0].owner_tokens);
    check_problems(
        &server(json!({"scopedOnly": true})),
        &["rpcServer.clients.scopes: is required with scopedOnly: no client would be let in"],
    );
    check_problems(
        &server(json!({"scopes": [{"commonName": "a"}, {"owners": ["b", ""]}]})),
        &[
            "rpcServer.clients.scopes[0].owners: is required",
            "rpcServer.clients.scopes[1].owners: must not hold an empty text",
            "rpcServer.clients.scopes[1]: must name commonName, organization or alternativeName",
        ],
    );
    check_problems(
        &[("/rpcServer/clients", json!({"organization": "staff"}))],
        &["rpcServer.clients: has no effect without rpcServer.tls.ca: clients prove nothing"],
    );
}

#[test]
fn the_audit_goes_to_the_log_unless_a_file_is_named() {
    assert_eq!(valid(&[]).audit.target, AuditTarget::Log);
    assert_eq!(valid(&[("/audit", json!({"target": "off"}))]).audit.target, AuditTarget::Off);
    let AuditTarget::File { max_bytes, keep, path } =
        valid(&[("/audit", json!({"target": "file", "file": "a.log"}))]).audit.target
    else {
        panic!("no file")
    };
    assert_eq!((max_bytes, keep, path.ends_with("a.log")), (100 << 20, 10, true));
    check_problems(&[("/audit", json!({"target": "file"}))], &["audit.file: is required with target: file"]);
    check_problems(
        &[("/audit", json!({"file": "a.log"}))],
        &["audit.file: has no effect without target: file"],
    );
    check_problems(&[("/audit", json!({"target": "syslog"}))], &["audit.target: must be log, file or off"]);
}

#[test]
fn secrets_are_sent_in_plaintext_only_if_configured() {
    let builder = |more: Value| {
        let mut group = json!({"targetAddr": "builder:8080"});
        group.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        [("/imageBuilderProxy", group)]
    };
    let without = "imageBuilderProxy.tls: is required with targetAddr, or plaintext: true";
    check_problems(&builder(json!({})), &[without]);
    check_problems(&builder(json!({"tls": {"ca": ""}})), &[without]);
    let config = valid(&builder(json!({"plaintext": true})));
    assert_eq!(config.image_builder_proxy.transport, Some(Transport::Plaintext));
    check_problems(
        &builder(json!({"plaintext": true, "tls": {"ca": "tls/ca.crt"}})),
        &["imageBuilderProxy.plaintext: cannot be used together with tls"],
    );
    check_problems(
        &builder(json!({"tls": {"crt": "tls/tls.crt", "key": "tls/tls.key"}})),
        &[
            "imageBuilderProxy.tls.ca: is required: builders prove themselves with a certificate of this authority",
        ],
    );

    let etcd = |more: Value| {
        let mut group =
            json!({"endpoints": ["http://a:2379"], "username": "root", "passwordFile": "tls/tls.key"});
        group.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        [("/etcd", group)]
    };
    check_problems(
        &etcd(json!({})),
        &["etcd.endpoints: must be https with a username, or plaintext: true sends its password unencrypted"],
    );
    valid(&etcd(json!({"plaintext": true})));
    check_problems(
        &etcd(json!({"plaintext": true, "endpoints": ["https://a:1"], "tls": {"ca": "tls/ca.crt"}})),
        &["etcd.plaintext: must not be set with https endpoints"],
    );
}

#[test]
fn other_managers_are_reached_as_this_one_is() {
    let tls = json!({"ca": "tls/ca.crt", "crt": "tls/tls.crt", "key": "tls/tls.key"});
    let address = |url: &str| ("/federation/advertiseAddr", json!(url));
    check_problems(
        &[("/rpcServer", json!({"tls": tls})), address("http://a:1")],
        &["federation.advertiseAddr: must be https with rpcServer.tls"],
    );
    check_problems(
        &[address("http://a:1")],
        &[
            "federation.advertiseAddr: must be on loopback, or https with peerTls: plaintext stays on the machine",
        ],
    );
    check_problems(
        &[address("https://a:1")],
        &["federation.advertiseAddr: must be http, or peerTls is required"],
    );
    valid(&[address("https://a:1"), ("/federation/peerTls", tls)]);
    check_problems(
        &[
            address("https://a:1"),
            ("/federation/peerTls", json!({"crt": "tls/tls.crt", "key": "tls/tls.key"})),
        ],
        &["federation.peerTls.ca: is required: other managers prove themselves with a certificate of it"],
    );
}

#[test]
fn existing_rate_limits_are_understood_with_their_prefix() {
    let limit =
        json!({"bucketSize": 1, "refillInterval": 1_000_000, "key": "metadata.owner, id", "keyCacheSize": 9});
    let config = valid(&[(
        "/rpcServer/ratelimits",
        json!({"/proxied.wsman.WorkspaceManager/MarkActive": limit.clone()}),
    )]);
    let keyed = config.rpc_server.rate_limits["/wsman.WorkspaceManager/MarkActive"].keyed.clone().unwrap();
    assert_eq!(keyed.fields, [vec!["metadata", "owner"], vec!["id"]]);
    assert_eq!(keyed.buckets.get(), 9);
    check_problems(
        &[(
            "/rpcServer/ratelimits",
            json!({"/proxied.a.B/C": limit.clone(), "/a.B/C": limit, "Start": {"bucketSize": 0}}),
        )],
        &[
            r#"rpcServer.ratelimits["/proxied.a.B/C"]: is written twice: with and without the prefix proxied."#,
            "rpcServer.ratelimits.Start.bucketSize: must be a whole number from 1 to 4294967295",
            "rpcServer.ratelimits.Start.refillInterval: is required",
            "rpcServer.ratelimits.Start: is not a full method such as",
        ],
    );
}

#[test]
fn etcd_endpoints_are_urls_of_one_kind_without_secrets() {
    check_problems(
        &[(
            "/etcd/endpoints",
            json!(["https://a:2379", "http://b:2379", "c:2379", "https://u:hunter2@d:2379", 5]),
        )],
        &[
            "etcd.endpoints[4]: must be a text, not a number",
            "etcd.endpoints[1]: must be http or https as the first",
            "etcd.endpoints[2]: is not a URL such as https://etcd-0:2379",
            "etcd.endpoints[3]: must not hold a name or password: use username and passwordFile",
            "etcd.tls.ca: is required with https endpoints",
        ],
    );
    check_problems(&[("/etcd/passwordFile", json!("x"))], &["etcd.username: is required with passwordFile"]);
    check_problems(
        &[("/etcd/username", json!("root")), ("/etcd/plaintext", json!(true))],
        &["etcd.passwordFile: is required"],
    );
    valid(&[("/etcd/tls", json!({"ca": "", "crt": "", "key": ""}))]);
    assert_eq!(valid(&[("/etcd/prefix", json!("a/b"))]).etcd.prefix, "/a/b/");
}

#[test]
fn keys_and_passwords_are_read_and_never_printed() {
    let folder = folder();
    write(&folder, "password", b"hunter2\n");
    write(&folder, "hex", "0b".repeat(32).as_bytes());
    write(&folder, "base64", b"DAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw=\n");
    let config = read_in(
        &folder,
        &with(&[
            ("/etcd/username", json!("root")),
            ("/etcd/passwordFile", json!("password")),
            ("/etcd/plaintext", json!(true)),
            ("/federation/sealing/keys", json!([
                {"id": "raw", "file": "sealing/2025-01.key"}, {"id": "hex", "file": "hex"}, {"id": "b64", "file": "base64"},
            ])),
            ("/content/storage", json!({"kind": "minio", "minio": {"endpoint": "m", "accessKey": "k", "secretKey": "hunter2"}})),
        ]),
    )
    .unwrap();
    let sealing = &config.federation.sealing;
    let keys: Vec<u8> =
        std::iter::once(&sealing.first).chain(&sealing.rest).map(|key| key.key.expose()[31]).collect();
    assert_eq!(keys, [7, 11, 12]);
    assert_eq!(config.etcd.login.as_ref().unwrap().1.expose(), "hunter2");
    let settings = config.content.storage.as_ref().unwrap().settings.expose();
    assert_eq!(settings["minio"]["secretKey"], "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn uploads_stay_within_64_mib_of_memory() {
    let parallel = |content: Value| valid(&[("/content", content)]).content.upload.parallel;
    let minio = |parallel: u32| json!({"kind": "minio", "minio": {"endpoint": "m", "accessKey": "k", "secretKey": "s", "parallelUpload": parallel}});
    assert_eq!(parallel(json!({"upload": {"partSize": 67_108_864}})), 1);
    assert_eq!(parallel(json!({"upload": {"partSize": 5_242_880, "parallel": 12}})), 12);
    assert_eq!(parallel(json!({"storage": minio(0)})), 1);
    assert_eq!(parallel(json!({"storage": minio(1024)})), 4);
    assert_eq!(parallel(json!({"storage": minio(2), "upload": {"parallel": 3}})), 3);
    check_problems(
        &[(
            "/content",
            json!({"format": "zip", "upload": {"partSize": 33_554_432, "parallel": 3}, "pruning": {"keep": 0}, "storage": {"kind": "local", "local": {"path": "content"}}}),
        )],
        &[
            r#"content.format: "zip" is not one of tar, zst"#,
            "content.pruning.keep: must be a whole number from 1 to 1000",
            "content.storage.local.path: must be absolute",
            "content.upload.parallel: times partSize must be at most 67108864 bytes (64 MiB)",
        ],
    );
    check_problems(
        &[("/content/storage", json!({"kind": "local"}))],
        &["content.storage.local.path: is required"],
    );
}

#[test]
fn sealing_keys_have_the_right_length_and_unique_ids() {
    check_problems(
        &[(
            "/federation/sealing/keys",
            json!([
                {"id": "a", "file": "sealing/2025-01.key"}, {"id": "a", "file": "sealing/2025-01.key"}, {"file": "tls/ca.crt"},
            ]),
        )],
        &[
            r#"federation.sealing.keys[1].id: "a" is used by an earlier key"#,
            "federation.sealing.keys[2].id: is required",
            "federation.sealing.keys[2].file: must hold 32 bytes: as they are, as 64 hexadecimal digits, or as base64",
        ],
    );
    check_problems(
        &[("/federation", json!({}))],
        &["federation.sealing.keys: must hold at least one key: 32 random bytes in a file"],
    );
}

#[test]
fn times_of_health_must_be_consistent() {
    check_problems(
        &[(
            "/federation/health",
            json!({"probe": "5s", "deadline": "6s", "lostAfter": "15s", "holdDownMax": "1s"}),
        )],
        &[
            "federation.health.deadline: must be at most probe",
            "federation.health.lostAfter: must be more than suspectAfter times probe",
            "federation.health.holdDownMax: must be at least recoverAfter",
        ],
    );
}

#[test]
fn empty_addresses_switch_metrics_off_but_not_health() {
    assert_eq!(valid(&[("/prometheus/addr", json!(""))]).prometheus, None);
    check_problems(&[("/health/addr", json!(""))], &["health.addr: is required"]);
    check_problems(
        &[("/health/addr", json!("example:80"))],
        &[r#"health.addr: "example:80" is not an address such as 127.0.0.1:8080, [::]:8080 or :8080"#],
    );
}

#[test]
fn a_file_that_is_no_yaml_is_refused_without_quoting_it() {
    let folder = folder();
    write(&folder, "bad.yaml", b"etcd:\n  password: hunter2\n bad: [");
    let error = Config::load(&folder.path().join("bad.yaml")).unwrap_err().to_string();
    assert!(error.contains("bad.yaml is neither YAML nor JSON (line 3, column "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    for (name, text, expected) in [
        ("twice.yaml", "etcd: {}\netcd: {}\n", "twice.yaml has a key twice (line 2, column 1)"),
        ("two.yaml", "etcd: {}\n---\netcd: {}\n", "two.yaml holds several documents, and must be one (line "),
        ("cut.json", "{\"etcd\":\n", "cut.json ends before its JSON is complete (line "),
        ("yaml.json", "etcd: {}\n", "yaml.json is not JSON (line 1, column 1)"),
    ] {
        write(&folder, name, text.as_bytes());
        let error = Config::load(&folder.path().join(name)).unwrap_err();
        assert!(matches!(error, Error::Syntax { .. }) && error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(Config::load(&folder.path().join("none.yaml")), Err(Error::Read { .. })));
}

#[test]
fn any_text_is_a_configuration_or_a_list_of_problems() {
    let folder = folder();
    let minimal = minimal().to_string();
    fuzz::text_target("configuration", &[&minimal], |text| {
        for format in [Format::Json, Format::Yaml] {
            let Ok(document) = parse(text, format) else { continue };
            let reading = read(document, &report(&folder));
            if let Err(Error::Invalid { problems }) = reading.finish(Some(())) {
                assert!(!problems.is_empty(), "{text:?}");
            }
        }
    });
}
