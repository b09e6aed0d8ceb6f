//! Passes bytes between a client and a container until one of them ends, or a limit is reached.
//!
//! Both directions are independent of each other, and hold one piece each. If the client, the limits or this process end
//! the session, its command is hung up by a second call: a cluster only closes the connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::activity::Activity;
use super::command;
use super::exchange::{Event, Gone, Limits, Request, Requests, Terms};
use super::open::{Opened, Site};
use crate::Error;
use domain::duration::GoDuration;
use domain::health::Health;
use domain::names::WorkspaceId;
use member::sessions::{Ended, Input, Output, Piece};

/// Between signs of life on a silent connection; load balancers forget those that are silent for a minute.
const PING: Duration = Duration::from_secs(20);
/// How long a connection to a port stays open after its client has sent everything and the server is silent.
const LINGER: Duration = Duration::from_secs(10);
/// Until a command is hung up.
const HANG_UP: Duration = Duration::from_secs(15);
/// Until a client takes the last event.
const LAST: Duration = Duration::from_secs(10);
/// Until the activity is recorded.
const MARK: Duration = Duration::from_secs(15);

/// Why a session ended.
enum End {
    /// The command or the connection ended.
    Over(Ended),
    /// The client left.
    Left,
    /// Nothing came or went for too long.
    Silent,
    /// It lasted too long.
    Old,
    /// This process ends.
    Closing,
    /// The cluster does not answer any more.
    Lost,
}

/// One session.
pub(super) struct Relay {
    id: WorkspaceId,
    site: Site,
    process: Option<u32>,
    is_command: bool,
    limits: Limits,
    ends: (Input, Output, VecDeque<Piece>),
    line: Line,
}

/// What both directions use.
struct Line {
    events: mpsc::Sender<Event>,
    id: WorkspaceId,
    terms: Terms,
    activity: Arc<Activity>,
    tasks: TaskTracker,
    /// When the last byte came or went.
    busy: Mutex<Instant>,
}

impl Relay {
    pub(super) fn new(
        id: WorkspaceId,
        opened: Opened,
        events: mpsc::Sender<Event>,
        terms: Terms,
        activity: Arc<Activity>,
        tasks: TaskTracker,
    ) -> Self {
        let Opened { site, input, output, first, process, is_command } = opened;
        let (limits, busy) = (terms.limits, Mutex::new(Instant::now()));
        let line = Line { events, id: id.clone(), terms, activity, tasks, busy };
        Self { id, site, process, is_command, limits, ends: (input, output, first), line }
    }

    /// Passes bytes on until the end, which it reports; then sees to the command.
    pub(super) async fn run(self, requests: Requests) {
        let Self { id, mut site, process, is_command, limits, ends, line } = self;
        let (mut input, mut output, first) = ends;
        let end = tokio::select! {
            // An exit code that is there is not lost to another end.
            biased;
            end = line.down(&mut output, first) => end,
            end = line.up(&mut input, requests, is_command) => end,
            () = line.events.closed() => End::Left,
            () = line.terms.closing.cancelled() => End::Closing,
            _ = site.health.wait_for(|health| *health == Health::Lost) => End::Lost,
            () = line.silent(limits.idle) => End::Silent,
            () = sleep(limits.longest) => End::Old,
        };
        let (last, is_over) = report(&id, &site, end, is_command, limits);
        let told = async {
            if let Some(event) = last {
                // The client may have left, or read nothing.
                let _ = timeout(LAST, line.events.send(event)).await;
            }
        };
        let freed = async {
            if !is_over && is_command {
                let _ = timeout(HANG_UP, hang_up(&site, process)).await;
            }
            let _ = timeout(LAST, input.close()).await;
        };
        tokio::join!(told, freed);
    }
}

