//! The object store as the use cases have it: opened at the first call, with bounds on calls at a time and a deadline for each.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use content::store::{self, RetryPolicy, Settings, Store};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use crate::{Error, Result};

/// Calls to the store at a time. Further ones are rejected, not queued.
const CALLS: usize = 64;
/// Deletions at a time: each of them can make thousands of requests.
const DELETIONS: usize = 8;
/// Deadline of a read, and of the signing of a URL.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// Deadline of a deletion.
const DELETED_WITHIN: Duration = Duration::from_mins(10);
/// A caller waits: fewer and shorter attempts than of a node agent.
const RETRY: RetryPolicy = RetryPolicy {
    attempts: 4,
    denied: 2,
    first: Duration::from_millis(100),
    most: Duration::from_secs(1),
    answer: Duration::from_secs(10),
    slowest: 128 * 1024,
};

/// The object store of this manager.
#[derive(Debug)]
pub struct Objects {
    /// `None` without `content.storage`.
    settings: Option<Settings>,
    store: OnceCell<Store>,
    calls: Semaphore,
    deletions: Semaphore,
}

impl Objects {
    pub(crate) fn new(settings: Option<Settings>) -> Arc<Self> {
        Arc::new(Self {
            settings,
            store: OnceCell::new(),
            calls: Semaphore::new(CALLS),
            deletions: Semaphore::new(DELETIONS),
        })
    }

    /// Runs a read, or the signing of a URL.
    pub(crate) async fn read<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        bounded((&self.calls, CALLS), (what, READ_WITHIN), call).await
    }

    /// Runs a deletion. One that is interrupted has deleted a part; the same call continues.
    pub(crate) async fn delete<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        bounded((&self.deletions, DELETIONS), (what, DELETED_WITHIN), call).await
    }

    /// The store. A problem with its files is reported by each call until it is solved: a manager that cannot open the store still
    /// serves everything else.
    pub(crate) async fn store(&self) -> Result<Store> {
        let Some(settings) = &self.settings else { return Err(Error::NoStorage) };
        let open = || async {
            if let Some(folder) = settings.folder() {
                check_folder(folder).await?;
            }
            Ok::<_, store::Error>(Store::open(settings).await?.with_retry(RETRY))
        };
        Ok(self.store.get_or_try_init(open).await?.clone())
    }
}

async fn bounded<T>(
    (places, limit): (&Semaphore, usize),
    (what, within): (&'static str, Duration),
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Ok(_place) = places.try_acquire() else { return Err(Error::StorageBusy { limit }) };
    timeout(within, call).await.unwrap_or(Err(Error::Deadline { what, within }))
}

/// A folder is useful only where the node agent's is: this manager does not create another one.
async fn check_folder(folder: &Path) -> Result<(), store::Error> {
    if tokio::fs::metadata(folder).await.is_ok_and(|meta| meta.is_dir()) {
        return Ok(());
    }
    let problem = format!("local.path: {} is no folder on the manager's machine", folder.display());
    Err(store::Error::Settings(problem))
}

#[cfg(test)]
mod tests {
    use domain::secret::Secret;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn without_a_store_each_call_names_the_key_to_set() {
        let error = Objects::new(None).store().await.unwrap_err();
        assert!(
            matches!(error, Error::NoStorage) && error.to_string().contains("content.storage"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_opened_is_opened_once_its_problem_is_solved() {
        let parent = std::env::temp_dir().join(format!("objects-{}", std::process::id()));
        let folder = parent.join("content");
        let settings = json!({"kind": "local", "local": {"path": folder}});
        let objects = Objects::new(Some(Settings::read(&Secret::new(settings)).unwrap()));
        let error = objects.store().await.unwrap_err();
        assert!(error.to_string().contains("content.storage: local.path"), "{error}");
        assert!(!parent.exists(), "it was created");
        std::fs::create_dir_all(&folder).unwrap();
        objects.store().await.unwrap();
        std::fs::remove_dir_all(parent).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_bounded_in_number_and_time() {
        let objects = Objects::new(None);
        let hang = || objects.delete("a test", std::future::pending::<Result<()>>());
        let all = futures::future::join_all((0..=DELETIONS).map(|_| hang())).await;
        let busy = all.iter().filter(|done| matches!(done, Err(Error::StorageBusy { limit: DELETIONS })));
        assert_eq!(busy.count(), 1);
        let late = all.iter().filter(|done| matches!(done, Err(Error::Deadline { what: "a test", .. })));
        assert_eq!(late.count(), DELETIONS);
        // The places are free again.
        objects.delete("a test", async { Ok(()) }).await.unwrap();
    }
}
