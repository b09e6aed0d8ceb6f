//! Metrics of this replica: whether it leads, its subscribers, its queues and what they dropped.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, Opts};

use super::gauge::{Result, count, gauge, one_if};
use crate::leader::cluster_events::ClusterEvents;
use crate::view::index::Index;
use crate::workspaces::decisions::Decisions;
use crate::workspaces::settle::queue::Queue;

/// What is measured of a replica.
#[derive(Clone)]
pub(crate) struct ReplicaSources {
    pub(crate) index: Arc<Index>,
    pub(crate) queue: Queue,
    pub(crate) decisions: Arc<Decisions>,
    pub(crate) events: Arc<ClusterEvents>,
}

/// Metrics of a replica.
pub(super) struct ReplicaMetrics {
    leading: GaugeVec,
    subscribers: GaugeVec,
    waiting: GaugeVec,
    buffer: GaugeVec,
    settling: GaugeVec,
    dropped: IntCounterVec,
}

impl ReplicaMetrics {
    pub(super) fn new() -> Result<Self> {
        let dropped = Opts::new(
            "spaceport_dropped_total",
            "What was dropped because a queue was full. `subscriber`: a subscription that was ended; \
             `decision`: a placement decision that is not stored in etcd; `news`: an event that was \
             not written to the host cluster.",
        );
        Ok(Self {
            leading: gauge("leading", "1 on the replica that leads, 0 on others.", &[])?,
            subscribers: gauge("subscribers", "Subscribers of this replica.", &[])?,
            waiting: gauge(
                "subscriber_waiting",
                "Changed workspaces that wait for the slowest subscriber of this replica.",
                &[],
            )?,
            buffer: gauge(
                "subscriber_buffer",
                "Changed workspaces that may wait for one subscriber before it is ended.",
                &[],
            )?,
            settling: gauge(
                "settle_waiting",
                "Workspaces whose placement records wait to be settled; of the leader.",
                &[],
            )?,
            dropped: IntCounterVec::new(dropped, &["what"])?,
        })
    }

    pub(super) fn all(&self) -> Vec<&dyn Collector> {
        vec![&self.leading, &self.subscribers, &self.waiting, &self.buffer, &self.settling, &self.dropped]
    }

    pub(super) fn read(&self, of: &ReplicaSources, leads: bool) {
        let set = |gauge: &GaugeVec, value| gauge.with_label_values::<&str>(&[]).set(value);
        let events = of.index.events();
        set(&self.leading, one_if(leads));
        set(&self.subscribers, count(events.subscribers()));
        set(&self.waiting, count(events.longest()));
        set(&self.buffer, count(events.capacity()));
        self.settling.reset();
        if leads {
            set(&self.settling, count(of.queue.waiting()));
        }
        let dropped = [
            ("subscriber", events.lagged()),
            ("decision", of.decisions.dropped()),
            ("news", of.events.dropped()),
        ];
        for (what, total) in dropped {
            let counter = self.dropped.with_label_values(&[what]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}
