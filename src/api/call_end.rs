//! Response body that reports how its call ended: by a status in the trailers, or without one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Frame, SizeHint};
use tonic::Code;
use tonic::body::Body;

/// Observer of the end of a call.
pub trait EndObserver: Send + Unpin + 'static {
    /// The call ended. Called at least once; the first call counts.
    fn ended(&mut self, code: Code);
}

/// The status in headers or trailers, where there is one.
pub fn status(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// A body that reports how it ended. If it is dropped before its end, it reports nothing.
pub struct ObservedBody<W> {
    body: Body,
    watch: W,
}

impl<W: EndObserver> ObservedBody<W> {
    /// Wraps a body.
    pub fn body(body: Body, watch: W) -> Body {
        Body::new(Self { body, watch })
    }
}

impl<W: EndObserver> hyper::body::Body for ObservedBody<W> {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.watch.ended(status(trailers).unwrap_or(Code::Unknown));
                }
            }
            Some(Err(error)) => self.watch.ended(error.code()),
            None => self.watch.ended(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
