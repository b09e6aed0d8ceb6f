//! Detects changed files by content. Timestamps are not sufficient: tools swap symbolic links and preserve times.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ring::digest;
use serde_json::Value;

use super::folder;
use crate::files;

type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

/// Files and their fingerprints at the last check.
#[derive(Debug)]
pub struct Follower {
    main: PathBuf,
    seen: BTreeMap<PathBuf, Option<Fingerprint>>,
    /// A folder with the fingerprint of the files below it.
    folder: Option<(PathBuf, Option<Fingerprint>)>,
}

impl Follower {
    /// Follows one file. Create it before the file is read.
    pub fn new(main: &Path) -> Self {
        let seen = BTreeMap::from([(main.to_owned(), of_file(main))]);
        Self { main: main.to_owned(), seen, folder: None }
    }

    /// The file that is always followed.
    pub fn main(&self) -> &Path {
        &self.main
    }

    /// Follows these files in addition to the main one; replaces earlier ones.
    pub fn also(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut before = std::mem::take(&mut self.seen);
        for file in files.into_iter().chain([self.main.clone()]) {
            let known = before.remove(&file).unwrap_or_else(|| of_file(&file));
            self.seen.insert(file, known);
        }
    }

    /// Follows all files below a folder; replaces the earlier folder.
    pub fn below(&mut self, folder: Option<&Path>) {
        let known = self.folder.take().filter(|(known, _)| Some(known.as_path()) == folder);
        self.folder = known.or_else(|| folder.map(|folder| (folder.to_owned(), of_folder(folder))));
    }

    /// Whether any file changed, appeared or was removed since the last check.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for (file, seen) in &mut self.seen {
            let now = of_file(file);
            changed |= *seen != now;
            *seen = now;
        }
        if let Some((folder, seen)) = &mut self.folder {
            let now = of_folder(folder);
            changed |= *seen != now;
            *seen = now;
        }
        changed
    }
}

/// A part of a group that counts as a separate group, because it is reloaded separately.
pub const RATE_LIMITS: &str = "rpcServer.ratelimits";

/// Fingerprints of a document's groups, without the content, which may contain keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Groups(BTreeMap<String, Fingerprint>);

impl Groups {
    pub(super) fn of(document: &Value) -> Self {
        let mut groups = document.as_object().cloned().unwrap_or_default();
        let server = groups.get_mut("rpcServer").and_then(Value::as_object_mut);
        if let Some(limits) = server.and_then(|server| server.remove("ratelimits")) {
            groups.insert(RATE_LIMITS.to_owned(), limits);
        }
        Self(groups.into_iter().map(|(name, group)| (name, of(group.to_string().as_bytes()))).collect())
    }

    /// Names of the groups that differ.
    pub fn differing<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.0.keys().chain(other.0.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| self.0.get(*name) != other.0.get(*name));
        names
    }
}

fn of_file(file: &Path) -> Option<Fingerprint> {
    files::read(file, files::LARGEST).ok().map(|content| of(&content))
}

fn of_folder(folder: &Path) -> Option<Fingerprint> {
    let mut context = digest::Context::new(&digest::SHA256);
    for (name, content) in folder::read(folder).ok()? {
        let content = content.unwrap_or_else(|problem| problem);
        for part in [name.as_os_str().as_encoded_bytes(), content.as_bytes()] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
    }
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(context.finish().as_ref());
    Some(fingerprint)
}

fn of(content: &[u8]) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_detected_once_and_a_rewrite_of_the_same_content_never() {
        let folder = tempfile::tempdir().unwrap();
        let (main, template) = (folder.path().join("config.json"), folder.path().join("pod.yaml"));
        fs::write(&main, "one").unwrap();
        let mut follower = Follower::new(&main);
        assert!(!follower.changed());
        fs::write(&main, "one").unwrap();
        assert!(!follower.changed());
        fs::write(&main, "two").unwrap();
        assert_eq!((follower.changed(), follower.changed()), (true, false));
        follower.also([template.clone()]);
        assert!(!follower.changed());
        fs::write(&template, "pod").unwrap();
        assert_eq!((follower.changed(), follower.changed()), (true, false));
        fs::remove_file(&main).unwrap();
        assert_eq!((follower.changed(), follower.changed()), (true, false));
        follower.also([]);
        fs::write(&template, "another").unwrap();
        assert!(!follower.changed(), "it is not followed any more");
        let below = folder.path().join("templates");
        fs::create_dir(&below).unwrap();
        follower.below(Some(&below));
        assert!(!follower.changed());
        fs::write(below.join("pod.yaml"), "pod").unwrap();
        assert_eq!((follower.changed(), follower.changed()), (true, false));
        follower.below(Some(&below));
        fs::remove_file(below.join("pod.yaml")).unwrap();
        assert_eq!((follower.changed(), follower.changed()), (true, false));
    }

    #[test]
    fn groups_differ_by_what_is_in_them_and_whether_they_are_there() {
        let of = |document: &Value| Groups::of(document);
        let old = of(&json!({ "manager": { "a": 1 }, "etcd": { "b": 1, "c": 2 }, "content": {} }));
        let new = of(&json!({ "manager": { "a": 2 }, "etcd": { "c": 2, "b": 1 }, "health": {} }));
        assert_eq!(old.differing(&new), ["content", "health", "manager"]);
        assert!(old.differing(&old).is_empty());
    }

    #[test]
    fn rate_limits_differ_apart_from_the_rest_of_their_server() {
        let of = |limits: &Value| Groups::of(&json!({ "rpcServer": { "addr": ":1", "ratelimits": limits } }));
        assert_eq!(of(&json!({})).differing(&of(&json!({ "a": 1 }))), [RATE_LIMITS]);
        let moved = Groups::of(&json!({ "rpcServer": { "addr": ":2", "ratelimits": {} } }));
        assert_eq!(of(&json!({})).differing(&moved), ["rpcServer"]);
    }
}
