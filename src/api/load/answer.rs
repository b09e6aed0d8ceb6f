//! Response body whose bytes count until the client has read them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::Account;

/// A response with what its call holds.
pub(super) struct Answer {
    body: Body,
    account: Account,
    is_over: bool,
}

impl Answer {
    pub(super) fn new(body: Body, account: Account) -> Self {
        Self { body, account, is_over: false }
    }

    /// Ends a response that does not fit.
    fn refuse(&mut self, status: &Status) -> Frame<Bytes> {
        self.is_over = true;
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", (Code::ResourceExhausted as i32).into());
        }
        Frame::trailers(trailers)
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        // The server asks for the next frame once the client has read all but a little of the previous one.
        self.account.sent();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        if let Err(status) = self.account.sending(length) {
            return Poll::Ready(Some(Ok(self.refuse(&status))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Not that of the inner body, which may be cut short.
        SizeHint::default()
    }
}
