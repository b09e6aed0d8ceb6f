//! Whether a namespace accepts Workspaces, their changes and pods, learned from responses; shared by starts, the controller and the
//! canary.

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::apply::Patched;
use super::error::{Error, Rule};
use domain::acceptance::{Acceptance as Learned, Change, NamespaceEnding, RejectedStart};

/// Whether one namespace accepts workspaces and their pods.
pub struct Acceptance {
    started: Instant,
    learned: Mutex<Learned>,
    changes: watch::Sender<()>,
}

impl Acceptance {
    /// Nothing is known; `changes` is notified when something was learned.
    pub fn new(changes: watch::Sender<()>) -> Self {
        Self { started: Instant::now(), learned: Mutex::default(), changes }
    }

    /// Takes the outcome of the dry run of a start's Workspace. Only failures that are the cluster's count.
    pub fn workspace(&self, outcome: Result<(), &Error>) {
        self.creation(outcome);
        match outcome {
            Ok(()) => self.change(|learned, _| learned.workspace_accepted()),
            Err(error) if is_failing(error) => {
                self.change(|learned, now| learned.workspace_failed(now, error.cause()));
            }
            // It was processed, and rejected for what is in it.
            Err(error) if is_rejection(error) => self.change(|learned, _| learned.workspace_accepted()),
            Err(_) => {}
        }
    }

    /// The Workspace of a start was created.
    pub fn started(&self) {
        self.change(|learned, _| learned.start_accepted());
    }

    /// Takes that creating the Workspace of a start failed.
    pub fn start_failed(&self, start: RejectedStart<'_>, error: &Error) {
        self.workspace(Err(error));
        self.rules(start, error);
    }

    /// Takes that creating the Secrets of a start failed.
    pub fn secrets_failed(&self, start: RejectedStart<'_>, error: &Error) {
        self.creation(Err(error));
        self.rules(start, error);
        if is_failing(error) {
            self.change(|learned, now| learned.secrets_failed(now, error.cause()));
        }
    }

    /// A refusal because the namespace ends shows that at once; one because something is missing, that it is to be read.
    fn creation(&self, outcome: Result<(), &Error>) {
        match outcome {
            Err(Error::Refused { rule: Rule::Terminating, .. }) => {
                self.ends(Some(NamespaceEnding::Terminating));
            }
            Err(Error::Refused { rule: Rule::Webhook(_), .. }) => {}
            // The roles of a namespace that is being deleted go before it does.
            Err(Error::Refused { code: 404, .. } | Error::Refused { rule: Rule::Rights(_), .. }) => {
                self.change(|learned, _| learned.doubt());
            }
            _ => {}
        }
    }

    fn rules(&self, start: RejectedStart<'_>, error: &Error) {
        if is_by_rule(error) {
            self.change(|learned, now| learned.start_rejected(now, start, error.cause()));
        }
    }

    /// Takes the outcome of the leader's own dry run.
    pub fn canary(&self, outcome: Result<(), &Error>) {
        self.creation(outcome);
        match outcome {
            Err(Error::Refused { rule: Rule::NoDryRun(_), .. }) => {
                self.change(|learned, _| learned.canary_blind());
            }
            Err(error) if is_failing(error) => {
                self.change(|learned, now| learned.canary_failed(now, error.cause()));
            }
            Err(error) if !is_rejection(error) => {}
            _ => self.change(|learned, _| learned.canary_accepted()),
        }
    }

