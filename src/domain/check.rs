//! Results of the checks of a cluster before it becomes a member cluster.

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Passed.
    Ok,
    /// The cluster works, but an admin should act.
    Warning,
    /// The cluster cannot be a member cluster until this is fixed.
    Failed,
    /// Not run, because an earlier check failed.
    Skipped,
}

/// One check with its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Such as `permissions`.
    pub name: &'static str,
    /// Result.
    pub outcome: Outcome,
    /// Findings, in sentences.
    pub detail: String,
    /// What an admin should do; empty if nothing.
    pub remedy: String,
}

impl Check {
    /// A check that passed.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, detail: detail.into(), remedy: String::new() }
    }

    /// A check with a warning.
    pub fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warning, detail: detail.into(), remedy: remedy.into() }
    }

    /// A check that failed.
    pub fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Failed, detail: detail.into(), remedy: remedy.into() }
    }

    /// A check that was not run because the check `before` failed.
    pub fn skipped(name: &'static str, before: &str) -> Self {
        let detail = format!("was not checked: {before} failed");
        Self { name, outcome: Outcome::Skipped, detail, remedy: String::new() }
    }

    /// Whether the cluster cannot be a member cluster because of this check.
    pub fn is_failed(&self) -> bool {
        self.outcome == Outcome::Failed
    }
}
