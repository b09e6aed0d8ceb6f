//! The programs of a cluster, each of which can be ended, frozen and started again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};

use super::Cluster;
use crate::harness::{
    assets::Assets,
    control_plane::{Layout, stage_files},
    process::{Launch, Process, Signal, with_free_ports},
};

const APISERVER_READY: Duration = Duration::from_mins(2);
const GRACE: Duration = Duration::from_secs(10);

/// One program of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The cluster's own etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-scheduler.
    Scheduler,
    /// kube-controller-manager.
    ControllerManager,
    /// KWOK: the nodes and kubelets.
    Kwok,
}

/// What runs around the apiserver.
pub(super) const AROUND: [Part; 3] = [Part::Scheduler, Part::ControllerManager, Part::Kwok];

impl Cluster {
    /// The process of one of its programs while it runs.
    pub fn process(&self, part: Part) -> Option<Arc<Process>> {
        if part == Part::Etcd {
            return self.etcd.process();
        }
        self.running.lock().iter().find(|(p, _)| *p == part).map(|(_, process)| Arc::clone(process))
    }

    /// Starts one of its programs, where it was. The apiserver comes back at the same address.
    pub async fn start(&self, part: Part) -> Result<()> {
        if self.process(part).is_some_and(|process| process.is_running()) {
            return Ok(());
        }
        let process = match part {
            Part::Etcd => return self.etcd.start().await,
            Part::ApiServer => self.start_apiserver_again().await?,
            _ => Arc::new(Process::start(&self.assets, &self.launch(part)?).await?),
        };
        let mut running = self.running.lock();
        running.retain(|(p, _)| *p != part);
        running.push((part, process));
        Ok(())
    }

    /// Ends one of its programs.
    pub async fn stop(&self, part: Part) -> Result<()> {
        if part == Part::Etcd {
            return self.etcd.stop().await;
        }
        if let Some(process) = self.process(part) {
            process.stop(GRACE).await?;
            self.running.lock().retain(|(p, _)| *p != part);
        }
        Ok(())
    }

    /// Ends one of its programs with SIGKILL, as a crash does.
    pub async fn kill(&self, part: Part) -> Result<()> {
        if part == Part::Etcd {
            return self.etcd.kill().await;
        }
        if let Some(process) = self.process(part) {
            process.kill().await?;
            self.running.lock().retain(|(p, _)| *p != part);
        }
        Ok(())
    }

    /// Ends scheduler, controllers and kubelets, as admins do before a restore of etcd: what they keep in memory is of a time
    /// that will never have been, and their watches would wait for versions that are yet to come.
    pub async fn stop_components(&self) -> Result<()> {
        for part in AROUND {
            self.stop(part).await?;
        }
        Ok(())
    }

    /// Starts them again.
    pub async fn start_components(&self) -> Result<()> {
        // A kubelet is the same after a restart. KWOK is another one each time, and would wait for the end of its own leases.
        let leases = Api::<Lease>::namespaced(self.client(), "kube-node-lease");
        leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        for part in AROUND {
            self.start(part).await?;
        }
        Ok(())
    }

    /// Freezes one of its programs: its connections stay and nothing answers.
    pub async fn pause(&self, part: Part) -> Result<()> {
        self.signal(part, Signal::Stop).await
    }

    /// Thaws one of its programs.
    pub async fn resume(&self, part: Part) -> Result<()> {
        self.signal(part, Signal::Cont).await
    }

    /// Ends the apiserver: connections are refused.
    pub async fn stop_apiserver(&self) -> Result<()> {
        self.stop(Part::ApiServer).await
    }

    /// Starts the apiserver again at the same address, and waits until it is ready.
    pub async fn start_apiserver(&self) -> Result<()> {
        self.start(Part::ApiServer).await
    }

    async fn signal(&self, part: Part, signal: Signal) -> Result<()> {
        let process =
            self.process(part).with_context(|| format!("{part:?} of {} does not run", self.name()))?;
        process.signal(signal).await
    }

    /// Sockets of the last run may hold the port for a moment.
    async fn start_apiserver_again(&self) -> Result<Arc<Process>> {
        let mut process = None;
        with_free_ports(async || {
            process = Some(start_apiserver(&self.assets, &self.layout, &self.client).await?);
            Ok(())
        })
        .await?;
        process.context("the apiserver vanished")
    }

    fn launch(&self, part: Part) -> Result<Launch> {
        Ok(match part {
            Part::Scheduler => self.layout.scheduler(&self.assets),
            Part::ControllerManager => self.layout.controller_manager(&self.assets),
            Part::Kwok => self.layout.kwok(&self.assets, &stage_files().context("cannot list the stages")?),
            Part::Etcd | Part::ApiServer => return Err(anyhow!("{part:?} starts in its own way")),
        })
    }
}

pub(super) async fn start_apiserver(
    assets: &Assets,
    layout: &Layout,
    client: &Client,
) -> Result<Arc<Process>> {
    let process = Process::start(assets, &layout.apiserver(assets)).await?;
    process
        .ready(APISERVER_READY, async || {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            client.request_text(request).await?;
            Ok(())
        })
        .await?;
    Ok(Arc::new(process))
}
