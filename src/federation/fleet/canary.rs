//! Renews the canary of a member cluster while its gate is open, and dry-runs the creation of a Workspace
//! in each of its namespaces; where they fail, also pods, Secrets and changes of Workspaces.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use domain::acceptance::Change;
use domain::canary::CanaryState;
use domain::diff::Keeper;
use domain::workspace::Kind;
use k8s::convert;
use k8s::resources::Workspace;
use member::apply::Writer;
use onboarding::pod_policy::PROBE;

use super::connected::{Connected, Place};
use super::gate::Opened;

/// Between dry runs, however many starts fail.
const AT_LEAST: Duration = Duration::from_millis(500);
/// While creating workspaces fails, it is tried so many times as often.
const EAGERNESS: u32 = 5;

impl Connected {
    /// Renews the canary until the member is disconnected.
    pub(super) async fn keep_canary(&self) {
        tokio::select! {
            () = self.renew_while_open() => {}
            () = self.compare() => {}
            () = self.notify_learned() => {}
            () = self.tasks.stop().cancelled() => {}
        }
    }

    /// Detects, on every replica, restores of the cluster by its canary. Never ends.
    async fn compare(&self) {
        let canary = self.member.canary();
        canary.compared().await;
        self.changes.send_replace(());
        loop {
            canary.rewound().await;
            self.watcher.set_back("Written");
            canary.told();
            self.changes.send_replace(());
        }
    }

    async fn renew_while_open(&self) {
        let mut gate = self.gate.subscribe();
        loop {
            let Some(opened) =
                gate.wait_for(|state| state.opened().is_some()).await.ok().and_then(|state| state.opened())
            else {
                return;
            };
            let closed = tokio::select! {
                () = async { tokio::join!(self.renew(&opened), self.try_workspaces(&opened)); } => false,
                closed = gate.wait_for(|state| !state.is_open_at(&opened.epoch)) => closed.is_err(),
            };
            self.member.canary().rest();
            self.member.acceptances().for_each(|(_, learned)| learned.forget());
            self.member.forget_quotas();
            self.changes.send_replace(());
            if closed {
                return;
            }
        }
    }

    /// Passes on that something was learned of a namespace. Never ends.
    async fn notify_learned(&self) {
        let mut learned = self.member.learned();
        while learned.changed().await.is_ok() {
            self.changes.send_replace(());
        }
        std::future::pending::<()>().await;
    }

    /// Never ends. Namespaces are tried each by itself: one that is silent must not hide another.
    async fn try_workspaces(&self, Opened { pass, .. }: &Opened) {
        let each = self.places.values().map(|place| async {
            // As long as a start may take: what is slower is of no use to starts either.
            let writer = self.member.writer(place.cache.namespace(), pass).within(self.member.try_within());
            let mut was_closed = false;
            loop {
                let mut pause = self.try_workspace(place, &writer).await;
                let more = [
                    try_pod(place, &writer).await,
                    try_changes(place, &writer, &self.watcher.installation).await,
                ];
                if more.contains(&true) {
                    pause = pause.min(self.member.canary_period() / EAGERNESS);
                }
                // It may open because time passes.
                let is_closed = place.acceptance.closed().is_some();
                if std::mem::replace(&mut was_closed, is_closed) != is_closed {
                    self.changes.send_replace(());
                }
                let tried = Instant::now();
                let namespace = place.cache.namespace();
                let (is_news, ()) =
                    tokio::join!(self.member.read_quotas(namespace), self.member.read_ending(namespace));
                if is_news {
                    self.changes.send_replace(());
                }
                tokio::select! {
                    () = sleep_until(tried + pause) => {}
                    // Not more often, however many starts fail.
                    () = async {
                        sleep_until(tried + AT_LEAST.min(pause)).await;
                        place.acceptance.unexplained().await;
                    } => {}
                }
            }
        });
        futures::future::join_all(each).await;
        // Every cluster has a namespace; without one there is nothing to try.
        std::future::pending::<()>().await;
    }

    /// Dry-runs a Workspace, and says when to do so again.
    async fn try_workspace(&self, place: &Place, writer: &Writer) -> Duration {
        let period = self.member.canary_period();
        let (learned, settings) = (&place.acceptance, place.settings.load_full());
        let Some(class) = settings.classes.keys().next() else { return period };
        let workspace = controller::sample_workspace(class, Kind::Regular, PROBE);
        let mut tried = writer.try_workspace(&workspace).await;
        if tried.is_ok() && learned.do_secrets_fail() {
            tried = writer.try_secrets(&place.secrets_namespace).await;
        }
        let before = learned.workspaces_fail();
        learned.canary(tried.as_ref().copied());
        let now = learned.workspaces_fail();
        let namespace = writer.namespace();
        match (&before, &now) {
            (None, Some(reason)) => tracing::warn!(%namespace, reason, "creating workspaces fails"),
            (Some(_), None) => tracing::info!(%namespace, "workspaces are accepted again"),
            _ => {}
        }
        if now.is_some() { period / EAGERNESS } else { period }
    }

    /// Never ends; the writer asks the term before each write.
    async fn renew(&self, Opened { epoch, pass, .. }: &Opened) {
        let (canary, period) = (self.member.canary(), self.member.canary_period());
        let writer = self.member.writer(canary.namespace(), pass);
        loop {
            let before = canary.standing();
            let pause = canary.renew(&writer, epoch, period).await;
            let now = canary.standing();
            if std::mem::discriminant(&before) != std::mem::discriminant(&now) {
                match &now {
                    CanaryState::Unknown | CanaryState::Healthy(_) => tracing::info!(canary = ?now, "canary"),
                    _ => tracing::warn!(canary = ?now, "canary"),
                }
                self.changes.send_replace(());
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Where the last pod got no answer, dry-runs one of the leader's; whether pods still get none.
async fn try_pod(place: &Place, writer: &Writer) -> bool {
    let learned = &place.acceptance;
    if !learned.are_pods_silent() {
        return false;
    }
    let settings = place.settings.load_full();
    let pod = settings.classes.keys().find_map(|class| {
        let workspace = controller::sample_workspace(class, Kind::Regular, PROBE);
        place.planned_pod(workspace)
    });
    let Some(pod) = pod else {
        learned.no_own_pod();
        return false;
    };
    learned.own_pod(writer.try_pod(&pod).await.as_ref().copied());
    learned.are_pods_silent()
}

/// Where changes of Workspaces fail, dry-runs one that changes nothing, of a Workspace for which none failed and of one for
/// which one did; whether changes still fail.
async fn try_changes(place: &Place, writer: &Writer, installation: &str) -> bool {
    let learned = &place.acceptance;
    let mut do_fail = false;
    for change in Change::ALL {
        if learned.changes_fail(change).is_none() {
            continue;
        }
        let name = |workspace: &Workspace| workspace.metadata.name.clone().unwrap_or_default();
        let mut there = place.cache.workspaces();
        there.retain(|workspace| convert::keeper(&workspace.metadata, installation) == Keeper::Us);
        let fails = |workspace: &&Arc<Workspace>| learned.change_fails_for(change, &name(workspace));
        let tries = [there.iter().find(|one| !fails(one)), there.iter().find(fails)];
        for workspace in tries.into_iter().flatten() {
            let tried = writer.try_change(change, workspace).await;
            learned.changed(change, &name(workspace), tried.as_ref());
            if learned.changes_fail(change).is_none() {
                break;
            }
        }
        learned.change_tried(change);
        do_fail |= learned.changes_fail(change).is_some();
    }
    do_fail
}
