//! `spaceport workspace forward`

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt as _, select_all};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Status, Streaming};

use super::session::PIECE;
use crate::connect::{Client, ClientArgs};
use crate::failure::describe;
use crate::terminal::Terminal;
use domain::names::WorkspaceId;
use proto::spaceport::v1::forward_request::Request as Message;
use proto::spaceport::v1::{ForwardRequest, ForwardResponse, ForwardStart};
use proto::wsman::{DescribeWorkspaceRequest, WorkspacePhase};

/// Connections at once; the server allows one caller 64 sessions.
const AT_ONCE: usize = 48;

/// `spaceport workspace forward`.
#[derive(Debug, Args)]
#[command(after_help = "\
Listens on 127.0.0.1 until Ctrl-C, and passes each connection on to the port in the workspace. A cluster cannot pass on \
that one side has sent everything: 10 s after a client has done that, and the server is silent, the connection is closed.")]
pub struct ForwardArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// Port in the workspace, and the local one if it is another; 0 takes any free one
    #[arg(required = true, value_name = "PORT[:LOCAL]", value_parser = ports)]
    ports: Vec<Ports>,
}

/// A port in the workspace and one of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    remote: u16,
    local: u16,
}

#[derive(Serialize)]
struct View {
    address: SocketAddr,
    port: u16,
}

fn ports(text: &str) -> Result<Ports, String> {
    let (remote, local) = text.split_once(':').unwrap_or((text, text));
    let parse = |text: &str| {
        text.parse::<u16>().map_err(|_| "must be PORT or PORT:LOCAL, such as 8080:3000".to_owned())
    };
    match (parse(remote)?, parse(local)?) {
        (0, _) => Err("the port in the workspace must not be 0".to_owned()),
        (remote, local) => Ok(Ports { remote, local }),
    }
}

/// Forwards ports until Ctrl-C.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    args: ForwardArgs,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let ForwardArgs { id, ports } = args;
    check(client, &id).await.with_context(|| format!("failed to forward ports of {id}"))?;
    let mut listeners = Vec::new();
    for Ports { remote, local } in ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local)).await;
        let listener = listener.with_context(|| format!("failed to listen on 127.0.0.1:{local}"))?;
        let address = listener.local_addr()?;
        if connection.output.is_table() {
            terminal.line(format!("{address} is port {remote} of {id}"))?;
        } else {
            terminal.line(serde_json::to_string(&View { address, port: remote })?)?;
        }
        listeners.push(TcpListenerStream::new(listener).map(move |socket| (socket, remote)));
    }
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for Ctrl-C")?;
    let link = Link { id: id.clone(), connection, client: Mutex::new(client.clone()) };
    let link = &link;
    let (mut accepted, mut connections) = (select_all(listeners), FuturesUnordered::new());
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            Some((port, ended)) = connections.next() => match ended {
                Ok(()) => {}
                Err(status) => {
                    let text = format!("a connection to port {port} of {id}");
                    if is_final(&status) {
                        return Err(status).context(text);
                    }
                    terminal.progress(&format!("{text}: {}\n", describe(&status)));
                }
            },
            Some((socket, port)) = accepted.next(), if connections.len() < AT_ONCE => match socket {
                Ok(socket) => connections.push(async move { (port, link.pass(socket, port).await) }),
                // Of one connection that is gone before it was accepted.
                Err(error) => terminal.progress(&format!("failed to accept a connection: {error}\n")),
            },
        }
    }
}

/// Whether the workspace runs.
async fn check(client: &Client, id: &WorkspaceId) -> Result<()> {
    let mut api = client.workspaces();
    let request = DescribeWorkspaceRequest { id: id.to_string() };
    let found = client.call(request, async |request| api.describe_workspace(request).await).await?;
    match found.status.map(|status| status.phase()) {
        Some(WorkspacePhase::Running) => Ok(()),
        phase => bail!("it is not running, it is {}", phase.unwrap_or_default().as_str_name()),
    }
}

/// The server, which may be another one after a failure.
struct Link<'a> {
    id: WorkspaceId,
    connection: &'a ClientArgs,
    client: Mutex<Client>,
}

type Opened = (mpsc::Sender<ForwardRequest>, Streaming<ForwardResponse>);

impl Link<'_> {
    /// Passes one connection on, until one side closes it.
    async fn pass(&self, socket: TcpStream, port: u16) -> Result<(), Status> {
        let (requests, mut responses) = self.open(port).await?;
        let (mut from, mut to) = socket.into_split();
        let sending = async move {
            let mut buffer = vec![0; PIECE];
            loop {
                let read = match from.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => buffer.get(..read).unwrap_or_default().to_vec(),
                };
                if requests.send(ForwardRequest { request: Some(Message::Data(read)) }).await.is_err() {
                    break;
                }
            }
            // The end of the requests; the other direction may go on.
            drop(requests);
            std::future::pending::<()>().await;
        };
        let receiving = async {
            while let Some(response) = responses.message().await? {
                if to.write_all(&response.data).await.is_err() {
                    return Ok(());
                }
            }
            // The client may be gone.
            let _ = to.shutdown().await;
            Ok(())
        };
        tokio::select! {
            ended = receiving => ended,
            () = sending => Ok(()),
        }
    }

    /// Opens a connection; at whichever address responds, if the one in use does not.
    async fn open(&self, port: u16) -> Result<Opened, Status> {
        let client = self.client.lock().clone();
        match open(&client, &self.id, port).await {
            Err(status) if status.code() == Code::Unavailable => {
                let client = Client::connect(self.connection).await.map_err(|_| status)?;
                let opened = open(&client, &self.id, port).await?;
                *self.client.lock() = client;
                Ok(opened)
            }
            outcome => outcome,
        }
    }
}

async fn open(client: &Client, id: &WorkspaceId, port: u16) -> Result<Opened, Status> {
    let (sender, receiver) = mpsc::channel(1);
    let start = ForwardStart { id: id.to_string(), port: port.into() };
    // There is place for it.
    let _ = sender.send(ForwardRequest { request: Some(Message::Start(start)) }).await;
    let mut api = client.logs();
    let responses =
        client.open(ReceiverStream::new(receiver), async |requests| api.forward(requests).await).await?;
    Ok((sender, responses))
}

/// Whether later connections would get the same error.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_be_another_one_here() {
        assert_eq!(ports("8080"), Ok(Ports { remote: 8080, local: 8080 }));
        assert_eq!(ports("8080:3000"), Ok(Ports { remote: 8080, local: 3000 }));
        assert_eq!(ports("8080:0"), Ok(Ports { remote: 8080, local: 0 }));
        for bad in ["", "0", "0:1", "65536", "8080:", ":80", "a", "80:b", "1:2:3", "-1"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
