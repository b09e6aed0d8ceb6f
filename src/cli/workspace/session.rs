//! A command in a workspace, by the RPC `Exec`.

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::connect::Client;
use proto::spaceport::v1::exec_request::Request as Message;
use proto::spaceport::v1::exec_response::Response as Answer;
use proto::spaceport::v1::{ExecRequest, ExecResponse, ExecStart};

/// Bytes of a piece of input; the server takes no more than 64 KiB.
pub const PIECE: usize = 32 * 1024;

/// Sends input. The command's input ends when it is dropped.
pub struct Input(mpsc::Sender<ExecRequest>);

/// Receives output.
pub struct Output(Streaming<ExecResponse>);

/// What a command writes, and its end.
pub enum Piece {
    Out(Vec<u8>),
    Err(Vec<u8>),
    Exit(i32),
}

/// Starts a command.
pub async fn start(client: &Client, start: ExecStart) -> Result<(Input, Output), Status> {
    // What the server does not take is not read from here.
    let (sender, receiver) = mpsc::channel(1);
    let input = Input(sender);
    if !input.send(Message::Start(start)).await {
        return Err(Status::internal("the first request cannot be sent"));
    }
    let mut api = client.logs();
    let output =
        client.open(ReceiverStream::new(receiver), async |requests| api.exec(requests).await).await?;
    Ok((input, Output(output)))
}

impl Input {
    /// Sends a request once there is place for it; `false` if the session has ended.
    pub async fn send(&self, message: Message) -> bool {
        self.0.send(ExecRequest { request: Some(message) }).await.is_ok()
    }
}

impl Output {
    /// What comes next. After the exit code there is nothing.
    pub async fn next(&mut self) -> Result<Piece> {
        loop {
            let message = self.0.message().await.context("the session was interrupted")?;
            let message =
                message.ok_or_else(|| anyhow!("the server ended the session without an exit code"))?;
            match message.response {
                Some(Answer::Stdout(bytes)) => return Ok(Piece::Out(bytes)),
                Some(Answer::Stderr(bytes)) => return Ok(Piece::Err(bytes)),
                Some(Answer::Exit(exit)) => return Ok(Piece::Exit(exit.code)),
                // Of a later version of the server.
                None => {}
            }
        }
    }
}
