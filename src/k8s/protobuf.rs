//! Requests pods as Kubernetes protobuf, and transcodes the response to the JSON that the watch library reads.
//!
//! An apiserver encodes a pod as protobuf several times faster than as JSON, and a starting manager reads thousands. The
//! types in [`messages`] drop the fields that Spaceport does not read. A response in another format passes unchanged.
//!
//! See <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>.

mod messages;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as HttpBody, Frame};
use kube::client::Body;
use prost::Message;
use serde::Serialize;
use tower::BoxError;

use messages::{Pod, PodList, Status, Types, Unknown, WatchEvent};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// Both, since an answer that does not come from the apiserver itself may be JSON.
const LIST: HeaderValue = HeaderValue::from_static("application/vnd.kubernetes.protobuf,application/json");
const WATCH: HeaderValue =
    HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch,application/json");
/// Begins every object.
const MAGIC: &[u8] = b"k8s\0";
/// Of an event, in bytes; etcd holds no object that long.
const LONGEST: usize = 8 << 20;

type Transcoded = UnsyncBoxBody<Bytes, BoxError>;

/// What an apiserver sent is not what it says.
#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error("the answer is not protobuf of Kubernetes: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("an object of the answer does not begin as protobuf of Kubernetes does")]
    Magic,
    #[error("the answer holds a {0}, and pods were asked for")]
    Kind(String),
    #[error("an event of the answer is {0} bytes long")]
    Length(usize),
    #[error("the answer ends within an event")]
    End,
    #[error("an object of the answer cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// A client that requests pods as protobuf through `client`.
pub fn of_pods(client: kube::Client) -> kube::Client {
    let service = tower::service_fn(move |request: Request<Body>| send(client.clone(), request));
    kube::Client::new(service, "default")
}

async fn send(client: kube::Client, mut request: Request<Body>) -> kube::Result<Response<Transcoded>> {
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    request.headers_mut().insert(ACCEPT, if is_watch { WATCH } else { LIST });
    let (mut head, body) = client.send(request).await?.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with(PROTOBUF) {
        return Ok(Response::from_parts(head, body.map_err(Into::into).boxed_unsync()));
    }
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.remove(http::header::CONTENT_LENGTH);
    // A watch that is refused is answered by an object alone.
    let body = if is_watch && head.status.is_success() {
        events(body)
    } else {
        let whole = body.collect().await?.to_bytes();
        let json = json(&whole).map_err(|error| kube::Error::Service(error.into()))?;
        Full::new(json.into()).map_err(|never| match never {}).boxed_unsync()
    };
    Ok(Response::from_parts(head, body))
}

/// An object as JSON.
fn json(object: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut text = Vec::with_capacity(object.len() / 4);
    write(object, &mut text)?;
    Ok(text)
}

fn write(object: &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    #[derive(Serialize)]
    struct Typed<T> {
        #[serde(flatten)]
        types: Types,
        #[serde(flatten)]
        object: T,
    }
    let Unknown { types, raw } = Unknown::decode(object.strip_prefix(MAGIC).ok_or(Malformed::Magic)?)?;
    match types.kind.as_str() {
        "Pod" => serde_json::to_writer(text, &Typed { types, object: Pod::decode(raw)? })?,
        "PodList" => serde_json::to_writer(text, &Typed { types, object: PodList::decode(raw)? })?,
        "Status" => serde_json::to_writer(text, &Typed { types, object: Status::decode(raw)? })?,
        _ => return Err(Malformed::Kind(types.kind)),
    }
    Ok(())
}

/// The events of a watch, a line each.
fn events<B>(body: B) -> Transcoded
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let lines = stream::try_unfold((body, BytesMut::new()), |(mut body, mut received)| async move {
        loop {
            let lines = take_lines(&mut received)?;
            if !lines.is_empty() {
                return Ok(Some((Frame::data(lines.into()), (body, received))));
            }
            match body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(Into::into)?.into_data() {
                        received.extend_from_slice(&data);
                    }
                }
                None if received.is_empty() => return Ok(None),
                None => return Err(BoxError::from(Malformed::End)),
            }
        }
    });
    StreamBody::new(lines.boxed()).boxed_unsync()
}

/// Takes the complete events. Each is preceded by its length in four bytes.
fn take_lines(received: &mut BytesMut) -> Result<Vec<u8>, Malformed> {
    let mut lines = Vec::new();
    while let Some(length) = received.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) {
        if length > LONGEST {
            return Err(Malformed::Length(length));
        }
        if received.len() - 4 < length {
            break;
        }
        received.advance(4);
        let WatchEvent { kind, object } = WatchEvent::decode(received.split_to(length).freeze())?;
        // The type first, as apiservers write it.
        lines.extend_from_slice(b"{\"type\":");
        serde_json::to_writer(&mut lines, &kind)?;
        lines.extend_from_slice(b",\"object\":");
        write(&object.raw, &mut lines)?;
        lines.extend_from_slice(b"}\n");
    }
    Ok(lines)
}

#[cfg(test)]
mod tests;
