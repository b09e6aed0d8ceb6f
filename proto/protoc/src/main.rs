//! Copies the vendored `protoc` and its includes to the folder in its argument.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let target: PathBuf = std::env::args_os().nth(1).ok_or("usage: protoc-unpack FOLDER")?.into();
    let protoc = protoc_bin_vendored::protoc_bin_path()?;
    let include = protoc_bin_vendored::include_path()?;
    fs::create_dir_all(target.join("bin"))?;
    copy_tree(&include, &target.join("include"))?;
    // Last, because make checks for its existence.
    fs::copy(protoc, target.join("bin/protoc"))?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
