//! `wsman.WorkspaceManager` as the server serves it: statuses are encoded before the answer is.
//!
//! On the wire an embedded message is its bytes with their length, so a field of bytes is the same answer. Clients and
//! everything else use [`super::wsman`]; `build.rs` makes the service here from the same file, with the two answers
//! below in place of the generated ones.

use prost::bytes::Bytes;

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
    /// Each a `wsman.WorkspaceStatus`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub status: Vec<Bytes>,
    /// Empty on the last page.
    #[prost(string, tag = "1000")]
    pub next_page_token: String,
}

/// `wsman.SubscribeResponse`, without the trace context.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct SubscribeResponse {
    /// A `wsman.WorkspaceStatus`.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub status: Option<Bytes>,
    /// Where to resume after this answer.
    #[prost(string, tag = "1000")]
    pub resume_token: String,
}

/// Statuses hold owner tokens.
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

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::wsman;

    fn status(id: &str) -> wsman::WorkspaceStatus {
        wsman::WorkspaceStatus { id: id.to_owned(), ..Default::default() }
    }

    #[test]
    fn clients_read_answers_of_encoded_statuses_as_the_generated_ones() {
        let (one, two) = (status("one"), status("two"));
        let list = GetWorkspacesResponse {
            status: vec![one.encode_to_vec().into(), two.encode_to_vec().into()],
            next_page_token: "two".to_owned(),
        };
        let read = wsman::GetWorkspacesResponse::decode(&*list.encode_to_vec()).unwrap();
        let generated = wsman::GetWorkspacesResponse {
            status: vec![one.clone(), two],
            next_page_token: "two".to_owned(),
        };
        assert_eq!(read, generated);

        let update =
            SubscribeResponse { status: Some(one.encode_to_vec().into()), resume_token: "7".to_owned() };
        let read = wsman::SubscribeResponse::decode(&*update.encode_to_vec()).unwrap();
        let generated = wsman::SubscribeResponse {
            status: Some(one),
            resume_token: "7".to_owned(),
            ..Default::default()
        };
        assert_eq!(read, generated);
    }

    #[test]
    fn an_answer_shows_no_status_when_it_is_logged() {
        let auth = wsman::WorkspaceAuthentication { owner_token: "hunter2".to_owned(), ..Default::default() };
        let status = wsman::WorkspaceStatus { auth: Some(auth), ..status("one") }.encode_to_vec();
        let list = GetWorkspacesResponse { status: vec![status.into()], ..Default::default() };
        assert_eq!(format!("{list:?}"), "GetWorkspacesResponse { .. }");
    }
}