    /// Takes the outcome of a change of a Workspace that the leader made or dry-ran on its own behalf.
    pub fn changed<T>(&self, change: Change, workspace: &str, outcome: Result<&Patched<T>, &Error>) {
        match outcome {
            Ok(Patched::Done(_)) => self.change(|learned, _| learned.changed(change)),
            Err(error) if is_failing(error) || is_by_rule(error) => {
                self.change(|learned, now| learned.change_failed(change, now, workspace, error.cause()));
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Takes the outcome of a change that a caller requested: a rule may reject what is in it, which says nothing of others.
    pub fn changed_on_request<T>(
        &self,
        change: Change,
        workspace: &str,
        outcome: Result<&Patched<T>, &Error>,
    ) {
        if outcome.err().is_none_or(is_failing) {
            self.changed(change, workspace, outcome);
        }
    }

    /// The leader tried a change of this kind itself.
    pub fn change_tried(&self, change: Change) {
        self.change(|learned, _| learned.change_tried(change));
    }

    /// Waits until something failed for a reason that the leader's own dry runs and reads can find.
    pub async fn unexplained(&self) {
        let mut changes = self.changes.subscribe();
        while !self.learned.lock().is_unexplained() {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// A try to create a Workspace took too long.
    pub fn workspace_timed_out(&self, reason: String) {
        self.change(|learned, now| learned.workspace_failed(now, reason));
    }

    /// Creating the Secrets of a start took too long.
    pub fn secrets_timed_out(&self, reason: String) {
        self.change(|learned, now| learned.secrets_failed(now, reason));
    }

    /// Takes the outcome of creating a pod, or of a dry run.
    pub fn pod(&self, outcome: Result<(), &Error>) {
        self.creation(outcome);
        match outcome {
            Ok(()) => self.change(|learned, _| learned.pod_accepted()),
            Err(error) if is_failing(error) => {
                self.change(|learned, now| learned.pod_unanswered(now, error.cause()));
            }
            Err(error) if is_rejection(error) => {
                self.change(|learned, now| learned.pod_rejected(now, error.cause()));
            }
            Err(_) => {}
        }
    }

    /// The leader has no pod of its own to dry-run.
    pub fn no_own_pod(&self) {
        self.change(|learned, _| learned.own_pod_blind());
    }

    /// Takes the outcome of the leader's own dry run of a pod.
    pub fn own_pod(&self, outcome: Result<(), &Error>) {
        self.creation(outcome);
        match outcome {
            Ok(()) => self.change(|learned, _| learned.own_pod_accepted()),
            Err(Error::Refused { rule: Rule::NoDryRun(_), .. }) => {
                self.change(|learned, _| learned.own_pod_blind());
            }
            Err(error) if is_failing(error) => {
                self.change(|learned, now| learned.own_pod_unanswered(now, error.cause()));
            }
            Err(error) if is_rejection(error) => {
                self.change(|learned, now| learned.own_pod_rejected(now, error.cause()));
            }
            Err(_) => {}
        }
    }

    /// The namespace ends, or is there again.
    pub fn ends(&self, ending: Option<NamespaceEnding>) {
        self.change(|learned, _| learned.ends(ending));
    }

    /// Whether the namespace ends cannot be read: what is known of that stays.
    pub fn keep_ending(&self) {
        self.change(|learned, _| learned.ends(learned.ending()));
    }

    /// Forgets everything: this replica leads no more.
    pub fn forget(&self) {
        self.change(|learned, _| *learned = Learned::default());
    }

    /// Whether and how the namespace ends.
    pub fn ending(&self) -> Option<NamespaceEnding> {
        self.learned.lock().ending()
    }

    /// Whether a dry run of a Workspace is to include Secrets, because creating those fails.
    pub fn do_secrets_fail(&self) -> bool {
        self.learned.lock().do_secrets_fail()
    }

    /// Whether the last pod got no answer, so that the leader dry-runs its own.
    pub fn are_pods_silent(&self) -> bool {
        self.learned.lock().are_pods_silent()
    }

    /// Why changes of Workspaces fail, where they do.
    pub fn changes_fail(&self, change: Change) -> Option<String> {
        self.learned.lock().changes_fail(change, self.started.elapsed()).map(str::to_owned)
    }

    /// Whether changes of a kind failed for this Workspace.
    pub fn change_fails_for(&self, change: Change, workspace: &str) -> bool {
        self.learned.lock().change_fails_for(change, workspace)
    }

    /// Why starts go there only where nothing else fits.
    pub fn last_choice(&self) -> Option<String> {
        self.learned.lock().last_choice(self.started.elapsed())
    }

    /// Why creating Workspaces fails, where it does.
    pub fn workspaces_fail(&self) -> Option<String> {
        self.learned.lock().workspaces_fail().map(str::to_owned)
    }

    /// Why the last pod was rejected or got no answer lately, where none was accepted since.
    pub fn pods_rejected(&self) -> Option<String> {
        self.learned.lock().pods_rejected(self.started.elapsed()).map(str::to_owned)
    }

    /// Why no start goes there now.
    pub fn closed(&self) -> Option<String> {
        self.learned.lock().closed(self.started.elapsed())
    }

    fn change(&self, change: impl FnOnce(&mut Learned, std::time::Duration)) {
        let mut learned = self.learned.lock();
        let before = learned.clone();
        change(&mut learned, self.started.elapsed());
        let is_news = *learned != before;
        drop(learned);
        if is_news {
            self.changes.send_replace(());
        }
    }
}

/// Whether an error says that the cluster does not process such writes, whatever is in them.
fn is_failing(error: &Error) -> bool {
    match error {
        Error::Ambiguous { .. } => true,
        Error::Refused { rule: Rule::Webhook(_), .. } => false,
        Error::Refused { code, rule, .. } => *code >= 500 || matches!(rule, Rule::WebhookFailed(_)),
        _ => false,
    }
}

/// Whether the cluster processed a write and rejected this one: it may accept another.
fn is_rejection(error: &Error) -> bool {
    match error {
        Error::Refused { rule: Rule::NoDryRun(_) | Rule::Terminating, .. } => false,
        // A webhook chooses the code of its denial.
        Error::Refused { rule: Rule::Webhook(_), .. } | Error::TooLarge { .. } => true,
        Error::Refused { code, .. } => matches!(code, 400 | 403 | 409 | 422),
        _ => false,
    }
}

/// Whether a rule of the cluster rejected it that may reject everything: not a fault of the object itself.
fn is_by_rule(error: &Error) -> bool {
    match error {
        Error::Refused { rule, code, .. } => match rule {
            Rule::Webhook(_)
            | Rule::Policy { .. }
            | Rule::Quota(_)
            | Rule::LimitRange(_)
            | Rule::PodSecurity(_)
            | Rule::Rights(_)
            | Rule::Impersonation => true,
            Rule::Unnamed => *code == 403,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, rule: Rule) -> Error {
        Error::Refused {
            cluster: "eu-1".parse().unwrap(),
            action: "create Workspace w".into(),
            code,
            reason: "",
            rule,
        }
    }

    #[tokio::test]
    async fn what_the_request_itself_caused_says_nothing_of_the_cluster() {
        let learned = Acceptance::new(watch::Sender::default());
        learned.workspace(Err(&refused(422, Rule::Unnamed)));
        for code in [403, 429, 500, 504] {
            learned.workspace(Err(&refused(code, Rule::Webhook("policy.example".to_owned()))));
            learned.canary(Err(&refused(code, Rule::Webhook("policy.example".to_owned()))));
            assert_eq!(learned.closed(), None, "{code}");
        }
    }

    #[tokio::test]
    async fn a_dry_run_that_a_webhook_does_not_support_says_nothing() {
        let learned = Acceptance::new(watch::Sender::default());
        learned.workspace_timed_out("no answer within 3s".to_owned());
        learned.canary(Err(&refused(400, Rule::NoDryRun("hook.example".to_owned()))));
        assert!(learned.closed().is_some());
        learned.workspace(Err(&refused(403, Rule::Webhook("hook.example".to_owned()))));
        assert_eq!(learned.closed(), None, "a denial is an answer");
    }

    #[tokio::test]
    async fn a_webhook_that_cannot_be_called_closes_the_namespace_and_notifies() {
        let (changes, changed) = watch::channel(());
        let learned = Acceptance::new(changes);
        learned.canary(Err(&refused(500, Rule::WebhookFailed("hook.example".to_owned()))));
        assert!(learned.closed().unwrap().contains("hook.example"));
        assert!(changed.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_dry_run_that_waited_in_our_own_limiter_says_nothing() {
        let queued = || Error::Queued { cluster: "eu-1".parse().unwrap(), action: "dry-run".into() };
        let (changes, changed) = watch::channel(());
        let learned = Acceptance::new(changes);
        learned.canary(Err(&queued()));
        learned.workspace(Err(&queued()));
        learned.pod(Err(&queued()));
        assert_eq!((learned.closed(), learned.pods_rejected()), (None, None));
        assert!(!changed.has_changed().unwrap());
        learned.canary(Err(&refused(500, Rule::WebhookFailed("hook.example".to_owned()))));
        learned.canary(Err(&queued()));
        assert!(learned.closed().is_some(), "it is not known to be over either");
    }

    fn start(workspace: &'static str, owner: &'static str) -> RejectedStart<'static> {
        RejectedStart { workspace, owner, is_only_owner: false }
    }

    #[tokio::test]
    async fn the_first_refusal_because_the_namespace_ends_marks_it_whatever_was_created() {
        let ending = || refused(403, Rule::Terminating);
        let marks: [fn(&Acceptance, &Error); 4] = [
            |learned, error| learned.secrets_failed(start("a", "jane"), error),
            |learned, error| learned.start_failed(start("a", "jane"), error),
            |learned, error| learned.pod(Err(error)),
            |learned, error| learned.canary(Err(error)),
        ];
        for mark in marks {
            let learned = Acceptance::new(watch::Sender::default());
            mark(&learned, &ending());
            assert_eq!(learned.ending(), Some(NamespaceEnding::Terminating));
            assert_eq!((learned.pods_rejected(), learned.last_choice()), (None, None));
        }
    }

    #[tokio::test]
    async fn what_is_not_found_or_not_allowed_makes_the_leader_read_the_namespace() {
        let learned = Acceptance::new(watch::Sender::default());
        for error in [refused(404, Rule::Unnamed), refused(403, Rule::Rights("create secrets".to_owned()))] {
            learned.secrets_failed(start("a", "jane"), &error);
            learned.unexplained().await;
            assert_eq!(learned.closed(), None);
            learned.ends(None);
        }
    }

    #[tokio::test]
    async fn only_rules_that_may_reject_everything_make_a_namespace_the_last_choice() {
        let learned = Acceptance::new(watch::Sender::default());
        let own =
            [refused(422, Rule::Fields { named: Vec::new(), more: 1 }), refused(409, Rule::Own("taken"))];
        for error in own {
            for (workspace, owner) in [("a", "jane"), ("b", "joe"), ("c", "jane")] {
                learned.start_failed(start(workspace, owner), &error);
            }
        }
        assert_eq!(learned.last_choice(), None);
        for (workspace, owner) in [("a", "jane"), ("b", "joe"), ("c", "jane")] {
            learned
                .start_failed(start(workspace, owner), &refused(403, Rule::Webhook("w.example".to_owned())));
        }
        assert!(learned.last_choice().unwrap().contains("w.example"));
        assert_eq!(learned.closed(), None);
        learned.started();
        assert_eq!(learned.last_choice(), None);
    }

    #[tokio::test]
    async fn a_denied_status_is_learned_and_a_callers_denied_change_is_not() {
        let learned = Acceptance::new(watch::Sender::default());
        let denied = refused(403, Rule::Webhook("w.example".to_owned()));
        for workspace in ["a", "b"] {
            learned.changed_on_request::<()>(Change::Object, workspace, Err(&denied));
            learned.changed::<()>(Change::Status, workspace, Err(&denied));
        }
        assert_eq!(learned.changes_fail(Change::Object), None);
        assert!(learned.changes_fail(Change::Status).unwrap().contains("w.example"));
        assert!(learned.closed().unwrap().contains("writing the status"));
        learned.changed::<()>(Change::Status, "c", Ok(&Patched::Conflict));
        assert!(learned.closed().is_some(), "a conflict is no success");
        learned.changed(Change::Status, "c", Ok(&Patched::Done(())));
        assert_eq!(learned.closed(), None);
        for workspace in ["a", "b"] {
            let silent = refused(500, Rule::WebhookFailed("w.example".to_owned()));
            learned.changed_on_request::<()>(Change::Object, workspace, Err(&silent));
        }
        assert!(learned.closed().unwrap().contains("changing workspaces"));
    }
}
