//! Responses without end.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http::request::Parts;
use http::{Response, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use super::calls::Body;

/// Objects per page.
const PAGE: u64 = 200;
/// Bytes of padding that make an object long.
const PADDING: usize = 8 * 1024;

/// What the response has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// One line that never ends.
    Bytes,
    /// Pages of a list, each with new objects; a watch is one line that never ends.
    Pages,
    /// Events of a watch, each of a new object; lists are empty.
    Events,
    /// Headers.
    Head,
}

/// Names are never used again.
static NAMES: AtomicU64 = AtomicU64::new(0);

impl Flood {
    pub(super) fn answer(self, call: &Parts) -> io::Result<Response<Body>> {
        let is_watch = call.uri.query().is_some_and(|query| query.contains("watch=true"));
        let path = call.uri.path().to_owned();
        let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
        match self {
            Self::Head => {
                let value = "x".repeat(64 * 1024);
                let head = (0..90).fold(answer, |answer, n| answer.header(format!("x-flood-{n}"), &value));
                head.body(whole(Bytes::new()))
            }
            Self::Pages if !is_watch => {
                let items: Vec<Value> = (0..PAGE).map(|_| object(&path)).collect();
                let metadata = json!({ "resourceVersion": "1", "continue": "more" });
                let page =
                    json!({ "apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items });
                answer.body(whole(page.to_string().into()))
            }
            Self::Events if is_watch => {
                let events = stream::repeat_with(move || {
                    Bytes::from(format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", object(&path)))
                });
                answer.body(BodyExt::boxed(StreamBody::new(events.map(|event| Ok(Frame::data(event))))))
            }
            Self::Events => {
                let empty = json!({ "apiVersion": "v1", "kind": "List", "items": [],
                    "metadata": { "resourceVersion": "1" } });
                answer.body(whole(empty.to_string().into()))
            }
            Self::Bytes | Self::Pages => {
                let begin = Bytes::from_static(b"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"");
                let rest = Bytes::from(vec![b'x'; 64 * 1024]);
                let pieces = stream::iter([begin]).chain(stream::repeat(rest));
                answer.body(BodyExt::boxed(StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece))))))
            }
        }
        .map_err(io::Error::other)
    }
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

/// An object of the kind in a path, with a new name.
fn object(path: &str) -> Value {
    let n = NAMES.fetch_add(1, Ordering::Relaxed);
    let mut object = json!({ "metadata": {
        "name": format!("flood-{n}"), "namespace": "flood", "resourceVersion": (n + 10).to_string(), "uid": format!("{n}"),
        "labels": { "gitpod.io/managed-by": "spaceport" },
        "annotations": { "flood": "x".repeat(PADDING) },
    } });
    if path.ends_with("/workspaces") {
        object["spec"] = json!({
            "ownership": { "owner": "flood", "workspaceID": format!("flood-{n}") }, "type": "Regular", "class": "flood",
            "image": { "workspace": { "ref": "image" }, "ide": { "web": "w", "supervisor": "s" } },
            "initializer": "", "workspaceLocation": "", "admission": { "level": "Owner" }, "ports": [],
        });
    } else if path.ends_with("/pods") {
        object["spec"] = json!({ "containers": [], "nodeName": "flood" });
        object["status"] = json!({ "phase": "Running" });
    }
    object
}
