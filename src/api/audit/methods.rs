//! Which methods and fields are recorded: an allow-list, so that a new field is never recorded by accident.

/// What the audit log does with a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Not recorded: it changes nothing.
    Reads,
    /// Not recorded: it changes something, but is called too often. `grpc_server_handled_total` counts it.
    Counted,
    /// One line for each stream, at its end. The service that reads the stream says what is recorded.
    Stream,
    /// One line for each call.
    Recorded {
        /// What the call acts on: label and field of the request.
        object: &'static [(&'static str, &'static str)],
        /// Other recorded fields. None may hold a secret.
        arguments: &'static [&'static str],
    },
}

const fn to_workspace(arguments: &'static [&'static str]) -> Entry {
    Entry::Recorded { object: &[("workspace", "id")], arguments }
}

const fn of_owner(arguments: &'static [&'static str]) -> Entry {
    Entry::Recorded { object: &[("owner", "owner_id")], arguments }
}

const fn to_cluster(arguments: &'static [&'static str]) -> Entry {
    Entry::Recorded { object: &[("cluster", "name")], arguments }
}

/// Every served method, and what is recorded of it.
pub const METHODS: &[(&str, Entry)] = &[
    ("/wsman.WorkspaceManager/GetWorkspaces", Entry::Reads),
    (
        "/wsman.WorkspaceManager/StartWorkspace",
        Entry::Recorded {
            object: &[("workspace", "id"), ("metaId", "metadata.meta_id"), ("owner", "metadata.owner")],
            arguments: &[
                "type",
                "spec.class",
                "spec.timeout",
                "spec.closed_timeout",
                "spec.maximum_lifetime",
                "spec.admission",
                "spec.placement.regions",
                "spec.placement.require_region",
                "spec.placement.cluster",
                "spec.placement.namespace",
            ],
        },
    ),
    ("/wsman.WorkspaceManager/StopWorkspace", to_workspace(&["policy"])),
    ("/wsman.WorkspaceManager/DescribeWorkspace", Entry::Reads),
    ("/wsman.WorkspaceManager/BackupWorkspace", to_workspace(&[])),
    ("/wsman.WorkspaceManager/Subscribe", Entry::Reads),
    ("/wsman.WorkspaceManager/MarkActive", Entry::Counted),
    ("/wsman.WorkspaceManager/SetTimeout", to_workspace(&["duration", "type"])),
    (
        "/wsman.WorkspaceManager/ControlPort",
        to_workspace(&["expose", "spec.port", "spec.visibility", "spec.protocol"]),
    ),
    ("/wsman.WorkspaceManager/TakeSnapshot", to_workspace(&["return_immediately"])),
    ("/wsman.WorkspaceManager/ControlAdmission", to_workspace(&["level"])),
    (
        "/wsman.WorkspaceManager/DeleteVolumeSnapshot",
        Entry::Recorded { object: &[("snapshot", "id")], arguments: &["soft_delete", "ws_type"] },
    ),
    ("/wsman.WorkspaceManager/UpdateSSHKey", to_workspace(&[])),
    ("/wsman.WorkspaceManager/DescribeCluster", Entry::Reads),
    ("/spaceport.v1.WorkspaceManager/Logs", Entry::Reads),
    ("/spaceport.v1.WorkspaceManager/DescribeContent", Entry::Reads),
    ("/spaceport.v1.WorkspaceManager/DescribeEnded", Entry::Reads),
    ("/spaceport.v1.WorkspaceManager/Version", Entry::Reads),
    ("/spaceport.v1.WorkspaceContent/ListBackups", Entry::Reads),
    ("/contentservice.ContentService/DeleteUserContent", of_owner(&[])),
    ("/contentservice.WorkspaceService/WorkspaceDownloadURL", Entry::Reads),
    (
        "/contentservice.WorkspaceService/DeleteWorkspace",
        Entry::Recorded {
            object: &[("metaId", "workspace_id"), ("owner", "owner_id")],
            arguments: &["include_snapshots"],
        },
    ),
    ("/contentservice.WorkspaceService/WorkspaceSnapshotExists", Entry::Reads),
    ("/contentservice.HeadlessLogService/LogDownloadURL", Entry::Reads),
    ("/contentservice.HeadlessLogService/ListLogs", Entry::Reads),
    // Whoever has the URL can write the blob.
    ("/contentservice.BlobService/UploadUrl", of_owner(&["name", "content_type"])),
    ("/contentservice.BlobService/DownloadUrl", Entry::Reads),
    ("/contentservice.BlobService/Delete", of_owner(&["exact", "prefix"])),
    (
        "/ideplugin.IDEPluginService/UploadURL",
        Entry::Recorded { object: &[], arguments: &["bucket", "name"] },
    ),
    ("/ideplugin.IDEPluginService/DownloadURL", Entry::Reads),
    ("/ideplugin.IDEPluginService/PluginHash", Entry::Reads),
    ("/spaceport.v1.WorkspaceManager/Exec", Entry::Stream),
    ("/spaceport.v1.WorkspaceManager/Forward", Entry::Stream),
    ("/registryfacade.SpecProvider/GetImageSpec", Entry::Reads),
    ("/builder.ImageBuilder/ResolveBaseImage", Entry::Reads),
    ("/builder.ImageBuilder/ResolveWorkspaceImage", Entry::Reads),
    (
        "/builder.ImageBuilder/Build",
        Entry::Recorded { object: &[], arguments: &["force_rebuild", "triggered_by"] },
    ),
    ("/builder.ImageBuilder/Logs", Entry::Reads),
    ("/builder.ImageBuilder/ListBuilds", Entry::Reads),
    (
        "/spaceport.v1.ClusterManager/Register",
        Entry::Recorded {
            object: &[("cluster", "spec.name")],
            arguments: &[
                "spec.region",
                "spec.weight",
                "spec.cordoned",
                "spec.fence",
                "spec.kubeconfig_secret.namespace",
                "spec.kubeconfig_secret.name",
                "spec.namespaces.namespace",
            ],
        },
    ),
    ("/spaceport.v1.ClusterManager/Deregister", to_cluster(&["force"])),
    ("/spaceport.v1.ClusterManager/List", Entry::Reads),
    ("/spaceport.v1.ClusterManager/Cordon", to_cluster(&[])),
    ("/spaceport.v1.ClusterManager/Uncordon", to_cluster(&[])),
    ("/spaceport.v1.ClusterManager/SetMaintenance", to_cluster(&["namespace", "until"])),
    ("/spaceport.v1.ClusterManager/Leader", Entry::Reads),
    ("/spaceport.v1.ClusterManager/Get", Entry::Reads),
    (
        "/spaceport.v1.ClusterManager/Update",
        to_cluster(&[
            "update_mask",
            "version",
            "spec.region",
            "spec.weight",
            "spec.cordoned",
            "spec.fence",
            "spec.kubeconfig_secret.namespace",
            "spec.kubeconfig_secret.name",
            "spec.namespaces.namespace",
        ]),
    ),
    ("/spaceport.v1.ClusterManager/Watch", Entry::Reads),
    ("/spaceport.v1.ClusterManager/Doctor", Entry::Reads),
    (
        "/spaceport.v1.ClusterManager/Install",
        Entry::Recorded {
            object: &[],
            arguments: &["namespaces.namespace", "force_conflicts", "dry_run", "with_kubeconfig"],
        },
    ),
    (
        "/spaceport.v1.ClusterManager/StartDrain",
        to_cluster(&["deadline", "idle", "rate_per_minute", "max_concurrent", "accept_no_room", "dry_run"]),
    ),
    ("/spaceport.v1.ClusterManager/GetDrain", Entry::Reads),
    ("/spaceport.v1.ClusterManager/WatchDrain", Entry::Reads),
    ("/spaceport.v1.ClusterManager/ChangeDrain", to_cluster(&["change", "workspaces"])),
    ("/spaceport.v1.ClusterManager/OpenIncarnation", Entry::Recorded { object: &[], arguments: &["reason"] }),
    ("/spaceport.v1.ClusterManager/RotateSecret", Entry::Recorded { object: &[], arguments: &["reason"] }),
    ("/spaceport.v1.ClusterManager/ExplainWorkspace", Entry::Reads),
    ("/spaceport.v1.ClusterManager/ForecastPlacement", Entry::Reads),
    ("/spaceport.v1.ClusterManager/Diff", Entry::Reads),
    (
        "/spaceport.v1.ClusterManager/Adopt",
        to_cluster(&["workspaces", "others", "manager_namespaces", "dry_run", "installation"]),
    ),
    ("/spaceport.v1.ClusterManager/Discard", to_cluster(&["workspaces", "namespace", "force"])),
    ("/spaceport.v1.ClusterManager/GetStatus", Entry::Reads),
    ("/spaceport.v1.ClusterManager/Forget", to_cluster(&["reason", "dry_run"])),
    ("/workspacemanagerbridge.ClusterService/Register", to_cluster(&["region"])),
    ("/workspacemanagerbridge.ClusterService/Update", to_cluster(&["score", "max_score", "cordoned"])),
    ("/workspacemanagerbridge.ClusterService/Deregister", to_cluster(&["force"])),
    ("/workspacemanagerbridge.ClusterService/List", Entry::Reads),
];
