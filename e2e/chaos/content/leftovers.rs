//! What a run left in the bucket and on the nodes: every object is accounted for, and nothing is on a disk that nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::ground::BUCKET;
use super::ledger::Taken;

/// Objects of a bucket: key, size, and of heads their content.
#[derive(Debug, Default)]
pub struct Objects(pub BTreeMap<String, (u64, Option<Value>)>);

impl Objects {
    /// Of the folder of a bucket.
    pub fn read(bucket: &Path) -> Result<Self> {
        let mut objects = Self::default();
        objects.folder(bucket, bucket)?;
        Ok(objects)
    }

    fn folder(&mut self, bucket: &Path, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            let key = path.strip_prefix(bucket)?.to_string_lossy().into_owned();
            // The server's own: uploads that are not complete.
            if key.starts_with(".sgwtmp") {
                continue;
            }
            if path.is_dir() {
                self.folder(bucket, &path)?;
                continue;
            }
            let head = key.contains("/heads/").then(|| fs::read(&path)).transpose()?;
            let head = head.and_then(|text| serde_json::from_slice(&text).ok());
            self.0.insert(key, (fs::metadata(&path)?.len(), head));
        }
        Ok(())
    }

    /// Objects that nothing names, and names of what is not there.
    pub fn unaccounted(&self, snapshots: &BTreeMap<String, Taken>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut named = BTreeSet::new();
        for (key, (_, head)) in self.0.iter().filter(|(key, _)| key.contains("/heads/")) {
            let owner = key.split('/').next().unwrap_or_default();
            let Some(head) = head else {
                problems.push(format!("head {key} cannot be read"));
                continue;
            };
            let archive = format!("{owner}/{}", head["archive"].as_str().unwrap_or_default());
            match self.0.get(&archive) {
                None => problems.push(format!("head {key} names {archive}, which is not there")),
                Some((size, _)) if head["size"] != *size => {
                    problems
                        .push(format!("head {key} says {} bytes of {archive}, it has {size}", head["size"]));
                }
                Some(_) => {}
            }
            named.insert(archive);
        }
        for (url, taken) in snapshots {
            let key = url.split('@').next().unwrap_or_default();
            if taken.is_complete && !self.0.contains_key(key) {
                problems.push(format!("snapshot {url} is complete and not there"));
            }
            named.insert(key.to_owned());
        }
        let unknown = self.0.keys().filter(|key| !key.contains("/heads/") && !named.contains(*key));
        problems.extend(unknown.map(|key| format!("nothing names object {key}")));
        problems
    }
}

/// Uploads in parts that were neither completed nor aborted: their folders and whether they have parts. Not those that the server
/// was completing when it was killed: it renames them first, and no request reaches them any more.
pub fn open_uploads(bucket: &Path) -> Vec<(String, bool)> {
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let objects = folders(&bucket.join(".sgwtmp/multipart"));
    let is_open = |upload: &std::path::PathBuf| !upload.to_string_lossy().ends_with(".inprogress");
    let uploads = objects.iter().flat_map(|object| folders(object)).filter(is_open);
    uploads
        .map(|upload| {
            let has_parts = fs::read_dir(&upload).into_iter().flatten().flatten().next().is_some();
            (upload.display().to_string(), has_parts)
        })
        .collect()
}

/// Sets the time of everything directly in a folder back, as housekeeping spares what is young.
pub fn age(folder: &Path) -> Result<()> {
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(48);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = fs::File::open(entry.path())?;
        file.set_modified(long_ago).with_context(|| format!("{}", entry.path().display()))?;
    }
    Ok(())
}

