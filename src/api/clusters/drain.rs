//! Drains: parse, call, convert.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tonic::{Response, Status};

use super::service::Clusters;
use crate::convert::{number, timestamp};
use crate::error;
use crate::parse::{self, Problems};
use domain::drain::{DEFAULT_CONCURRENT, DEFAULT_RATE, Fate, Options, Row, Stage};
use domain::names::ClusterName;
use federation::Federation;
use federation::clusters::drain::{Change, DrainView};
use proto::spaceport::v1;
use proto::spaceport::v1::change_drain_request::Change as WireChange;
use proto::spaceport::v1::drain::State;
use proto::spaceport::v1::drain_workspace::Fate as WireFate;

/// Changes within this time are sent together.
const GATHER: Duration = Duration::from_millis(200);

/// Stream of [`Clusters::watch_drain`].
pub type Watch = Pin<Box<dyn Stream<Item = Result<v1::WatchDrainResponse, Status>> + Send>>;

impl Clusters {
    pub(super) async fn start(
        &self,
        request: v1::StartDrainRequest,
    ) -> Result<Response<v1::StartDrainResponse>, Status> {
        let mut problems = Problems::default();
        let name = problems.parse::<ClusterName>("name", &request.name);
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        let options = Options {
            deadline: duration(&mut problems, "deadline", request.deadline),
            idle: duration(&mut problems, "idle", request.idle),
            rate: or(request.rate_per_minute, DEFAULT_RATE),
            concurrent: or(request.max_concurrent, DEFAULT_CONCURRENT),
            accept_no_room: request.accept_no_room,
        };
        let name = problems.finish(name)?;
        let view = self.federation.clusters.drains.start(&name, options, request.dry_run).await;
        let view = view.map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::StartDrainResponse { drain: Some(drain(&view)) }))
    }

    pub(super) fn get(
        &self,
        request: &v1::GetDrainRequest,
    ) -> Result<Response<v1::GetDrainResponse>, Status> {
        let name = parse::named("name", &request.name)?;
        let view = self.federation.clusters.drains.get(&name, true).map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::GetDrainResponse { drain: Some(drain(&view)) }))
    }

    pub(super) async fn change(
        &self,
        request: v1::ChangeDrainRequest,
    ) -> Result<Response<v1::ChangeDrainResponse>, Status> {
        let (name, change) = change(&request)?;
        let view = self.federation.clusters.drains.change(&name, &change).await;
        let view = view.map_err(|error| error::status(&error))?;
        Ok(Response::new(v1::ChangeDrainResponse { drain: Some(drain(&view)) }))
    }

    pub(super) fn watch(&self, request: &v1::WatchDrainRequest) -> Result<Response<Watch>, Status> {
        let name: ClusterName = parse::named("name", &request.name)?;
        // Reject at once rather than on the stream.
        self.federation.clusters.drains.get(&name, false).map_err(|error| error::status(&error))?;
        Ok(Response::new(Box::pin(states(Arc::clone(&self.federation), name))))
    }
}

/// The drain now and after each change, until the server shuts down.
fn states(
    federation: Arc<Federation>,
    name: ClusterName,
) -> impl Stream<Item = Result<v1::WatchDrainResponse, Status>> + Send {
    let (changes, stirred) = federation.clusters.drains.changes();
    let closed = federation.closing.clone();
    let begin = Some((changes, stirred, None::<v1::Drain>));
    futures::stream::unfold(begin, move |state| {
        let (federation, name, closed) = (Arc::clone(&federation), name.clone(), closed.clone());
        async move {
            let (mut changes, mut stirred, last) = state?;
            loop {
                changes.borrow_and_update();
                stirred.borrow_and_update();
                let now = match federation.clusters.drains.get(&name, false) {
                    Ok(view) => drain(&view),
                    Err(error) => return Some((Err(error::status(&error)), None)),
                };
                if last.as_ref() != Some(&now) {
                    let answer = v1::WatchDrainResponse { drain: Some(now.clone()) };
                    return Some((Ok(answer), Some((changes, stirred, Some(now)))));
                }
                tokio::select! {
                    _ = changes.changed() => {}
                    _ = stirred.changed() => {}
                    () = closed.cancelled() => {
                        return Some((Err(Status::unavailable("this replica is shutting down")), None));
                    }
                }
                tokio::time::sleep(GATHER).await;
            }
        }
    })
}

fn duration(problems: &mut Problems, field: &str, given: Option<prost_types::Duration>) -> Option<Duration> {
    let given = given?;
    Duration::try_from(given).map_err(|_| problems.add(field, "must not be negative")).ok()
}

