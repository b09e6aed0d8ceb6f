//! What was looked at in a cluster before it may be a member, and what came of it.

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Works, and should be looked after.
    Warning,
    /// The cluster may not be a member like this.
    Failed,
    /// Could not be looked at, because of a check before it.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Such as `permissions`.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// What was found, in sentences.
    pub detail: String,
    /// What an admin does about it; empty where nothing is to be done.
    pub remedy: String,
}

impl Check {
    /// As it should be.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, detail: detail.into(), remedy: String::new() }
    }

    /// Works, and should be looked after.
    pub fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warning, detail: detail.into(), remedy: remedy.into() }
    }

    /// Keeps the cluster from being a member.
    pub fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Failed, detail: detail.into(), remedy: remedy.into() }
    }

    /// Not looked at, because `before` failed.
    pub fn skipped(name: &'static str, before: &str) -> Self {
        let detail = format!("was not looked at: {before} failed");
        Self { name, outcome: Outcome::Skipped, detail, remedy: String::new() }
    }

    /// Whether it keeps the cluster from being a member.
    pub fn is_failed(&self) -> bool {
        self.outcome == Outcome::Failed
    }
}
