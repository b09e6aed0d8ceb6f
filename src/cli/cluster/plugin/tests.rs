use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::cluster::kubeconfig::{Choice, Login, Plugins, standalone};

/// A folder with a plugin of this script.
fn folder(script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin");
    std::fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn plugin(folder: &TempDir, section: &str) -> Plugin {
    let text = format!(
        "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://c'}}}}]\nusers: [{{name: u, user: {{exec: {{\
         apiVersion: client.authentication.k8s.io/v1, {section}}}}}}}]\n"
    );
    let choice = Choice { plugins: Plugins::Run, stdin_taken: true, ..Choice::default() };
    match standalone(&text, folder.path(), choice).unwrap() {
        Login::Plugin(plugin) => *plugin,
        Login::Ready(_) => panic!("no plugin"),
    }
}

/// The outcome, and what was shown.
async fn run(script: &str, section: &str) -> (Result<Value, String>, String) {
    let folder = folder(script);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal { out: &mut out, err: &mut err, redraws: false, width: 80, err_width: None };
    let made = plugin(&folder, section).run(&mut terminal).await;
    let made =
        made.map(|bytes| serde_json::from_slice(&bytes).unwrap()).map_err(|error| format!("{error:#}"));
    (made, String::from_utf8(err).unwrap())
}

#[tokio::test]
async fn a_plugin_is_run_without_a_shell_with_its_arguments_and_variables() {
    let script = r#"
test "$1" = 'a b; $(touch hacked)' || exit 3
test "$KEY" = value1 || exit 4
case "$KUBERNETES_EXEC_INFO" in *'"interactive":false'*) ;; *) exit 5 ;; esac
echo "asked for $KEY" >&2
printf 'no end of line' >&2
echo '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "t0ken",
 "expirationTimestamp": "2099-01-01T00:00:00Z"}}'
"#;
    let section = "command: ./plugin, args: ['a b; $(touch hacked)'], env: [{name: KEY, value: value1}], interactiveMode: Never";
    let (made, shown) = run(script, section).await;
    let made = made.unwrap();
    assert_eq!(made["users"][0]["user"]["token"], "t0ken");
    assert!(made.to_string().contains("2099-01-01") && !made.to_string().contains("exec"), "{made}");
    assert_eq!(shown, "running the login plugin ./plugin\nasked for [redacted]\nno end of line\n");
}

#[tokio::test]
async fn a_plugin_that_fails_or_writes_too_much_or_does_not_exist_is_reported() {
    let (made, shown) = run("echo 'log in again' >&2\nexit 7\n", "command: ./plugin").await;
    assert!(made.unwrap_err().contains("./plugin failed (exit status: 7)"), "{shown}");
    assert!(shown.contains("log in again"), "{shown}");
    let (made, _) = run("echo hunter2\n", "command: ./plugin").await;
    let reported = made.unwrap_err();
    assert!(reported.contains("wrote no ExecCredential") && !reported.contains("hunter2"), "{reported}");
    let (made, _) = run("exec yes hunter2\n", "command: ./plugin").await;
    let reported = made.unwrap_err();
    assert!(reported.contains("writes more than") && !reported.contains("hunter2"), "{reported}");
    let (made, _) = run("", "command: no-such-plugin, installHint: 'get it\n at example.com'").await;
    let reported = made.unwrap_err();
    assert_eq!(reported, "the login plugin no-such-plugin is not on PATH: get it at example.com");
    let (made, _) = run("", "command: ./other").await;
    assert!(made.unwrap_err().contains("./other is no program"));
    // A bare name is searched on PATH only, not beside the kubeconfig.
    let (made, _) = run("", "command: plugin").await;
    assert!(made.unwrap_err().contains("is not on PATH"));
    let (made, _) = run("", "command: ./plugin, interactiveMode: Always").await;
    assert!(made.unwrap_err().contains("asks a person, and standard input is read as a file"));
}

#[tokio::test]
async fn much_that_a_plugin_says_is_cut_and_a_child_of_it_is_not_waited_for() {
    let script = r#"
i=0
while [ $i -lt 3000 ]; do echo "line $i of many, so that there is too much to show" >&2; i=$((i + 1)); done
sleep 10 > /dev/null &
exit 1
"#;
    let folder = folder(script);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal { out: &mut out, err: &mut err, redraws: false, width: 80, err_width: None };
    let started = tokio::time::Instant::now();
    let plugin = plugin(&folder, "command: ./plugin");
    assert!(plugin.run(&mut terminal).await.is_err());
    let shown = String::from_utf8(err).unwrap();
    assert!(
        shown.len() < MOST_SHOWN + LONGEST_LINE && shown.ends_with("(more is not shown)\n"),
        "{}",
        shown.len()
    );
    assert!(started.elapsed() < Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_hangs_is_given_up() {
    let folder = folder("exec sleep 1000\n");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal { out: &mut out, err: &mut err, redraws: false, width: 80, err_width: None };
    let reported = plugin(&folder, "command: ./plugin").run(&mut terminal).await.unwrap_err().to_string();
    assert_eq!(reported, "the login plugin ./plugin did not end within 60 s");
}
