//! Byte limits of responses, so that a cluster that sends without end costs bounded memory.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

use super::fault::Fault;

/// An answer that is read whole: a page of a list as a rule. Where a page is longer, fewer objects are asked for at a time.
const ANSWER: usize = 16 * 1024 * 1024;
/// An answer that is an error.
const ERROR: usize = 1024 * 1024;
/// A line of a watch, which is one object; etcd stores none beyond 1.5 MiB by default.
const LINE: usize = 8 * 1024 * 1024;
/// Answers beyond this are read a few at a time.
const LARGE: usize = 1024 * 1024;
/// So many of one cluster.
const LARGE_AT_ONCE: usize = 2;

/// The turns of a cluster's large answers.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_AT_ONCE)))
    }
}

/// What is still to be taken of an answer.
#[derive(Debug)]
pub(super) enum Cap {
    /// It is read whole.
    Whole {
        /// Bytes that came.
        came: usize,
        /// Bytes that may come.
        most: usize,
        /// Where it waits for its turn, and the turn once it has it.
        turns: PollSemaphore,
        turn: Option<tokio::sync::OwnedSemaphorePermit>,
    },
    /// It is read line by line; bytes since the last line began.
    Lines(usize),
    /// Its reader takes it in pieces and keeps none.
    Pieces,
}

impl Cap {
    /// Of an answer that is read whole, an error or not.
    pub(super) fn whole(is_error: bool, turns: &Turns) -> Self {
        let most = if is_error { ERROR } else { ANSWER };
        Self::Whole { came: 0, most, turns: PollSemaphore::new(Arc::clone(&turns.0)), turn: None }
    }

    /// Of a watch.
    pub(super) fn lines() -> Self {
        Self::Lines(0)
    }

    /// Waits until more may be read.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Whole { came, turns, turn, .. } = self
            && *came > LARGE
            && turn.is_none()
        {
            // The semaphore is private and never closed.
            *turn = ready!(turns.poll_acquire(cx));
        }
        Poll::Ready(())
    }

    /// Counts what came.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Whole { came, most, .. } => {
                *came += data.len();
                if *came > *most {
                    return Err(Fault::TooLong { what: "answer", most: *most });
                }
            }
            Self::Lines(since) => {
                *since = match data.iter().rposition(|byte| *byte == b'\n') {
                    // What came before belongs to lines that have ended, and one read is short.
                    Some(last) => data.len() - last - 1,
                    None => *since + data.len(),
                };
                if *since > LINE {
                    return Err(Fault::TooLong { what: "line of a watch", most: LINE });
                }
            }
            Self::Pieces => {}
        }
        Ok(())
    }
}
