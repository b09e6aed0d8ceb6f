//! Keeps one lease alive, with a deadline for every response.

use std::{sync::Arc, time::Duration};

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::debug;

use super::{
    Result, Store,
    client::{Kind, Link},
    error::Cause,
    failure::Failure,
    term::Validity,
    timing::Timing,
};

/// Delay before a failed renewal is retried.
const RETRY: Duration = Duration::from_millis(100);

/// A granted lease, whose validity counts from when the request was sent.
pub(super) struct Lease {
    pub(super) id: i64,
    pub(super) validity: Arc<Validity>,
    store: Store,
    timing: Timing,
}

/// Why a lease can no longer be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// It has expired in etcd.
    #[error("the lease expired in etcd")]
    Expired,
    /// No renewal was confirmed in time.
    #[error("no renewal was confirmed in time")]
    Unconfirmed,
}

impl Lease {
    pub(super) async fn grant(store: &Store, timing: Timing) -> Result<Self> {
        let ttl = i64::try_from(timing.ttl.as_secs()).unwrap_or(i64::MAX);
        // A second lease from a repeated call has no effect and expires.
        let grant = |client: etcd_client::Client| async move {
            let sent = Instant::now();
            client.lease_client().grant(ttl, None).await.map(|granted| (sent, granted.id()))
        };
        let (sent, id) = store.call(Kind::Repeatable, "ask for a lease", grant).await?;
        let validity = Validity::since(sent, timing.stop_after);
        Ok(Self { id, validity, store: store.clone(), timing })
    }

    /// Renews the lease until it is lost. The validity has ended on return.
    pub(super) async fn keep(&self) -> Lost {
        let lost = loop {
            if !self.validity.holds() {
                break Lost::Unconfirmed;
            }
            match self.renew_over_one_stream().await {
                Ok(lost) => break lost,
                Err(cause) => debug!(lease = self.id, %cause, "renewal failed, retrying"),
            }
            sleep(RETRY).await;
        };
        self.validity.end();
        lost
    }

    /// Revokes the lease, which deletes its keys. Best effort: it expires anyway.
    pub(super) async fn revoke(&self) {
        let revoke = |client: etcd_client::Client| async move { client.lease_client().revoke(self.id).await };
        if let Err(error) = self.store.call(Kind::Repeatable, "give the lease back", revoke).await {
            debug!(lease = self.id, %error, "failed to revoke the lease");
        }
    }

    /// After an error the caller retries.
    async fn renew_over_one_stream(&self) -> Result<Lost, Cause> {
        let sent = Instant::now();
        let link = self.store.link(self.answer_by(sent)).await?;
        let renewed = self.open(&link, sent).await;
        self.store.meter().renewed(sent.elapsed(), renewed.is_ok());
        let outcome = match renewed {
            Ok((keeper, stream)) if self.validity.renewed(sent) => self.renew(keeper, stream, sent).await,
            Ok(_) => Ok(Lost::Unconfirmed),
            Err(Cause::Client(etcd_client::Error::LeaseKeepAliveError(why))) if why.contains("not found") => {
                Ok(Lost::Expired)
            }
            Err(cause) => Err(cause),
        };
        if let Err(cause) = &outcome {
            let failure = match cause {
                Cause::Client(error) => Failure::of(error),
                _ => Failure::Unknown,
            };
            self.store.recover(&link, failure, self.answer_by(Instant::now())).await;
        }
        outcome
    }

    /// Opening the stream is a renewal, too.
    async fn open(&self, link: &Link, sent: Instant) -> Result<(LeaseKeeper, LeaseKeepAliveStream), Cause> {
        let mut client = link.client().lease_client();
        match timeout_at(self.answer_by(sent), client.keep_alive(self.id)).await {
            Ok(opened) => opened.map_err(Cause::Client),
            Err(_) => Err(Cause::Silence(self.timing.answer())),
        }
    }

    async fn renew(
        &self,
        mut keeper: LeaseKeeper,
        mut stream: LeaseKeepAliveStream,
        mut sent: Instant,
    ) -> Result<Lost, Cause> {
        loop {
            let next = sent + self.timing.renew;
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.validity.ended() => return Ok(Lost::Unconfirmed),
            }
            if !self.validity.holds() {
                return Ok(Lost::Unconfirmed);
            }
            sent = Instant::now();
            let round = async {
                keeper.keep_alive().await?;
                stream.message().await
            };
            // A stream with a late response is dropped: its next response would be counted for the wrong renewal.
            let answer = timeout_at(self.answer_by(sent), round).await;
            self.store.meter().renewed(sent.elapsed(), matches!(answer, Ok(Ok(Some(_)))));
            let answer = match answer {
                Ok(answer) => answer.map_err(Cause::Client)?,
                Err(_) => return Err(Cause::Silence(self.timing.answer())),
            };
            match answer {
                Some(answer) if answer.ttl() <= 0 => return Ok(Lost::Expired),
                Some(_) if self.validity.renewed(sent) => {}
                Some(_) => return Ok(Lost::Unconfirmed),
                None => return Err(Cause::Known("the stream of renewals ended".to_owned())),
            }
        }
    }

    /// Deadline of a response, which leaves time for a retry before the end.
    fn answer_by(&self, sent: Instant) -> Instant {
        (sent + self.timing.answer()).min(self.validity.until())
    }
}
