//! Whether a namespace accepts Workspaces and pods, learned from responses; shared by starts, the controller and the
//! canary.

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{Error, Rule};
use domain::acceptance::{Acceptance as Learned, NamespaceEnding};

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

    /// Takes the outcome of creating a Workspace, or of a dry run. Only failures that are the cluster's count.
    pub fn workspace(&self, outcome: Result<(), &Error>) {
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

    /// Takes the outcome of the leader's own dry run.
    pub fn canary(&self, outcome: Result<(), &Error>) {
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

    /// Waits until a start failed for a reason that the leader's own dry run can find.
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

    /// Takes the outcome of creating a pod, or of a dry run.
    pub fn pod(&self, outcome: Result<(), &Error>) {
        match outcome {
            Ok(()) => self.change(|learned, _| learned.pod_accepted()),
            Err(error) if is_failing(error) || is_rejection(error) => {
                self.change(|learned, now| learned.pod_rejected(now, error.cause()));
            }
            Err(_) => {}
        }
    }

    /// The namespace ends, or is there again.
    pub fn ends(&self, ending: Option<NamespaceEnding>) {
        self.change(|learned, _| learned.ends(ending));
    }

    /// Forgets everything: this replica leads no more.
    pub fn forget(&self) {
        self.change(|learned, _| *learned = Learned::default());
    }

    /// Whether and how the namespace ends.
    pub fn ending(&self) -> Option<NamespaceEnding> {
        self.learned.lock().ending()
    }

    /// Why creating Workspaces fails, where it does.
    pub fn workspaces_fail(&self) -> Option<String> {
        self.learned.lock().workspaces_fail().map(str::to_owned)
    }

    /// Why pods were rejected lately, where none was accepted since.
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
}
