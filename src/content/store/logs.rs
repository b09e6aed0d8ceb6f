//! Logs of an instance: what its tasks wrote, stored beside the content.

use super::error::Error;
use super::names::WorkspaceKeys;
use super::open::Store;
use domain::names::WorkspaceId;

/// Tasks of one instance.
const TASKS_MAX: usize = 1_000;

impl Store {
    /// The tasks of an instance that have a log, sorted.
    pub async fn list_logs(
        &self,
        keys: &WorkspaceKeys,
        instance: &WorkspaceId,
    ) -> Result<Vec<String>, Error> {
        // What lies deeper is no log of a task.
        let prefix = keys.logs(instance);
        let logs = self.found(&prefix, None, TASKS_MAX, |_, key| {
            let (_, task) = key.path().rsplit_once('/')?;
            keys.log(instance, task).is_ok_and(|log| log == key).then(|| task.to_owned())
        });
        let mut tasks = logs.await?;
        tasks.sort_unstable();
        Ok(tasks)
    }
}