fn change(request: &v1::ChangeDrainRequest) -> Result<(ClusterName, Change), Status> {
    let mut problems = Problems::default();
    let name = problems.parse("name", &request.name);
    let change = match request.change() {
        WireChange::Pause => Some(Change::Pause),
        WireChange::Resume => Some(Change::Resume),
        WireChange::Cancel => Some(Change::Cancel),
        WireChange::Accept => {
            if request.workspaces.is_empty() {
                problems.add("workspaces", "must name at least one");
            }
            let ids = request.workspaces.iter().enumerate();
            let ids = ids.filter_map(|(at, id)| problems.parse(&format!("workspaces[{at}]"), id));
            Some(Change::Accept(ids.collect()))
        }
        WireChange::Unspecified => {
            problems.add("change", "must be PAUSE, RESUME, CANCEL or ACCEPT");
            None
        }
    };
    problems.finish(name.zip(change))
}

/// A drain on the wire.
pub(super) fn drain(view: &DrainView) -> v1::Drain {
    let (drain, options) = (&view.drain, &view.drain.options);
    let unsaved = drain.unsaved.iter().map(|(id, unsaved)| v1::UnsavedWorkspace {
        id: id.to_string(),
        reason: unsaved.reason.clone(),
        at: Some(timestamp(unsaved.at)),
        accepted: unsaved.accepted,
    });
    v1::Drain {
        cluster: drain.cluster.to_string(),
        state: state(view).into(),
        reason: view.blocked.clone(),
        started_at: Some(timestamp(drain.started_at)),
        deadline_at: drain.deadline_at.map(timestamp),
        ended_at: drain.ended_at.map(timestamp),
        // Whole seconds: smaller movements of the estimate are not a change.
        estimated_end: view.estimate.map(|at| prost_types::Timestamp { nanos: 0, ..timestamp(at) }),
        idle: options.idle.and_then(|idle| prost_types::Duration::try_from(idle).ok()),
        rate_per_minute: options.rate,
        max_concurrent: options.concurrent,
        accept_no_room: options.accept_no_room,
        counts: Some(counts(view)),
        workspaces: view.rows.iter().map(workspace).collect(),
        unsaved: unsaved.collect(),
    }
}

fn state(view: &DrainView) -> State {
    match view.drain.stage {
        _ if view.planned => State::Planned,
        Stage::Paused => State::Paused,
        Stage::Drained => State::Drained,
        Stage::Cancelled => State::Cancelled,
        Stage::Draining if view.blocked.is_empty() => State::Draining,
        Stage::Draining => State::Blocked,
    }
}

/// State of a drain that excludes a cluster from placement, for lists of clusters.
pub(super) fn state_of(stage: Option<Stage>) -> State {
    match stage {
        Some(Stage::Draining) => State::Draining,
        Some(Stage::Paused) => State::Paused,
        Some(Stage::Drained) => State::Drained,
        Some(Stage::Cancelled) | None => State::Unspecified,
    }
}

fn counts(view: &DrainView) -> v1::DrainCounts {
    let with = |is: fn(&Fate) -> bool| number(view.fates.iter().filter(|fate| is(fate)).count());
    v1::DrainCounts {
        total: number(view.drain.total),
        left: number(view.fates.len()),
        left_alone: with(|fate| matches!(fate, Fate::LeftAlone(_))),
        finishing: with(|fate| *fate == Fate::Finishes),
        due: with(|fate| *fate == Fate::Due),
        no_room: with(|fate| *fate == Fate::NoRoom),
        stopping: with(|fate| *fate == Fate::Stopping),
        in_flight: number(view.drain.stopping.len()),
        stopped: number(view.drain.stopped),
    }
}

fn workspace((row, owner): &(Row, String)) -> v1::DrainWorkspace {
    let (fate, due_at) = match row.fate {
        Fate::Finishes => (WireFate::Finishes, None),
        Fate::LeftAlone(until) => (WireFate::LeftAlone, until),
        Fate::Due => (WireFate::Due, None),
        Fate::NoRoom => (WireFate::NoRoom, None),
        Fate::Stopping => (WireFate::Stopping, None),
    };
    let room = row.room.as_ref();
    let reasons = room.and_then(|room| room.as_ref().err()).map(|verdicts| {
        let reasons: Vec<String> = verdicts.iter().map(|(name, why)| format!("{name} {why}")).collect();
        if reasons.is_empty() { "no other cluster is registered".to_owned() } else { reasons.join("; ") }
    });
    v1::DrainWorkspace {
        id: row.resident.id.to_string(),
        owner: owner.clone(),
        fate: fate.into(),
        due_at: due_at.map(timestamp),
        room: room.and_then(|room| room.as_ref().ok()).map(ToString::to_string).unwrap_or_default(),
        no_room: reasons.unwrap_or_default(),
    }
}
