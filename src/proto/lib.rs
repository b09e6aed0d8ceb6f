//! Wire types, generated from `proto/`, one module for each package.
//!
//! Messages with secrets have their own `Debug` here, which shows that a secret is set, but not its value.

use std::fmt;

pub mod codec;
pub mod codes;
pub mod encoded;

/// Descriptors of every file in `proto/`, for server reflection and for the lock test.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("spaceport");

/// Includes a generated package.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        // Generated: the .proto files are the documentation, and style is prost's.
        #[allow(missing_docs, clippy::all, clippy::pedantic)]
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

package! {
    /// The workspace API.
    wsman, "wsman"
}
package! {
    /// Initializers, git status and stored content.
    contentservice, "contentservice"
}
package! {
    /// How workspace images are composed.
    registryfacade, "registryfacade"
}
package! {
    /// Image builds.
    builder, "builder"
}
package! {
    /// Storage of IDE plug-ins.
    ideplugin, "ideplugin"
}
package! {
    /// Cluster registration of existing installations.
    workspacemanagerbridge, "workspacemanagerbridge"
}
/// Spaceport's own API.
pub mod spaceport {
    package! {
        /// The admin's API.
        v1, "spaceport.v1"
    }
}

/// What `Debug` shows in place of a secret.
struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Implements `Debug` for a message: the first list of fields is shown, the others only if set, and redacted.
macro_rules! redact {
    ($message:path, shows [$($shown:ident),*], hides [$($hidden:ident),+]) => {
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Destructures every field, so that a new one does not compile until it is on one of the lists.
                let Self { $($shown,)* $($hidden),+ } = self;
                let name = stringify!($message).rsplit(' ').next().unwrap_or_default();
                let mut debug = f.debug_struct(name.rsplit("::").next().unwrap_or(name));
                $(debug.field(stringify!($shown), $shown);)*
                $(if !$hidden.is_empty() {
                    debug.field(stringify!($hidden), &Redacted);
                })+
                debug.finish()
            }
        }
    };
}

// prost also omits `Debug` of a message's oneof.
impl fmt::Debug for builder::build_registry_auth::Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total(total) => total.fmt(f),
            Self::Selective(selective) => selective.fmt(f),
        }
    }
}

// What users send to their workspaces and get from them is nobody's business.
impl fmt::Debug for spaceport::v1::exec_request::Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(start) => start.fmt(f),
            Self::Stdin(_) => Redacted.fmt(f),
            Self::Resize(size) => size.fmt(f),
        }
    }
}

impl fmt::Debug for spaceport::v1::exec_response::Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout(_) | Self::Stderr(_) => Redacted.fmt(f),
            Self::Exit(exit) => exit.fmt(f),
        }
    }
}

impl fmt::Debug for spaceport::v1::forward_request::Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(start) => start.fmt(f),
            Self::Data(_) => Redacted.fmt(f),
        }
    }
}

impl fmt::Debug for spaceport::v1::ExecRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecRequest").field("request", &self.request).finish()
    }
}

impl fmt::Debug for spaceport::v1::ExecResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecResponse").field("response", &self.response).finish()
    }
}

impl fmt::Debug for spaceport::v1::ForwardRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardRequest").field("request", &self.request).finish()
    }
}

redact!(spaceport::v1::ExecCommand, shows [], hides [arguments]);
redact!(spaceport::v1::ForwardResponse, shows [], hides [data]);
redact!(builder::BuildRegistryAuth, shows[mode], hides[additional]);
redact!(builder::LogInfo, shows[url], hides[headers]);
redact!(
    contentservice::GitConfig,
    shows [custom_config, authentication, auth_user],
    hides [auth_password, auth_ots]
);
// Whoever has a signed URL has the object.
redact!(contentservice::DownloadUrlResponse, shows[], hides[url]);
redact!(contentservice::LogDownloadUrlResponse, shows[], hides[url]);
redact!(contentservice::UploadUrlResponse, shows[], hides[url]);
redact!(contentservice::WorkspaceDownloadUrlResponse, shows[], hides[url]);
redact!(ideplugin::PluginDownloadUrlResponse, shows[], hides[url]);
redact!(ideplugin::PluginUploadUrlResponse, shows[], hides[url]);
redact!(
    spaceport::v1::DoctorRequest,
    shows [name, spec],
    hides [kubeconfig]
);
redact!(
    spaceport::v1::InstallRequest,
    shows [namespaces, force_conflicts, dry_run, with_kubeconfig],
    hides [kubeconfig]
);
redact!(spaceport::v1::InstallResponse, shows[objects], hides[kubeconfig]);
redact!(spaceport::v1::LogsResponse, shows[resume_token], hides[content]);
redact!(spaceport::v1::RegisterRequest, shows[spec], hides[kubeconfig]);
redact!(
    spaceport::v1::UpdateRequest,
    shows [name, spec, update_mask, add_constraints, remove_constraints, version],
    hides [kubeconfig]
);
redact!(workspacemanagerbridge::TlsConfig, shows [ca, crt], hides [key]);
redact!(wsman::EnvironmentVariable, shows [name, secret], hides [value]);
redact!(wsman::StartWorkspaceResponse, shows [url, cluster, region, namespace, warnings], hides [owner_token]);
redact!(wsman::WorkspaceAuthentication, shows[admission], hides[owner_token]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_a_secret() {
        let variable = wsman::EnvironmentVariable {
            name: "TOKEN".to_owned(),
            value: "hunter2".to_owned(),
            secret: None,
        };
        let request = wsman::StartWorkspaceRequest {
            spec: Some(wsman::StartWorkspaceSpec { envvars: vec![variable], ..Default::default() }),
            ..Default::default()
        };
        let shown = format!("{request:?}");
        assert!(shown.contains(r#"EnvironmentVariable { name: "TOKEN", secret: None, value: [redacted] }"#));
        assert!(!shown.contains("hunter2"));
    }

    #[test]
    fn debug_never_shows_what_a_workspace_wrote() {
        let piece =
            spaceport::v1::LogsResponse { content: b"hunter2".to_vec(), resume_token: "t".to_owned() };
        assert_eq!(format!("{piece:?}"), r#"LogsResponse { resume_token: "t", content: [redacted] }"#);
    }

    #[test]
    fn debug_tells_whether_a_secret_is_set() {
        let without = wsman::WorkspaceAuthentication::default();
        let with = wsman::WorkspaceAuthentication { owner_token: "hunter2".to_owned(), ..without.clone() };
        assert_eq!(format!("{without:?}"), "WorkspaceAuthentication { admission: 0 }");
        assert_eq!(format!("{with:?}"), "WorkspaceAuthentication { admission: 0, owner_token: [redacted] }");
    }
}
