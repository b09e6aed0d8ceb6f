//! Thread pool for large requests; no other request waits for its threads.

use std::future::Future;
use std::panic::resume_unwind;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::context::TokioContext;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

/// Large requests at once; further ones get RESOURCE_EXHAUSTED.
const AT_ONCE: usize = 256;

/// Threads that serve only large requests.
#[derive(Debug)]
pub(super) struct Pool {
    workers: Handle,
    turns: Semaphore,
}

impl Pool {
    pub(super) fn new(workers: Handle) -> Self {
        Self { workers, turns: Semaphore::new(AT_ONCE) }
    }

    /// Polls a future on the threads of the pool. What it spawns, its timers and its connections stay on the caller's
    /// runtime, so nothing of it outlives the call here. Dropping the caller drops the future; a panic propagates to
    /// the caller.
    pub(super) async fn run<F>(&self, future: F) -> Result<F::Output, Status>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let Ok(_turn) = self.turns.try_acquire() else {
            return Err(Status::resource_exhausted("too many large requests at once; repeat the call later"));
        };
        let task = self.workers.spawn(TokioContext::new(future, Handle::current()));
        match AbortOnDropHandle::new(task).await {
            Ok(output) => Ok(output),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(Status::unavailable("this replica is shutting down")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn workers() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).thread_name("large").build().unwrap()
    }

    fn name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_future_is_polled_there_and_what_it_spawns_is_not() {
        let (workers, main) = (workers(), Builder::new_current_thread().enable_all().build().unwrap());
        let pool = Pool::new(workers.handle().clone());
        let (polled, spawned, later) = main
            .block_on(pool.run(async {
                let polled = name();
                let spawned = tokio::spawn(async { name() }).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                (polled, spawned, name())
            }))
            .unwrap();
        assert_eq!((polled.as_str(), later.as_str()), ("large", "large"));
        assert_ne!(spawned, "large");
    }

    #[test]
    fn a_caller_that_goes_takes_its_future_along() {
        let (workers, main) = (workers(), Builder::new_current_thread().enable_all().build().unwrap());
        let pool = Pool::new(workers.handle().clone());
        main.block_on(async {
            let (held, dropped) = tokio::sync::oneshot::channel::<()>();
            let endless = async move {
                let _held = held;
                std::future::pending::<()>().await;
            };
            let gone = tokio::time::timeout(Duration::from_millis(10), pool.run(endless)).await;
            assert!(gone.is_err());
            dropped.await.unwrap_err();
        });
    }

    #[test]
    fn too_many_at_once_are_refused_and_those_under_way_are_not() {
        let (workers, main) = (workers(), Builder::new_current_thread().enable_all().build().unwrap());
        let pool = Pool::new(workers.handle().clone());
        main.block_on(async {
            let mut all: Vec<_> =
                (0..AT_ONCE).map(|_| Box::pin(pool.run(std::future::pending::<()>()))).collect();
            for one in &mut all {
                assert!(futures::poll!(one).is_pending());
            }
            let refused = pool.run(async {}).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
            all.pop();
            pool.run(async {}).await.unwrap();
        });
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_propagates_to_the_caller() {
        let (workers, main) = (workers(), Builder::new_current_thread().enable_all().build().unwrap());
        let pool = Pool::new(workers.handle().clone());
        let _ = main.block_on(pool.run(async { panic!("a bug") }));
    }
}
