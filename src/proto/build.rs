//! Compiles every `.proto` below `proto/` and keeps the descriptors for server reflection.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Messages whose derived `Debug` would show a secret; `lib.rs` writes theirs. Without a leading dot, so that
/// nested messages keep the derived one.
const SECRET_MESSAGES: [&str; 24] = [
    "builder.BuildRegistryAuth",
    "builder.LogInfo",
    "contentservice.DownloadUrlResponse",
    "contentservice.GitConfig",
    "contentservice.LogDownloadURLResponse",
    "contentservice.UploadUrlResponse",
    "contentservice.WorkspaceDownloadURLResponse",
    "ideplugin.PluginDownloadURLResponse",
    "ideplugin.PluginUploadURLResponse",
    "spaceport.v1.DoctorRequest",
    "spaceport.v1.ExecCommand",
    "spaceport.v1.ExecRequest",
    "spaceport.v1.ExecResponse",
    "spaceport.v1.ForwardRequest",
    "spaceport.v1.ForwardResponse",
    "spaceport.v1.InstallRequest",
    "spaceport.v1.InstallResponse",
    "spaceport.v1.LogsResponse",
    "spaceport.v1.RegisterRequest",
    "spaceport.v1.UpdateRequest",
    "workspacemanagerbridge.TlsConfig",
    "wsman.EnvironmentVariable",
    "wsman.StartWorkspaceResponse",
    "wsman.WorkspaceAuthentication",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../proto");
    println!("cargo::rerun-if-changed=../../proto");
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let descriptors =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("spaceport.bin");
    tonic_prost_build::configure()
        .skip_debug(SECRET_MESSAGES)
        // Sorted, so that the same message always has the same encoding: the digest of a start depends on it.
        .btree_map(".")
        .file_descriptor_set_path(descriptors)
        .compile_protos(&files, &[root.to_path_buf()])?;
    compile_encoded(root)
}

/// Generates the server of the workspace API a second time, with the responses of `src/proto/encoded.rs` and the codec of
/// `src/proto/codec.rs`. All other messages are the ones generated before.
fn compile_encoded(root: &Path) -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("encoded");
    fs::create_dir_all(&folder)?;
    let mut build = tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::codec::Reserving")
        .out_dir(folder);
    for package in ["wsman", "contentservice"] {
        build = build.extern_path(format!(".{package}"), format!("crate::{package}"));
    }
    for answer in ["GetWorkspacesResponse", "SubscribeResponse"] {
        build = build.extern_path(format!(".wsman.{answer}"), format!("crate::encoded::{answer}"));
    }
    build.compile_protos(&[root.join("wsman/core.proto")], &[root.to_path_buf()])?;
    Ok(())
}

/// Adds the `.proto` files below `folder`, except in `proto/protoc`, which is a program.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path != Path::new("../../proto/protoc") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
