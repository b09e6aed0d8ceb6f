use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use content::initializer::Fault;
use content::initializer::scrub::Scrubber;
use node::helper::{Error, Helper, Job, Operation, Settings};
use proto::contentservice::GitInitializer;
use proto::contentservice::workspace_initializer::Spec;
use serde_json::json;
use tokio::time::Instant;

use super::stage::{Stage, left_over, plan, sleeper};

/// Argument that makes this program an agent.
pub const AGENT: &str = "agent-that-is-killed";

fn hang() -> Operation {
    Operation::Archive { request: json!({ "do": "hang", "name": sleeper() }) }
}

/// Waits until nothing of a helper is left.
async fn expect_nothing_left() {
    let until = Instant::now() + Duration::from_secs(10);
    while !left_over().is_empty() {
        assert!(Instant::now() < until, "{:?}", left_over());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn a_helper_ends_at_its_deadline_with_all_its_processes() {
    let stage = Stage::new();
    let began = Instant::now();
    let running = stage.start(hang(), Duration::from_secs(3)).await.unwrap();
    let mut progress = running.progress.clone();
    progress.changed().await.unwrap();
    assert!(!left_over().is_empty());
    let error = running.end().await.unwrap_err();
    assert!(left_over().is_empty(), "{:?}", left_over());
    assert!(matches!(error, Error::Late { .. }), "{error}");
    assert_eq!(error.to_string(), "archive work took longer than 3 s; its last step was: hanging");
    assert!(began.elapsed() < Duration::from_secs(12));
}

pub async fn a_helper_whose_clone_gets_no_answer_ends_at_its_deadline() {
    // Accepts into its backlog, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let git = GitInitializer {
        remote_uri: format!("http://{}/a.git", silent.local_addr().unwrap()),
        ..Default::default()
    };
    let plan = plan(Spec::Git(git));
    let operation = Operation::clone_of(plan.repositories().next().unwrap());
    let stage = Stage::new();
    let running = stage.start(operation, Duration::from_secs(4)).await.unwrap();
    let error = running.end().await.unwrap_err();
    assert_eq!(error.to_string(), "cloning a repository took longer than 4 s; its last step was: fetching");
    assert!(left_over().is_empty(), "{:?}", left_over());
}

pub async fn dropping_a_helper_kills_it() {
    let stage = Stage::new();
    let running = stage.start(hang(), Duration::from_mins(10)).await.unwrap();
    assert!(!left_over().is_empty());
    drop(running);
    expect_nothing_left().await;
}

/// Starts a helper, prints a line once it works, and waits to be killed.
pub fn agent(folder: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let job = Job {
            workspace: folder.into(),
            operation: hang(),
            deadline: Duration::from_mins(10),
            scrubber: Scrubber::default(),
        };
        let mut running = Helper::new(Settings::default()).start(job).await.unwrap();
        running.progress.changed().await.unwrap();
        println!("works");
        let _ = running.end().await;
    });
    ExitCode::SUCCESS
}

pub async fn a_helper_dies_with_its_agent() {
    let stage = Stage::new();
    let program = std::env::current_exe().unwrap();
    let mut agent =
        Command::new(program).arg(AGENT).arg(stage.path("")).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(agent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "works\n");
    assert!(processes_of(agent.id()) > 0);
    agent.kill().unwrap();
    agent.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while processes_of(agent.id()) > 0 {
        assert!(Instant::now() < until, "the helper lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn processes_of(agent: u32) -> usize {
    let marker = format!("content-helper\0{agent}\0");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
    lines.filter(|line| String::from_utf8_lossy(line).contains(&marker)).count()
}

pub async fn a_helper_that_exits_or_panics_is_lost_with_its_last_words() {
    let stage = Stage::new();
    for (work, words) in [("exit", "exit status: 3"), ("panic", "planted panic")] {
        let error = stage.run(Operation::Archive { request: json!({ "do": work }) }).await.unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error}");
        assert_eq!(error.fault(), Fault::Platform);
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = stage.run(Operation::Archive { request: json!({ "do": "other" }) }).await.unwrap_err();
    assert!(error.to_string().contains("unknown variant `other`"), "{error}");
    assert!(left_over().is_empty(), "{:?}", left_over());
}

pub async fn a_helper_that_takes_too_much_memory_ends_and_says_so() {
    let mut stage = Stage::new();
    stage.settings.limits.own = 64 << 20;
    let take = |bytes: u64| Operation::Archive { request: json!({ "do": "take", "bytes": bytes }) };
    stage.run(take(16 << 20)).await.unwrap();
    let error = stage.run(take(128 << 20)).await.unwrap_err();
    assert_eq!(error.to_string(), "archive work needs more memory than the 64 MiB that a helper may have");
    assert_eq!(error.fault(), Fault::Platform);
    // The limit of git is that of git's processes.
    let git = GitInitializer { remote_uri: "http://127.0.0.1:9/a.git".to_owned(), ..Default::default() };
    let plan = plan(Spec::Git(git));
    stage.settings.limits.git = 1 << 20;
    let error = stage.run(Operation::clone_of(plan.repositories().next().unwrap())).await.unwrap_err();
    assert!(!error.to_string().contains("onnect"), "git ran within 1 MiB: {error}");
}

pub async fn what_cannot_start_says_why() {
    let mut stage = Stage::new();
    stage.settings.scratch = "/no/such/folder".into();
    let error = stage.run(hang()).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
    stage.settings = Settings { program: Some(Path::new("/no/such/program").into()), ..Settings::default() };
    assert!(matches!(stage.run(hang()).await, Err(Error::NotStarted(_))));
    stage.settings = Settings::default();
    std::fs::remove_dir_all(stage.path("")).unwrap();
    let error = stage.run(hang()).await.unwrap_err();
    assert!(error.to_string().contains("folder of the workspace"), "{error}");
    std::fs::create_dir(stage.path("")).unwrap();
    assert!(left_over().is_empty(), "{:?}", left_over());
}
