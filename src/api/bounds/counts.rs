//! Limit of elements of each repeated field of a request. A map is a repeated field of its entries.

/// For a repeated field without an entry below. A test rejects such fields; this covers a mistake.
pub(super) const OTHERWISE: u32 = 100;

/// Limits by message and field. All elements of the field in one request count together, at any depth and across any
/// number of messages of the kind.
///
/// Each limit is well above what existing clients send, and low enough that a request full of empty elements costs less
/// than its own bytes.
pub(super) const COUNTS: &[(&str, u32)] = &[
    ("builder.BuildRegistryAuth.additional", 1_000),
    ("builder.BuildRegistryAuthSelective.any_of", 1_000),
    ("contentservice.CompositeInitializer.initializer", 100),
    ("contentservice.FileDownloadInitializer.files", 1_000),
    ("contentservice.GitConfig.custom_config", 1_000),
    ("contentservice.PrebuildInitializer.git", 100),
    ("google.protobuf.FieldMask.paths", 1_000),
    ("spaceport.v1.AdoptRequest.manager_namespaces", 100),
    ("spaceport.v1.AdoptRequest.workspaces", 10_000),
    ("spaceport.v1.ChangeDrainRequest.workspaces", 10_000),
    ("spaceport.v1.ClusterSpec.admission_constraints", 100),
    ("spaceport.v1.ClusterSpec.labels", 1_000),
    ("spaceport.v1.ClusterSpec.namespaces", 200),
    ("spaceport.v1.DiscardRequest.workspaces", 10_000),
    ("spaceport.v1.ForecastPlacementRequest.weights", 1_000),
    ("spaceport.v1.ForecastPlacementRequest.without", 1_000),
    ("spaceport.v1.InstallRequest.namespaces", 200),
    ("spaceport.v1.NamespaceSpec.allowed_secrets", 1_000),
    ("spaceport.v1.NamespaceSpec.classes", 1_000),
    ("spaceport.v1.UpdateRequest.add_constraints", 100),
    ("spaceport.v1.UpdateRequest.remove_constraints", 100),
    ("workspacemanagerbridge.RegisterRequest.admission_constraints", 100),
    ("wsman.MetadataFilter.annotations", 100),
    ("wsman.Placement.cluster_labels", 100),
    ("wsman.Placement.permissions", 1_000),
    ("wsman.Placement.regions", 100),
    ("wsman.StartWorkspaceSpec.envvars", 4_000),
    ("wsman.StartWorkspaceSpec.feature_flags", 100),
    ("wsman.StartWorkspaceSpec.ide_image_layers", 100),
    ("wsman.StartWorkspaceSpec.ports", 1_000),
    ("wsman.StartWorkspaceSpec.ssh_public_keys", 1_000),
    ("wsman.StartWorkspaceSpec.sys_envvars", 4_000),
    ("wsman.UpdateSSHKeyRequest.keys", 1_000),
    ("wsman.WorkspaceMetadata.annotations", 4_000),
];
