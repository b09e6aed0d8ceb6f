//! Contexts and versions, as a person types them.

use super::fake::Fake;
use super::run;
use crate::flags::Environment;

fn in_folder(folder: &tempfile::TempDir) -> Environment {
    Environment::default().with("HOME", folder.path())
}

#[tokio::test]
async fn a_context_is_made_chosen_used_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let environment = in_folder(&folder);
    let server = Fake::default();
    let endpoint = server.serve().await;
    let said = async |line: &str, code: u8, expected: &str| {
        let ran = run(line, &environment).await;
        assert_eq!(ran.code, code, "{line}: {}", ran.err);
        let all = format!("{}{}", ran.out, ran.err);
        assert!(all.contains(expected), "{line}: {all}");
    };
    said(
        "cluster leader",
        2,
        "no server is named: give --endpoint, set SPACEPORT_ENDPOINT, or use a context: there is none, create one with \
         `spaceport config set-context NAME --endpoint URL`",
    )
    .await;
    said("config get-contexts", 0, "there are no contexts").await;
    let none = "no context is current: create one with `spaceport config set-context NAME --endpoint URL`";
    said("config current-context", 1, none).await;
    said("config set-context here", 2, "the new context here needs --endpoint").await;
    said(&format!("config set-context here --endpoint {endpoint} --timeout 3s"), 0, "created context here")
        .await;
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem()).unwrap();
    let there = format!("config set-context there --endpoint https://a.example --ca {}", ca.display());
    said(&there, 0, "use-context there").await;
    said("config set-context there --cert me.crt", 2, "--cert and --key belong together").await;
    said("config set-context there --timeout 9s", 0, "changed context there").await;
    std::fs::remove_file(&ca).unwrap();
    said("config use-context nowhere", 2, "has no context nowhere; it has here, there").await;
    said("--context here cluster leader", 0, "leader:").await;
    said("config use-context here", 0, "the current context is here").await;
    said("cluster leader", 0, "leader:").await;
    said("cluster leader --context there", 1, "ca.crt: there is no such file").await;
    said("config current-context", 0, "here\n").await;
    said("config get-contexts", 0, "*        here   http://127.0.0.1:").await;
    said("config view", 0, "currentContext: here").await;
    let ran = run("config get-contexts -o json", &environment).await;
    let contexts: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&contexts[0]["name"], &contexts[0]["current"]), (&"here".into(), &true.into()), "{contexts}");
    assert_eq!(contexts[1]["timeout"], "9s", "{contexts}");
    assert_eq!(contexts[1]["ca"].as_str(), ca.to_str());
    said("config delete-context here", 0, "deleted context here; no context is current now").await;
    said("config delete-context here", 2, "has no context here; it has there").await;
    said("config use-context there", 0, "the current context is there").await;
    said("config unset-context", 0, "no context is current now").await;
    said("config current-context", 1, "no context is current: choose one with").await;
    said("cluster leader", 2, "SPACEPORT_ENDPOINT, or choose a context of").await;
}

#[tokio::test]
async fn unusable_settings_are_rejected_and_settings_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let environment = in_folder(&folder);
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let issued = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let (ca, key) = (file("ca.crt", &issued.cert.pem()), file("me.key", &issued.signing_key.serialize_pem()));
    let text = file("text", "hunter2");
    let config = folder.path().join(".config/spaceport/config.yaml");
    let said = async |line: &str, code: u8, expected: &str| {
        let ran = run(&format!("config set-context eu {line}"), &environment).await;
        assert_eq!(ran.code, code, "{line}: {}", ran.err);
        assert!(ran.err.contains(expected), "{line}: {}", ran.err);
    };
    for (line, code, expected) in [
        ("--endpoint https://a".to_owned(), 2, "https needs --ca"),
        ("--endpoint https://a --ca nowhere.crt".to_owned(), 1, "nowhere.crt: there is no such file"),
        (format!("--endpoint https://a --ca {text}"), 1, "text is not PEM"),
        (format!("--endpoint https://a --ca {ca} --cert {ca}"), 2, "belong together"),
        (
            format!("--endpoint https://a --ca {ca} --cert {key} --key {ca}"),
            1,
            "were certificate and key swapped?",
        ),
        (format!("--endpoint https://a --ca {ca} --server-name a/b"), 2, "correct --server-name"),
        (
            format!("--endpoint http://127.0.0.1:1 --ca {ca}"),
            2,
            "ca is for https, and every endpoint is http",
        ),
        ("--endpoint http://127.0.0.1:1 --server-name a".to_owned(), 2, "server-name is for https"),
        (
            format!("--endpoint https://a --ca {ca} --unset ca"),
            2,
            "--ca and --unset ca contradict each other",
        ),
    ] {
        said(&line, code, expected).await;
        assert!(!config.exists(), "{line}");
    }
    let whole =
        format!("--endpoint https://a --ca {ca} --cert {ca} --key {key} --server-name b --timeout 3s");
    said(&whole, 0, "created context eu").await;
    said("--unset ca", 2, "https needs --ca").await;
    said("--unset key", 2, "belong together").await;
    said("--unset cert --unset key --unset server-name --unset timeout", 0, "changed context eu").await;
    let expected = format!("contexts:\n  eu:\n    endpoints:\n      - https://a\n    ca: {ca}\n");
    let written = std::fs::read_to_string(&config).unwrap();
    assert_eq!(
        written.replace("    - https", "      - https").replace("        -", "      -"),
        expected,
        "{written}"
    );
}

#[tokio::test]
async fn the_versions_of_both_sides_are_printed() {
    let server = Fake::default();
    let endpoint = server.serve().await;
    let environment = Environment::default().with("SPACEPORT_ENDPOINT", endpoint.as_str());
    let own = env!("CARGO_PKG_VERSION");
    let ran = run("version", &environment).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("an earlier version"), "{}", ran.out);
    server.0.lock().version = Some("9.9.9".to_owned());
    let ran = run("version -o json", &environment).await;
    let view: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&view["client"], &view["server"]["version"]), (&own.into(), &"9.9.9".into()));
    assert_eq!(view["server"]["endpoint"].as_str(), Some(endpoint.as_str()));

    for line in ["version", "version --client --endpoint http://127.0.0.1:1"] {
        let ran = run(line, &Environment::default()).await;
        assert_eq!((ran.code, ran.out, ran.err.as_str()), (0, format!("client:  {own}\n"), ""), "{line}");
    }
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("config.yaml");
    std::fs::write(&broken, "contexts: [").unwrap();
    let environment = Environment::default().with("SPACEPORT_CONFIG", &broken);
    let ran = run("version --client", &environment).await;
    assert_eq!((ran.code, ran.out, ran.err.as_str()), (0, format!("client:  {own}\n"), ""));
    let ran = run("version", &environment).await;
    assert_eq!((ran.code, ran.out), (1, format!("client:  {own}\n")));
    assert!(ran.err.contains("config.yaml is neither YAML nor JSON"), "{}", ran.err);

    let ran = run("version --endpoint http://127.0.0.1:1", &Environment::default()).await;
    assert_eq!((ran.code, ran.out), (1, format!("client:  {own}\n")));
    assert!(ran.err.starts_with("spaceport: the server's version is not known: UNAVAILABLE"), "{}", ran.err);
}
