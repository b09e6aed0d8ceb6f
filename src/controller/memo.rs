//! What is remembered of a workspace between passes: only to wait longer after failures, and not to ask twice for what
//! was just asked for. Nothing depends on it being remembered.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use k8s::resources::Workspace;

use super::decide::{Action, Note};

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long the watch may take to show what was done before it is done again.
pub(super) const REPEAT_AFTER: Duration = Duration::from_secs(5);
/// Failures in a row from which on a workspace counts as failing: some seconds of them.
const FAILING: u32 = 5;
/// How long a status that may wait does so on a quiet cluster.
pub(super) const HOLD: Duration = Duration::from_millis(100);
/// How long a step must last there to be told by an event of its own.
pub(super) const WORTH_TELLING: Duration = Duration::from_secs(2);

/// Memory of a namespace; one small entry a workspace.
#[derive(Debug, Default)]
pub(super) struct Memos {
    by_name: Mutex<HashMap<String, Memo>>,
    jitter: RandomState,
}

#[derive(Debug, Default)]
struct Memo {
    failures: u32,
    /// Since when the status waits for what follows.
    held_since: Option<Instant>,
    /// A step to tell of if it lasts until then.
    untold: Option<(Note, Instant)>,
    done: Vec<(Mark, Instant)>,
}

/// What was done, so far as it takes to tell that it is asked for again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    /// With the number of attempts before: a pod made again goes by the same name.
    Created(String, i32),
    Deleted(String, Option<u32>),
    Released(String),
    Looked(String),
    SecretsDeleted(String),
    WorkspaceReleased(String),
    WorkspaceDeleted(String),
}

impl Memos {
    /// How long to wait after one more failure: twice as long each time, between half of it and all.
    pub fn failed(&self, name: &str) -> Duration {
        let mut by_name = self.by_name.lock();
        let memo = by_name.entry(name.to_owned()).or_default();
        memo.failures = memo.failures.saturating_add(1);
        let whole = FIRST_WAIT.saturating_mul(1 << (memo.failures - 1).min(10)).min(LONGEST_WAIT);
        let random = self.jitter.hash_one((name, memo.failures, Instant::now())) % 1000;
        let thousandth = whole / 2000;
        whole / 2 + thousandth * u32::try_from(random).unwrap_or_default()
    }

    /// Workspaces that failed several times in a row.
    pub fn failing(&self) -> usize {
        self.by_name.lock().values().filter(|memo| memo.failures >= FAILING).count()
    }

    /// A pass went well.
    pub fn succeeded(&self, name: &str) {
        if let Some(memo) = self.by_name.lock().get_mut(name) {
            memo.failures = 0;
        }
    }

