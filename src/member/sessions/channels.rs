//! The channels of a session. The first byte of a message is its channel.

use std::fmt;

use bytes::{Buf as _, Bytes};
use futures::{SinkExt as _, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error as Broken, Message};

use super::socket::{Messages, Sink};
use crate::error::chain;

/// Bytes of a message that is sent.
const PIECE: usize = 32 * 1024;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// Its content is the channel that ends.
const CLOSE: u8 = 255;

/// Of a connection to the only port: what the server in the pod sends, or is sent.
const DATA: u8 = 0;
/// Why there is no connection.
const ERROR: u8 = 1;
/// Each channel of a connection begins with the number of the port.
const PORT: usize = 2;

/// What comes of a session.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// Output of a command, or data of a connection.
    Out(Bytes),
    /// Output of a command for errors.
    Err(Bytes),
    /// The last.
    End(Ended),
}

impl fmt::Debug for Piece {
    /// What a container sends is nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Out(bytes) => write!(f, "Out({} bytes)", bytes.len()),
            Self::Err(bytes) => write!(f, "Err({} bytes)", bytes.len()),
            Self::End(ended) => write!(f, "End({ended:?})"),
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The command ended with this code.
    Exit(i32),
    /// The command could not run, or nothing listens at the port. The text is that of the node.
    Failed(String),
    /// The connection was closed. Of a connection to a port that is the ordinary end.
    Closed,
    /// The connection broke, and why.
    Broken(String),
}

/// What the messages of a kind of session mean.
pub(super) trait Kind {
    /// Whether the terminal can be resized, and the end of the input be passed on.
    const IS_COMMAND: bool;

    /// What a message of a channel means; `begun`: whether the channel has begun, by its number.
    fn piece(channel: u8, content: Bytes, begun: &mut [bool; 2]) -> Option<Piece>;
}

/// A command.
pub(super) struct Exec;

/// A connection to one port.
pub(super) struct Forward;

impl Kind for Exec {
    const IS_COMMAND: bool = true;

    fn piece(channel: u8, content: Bytes, _: &mut [bool; 2]) -> Option<Piece> {
        match channel {
            // Empty messages open the channels.
            STDOUT | STDERR if content.is_empty() => None,
            STDOUT => Some(Piece::Out(content)),
            STDERR => Some(Piece::Err(content)),
            STATUS => Some(Piece::End(exit(&content))),
            _ => None,
        }
    }
}

impl Kind for Forward {
    const IS_COMMAND: bool = false;

    fn piece(channel: u8, mut content: Bytes, begun: &mut [bool; 2]) -> Option<Piece> {
        let begun = begun.get_mut(usize::from(channel))?;
        if !std::mem::replace(begun, true) {
            content.advance(content.len().min(PORT));
        }
        match channel {
            _ if content.is_empty() => None,
            DATA => Some(Piece::Out(content)),
            ERROR => Some(Piece::End(Ended::Failed(String::from_utf8_lossy(&content).into_owned()))),
            _ => None,
        }
    }
}

/// How a command ended, from the Status that is sent then.
fn exit(content: &[u8]) -> Ended {
    let Ok(status) = serde_json::from_slice::<Status>(content) else {
        return Ended::Broken("the status of the command cannot be read".to_owned());
    };
    if status.status.as_deref() == Some("Success") {
        return Ended::Exit(0);
    }
    let causes = status.details.unwrap_or_default().causes.unwrap_or_default();
    let code = causes.into_iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = code.and_then(|cause| cause.message?.parse().ok());
    match code.filter(|_| status.reason.as_deref() == Some("NonZeroExitCode")) {
        Some(code) => Ended::Exit(code),
        None => Ended::Failed(status.message.unwrap_or_default()),
    }
}

/// Sends to a session.
pub struct Input {
    sink: Sink,
    is_command: bool,
    /// Otherwise input is dropped.
    is_taken: bool,
}

impl Input {
    pub(super) fn new<K: Kind>(sink: Sink, is_taken: bool) -> Self {
        Self { sink, is_command: K::IS_COMMAND, is_taken }
    }

    /// Sends input; waits while the container takes no more.
    pub async fn send(&mut self, mut content: Bytes) -> Result<(), String> {
        while self.is_taken && !content.is_empty() {
            let piece = content.split_to(content.len().min(PIECE));
            self.message(STDIN, &piece).await?;
        }
        Ok(())
    }

