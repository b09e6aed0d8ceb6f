//! Why reconciles of workspaces fail. A status that cannot be written cannot say it, so it is reported beside the resource.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::error::Error;

/// Shows why what was decided about a workspace cannot be written: a sentence, or `None` once it can be.
pub trait ObstacleObserver: Send + Sync {
    /// Takes a change.
    fn obstacle(&self, workspace: &str, why: Option<&str>);
}

/// What was reported, by workspace. Workspaces without an obstacle have no entry.
#[derive(Debug, Default)]
pub(super) struct Obstacles(Mutex<HashMap<String, String>>);

impl Obstacles {
    /// Reports why a reconcile failed, unless that is already known or is nothing that its workspace needs to show.
    pub fn failed(&self, name: &str, error: &Error, observer: &dyn ObstacleObserver) {
        let Some(why) = sentence(error) else { return };
        let mut known = self.0.lock();
        if known.get(name) != Some(&why) {
            observer.obstacle(name, Some(&why));
            known.insert(name.to_owned(), why);
        }
    }

    /// Reports that a status could be written, or that the workspace is gone.
    pub fn over(&self, name: &str, observer: &dyn ObstacleObserver) {
        if self.0.lock().remove(name).is_some() {
            observer.obstacle(name, None);
        }
    }

    /// Reports the end of all: another replica may lead and succeed.
    pub fn clear(&self, observer: &dyn ObstacleObserver) {
        for name in std::mem::take(&mut *self.0.lock()).into_keys() {
            observer.obstacle(&name, None);
        }
    }
}

/// What is shown of a failure; `None` if something else shows it: the status, or that the cluster does not answer.
fn sentence(error: &Error) -> Option<String> {
    let why = match error {
        Error::Cluster(error) => match error {
            member::Error::Refused { action, .. }
            | member::Error::TooLarge { action, .. }
            | member::Error::Ambiguous { action, .. }
            | member::Error::Disallowed { action, .. } => format!("{action}: {}", error.cause()),
            _ => return None,
        },
        Error::Deadline(_) => error.to_string(),
        Error::NameTaken { .. } | Error::PodRejected(_) | Error::Denied(_) => return None,
    };
    Some(format!("Spaceport cannot write what it decided to its cluster: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use member::error::Rule;

    #[derive(Default)]
    struct Reports(Mutex<Vec<(String, Option<String>)>>);

    impl ObstacleObserver for Reports {
        fn obstacle(&self, workspace: &str, why: Option<&str>) {
            self.0.lock().push((workspace.to_owned(), why.map(str::to_owned)));
        }
    }

    fn denied(by: &str) -> Error {
        Error::Cluster(member::Error::Refused {
            cluster: "eu-1".parse().unwrap(),
            action: "patch the status of Workspace a".to_owned(),
            code: 403,
            reason: "Forbidden",
            rule: Rule::Webhook(by.to_owned()),
        })
    }

    #[test]
    fn each_reason_is_reported_once_and_its_end_too() {
        let (obstacles, reports) = (Obstacles::default(), Reports::default());
        obstacles.over("a", &reports);
        for by in ["x", "x", "y"] {
            obstacles.failed("a", &denied(by), &reports);
        }
        obstacles.failed("a", &Error::PodRejected("the status says it".to_owned()), &reports);
        obstacles.over("a", &reports);
        obstacles.failed("b", &Error::Deadline(std::time::Duration::from_mins(1)), &reports);
        obstacles.clear(&reports);
        let reports = reports.0.into_inner();
        let reasons: Vec<&str> = reports.iter().map(|(_, why)| why.as_deref().unwrap_or("over")).collect();
        assert_eq!(
            reasons,
            [
                "Spaceport cannot write what it decided to its cluster: patch the status of Workspace a: admission webhook \
                 x denied it (403 Forbidden).",
                "Spaceport cannot write what it decided to its cluster: patch the status of Workspace a: admission webhook \
                 y denied it (403 Forbidden).",
                "over",
                "Spaceport cannot write what it decided to its cluster: the reconcile exceeded its deadline of 60s.",
                "over",
            ]
        );
    }
}