    /// How much longer a status that may wait for `patience` does so; `None` once that is over.
    pub fn hold(&self, name: &str, patience: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut by_name = self.by_name.lock();
        let since = *by_name.entry(name.to_owned()).or_default().held_since.get_or_insert(now);
        Some((since + patience).saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// The status is as decided.
    pub fn written(&self, name: &str) {
        if let Some(memo) = self.by_name.lock().get_mut(name) {
            memo.held_since = None;
        }
    }

    /// Takes what is to be told; leaves there what is to be told now. Returns when to look whether a step that may be over
    /// at once has lasted for `patience`.
    pub fn sift(&self, name: &str, notes: &mut Vec<Note>, patience: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut by_name = self.by_name.lock();
        if notes.is_empty() && by_name.get(name).is_none_or(|memo| memo.untold.is_none()) {
            return None;
        }
        let memo = by_name.entry(name.to_owned()).or_default();
        if !notes.is_empty() {
            let passing = notes.iter().rfind(|note| note.passing).cloned();
            notes.retain(|note| !note.passing);
            // What comes after a step says enough of it.
            memo.untold = passing.filter(|_| notes.is_empty()).map(|note| (note, now + patience));
        }
        let (note, due) = memo.untold.take()?;
        if due <= now {
            notes.push(note);
            return None;
        }
        memo.untold = Some((note, due));
        Some(due.duration_since(now))
    }

    /// Whether this was done so recently that its effect may not be seen yet.
    pub fn was_just_done(&self, workspace: &Workspace, action: &Action) -> bool {
        let mark = mark(workspace, action);
        let by_name = self.by_name.lock();
        let done = by_name.get(name_of(workspace)).map(|memo| memo.done.as_slice()).unwrap_or_default();
        done.iter().any(|(there, at)| *there == mark && at.elapsed() < REPEAT_AFTER)
    }

    /// This was done.
    pub fn note_done(&self, workspace: &Workspace, action: &Action) {
        let mark = mark(workspace, action);
        let mut by_name = self.by_name.lock();
        let memo = by_name.entry(name_of(workspace).to_owned()).or_default();
        memo.done.retain(|(there, at)| *there != mark && at.elapsed() < REPEAT_AFTER);
        memo.done.push((mark, Instant::now()));
    }

    /// The workspace is gone.
    pub fn forget(&self, name: &str) {
        self.by_name.lock().remove(name);
    }

    /// All of them are of no further interest.
    pub fn clear(&self) {
        self.by_name.lock().clear();
    }
}

fn name_of(workspace: &Workspace) -> &str {
    workspace.metadata.name.as_deref().unwrap_or_default()
}

fn mark(workspace: &Workspace, action: &Action) -> Mark {
    let of_workspace = workspace.metadata.uid.clone().unwrap_or_default();
    let attempts = workspace.status.as_ref().and_then(|status| status.pod_recreated).unwrap_or_default();
    match action {
        Action::CreatePod(_) => Mark::Created(of_workspace, attempts),
        Action::DeletePod { uid, grace, .. } => Mark::Deleted(uid.clone(), *grace),
        Action::ReleasePod { uid, .. } => Mark::Released(uid.clone()),
        Action::SeeThatNoPodIs { .. } => Mark::Looked(of_workspace),
        Action::DeleteSecrets(_) => Mark::SecretsDeleted(of_workspace),
        Action::ReleaseWorkspace => Mark::WorkspaceReleased(of_workspace),
        Action::DeleteWorkspace => Mark::WorkspaceDeleted(of_workspace),
    }
}

#[cfg(test)]
mod tests {
    use k8s::resources::WorkspaceSpec;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_doubles_up_to_thirty_seconds_and_starts_anew_after_success() {
        let memos = Memos::default();
        let mut bound = FIRST_WAIT;
        for _ in 0..12 {
            let wait = memos.failed("a");
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(LONGEST_WAIT);
        }
        assert_eq!(memos.failing(), 1);
        memos.succeeded("a");
        assert_eq!(memos.failing(), 0);
        assert!(memos.failed("a") <= FIRST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_just_done_is_done_again_only_after_a_while() {
        let memos = Memos::default();
        let delete =
            |uid: &str, grace| Action::DeletePod { name: "ws-a".to_owned(), uid: uid.to_owned(), grace };
        let workspace = Workspace::new("a", WorkspaceSpec::default());
        memos.note_done(&workspace, &delete("1", None));
        assert!(memos.was_just_done(&workspace, &delete("1", None)));
        assert!(!memos.was_just_done(&workspace, &delete("1", Some(0))));
        assert!(!memos.was_just_done(&workspace, &delete("2", None)));
        tokio::time::advance(REPEAT_AFTER).await;
        assert!(!memos.was_just_done(&workspace, &delete("1", None)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_waits_once_until_it_is_written() {
        let memos = Memos::default();
        assert_eq!(memos.hold("a", HOLD), Some(HOLD));
        tokio::time::advance(HOLD / 2).await;
        assert_eq!(memos.hold("a", HOLD), Some(HOLD / 2), "counted from the first time");
        tokio::time::advance(HOLD / 2).await;
        assert_eq!(memos.hold("a", HOLD), None);
        memos.written("a");
        assert_eq!(memos.hold("a", HOLD), Some(HOLD));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_told_when_it_lasts_and_not_when_something_follows_at_once() {
        let memos = Memos::default();
        let note = |reason, passing| Note { reason, warning: false, message: String::new(), passing };
        let told = |notes: &[Note]| notes.iter().map(|note| note.reason).collect::<Vec<_>>();
        let mut notes = vec![note("Creating", true)];
        assert_eq!(memos.sift("a", &mut notes, WORTH_TELLING), Some(WORTH_TELLING));
        assert!(notes.is_empty());
        tokio::time::advance(WORTH_TELLING / 2).await;
        notes = vec![note("Initializing", true)];
        assert_eq!(memos.sift("a", &mut notes, WORTH_TELLING), Some(WORTH_TELLING), "counted anew");
        tokio::time::advance(WORTH_TELLING).await;
        assert_eq!(memos.sift("a", &mut notes, WORTH_TELLING), None);
        assert_eq!(told(&notes), ["Initializing"]);
        notes = vec![note("Creating", true)];
        memos.sift("a", &mut notes, WORTH_TELLING);
        notes = vec![note("Running", false)];
        assert_eq!(memos.sift("a", &mut notes, WORTH_TELLING), None);
        assert_eq!(told(&notes), ["Running"]);
        notes.clear();
        tokio::time::advance(WORTH_TELLING).await;
        assert_eq!(memos.sift("a", &mut notes, WORTH_TELLING), None);
        assert!(notes.is_empty(), "what was overtaken is never told");
    }

    #[tokio::test(start_paused = true)]
    async fn the_pod_of_the_next_attempt_is_another_one() {
        let memos = Memos::default();
        let create = Action::CreatePod(Box::default());
        let mut workspace = Workspace::new("a", WorkspaceSpec::default());
        memos.note_done(&workspace, &create);
        assert!(memos.was_just_done(&workspace, &create));
        workspace.status.get_or_insert_default().pod_recreated = Some(1);
        assert!(!memos.was_just_done(&workspace, &create));
    }
}
