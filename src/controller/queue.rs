//! Work queue of keys, each with a due time. A key is queued once, with the earliest of its times. It is handed out to one
//! worker at a time; if it is added meanwhile, it waits until that worker is done.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until};

/// The queue. Closed at first; while closed it ignores keys, so that it does not grow on a standby.
#[derive(Debug, Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    open: bool,
    entries: HashMap<Arc<str>, Entry>,
    /// Keys that are queued and not worked on, by due time.
    waiting: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    due: Option<Instant>,
    running: bool,
}

impl Queue {
    /// Starts to accept keys.
    pub fn open(&self) {
        self.inner.lock().open = true;
    }

    /// Stops accepting keys, and removes those that are queued.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.open = false;
        inner.waiting.clear();
        inner.entries.retain(|_, entry| {
            entry.due = None;
            entry.running
        });
    }

    /// Adds a key that is due now.
    pub fn add(&self, key: &str) {
        self.add_at(key, Instant::now());
    }

    /// Adds a key that is due after `wait`.
    pub fn add_after(&self, key: &str, wait: Duration) {
        // A time that overflows never comes.
        if let Some(due) = Instant::now().checked_add(wait) {
            self.add_at(key, due);
        }
    }

    /// Number of keys that are due and not worked on.
    pub fn due(&self) -> usize {
        let now = Instant::now();
        self.inner.lock().waiting.iter().take_while(|(due, _)| *due <= now).count()
    }

    fn add_at(&self, key: &str, due: Instant) {
        let is_new_first = self.inner.lock().add_at(key, due);
        if is_new_first {
            self.wake.notify_one();
        }
    }

    /// The next key and its due time, once that has come. Its worker must call [`Queue::done`]. For one caller at a time;
    /// nothing is lost when the future is dropped.
    pub async fn next(&self) -> (Arc<str>, Instant) {
        loop {
            // Created before the check, so that a key that is added in between is not missed.
            let woken = self.wake.notified();
            let first = match self.inner.lock().pop(Instant::now()) {
                Ok(next) => return next,
                Err(first) => first,
            };
            match first {
                Some(due) => tokio::select! {
                    () = woken => {}
                    () = sleep_until(due) => {}
                },
                None => woken.await,
            }
        }
    }

    /// Ends the work on a key; it is handed out again if it was added meanwhile.
    pub fn done(&self, key: &str) {
        let is_new_first = self.inner.lock().done(key);
        if is_new_first {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
impl Queue {
    /// Number of keys, waiting or worked on.
    pub fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    /// Adds a key; returns whether it is now the first.
    fn add_at(&mut self, key: &str, due: Instant) -> bool {
        if !self.open {
            return false;
        }
        let (key, entry) = match self.entries.get_key_value(key) {
            Some((key, entry)) => (key.clone(), *entry),
            None => (Arc::from(key), Entry::default()),
        };
        if entry.due.is_some_and(|there| there <= due) {
            return false;
        }
        self.entries.insert(key.clone(), Entry { due: Some(due), ..entry });
        if entry.running {
            return false;
        }
        if let Some(later) = entry.due {
            self.waiting.remove(&(later, key.clone()));
        }
        self.wait(due, key)
    }

    fn wait(&mut self, due: Instant, key: Arc<str>) -> bool {
        let is_first = self.waiting.first().is_none_or(|(first, _)| due < *first);
        self.waiting.insert((due, key));
        is_first
    }

    /// The first key if it is due, or else its due time.
    fn pop(&mut self, now: Instant) -> Result<(Arc<str>, Instant), Option<Instant>> {
        match self.waiting.first() {
            Some((due, _)) if *due > now => Err(Some(*due)),
            None => Err(None),
            Some(_) => {
                let Some((due, key)) = self.waiting.pop_first() else { return Err(None) };
                self.entries.insert(key.clone(), Entry { due: None, running: true });
                Ok((key, due))
            }
        }
    }

    fn done(&mut self, key: &str) -> bool {
        let Some((key, entry)) = self.entries.remove_entry(key) else { return false };
        let Some(due) = entry.due else { return false };
        self.entries.insert(key.clone(), Entry { due: Some(due), running: false });
        self.wait(due, key)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn opened() -> Queue {
        let queue = Queue::default();
        queue.open();
        queue
    }

    /// The next key within `seconds`, with the seconds it took.
    async fn next(queue: &Queue, seconds: u64) -> Option<(String, u64)> {
        let start = Instant::now();
        let (key, due) = timeout(Duration::from_secs(seconds), queue.next()).await.ok()?;
        assert!(due <= Instant::now(), "not before its time");
        Some((key.to_string(), start.elapsed().as_secs()))
    }

    fn key(key: &str, seconds: u64) -> (String, u64) {
        (key.to_owned(), seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_time_of_a_key_counts() {
        let queue = opened();
        queue.add_after("a", Duration::from_mins(1));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(30));
        assert_eq!(next(&queue, 100).await, Some(key("a", 5)));
        queue.done("a");
        assert_eq!(next(&queue, 1000).await, None);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_has_one_worker_at_a_time_and_is_handed_out_again_if_added_meanwhile() {
        let queue = opened();
        queue.add("a");
        assert_eq!(next(&queue, 1).await, Some(key("a", 0)));
        queue.add("a");
        queue.add("a");
        assert_eq!(next(&queue, 10).await, None);
        queue.done("a");
        assert_eq!(next(&queue, 1).await, Some(key("a", 0)));
        queue.done("a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_time_given_while_working_is_kept() {
        let queue = opened();
        queue.add("a");
        next(&queue, 1).await;
        queue.add_after("a", Duration::from_secs(7));
        queue.done("a");
        assert_eq!(next(&queue, 100).await, Some(key("a", 7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_consumer_is_woken_by_an_earlier_key() {
        let queue = Arc::new(opened());
        queue.add_after("late", Duration::from_secs(50));
        let adder = queue.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            adder.add("early");
        });
        assert_eq!(next(&queue, 100).await, Some(key("early", 3)));
        assert_eq!(next(&queue, 100).await, Some(key("late", 47)));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_handed_out_in_the_order_of_their_times() {
        let queue = opened();
        for (key, seconds) in [("c", 3), ("a", 1), ("b", 2)] {
            queue.add_after(key, Duration::from_secs(seconds));
        }
        assert_eq!(queue.due(), 0);
        for key in ["a", "b", "c"] {
            assert_eq!(next(&queue, 10).await.map(|(key, _)| key).as_deref(), Some(key));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_ignores_keys_and_drops_the_queued_ones() {
        let queue = Queue::default();
        queue.add("a");
        assert!(queue.is_empty());
        queue.open();
        queue.add("a");
        queue.add("b");
        next(&queue, 1).await;
        queue.close();
        assert_eq!(queue.len(), 1, "only what is worked on");
        queue.done("a");
        assert!(queue.is_empty());
    }
}
