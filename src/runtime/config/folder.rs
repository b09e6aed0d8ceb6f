//! Reads all files below one folder, so that naming one of them later does not access the file system.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;

/// Bytes of one file.
const FILE: usize = 256 * 1024;
/// Bytes of all files.
const ALL: usize = 16 * 1024 * 1024;
/// Files and folders in all.
const ENTRIES: usize = 1_000;
/// Nesting of folders.
const DEPTH: usize = 8;

/// Files below a folder by relative path: the content, or why it cannot be used.
pub type Files = BTreeMap<PathBuf, Result<String, String>>;

/// Reads all files below a folder. Symbolic links are followed within the folder, because Kubernetes mounts files with them.
/// Names that begin with a dot are skipped.
pub fn read(folder: &Path) -> io::Result<Files> {
    let root = fs::canonicalize(folder)?;
    let mut walk = Walk { root, files: Files::new(), entries: 0, bytes: 0 };
    walk.folder(&walk.root.clone(), Path::new(""), 0)?;
    Ok(walk.files)
}

struct Walk {
    root: PathBuf,
    files: Files,
    entries: usize,
    bytes: usize,
}

impl Walk {
    fn folder(&mut self, folder: &Path, below: &Path, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES {
                return Err(too_much(format!("holds more than {ENTRIES} files and folders")));
            }
            let name = below.join(entry.file_name());
            // The target of a link must be below the folder.
            let real = match fs::canonicalize(entry.path()) {
                Ok(real) if real.starts_with(&self.root) => real,
                Ok(_) => {
                    self.files.insert(name, Err("leads out of the folder".to_owned()));
                    continue;
                }
                Err(error) => {
                    self.files.insert(name, Err(error.to_string()));
                    continue;
                }
            };
            if !real.is_dir() {
                self.file(&real, name)?;
            } else if depth < DEPTH {
                self.folder(&real, &name, depth + 1)?;
            } else {
                return Err(too_much(format!("nests more than {DEPTH} folders")));
            }
        }
        Ok(())
    }

    fn file(&mut self, real: &Path, name: PathBuf) -> io::Result<()> {
        let content = files::read_text(real, FILE).map_err(|error| error.to_string());
        self.bytes += content.as_ref().map_or(0, String::len);
        if self.bytes > ALL {
            return Err(too_much(format!("holds more than {} MiB", ALL >> 20)));
        }
        self.files.insert(name, content);
        Ok(())
    }
}

fn too_much(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_read_by_their_path_and_what_is_no_file_or_leads_out_is_not() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("templates");
        fs::create_dir_all(root.join("large")).unwrap();
        fs::write(outer.path().join("key"), "secret").unwrap();
        fs::write(root.join("pod.yaml"), "pod").unwrap();
        fs::write(root.join("large/pod.yaml"), "large").unwrap();
        fs::write(root.join("too-large"), vec![b'x'; FILE + 1]).unwrap();
        symlink("../key", root.join("out")).unwrap();
        symlink("nowhere", root.join("broken")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap().success());
        let files = read(&root).unwrap();
        let of = |name: &str| files[Path::new(name)].as_ref().map(String::as_str).map_err(String::as_str);
        assert_eq!((of("pod.yaml"), of("large/pod.yaml")), (Ok("pod"), Ok("large")));
        assert_eq!(of("fifo"), Err("is not a regular file"));
        assert_eq!(of("out"), Err("leads out of the folder"));
        assert_eq!(of("too-large"), Err("is larger than 262144 bytes"));
        assert!(of("broken").is_err());
    }

    #[test]
    fn files_are_found_as_kubernetes_mounts_them() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("..2026_11_29/sub")).unwrap();
        fs::write(root.path().join("..2026_11_29/pod.yaml"), "pod").unwrap();
        fs::write(root.path().join("..2026_11_29/sub/pod.yaml"), "below").unwrap();
        symlink("..2026_11_29", root.path().join("..data")).unwrap();
        symlink("..data/pod.yaml", root.path().join("pod.yaml")).unwrap();
        symlink("..data/sub", root.path().join("sub")).unwrap();
        let files = read(root.path()).unwrap();
        let names: Vec<_> = files.keys().map(|name| name.to_string_lossy()).collect();
        assert_eq!(names, ["pod.yaml", "sub/pod.yaml"]);
    }

    #[test]
    fn a_folder_with_a_link_cycle_or_too_many_files_is_rejected() {
        let root = tempfile::tempdir().unwrap();
        symlink(".", root.path().join("loop")).unwrap();
        assert_eq!(read(root.path()).unwrap_err().to_string(), "nests more than 8 folders");
        let root = tempfile::tempdir().unwrap();
        for n in 0..=ENTRIES {
            fs::write(root.path().join(n.to_string()), "").unwrap();
        }
        assert_eq!(read(root.path()).unwrap_err().to_string(), "holds more than 1000 files and folders");
    }
}
