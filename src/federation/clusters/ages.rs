//! Records when each condition of a cluster last changed, independently of reads.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clusters::classes::shown;
use crate::clusters::view::Views;
use crate::fleet::Connected;
use domain::condition::Condition;

/// Changes that come together are recorded together.
const GATHER: Duration = Duration::from_millis(250);
/// Between records without a change: some conditions change by time alone, such as the end of a login.
const LOOK: Duration = Duration::from_secs(2);

impl Views {
    /// Records conditions as they change until `shutdown`, on every replica.
    pub async fn follow_conditions(self: Arc<Self>, shutdown: CancellationToken) {
        let mut changes = self.fleet.changes();
        let following = async {
            loop {
                changes.borrow_and_update();
                self.record_conditions();
                tokio::time::sleep(GATHER).await;
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        };
        tokio::select! {
            () = following => {}
            () = shutdown.cancelled() => {}
        }
    }

    fn record_conditions(&self) {
        let offers = self.classes.offers();
        let shown = shown(&offers);
        for connected in self.fleet.connected() {
            let report = connected.member.health().report();
            record(&connected, self.conditions_of(&connected, &report, &shown));
        }
    }
}

fn record(connected: &Connected, conditions: Vec<Condition>) {
    *connected.conditions.lock() = conditions;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::clusters::conditions::{conditions, tasks_running};
    use crate::fleet::tests::{fleet, registration};
    use domain::observed::Observed;

    #[tokio::test]
    async fn the_age_of_a_condition_is_that_of_its_change_and_not_of_a_question() {
        let (fleet, _) = fleet();
        fleet.put(registration("eu-1", 5));
        let connected = fleet.get(&"eu-1".parse().unwrap()).unwrap();
        let ask = || {
            let report = connected.member.health().report();
            let others = vec![tasks_running(&[], Timestamp::now())];
            conditions(&connected, &report, &BTreeMap::new(), &Observed::default(), others)
        };
        let since = |all: &[Condition]| all.iter().find(|one| one.kind == "TasksRunning").unwrap().since;
        let asked = since(&ask());
        assert!(since(&ask()) > asked, "a question records nothing");
        record(&connected, ask());
        let recorded = since(&connected.conditions.lock());
        assert_eq!((since(&ask()), since(&ask())), (recorded, recorded));
    }

    #[test]
    fn tasks_that_fail_are_named() {
        use member::tasks::TaskName;
        let failing = [(TaskName::of("controller", "ws"), 2)];
        let condition = tasks_running(&failing, Timestamp::UNIX_EPOCH);
        let named = "task controller (ws) failed 2 times in a row and is restarted";
        assert!(condition.message.starts_with(named), "{}", condition.message);
        assert_eq!((condition.kind, condition.reason), ("TasksRunning", "Restarting"));
    }
}