/// What is in the folder of the workspaces of a node, once nothing runs there, beyond what belongs there: the kept folder of each
/// workspace with its record, the agent's lock and reserve, and what is left of an instance whose abort the agent did not see.
pub fn on_disk(root: &Path, aborted: &BTreeSet<String>) -> Vec<String> {
    let names = |below: &str| {
        let entries = fs::read_dir(root.join(below)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let is_aborted = |name: &str| {
        let instance = name.split('.').next().unwrap_or_default();
        aborted.contains(instance.strip_suffix("-daemon").unwrap_or(instance))
    };
    let mut left = Vec::new();
    for name in names("") {
        if name != ".spaceport" && !is_aborted(&name) {
            left.push(name);
        }
    }
    for name in names(".spaceport") {
        if !["state", "kept", "trash", "aside", "volumes", "lock", "reserve"].contains(&name.as_str()) {
            left.push(format!(".spaceport/{name}"));
        }
    }
    for name in names(".spaceport/state") {
        if name != "kept" && name != "snapshots" && !is_aborted(&name) {
            left.push(format!(".spaceport/state/{name}"));
        }
    }
    for folder in [".spaceport/state/snapshots", ".spaceport/trash", ".spaceport/aside", ".spaceport/volumes"]
    {
        left.extend(names(folder).iter().map(|name| format!("{folder}/{name}")));
    }
    for owner in names(".spaceport/kept") {
        for workspace in names(&format!(".spaceport/kept/{owner}")) {
            if !root.join(format!(".spaceport/state/kept/{owner}/{workspace}.json")).exists() {
                left.push(format!(".spaceport/kept/{owner}/{workspace} without a record"));
            }
        }
    }
    left
}

/// Fails with everything of a list.
pub fn nothing(what: &str, list: &[String]) -> Result<()> {
    ensure!(list.is_empty(), "{what}: {}", list.join("; "));
    Ok(())
}

/// The folder of the bucket.
pub fn bucket(server: &crate::harness::S3Server) -> std::path::PathBuf {
    server.object(BUCKET, "")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::harness::Listing;

    fn objects(list: &[(&str, Option<Value>)]) -> Objects {
        Objects(list.iter().map(|(key, head)| ((*key).to_owned(), (4, head.clone()))).collect())
    }

    fn snapshot(url: &str, is_complete: bool) -> BTreeMap<String, Taken> {
        let taken = Taken { content: Listing::read(""), is_complete, is_restored: false };
        BTreeMap::from([(url.to_owned(), taken)])
    }

    #[test]
    fn every_object_has_a_name_and_every_name_an_object() {
        let head = |size| Some(json!({ "archive": "workspaces/w/archives/1", "size": size }));
        let (archive, named) = (("u/workspaces/w/archives/1", None), "u/workspaces/w/heads/1");
        let none = BTreeMap::new();
        assert!(objects(&[archive.clone(), (named, head(4))]).unaccounted(&none).is_empty());
        for bad in [
            vec![archive.clone()],
            vec![(named, head(4))],
            vec![archive.clone(), (named, head(5))],
            vec![archive.clone(), (named, None)],
            vec![("u/workspaces/w/snapshot-1.tar.zst", None)],
            vec![("u/other", None)],
        ] {
            assert!(!objects(&bad).unaccounted(&none).is_empty(), "{bad:?}");
        }
        let key = "u/workspaces/w/snapshot-1.tar.zst";
        let url = format!("{key}@content");
        assert!(objects(&[(key, None)]).unaccounted(&snapshot(&url, false)).is_empty());
        assert!(objects(&[]).unaccounted(&snapshot(&url, false)).is_empty());
        assert_eq!(objects(&[]).unaccounted(&snapshot(&url, true)).len(), 1);
    }

    #[test]
    fn an_upload_is_open_unless_the_server_died_while_it_completed_it() {
        let root = tempfile::tempdir().unwrap();
        let uploads = root.path().join(".sgwtmp/multipart/object");
        for part in ["one/1", "two.abc-2.inprogress/1"] {
            fs::create_dir_all(uploads.join(part)).unwrap();
        }
        fs::create_dir_all(uploads.join("three")).unwrap();
        let mut open = open_uploads(root.path());
        open.sort();
        let has_parts: Vec<_> = open.into_iter().map(|(_, has_parts)| has_parts).collect();
        assert_eq!(has_parts, [true, false]);
    }

    #[test]
    fn what_does_not_belong_on_a_disk_is_listed() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        for fine in ["lock", "reserve", "state/kept/u/w.json", "kept/u/w/file"] {
            make(&format!(".spaceport/{fine}"));
        }
        let none = BTreeSet::new();
        assert!(on_disk(root.path(), &none).is_empty());
        for bad in ["w-1/file", ".spaceport/state/w-1.json", ".spaceport/trash/x", ".spaceport/kept/u/v/file"]
        {
            make(bad);
        }
        assert_eq!(on_disk(root.path(), &none).len(), 4);
        make("w-1-daemon/file");
        assert_eq!(on_disk(root.path(), &BTreeSet::from(["w-1".to_owned()])).len(), 2);
    }
}