impl Line {
    /// From the container to the client.
    async fn down(&self, output: &mut Output, mut first: VecDeque<Piece>) -> End {
        loop {
            let piece = match first.pop_front() {
                Some(piece) => piece,
                None => output.next().await,
            };
            let event = match piece {
                Piece::Out(bytes) => Event::Out(bytes),
                Piece::Err(bytes) => Event::Err(bytes),
                Piece::End(ended) => return End::Over(ended),
            };
            self.moved();
            if self.events.send(event).await.is_err() {
                return End::Left;
            }
            self.moved();
        }
    }

    /// From the client to the container.
    async fn up(&self, input: &mut Input, mut requests: Requests, is_command: bool) -> End {
        // Not at once: a short command may be over when it arrives, and its exit code lost with the connection.
        let mut pings = interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut goes_on = true;
        loop {
            let linger = sleep_until(*self.busy.lock() + LINGER);
            let sent = tokio::select! {
                request = requests.next(), if goes_on => match request {
                    Some(Ok(request)) => self.send(input, request).await,
                    Some(Err(Gone)) => return End::Left,
                    None => {
                        goes_on = false;
                        *self.busy.lock() = Instant::now();
                        input.end().await
                    }
                },
                () = linger, if !goes_on && !is_command => {
                    if self.busy.lock().elapsed() >= LINGER {
                        return End::Over(Ended::Closed);
                    }
                    Ok(())
                }
                _ = pings.tick() => input.ping().await,
            };
            if sent.is_err() {
                // The other direction has the reason: the exit code, if the command takes no more input because it ended.
                return std::future::pending().await;
            }
        }
    }

    async fn send(&self, input: &mut Input, request: Request) -> Result<(), String> {
        match request {
            Request::Bytes(bytes) => {
                self.moved();
                input.send(bytes).await
            }
            Request::Resize(size) => input.resize(size.columns, size.rows).await,
        }
    }

    /// Notes that bytes came or went, which is activity of the user.
    fn moved(&self) {
        *self.busy.lock() = Instant::now();
        if self.activity.is_due(&self.id) {
            let marking = (self.terms.mark_active)(self.id.clone());
            // On its own, so that a short session is recorded, too.
            self.tasks.spawn(async move {
                let _ = timeout(MARK, marking).await;
            });
        }
    }

    /// Returns once nothing moved for that long.
    async fn silent(&self, idle: Duration) {
        loop {
            let due = *self.busy.lock() + idle;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// The last event, and whether the command is over.
fn report(
    id: &WorkspaceId,
    site: &Site,
    end: End,
    is_command: bool,
    limits: Limits,
) -> (Option<Event>, bool) {
    let ended = |reason: &str| Error::SessionEnded { id: id.clone(), reason: reason.to_owned() };
    let limit = |reason| Error::SessionLimit { id: id.clone(), reason };
    let (error, is_over) = match end {
        End::Left => return (None, false),
        End::Over(Ended::Exit(code)) => return (Some(Event::Exit(code)), true),
        End::Over(Ended::Closed) if !is_command => return (None, true),
        End::Over(Ended::Closed) => {
            let text = "its node closed the session before the command ended: the container may have stopped";
            (site.unavailable(id, text), false)
        }
        End::Over(Ended::Failed(text)) => (site.failed(id, &text), true),
        End::Over(Ended::Broken(reason)) => {
            (site.unavailable(id, &format!("the connection broke: {reason}")), false)
        }
        End::Silent => {
            let idle = GoDuration::from(limits.idle);
            (limit(format!("nothing was sent or received for {idle}")), false)
        }
        End::Old => (limit(format!("it was open for {}", GoDuration::from(limits.longest))), false),
        End::Closing => (ended("this manager is shutting down"), false),
        End::Lost => (site.unavailable(id, "it is unreachable"), true),
    };
    (Some(Event::Failed(error)), is_over)
}

/// Hangs up a command. Without its process id it only gets the end of its input, when the connection is closed.
async fn hang_up(site: &Site, process: Option<u32>) {
    let Some(process) = process else { return };
    if let Ok((_input, mut output)) = site.exec(&command::hang_up(process)).await {
        while !matches!(output.next().await, Piece::End(_)) {}
    }
}
