//! A WebSocket to an apiserver, with limits.

use futures::StreamExt as _;
use futures::stream::{SplitSink, SplitStream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::client::Lasting;

/// A message of the apiserver, at most. Nodes send pieces of 32 KiB.
const MESSAGE: usize = 1024 * 1024;
/// Bytes that are read at once.
const READ: usize = 32 * 1024;
/// Bytes that wait to be sent, at most: a piece and its header, and answers to pings.
const UNSENT: usize = 256 * 1024;

type Stream = WebSocketStream<TokioIo<Upgraded>>;
pub(super) type Sink = SplitSink<Stream, Message>;
pub(super) type Messages = SplitStream<Stream>;

/// An open WebSocket.
pub(super) struct Socket {
    stream: Stream,
    /// Whether the end of a channel can be passed on without closing all (`v5.channel.k8s.io`).
    pub(super) passes_ends: bool,
}

impl Socket {
    /// Asks for the upgrade. The deadline of the client holds for the answer to that.
    pub(super) async fn open(
        client: &kube::Client,
        mut request: http::Request<Vec<u8>>,
    ) -> Result<Self, kube::Error> {
        request.extensions_mut().insert(Lasting::Answer);
        let connection = client.connect(request).await?;
        let passes_ends = connection.supports_stream_close();
        // The client's own limits are 64 MiB a message. Nothing was read yet.
        let raw = connection.into_stream().into_inner();
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE))
            .max_frame_size(Some(MESSAGE))
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_write_buffer_size(UNSENT);
        let stream = WebSocketStream::from_raw_socket(raw, Role::Client, Some(config)).await;
        Ok(Self { stream, passes_ends })
    }

    pub(super) fn split(self) -> (Sink, Messages) {
        self.stream.split()
    }
}
