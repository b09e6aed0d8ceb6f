//! The file by which programs in the workspace see that its content is complete.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::protocol::{Failure, Metric, Outcome, Source};
use super::root::WORKSPACE;

#[derive(Serialize)]
struct Ready<'a> {
    source: Source,
    metrics: &'a [Metric],
}

/// Writes `.gitpod/ready`: complete or not at all, and by a rename, which programs in the workspace wait for.
pub(super) fn write(source: Source, metrics: &[Metric]) -> Result<Outcome, Failure> {
    place(Path::new(WORKSPACE), source, metrics)
        .map(|()| Outcome::Done)
        .map_err(|error| Failure::platform(format!(".gitpod/ready cannot be written: {error}")))
}

fn place(root: &Path, source: Source, metrics: &[Metric]) -> io::Result<()> {
    let folder = root.join(".gitpod");
    make_folder(root, &folder)?;
    let (temporary, ready) = (folder.join("ready.tmp"), folder.join("ready"));
    // Whatever a repository or an archive has there.
    for old in [&temporary, &ready] {
        remove(old)?;
    }
    let mut file = File::create_new(&temporary)?;
    file.write_all(&serde_json::to_vec(&Ready { source, metrics })?)?;
    file.sync_all()?;
    fs::rename(&temporary, &ready)
}

/// `.gitpod` as a folder. A file of this name, which repositories have, moves to `.gitpod.yaml`, or goes if that exists. A link
/// goes.
fn make_folder(root: &Path, folder: &Path) -> io::Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(found) => {
            let aside = root.join(".gitpod.yaml");
            if found.is_file() && fs::symlink_metadata(&aside).is_err() {
                fs::rename(folder, aside)?;
            } else {
                fs::remove_file(folder)?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::create_dir(folder)
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric() -> Metric {
        Metric { kind: "git".into(), duration: 1_500_000_000, size: 42 }
    }

    #[test]
    fn it_has_the_words_of_existing_agents() {
        let root = tempfile::tempdir().unwrap();
        place(root.path(), Source::FromPrebuild, &[metric()]).unwrap();
        let text = fs::read_to_string(root.path().join(".gitpod/ready")).unwrap();
        assert_eq!(
            text,
            r#"{"source":"from-prebuild","metrics":[{"type":"git","duration":1500000000,"size":42}]}"#
        );
        place(root.path(), Source::FromOther, &[]).unwrap();
        let text = fs::read_to_string(root.path().join(".gitpod/ready")).unwrap();
        assert_eq!(text, r#"{"source":"from-other","metrics":[]}"#);
        assert!(!root.path().join(".gitpod/ready.tmp").exists());
    }

    #[test]
    fn it_is_never_written_through_what_content_has_in_its_place() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(other.path(), root.path().join(".gitpod")).unwrap();
        place(root.path(), Source::FromOther, &[]).unwrap();
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
        fs::remove_dir_all(root.path().join(".gitpod")).unwrap();
        fs::write(root.path().join(".gitpod"), "tasks: []").unwrap();
        place(root.path(), Source::FromOther, &[]).unwrap();
        assert_eq!(fs::read_to_string(root.path().join(".gitpod.yaml")).unwrap(), "tasks: []");
        fs::remove_file(root.path().join(".gitpod/ready")).unwrap();
        fs::create_dir_all(root.path().join(".gitpod/ready/a")).unwrap();
        place(root.path(), Source::FromOther, &[]).unwrap();
        assert!(root.path().join(".gitpod/ready").is_file());
    }
}
