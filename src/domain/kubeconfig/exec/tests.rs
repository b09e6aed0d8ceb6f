use super::*;
use crate::kubeconfig::{Aliases, choose};

fn exec(section: &str) -> Read<Exec> {
    let text = format!(
        "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://a'}}}}]\nusers: [{{name: u, user: {{exec: {section}}}}}]\n"
    );
    Exec::of(&choose(&text, None, Aliases::Refused)?.user).map(|exec| exec.unwrap())
}

const GOOD: &str = "{apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}";

#[test]
fn an_invalid_exec_section_is_reported_by_its_field() {
    let told = |section: &str| exec(section).err().map(|problem| problem.to_string()).unwrap_or_default();
    for (section, rule) in [
        ("{command: aws}", "users[].user.exec.apiVersion is missing"),
        ("{apiVersion: client.authentication.k8s.io/v1}", "users[].user.exec.command is missing"),
        ("{apiVersion: v1, command: a}", "must be client.authentication.k8s.io/v1 or v1beta1"),
        ("{apiVersion: client.authentication.k8s.io/v1alpha1, command: a}", "is v1alpha1"),
        (&GOOD.replace("Never", "never"), "interactiveMode must be Never"),
        (&GOOD.replace("command", "args: {a: b}, command"), "args must be a list of texts"),
        (&GOOD.replace("command", "env: [a], command"), "env must be a list of name and value"),
        (&GOOD.replace("command", "env: [{name: 'a=b', value: c}], command"), "env must be a list"),
        ("aws", "users[].user.exec must be a mapping"),
    ] {
        assert!(told(section).contains(rule), "{section}: {}", told(section));
    }
    let full = exec(&GOOD.replace(
        "command: aws",
        "command: ./bin/aws, args: [eks, 7, ''], env: [{name: A, value: 1}, {name: B, value: null}], installHint: get it",
    ))
    .unwrap();
    let env: Vec<_> = full.env.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
    assert_eq!((full.args, env), (["eks", "7", ""].map(str::to_owned).to_vec(), vec![("A", "1"), ("B", "")]));
}

#[test]
fn a_plugin_gets_its_cluster_if_it_requests_it() {
    let text = "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters:\n- name: c\n  cluster:\n    \
                server: https://a\n    certificate-authority-data: |\n      YQ\n      ==\n    tls-server-name: n\n    \
                extensions: [{name: client.authentication.k8s.io/exec, extension: {audience: x}}]\n\
                users: [{name: u, user: {exec: EXEC}}]\n";
    let input = |section: &str, interactive| {
        let chosen = choose(&text.replace("EXEC", section), None, Aliases::Refused).unwrap();
        let input = Exec::of(&chosen.user).unwrap().unwrap().input(&chosen.cluster, interactive).unwrap();
        serde_json::from_str::<Value>(&input).unwrap()
    };
    let expected = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "spec": { "interactive": false },
    });
    assert_eq!(input(GOOD, false), expected);
    let asked = input(&GOOD.replace("command", "provideClusterInfo: true, command"), true);
    let cluster = json!({
        "server": "https://a", "certificate-authority-data": "YQ==", "tls-server-name": "n",
        "config": { "audience": "x" },
    });
    assert_eq!(asked["spec"], json!({ "interactive": true, "cluster": cluster }));
}

#[test]
fn a_credential_is_a_token_or_a_certificate_with_its_end() {
    let exec = exec(GOOD).unwrap();
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let answer = |status: &str| {
        let text = format!(
            r#"{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {status}}}"#
        );
        exec.credential(text.as_bytes(), now)
    };
    let token =
        answer(r#"{"token": "t0ken\n", "expirationTimestamp": "2026-01-01T00:15:00Z"}"#).ok().unwrap();
    assert_eq!(token.token.unwrap().expose(), "t0ken");
    assert_eq!(token.expires, Some("2026-01-01T00:15:00Z".parse().unwrap()));
    let pair = answer(r#"{"clientCertificateData": "C", "clientKeyData": "K", "token": ""}"#).ok().unwrap();
    assert!(pair.token.is_none() && pair.certificate.is_some() && pair.expires.is_none());
    let yaml = "apiVersion: client.authentication.k8s.io/v1\nkind: ExecCredential\nstatus:\n  token: t\n";
    assert!(exec.credential(yaml.as_bytes(), now).is_ok());
    for (status, rule) in [
        ("{}", "gave neither a token nor a client certificate"),
        ("null", "gave neither a token nor a client certificate"),
        (r#"{"clientKeyData": "hunter2"}"#, "must give both"),
        (r#"{"token": "hunter2", "expirationTimestamp": "2025-12-31T23:59:59Z"}"#, "ended at 2025-12-31"),
        (r#"{"token": "hunter2", "expirationTimestamp": "soon"}"#, "that is no time"),
    ] {
        let told = answer(status).err().unwrap();
        assert!(told.contains(rule) && !told.contains("hunter2"), "{told}");
    }
    for (output, rule) in [
        ("", "wrote no ExecCredential"),
        ("hunter2", "wrote no ExecCredential"),
        (
            r#"{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1"}"#,
            "another version",
        ),
        (r#"{"kind": "hunter2"}"#, "wrote no ExecCredential"),
    ] {
        let told = exec.credential(output.as_bytes(), now).err().unwrap();
        assert!(told.contains(rule) && !told.contains("hunter2"), "{told}");
    }
    assert!(exec.credential(b"\xff", now).is_err());
}

#[test]
fn the_output_of_a_plugin_is_redacted() {
    let exec =
        exec(&GOOD.replace("command", "env: [{name: K, value: hunter22}, {name: R, value: eu}], command"))
            .unwrap();
    let jwt = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", "eyJzdWIiOiJqYW5lIn0aB1".repeat(2));
    for (said, shown) in [
        ("key hunter22 is wrong", "key [redacted] is wrong".to_owned()),
        ("region eu is down", "region eu is down".to_owned()),
        (&format!("got token={jwt}"), "got [redacted]".to_owned()),
        (&format!("got \"{jwt}\" there"), "got \"[redacted] there".to_owned()),
        (
            "open https://login.example.com/device?code=ABCDefgh1234567890ABCDefgh1234567890ABCD and enter A1B2-C3D4",
            "open https://login.example.com/device?code=ABCDefgh1234567890ABCDefgh1234567890ABCD and enter A1B2-C3D4"
                .to_owned(),
        ),
        (
            "no file /home/Jane/.azure/kubelogin/tokens/AzurePublicCloud-6dae42f8-1.json",
            "no file /home/Jane/.azure/kubelogin/tokens/AzurePublicCloud-6dae42f8-1.json".to_owned(),
        ),
    ] {
        assert_eq!(exec.redacted(said), shown);
    }
}
