//! Server side of `wsman.WorkspaceManager` with statuses that are encoded once and used in many responses.
//!
//! A protobuf message is the concatenation of its fields, so bytes that were encoded before can be embedded. Clients and all
//! other code use [`super::wsman`]; `build.rs` generates the service here from the same file, with the two responses below in
//! place of the generated ones.

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, skip_field};

// Generated: the .proto files are the documentation, and style is tonic's.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod service {
    include!(concat!(env!("OUT_DIR"), "/encoded/wsman.rs"));
}

pub use service::workspace_manager_server;

/// `wsman.GetWorkspacesResponse`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct GetWorkspacesResponse {
    /// Statuses in the order of their ids.
    #[prost(message, repeated, tag = "1")]
    pub status: Vec<Status>,
    /// Empty on the last page.
    #[prost(string, tag = "1000")]
    pub next_page_token: String,
}

/// `wsman.SubscribeResponse`, without the trace context.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct SubscribeResponse {
    /// Status of the workspace.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// Token to resume after this response.
    #[prost(string, tag = "1000")]
    pub resume_token: String,
}

/// Writes a `Debug` without content, because statuses contain owner tokens.
macro_rules! without_content {
    ($($message:ident),+) => {
        $(impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        })+
    };
}

without_content!(GetWorkspacesResponse, SubscribeResponse);

/// `wsman.WorkspaceStatus`: the encoded fields from the resource, followed by the fields from the placement.
#[derive(Clone, Default, PartialEq)]
pub struct Status {
    /// Encoded fields from the resource.
    pub of_view: Bytes,
    /// Fields from the placement. They override equal fields of `of_view`.
    pub of_place: Place,
}

/// The fields of `wsman.WorkspaceStatus` that come from the placement and the cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Place {
    /// Overrides the message from the resource.
    #[prost(string, tag = "6")]
    pub message: String,
    /// Status version.
    #[prost(uint64, tag = "10")]
    pub status_version: u64,
    /// The cluster.
    #[prost(string, tag = "1000")]
    pub cluster: String,
    /// Region of the cluster.
    #[prost(string, tag = "1001")]
    pub region: String,
    /// Whether the cluster is reachable.
    #[prost(bool, tag = "1003")]
    pub reachable: bool,
    /// When the cluster last answered.
    #[prost(message, optional, tag = "1004")]
    pub observed_at: Option<prost_types::Timestamp>,
    /// Whether the cluster is being drained.
    #[prost(bool, tag = "1010")]
    pub draining: bool,
    /// Deadline of the drain.
    #[prost(message, optional, tag = "1011")]
    pub draining_until: Option<prost_types::Timestamp>,
}

/// Encoding only: received messages are decoded as the generated type.
impl Message for Status {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.of_view);
        self.of_place.encode_raw(buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        skip_field(wire_type, tag, buf, context)
    }

    fn encoded_len(&self) -> usize {
        self.of_view.len() + self.of_place.encoded_len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wsman;

    fn status(id: &str) -> wsman::WorkspaceStatus {
        wsman::WorkspaceStatus { id: id.to_owned(), ..Default::default() }
    }

    /// The encoded status of a resource on one cluster.
    fn encoded(status: &wsman::WorkspaceStatus) -> Status {
        let of_place = Place { cluster: "eu-1".to_owned(), ..Place::default() };
        Status { of_view: status.encode_to_vec().into(), of_place }
    }

    /// The same status as a client decodes it.
    fn generated(status: wsman::WorkspaceStatus) -> wsman::WorkspaceStatus {
        wsman::WorkspaceStatus { cluster: "eu-1".to_owned(), ..status }
    }

    #[test]
    fn clients_read_answers_of_encoded_statuses_as_the_generated_ones() {
        let (one, two) = (status("one"), status("two"));
        let list = GetWorkspacesResponse {
            status: vec![encoded(&one), encoded(&two)],
            next_page_token: "two".to_owned(),
        };
        let read = wsman::GetWorkspacesResponse::decode(&*list.encode_to_vec()).unwrap();
        let expected = wsman::GetWorkspacesResponse {
            status: vec![generated(one.clone()), generated(two)],
            next_page_token: "two".to_owned(),
        };
        assert_eq!(read, expected);

        let update = SubscribeResponse { status: Some(encoded(&one)), resume_token: "7".to_owned() };
        let read = wsman::SubscribeResponse::decode(&*update.encode_to_vec()).unwrap();
        let expected = wsman::SubscribeResponse {
            status: Some(generated(one)),
            resume_token: "7".to_owned(),
            ..Default::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn an_answer_shows_no_status_when_it_is_logged() {
        let auth = wsman::WorkspaceAuthentication { owner_token: "hunter2".to_owned(), ..Default::default() };
        let status = wsman::WorkspaceStatus { auth: Some(auth), ..status("one") };
        let list = GetWorkspacesResponse { status: vec![encoded(&status)], ..Default::default() };
        assert_eq!(format!("{list:?}"), "GetWorkspacesResponse { .. }");
    }
}
