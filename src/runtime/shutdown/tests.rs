use std::convert::Infallible;
use std::future::pending;

use super::*;

const DRAIN: Duration = Duration::from_secs(30);

fn supervisor() -> Supervisor {
    Supervisor::new(CancellationToken::new())
}

fn spawn_obedient(supervisor: &mut Supervisor, name: &'static str) {
    let token = supervisor.token();
    supervisor.spawn(name, async move {
        token.cancelled().await;
        Ok::<_, Infallible>(())
    });
}

fn spawn_stubborn(supervisor: &mut Supervisor, name: &'static str) {
    supervisor.spawn(name, pending::<Result<(), Infallible>>());
}

#[tokio::test(start_paused = true)]
async fn the_first_signal_ends_every_task() {
    let mut supervisor = supervisor();
    spawn_obedient(&mut supervisor, "api");
    spawn_obedient(&mut supervisor, "leader");
    supervisor.run(DRAIN, stream::iter(["SIGTERM"])).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_token_ends_it_without_signals() {
    let mut supervisor = supervisor();
    spawn_obedient(&mut supervisor, "api");
    supervisor.token().cancel();
    supervisor.run(DRAIN, stream::pending()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_aborts_what_is_left() {
    let mut supervisor = supervisor();
    spawn_stubborn(&mut supervisor, "stuck");
    spawn_obedient(&mut supervisor, "api");
    let start = Instant::now();
    let error = supervisor.run(DRAIN, stream::iter(["SIGTERM"]).chain(stream::pending())).await.unwrap_err();
    assert_eq!(error.to_string(), "tasks did not end within 30s and were aborted: stuck");
    assert_eq!(start.elapsed(), DRAIN);
}

#[tokio::test(start_paused = true)]
async fn the_second_signal_aborts_at_once() {
    let mut supervisor = supervisor();
    spawn_stubborn(&mut supervisor, "stuck");
    let start = Instant::now();
    let error = supervisor.run(DRAIN, stream::iter(["SIGINT", "SIGINT"])).await.unwrap_err();
    assert_eq!(error.to_string(), "aborted by a second signal while waiting for stuck");
    assert!(start.elapsed() < DRAIN);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_shuts_down_with_its_name() {
    for (outcome, message) in
        [(Ok(()), "task watch ended unexpectedly"), (Err(std::io::Error::other("gone")), "task watch failed")]
    {
        let mut supervisor = supervisor();
        spawn_obedient(&mut supervisor, "api");
        let token = supervisor.token();
        supervisor.spawn("watch", async move { outcome });
        let error = supervisor.run(DRAIN, stream::pending()).await.unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(token.is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_shuts_down_with_the_name_of_the_task() {
    let mut supervisor = supervisor();
    spawn_obedient(&mut supervisor, "api");
    supervisor.spawn("watch", async { if true { panic!("on purpose") } else { Ok::<_, Infallible>(()) } });
    let error = supervisor.run(DRAIN, stream::empty()).await.unwrap_err();
    assert_eq!(error.to_string(), "task watch panicked");
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_draining_is_reported() {
    let mut supervisor = supervisor();
    let token = supervisor.token();
    supervisor.spawn("leader", async move {
        token.cancelled().await;
        Err(std::io::Error::other("could not resign"))
    });
    let error = supervisor.run(DRAIN, stream::iter(["SIGTERM"])).await.unwrap_err();
    assert_eq!(error.to_string(), "task leader failed");
}
