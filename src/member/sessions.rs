//! Sessions with a pod: a command in a container (`pods/exec`), or a connection to a port (`pods/portforward`).
//!
//! Both are WebSockets to the apiserver, whose messages begin with the number of a channel. Nothing is read ahead and
//! nothing is kept: who does not take what comes slows down the container, and who is not read waits. Reading and
//! writing are independent, since a command may read no more until its output was taken. They are no writes in the
//! sense of the fence: they need no epoch.

mod channels;
mod socket;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use kube::core::Request;
use kube::core::subresource::AttachParams;

use self::channels::{Exec, Forward};
use self::socket::Socket;
use crate::error::{Error, Result};
use domain::names::{ClusterName, Namespace};

pub use self::channels::{Ended, Input, Output, Piece};

/// A command to run in a container.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// Whether it runs in a terminal.
    pub terminal: bool,
    /// Whether it gets input.
    pub input: bool,
}

/// Opens sessions with the pods of one cluster.
#[derive(Clone)]
pub struct Sessions {
    cluster: ClusterName,
    client: kube::Client,
    patience: Duration,
}

impl Sessions {
    /// Opens through `client`, each within `patience`.
    pub fn new(cluster: ClusterName, client: kube::Client, patience: Duration) -> Self {
        Self { cluster, client, patience }
    }

    /// Runs a command in a container. An error is the cluster's answer; whatever comes later ends the output.
    pub async fn exec(
        &self,
        namespace: &Namespace,
        pod: &str,
        container: &str,
        command: &Command,
    ) -> Result<(Input, Output)> {
        let action = format!("run a command in pod {namespace}/{pod}");
        let Command { arguments, terminal, input } = command;
        let params = AttachParams::default()
            .container(container)
            .stdin(*input)
            .tty(*terminal)
            // A terminal has one output.
            .stderr(!terminal);
        let request = request(namespace).exec(pod, arguments.iter().map(String::as_str), &params);
        let socket = self.open(&action, request).await?;
        if !socket.passes_ends {
            return Err(Error::Unsent {
                cluster: self.cluster.clone(),
                action,
                reason: "its apiserver cannot pass on the end of the input: that needs Kubernetes 1.30"
                    .to_owned(),
            });
        }
        let (sink, stream) = socket.split();
        Ok((Input::new::<Exec>(sink, *input), Output::new::<Exec>(stream)))
    }

    /// Connects to a port of a pod.
    pub async fn forward(&self, namespace: &Namespace, pod: &str, port: u16) -> Result<(Input, Output)> {
        let action = format!("connect to port {port} of pod {namespace}/{pod}");
        let socket = self.open(&action, request(namespace).portforward(pod, &[port])).await?;
        let (sink, stream) = socket.split();
        Ok((Input::new::<Forward>(sink, true), Output::new::<Forward>(stream)))
    }

    async fn open(&self, action: &str, request: Prepared) -> Result<Socket> {
        let failed = |error| Error::from_kube(&self.cluster, action, error);
        let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        match tokio::time::timeout(self.patience, Socket::open(&self.client, request)).await {
            Ok(socket) => socket.map_err(failed),
            Err(_) => Err(Error::Ambiguous {
                cluster: self.cluster.clone(),
                action: action.to_owned(),
                reason: format!("no answer within {:?}", self.patience),
            }),
        }
    }
}

type Prepared = std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>;

fn request(namespace: &Namespace) -> Request {
    Request::new(Pod::url_path(&(), Some(namespace.as_str())))
}
