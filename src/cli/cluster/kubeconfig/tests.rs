use serde_json::Value;

use super::*;

const CONTEXTS: &str =
    "contexts: [{name: a, context: {cluster: c, user: u}}, {name: b, context: {cluster: d, user: v}}]\n";
const EXEC: &str = "exec: {apiVersion: client.authentication.k8s.io/v1, command: /nowhere/aws}";

fn config(cluster: &str, user: &str) -> String {
    format!(
        "{CONTEXTS}current-context: a\nclusters: [{{name: c, cluster: {{server: 'https://c', {cluster}}}}}, \
         {{name: d, cluster: {{server: 'https://d', certificate-authority: /nowhere/ca}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}, {{name: v, user: {{tokenFile: /nowhere/token, token: hunter2}}}}]\n"
    )
}

fn sent(login: Login) -> Value {
    match login {
        Login::Ready(bytes) => serde_json::from_slice(&bytes).unwrap(),
        Login::Plugin(_) => panic!("a plugin"),
    }
}

fn refusal(text: &str, choice: Choice<'_>) -> String {
    match standalone(text, Path::new(""), choice) {
        Ok(_) => panic!("it was taken: {text}"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn files_of_the_chosen_context_are_laid_in_and_nothing_else_is_read_or_sent() {
    let folder = tempfile::tempdir().unwrap();
    let authority = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(authority.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    std::fs::write(folder.path().join("ca.pem"), utf16).unwrap();
    std::fs::write(folder.path().join("token"), "\u{feff}t0ken\r\n").unwrap();
    let text = config("certificate-authority: ca.pem", "tokenFile: token, client-key: ''");
    let path = folder.path().join("config");
    for bytes in [
        text.clone().into_bytes(),
        [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect(),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let read = sent(from_file(&path, Choice::default()).unwrap());
        let expected = STANDARD.encode(&authority);
        assert_eq!(read["clusters"][0]["cluster"]["certificate-authority-data"], expected);
        assert_eq!(read["clusters"][0]["cluster"].get("certificate-authority"), None);
        assert_eq!(read["users"][0]["user"]["token"], "t0ken");
        assert_eq!(read["contexts"].as_array().unwrap().len(), 1);
        assert!(!read.to_string().contains("hunter2") && !read.to_string().contains("https://d"), "{read}");
    }
    let other = Choice { context: Some("b"), ..Choice::default() };
    let reported = format!("{:#}", from_file(&path, other).err().unwrap());
    assert!(reported.contains("failed to read /nowhere/ca"), "{reported}");
}

#[test]
fn a_context_is_chosen_by_name() {
    let text = config("", "token: t").replace("certificate-authority: /nowhere/ca", "");
    let other = Choice { context: Some("b"), ..Choice::default() };
    // The file cannot be read, but there is an inline token.
    let read = sent(standalone(&text, Path::new(""), other).unwrap());
    assert_eq!(read["clusters"][0]["cluster"]["server"], "https://d");
    let wrong = Choice { context: Some("x"), ..Choice::default() };
    assert_eq!(refusal(&text, wrong), "has no context \"x\"; it has a, b");
    let none = text.replace("current-context: a\n", "");
    assert!(refusal(&none, Choice::default()).ends_with("name one with --kube-context: a, b"));
}

#[test]
fn a_login_that_a_plugin_makes_is_explained_or_left_to_be_made() {
    let reported = refusal(&config("", EXEC), Choice::default());
    assert!(
        reported.contains("plugin \"/nowhere/aws\"") && reported.contains("--print-kubeconfig"),
        "{reported}"
    );
    let run = Choice { plugins: Plugins::Run, ..Choice::default() };
    assert!(matches!(standalone(&config("", EXEC), Path::new(""), run), Ok(Login::Plugin(_))));
    // As in kubectl, static credentials take precedence over a plugin.
    let both = config("", &format!("token: t, {EXEC}"));
    assert_eq!(
        sent(standalone(&both, Path::new(""), Choice::default()).unwrap())["users"][0]["user"]["token"],
        "t"
    );
    let provider = refusal(&config("", "auth-provider: {name: oidc, config: {id-token: hunter2}}"), run);
    assert!(provider.contains("auth-provider") && !provider.contains("hunter2"), "{provider}");
}

#[test]
fn an_invalid_kubeconfig_is_rejected_without_quoting_it() {
    for text in ["a: [hunter2", "hunter2", "", "clusters: hunter2"] {
        let error = refusal(text, Choice::default());
        assert!(!error.contains("hunter2"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, b"caf\xe9").unwrap();
    let reported = format!("{:#}", from_file(&path, Choice::default()).err().unwrap());
    assert!(reported.ends_with("is neither UTF-8 nor UTF-16 text"), "{reported}");
}