    /// Resizes the terminal of a command.
    pub async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), String> {
        if !self.is_command {
            return Ok(());
        }
        self.message(RESIZE, json!({ "Width": columns, "Height": rows }).to_string().as_bytes()).await
    }

    /// Passes on that no more input comes. Of a connection to a port that is not possible: nothing happens.
    pub async fn end(&mut self) -> Result<(), String> {
        if self.is_command && self.is_taken { self.message(CLOSE, &[STDIN]).await } else { Ok(()) }
    }

    /// Keeps a silent session open at what is between here and the node.
    pub async fn ping(&mut self) -> Result<(), String> {
        self.sink.send(Message::Ping(Bytes::new())).await.map_err(|error| told(&error))
    }

    /// Closes the session.
    pub async fn close(&mut self) {
        // It may be closed already.
        let _ = self.sink.close().await;
    }

    async fn message(&mut self, channel: u8, content: &[u8]) -> Result<(), String> {
        let message: Vec<u8> = std::iter::once(channel).chain(content.iter().copied()).collect();
        self.sink.send(Message::Binary(message.into())).await.map_err(|error| told(&error))
    }
}

/// Receives from a session.
pub struct Output {
    messages: Messages,
    piece: fn(u8, Bytes, &mut [bool; 2]) -> Option<Piece>,
    begun: [bool; 2],
}

impl Output {
    pub(super) fn new<K: Kind>(messages: Messages) -> Self {
        Self { messages, piece: K::piece, begun: [false; 2] }
    }

    /// What comes next. Cancel safe.
    pub async fn next(&mut self) -> Piece {
        loop {
            match self.messages.next().await {
                Some(Ok(Message::Binary(content))) => {
                    let Some(channel) = content.first().copied() else { continue };
                    if let Some(piece) = (self.piece)(channel, content.slice(1..), &mut self.begun) {
                        return piece;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(Broken::ConnectionClosed | Broken::AlreadyClosed)) | None => {
                    return Piece::End(Ended::Closed);
                }
                Some(Err(error)) => return Piece::End(Ended::Broken(told(&error))),
            }
        }
    }
}

fn told(error: &Broken) -> String {
    chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece<K: Kind>(channel: u8, content: &'static [u8], begun: &mut [bool; 2]) -> Option<Piece> {
        K::piece(channel, Bytes::from_static(content), begun)
    }

    #[test]
    fn the_status_of_a_command_is_its_exit_code_or_why_it_did_not_run() {
        let status = |text: &str| exit(text.as_bytes());
        assert_eq!(status(r#"{"metadata":{},"status":"Success"}"#), Ended::Exit(0));
        let failed = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code",
            "reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;
        assert_eq!(status(failed), Ended::Exit(42));
        let refused = r#"{"metadata":{},"status":"Failure","message":"no such program","reason":"InternalError",
            "details":{"causes":[{"message":"no such program"}]},"code":500}"#;
        assert_eq!(status(refused), Ended::Failed("no such program".to_owned()));
        let odd = r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"x"}]}}"#;
        assert_eq!(status(odd), Ended::Failed(String::new()));
        assert!(matches!(status("{"), Ended::Broken(_)));
    }

    #[test]
    fn the_channels_of_a_command_are_told_apart_and_unknown_ones_are_nothing() {
        let mut begun = [false; 2];
        let mut of = |channel, content| piece::<Exec>(channel, content, &mut begun);
        assert_eq!(of(STDOUT, b""), None);
        assert_eq!(of(STDOUT, b"a"), Some(Piece::Out(Bytes::from_static(b"a"))));
        assert_eq!(of(STDERR, b"b"), Some(Piece::Err(Bytes::from_static(b"b"))));
        assert_eq!(of(9, b"c"), None);
        assert_eq!(of(STDIN, b"c"), None);
    }

    #[test]
    fn the_number_of_the_port_is_no_data_however_it_is_cut() {
        let mut begun = [false; 2];
        let mut of = |channel, content| piece::<Forward>(channel, content, &mut begun);
        assert_eq!(of(DATA, b"\x1f\x90"), None);
        assert_eq!(of(DATA, b"hello"), Some(Piece::Out(Bytes::from_static(b"hello"))));
        assert_eq!(of(ERROR, b"\x1f\x90refused"), Some(Piece::End(Ended::Failed("refused".to_owned()))));
        assert_eq!(of(7, b"x"), None);
        let mut begun = [false; 2];
        assert_eq!(piece::<Forward>(DATA, b"\x1f", &mut begun), None);
    }

    #[test]
    fn what_a_container_sends_is_not_shown() {
        assert_eq!(format!("{:?}", Piece::Out(Bytes::from_static(b"secret"))), "Out(6 bytes)");
    }
}
