//! Ends, freezes and restarts the programs of a cluster.

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

/// The clients of the apiserver.
pub(super) const AROUND: [Part; 3] = [Part::Scheduler, Part::ControllerManager, Part::Kwok];

impl Cluster {
    /// The process of a program, if it is running.
    pub fn process(&self, part: Part) -> Option<Arc<Process>> {
        if part == Part::Etcd {
            return self.etcd.process();
        }
        self.running.lock().iter().find(|(p, _)| *p == part).map(|(_, process)| Arc::clone(process))
    }

    /// Starts a program again. The apiserver keeps its address.
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

    /// Ends a program.
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

    /// Ends a program with SIGKILL, like a crash.
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

    /// Ends scheduler, controllers and kubelets, as admins do before a restore of etcd: their caches hold state that
    /// the restore undoes, and their watches would wait for versions that do not exist yet.
    pub async fn stop_components(&self) -> Result<()> {
        for part in AROUND {
            self.stop(part).await?;
        }
        Ok(())
    }

    /// Starts scheduler, controllers and kubelets again.
    pub async fn start_components(&self) -> Result<()> {
        // A kubelet keeps its identity across a restart. KWOK gets a new one each time and would wait for its old
        // leases to expire.
        let leases = Api::<Lease>::namespaced(self.client(), "kube-node-lease");
        leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        for part in AROUND {
            self.start(part).await?;
        }
        Ok(())
    }

    /// Freezes a program: its connections stay open and nothing answers.
    pub async fn pause(&self, part: Part) -> Result<()> {
        self.signal(part, Signal::Stop).await
    }

    /// Resumes a frozen program.
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

    /// Connections of the last run may keep the port busy for a moment.
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
