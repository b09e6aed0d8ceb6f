//! Configuration file of the CLI: contexts, each of which says how to reach one installation. It names files and holds
//! no secrets.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;
use tokio::time::Instant;

use super::context::{ConfigFile, Context, ContextName};
use super::edit;
use crate::address::Address;
use crate::cluster::fields::{Fields, Problems, documents, kind, unless_wrong};
use crate::failure::Usage;
use crate::input::{self, Patience};
use crate::table::clean;
use domain::duration::GoDuration;
use domain::kubeconfig::encoding;

/// Between tries to get the lock that another process holds.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Symbolic links that are followed, as many as Linux follows.
const MOST_LINKS: usize = 40;

impl ConfigFile {
    /// Reads the file; a missing file has no contexts. Relative paths in it start at its folder.
    pub fn read(path: &Path, patience: Patience) -> Result<Self> {
        Self::text(path, patience)?.map_or_else(|| Ok(Self::default()), |text| Self::parse(&text, path))
    }

    /// The text of the file, if it exists.
    fn text(path: &Path, patience: Patience) -> Result<Option<String>> {
        let bytes = match input::read(path, input::CONFIG, patience) {
            Err(input::Error::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            content => content?.bytes,
        };
        encoding::decode(&bytes).map(Some).map_err(|rule| anyhow!("{} {rule}", path.display()))
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut problems = Problems::default();
        let config = match documents(text, path)?.as_slice() {
            [] | [Value::Null] => return Ok(Self::default()),
            [document] => parse(document, input::folder(path), &mut problems),
            _ => bail!("{} holds more than one document", path.display()),
        };
        unless_wrong(config, problems.into_vec(), path)
    }

    /// A context by its name.
    pub fn context(&self, name: &ContextName, path: &Path) -> Result<&Context> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<_> = self.contexts.keys().map(ToString::to_string).collect();
            let known = if names.is_empty() { "no contexts".to_owned() } else { names.join(", ") };
            Usage(format!("{} has no context {name}; it has {known}", path.display())).into()
        })
    }

    /// Reads, changes and writes the file under a lock. Only what changes is rewritten.
    pub fn change<T>(
        path: &Path,
        patience: Patience,
        change: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        // Keep a symbolic link; replace or create what it points to.
        let target = fs::canonicalize(path).or_else(|_| target(path))?;
        let folder =
            target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("failed to create the folder {}", folder.display()))?;
        let _lock = lock(folder, patience)?;
        let text = Self::text(path, patience)?;
        let old = text.as_deref().map_or_else(|| Ok(Self::default()), |text| Self::parse(text, path))?;
        let mut new = old.clone();
        let result = change(&mut new)?;
        if new != old {
            let text = match text {
                Some(text) => new.edited(&text, &old, path)?,
                None => new.to_yaml()?,
            };
            write(&text, &target, folder).with_context(|| format!("failed to write {}", target.display()))?;
        }
        Ok(result)
    }

    /// Edits the text; fails unless the result parses as `self`.
    fn edited(&self, text: &str, old: &Self, path: &Path) -> Result<String> {
        let edited = edit::apply(text, old, self);
        edited.filter(|text| Self::parse(text, path).is_ok_and(|read| read == *self)).ok_or_else(|| {
            anyhow!(
                "{} was not changed: it is written in a form that only an editor can change without loss; change it by hand, \
                 or write each key on a line of its own",
                path.display()
            )
        })
    }

    /// As YAML.
    pub fn to_yaml(&self) -> Result<String> {
        Ok(serde_saphyr::to_string(self)?)
    }
}

/// The file that a symbolic link leads to, which need not exist; the path itself if it is no link.
fn target(path: &Path) -> Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return Ok(target),
        }
    }
    bail!("{} is a symbolic link that leads to itself", path.display())
}

/// Replaces a file atomically.
fn write(text: &str, path: &Path, folder: &Path) -> io::Result<()> {
    let new = folder.join(format!(".config.{}.new", std::process::id()));
    // Left by a process that died.
    let _ = fs::remove_file(&new);
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    let written = opened.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&new, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&new);
    }
    renamed
}

/// Locks a folder against other processes that change the file, until dropped.
fn lock(folder: &Path, patience: Patience) -> Result<File> {
    let failed = || format!("failed to lock {}", folder.display());
    let file = File::open(folder).with_context(failed)?;
    let deadline = Instant::now() + patience.0;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
            Err(TryLockError::WouldBlock) => {
                ensure!(Instant::now() < deadline, "another process holds the lock of {}", folder.display());
                std::thread::sleep(LOCK_PAUSE);
            }
        }
    }
}

fn parse(document: &Value, folder: &Path, problems: &mut Problems) -> ConfigFile {
    let mut fields = Fields::of(document, String::new(), problems);
    let current = fields.typed("currentContext", problems);
    let mut contexts = BTreeMap::new();
    for (name, value) in fields.mapping("contexts", problems) {
        let path = format!("contexts.{}", clean(&name));
        match name.parse() {
            Ok(name) => {
                contexts.insert(name, context(value, path, folder, problems));
            }
            Err(rule) => problems.add(&path, format_args!("the name {rule}")),
        }
    }
    fields.finish(problems);
    ConfigFile { current_context: current, contexts }
}

fn context(value: &Value, path: String, folder: &Path, problems: &mut Problems) -> Context {
    let mut fields = Fields::of(value, path, problems);
    let mut endpoints = Vec::new();
    let path = fields.path_of("endpoints");
    for (at, value) in fields.list("endpoints", problems).iter().enumerate() {
        let path = format!("{path}[{at}]");
        match value.as_str() {
            Some(text) => match text.parse::<Address>() {
                Ok(address) => endpoints.push(address),
                Err(rule) => problems.add(&path, rule),
            },
            None => problems.add(&path, format_args!("must be a text, not {}", kind(value))),
        }
    }
    let mut file = |name: &'static str| {
        let text = fields.text(name, problems).filter(|text| !text.is_empty())?;
        if text.contains('\n') {
            problems.add(&fields.path_of(name), "must be the path of a file, not what the file holds");
            return None;
        }
        Some(folder.join(text))
    };
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    let server_name = fields.text("serverName", problems).filter(|name| !name.is_empty());
    let path = fields.path_of("timeout");
    let timeout: Option<GoDuration> = fields.typed("timeout", problems);
    if timeout.is_some_and(|timeout| timeout <= GoDuration::ZERO) {
        problems.add(&path, "must be above zero");
    }
    fields.finish(problems);
    Context { endpoints, ca, cert, key, server_name, timeout }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(path: &Path) -> Result<ConfigFile> {
        ConfigFile::read(path, Patience::default())
    }

    fn change<T>(path: &Path, change: impl FnOnce(&mut ConfigFile) -> Result<T>) -> Result<T> {
        ConfigFile::change(path, Patience::default(), change)
    }

    fn write(folder: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = folder.path().join("config.yaml");
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn everything_that_is_wrong_is_named_by_its_path_and_nothing_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let text = "currentContext: 'a b'\nextra: 1\ncontexts:\n  eu:\n    endpont: x\n    endpoints: [http://10.0.0.1, 3]\n    \
                    key: \"-----BEGIN\\nhunter2\"\n    timeout: 0s\n    server-name: x\n  us: hunter2\n";
        let error = format!("{:#}", read(&write(&folder, text)).unwrap_err());
        for part in [
            "config.yaml has 9 problems:",
            "currentContext: must be 1 to 253",
            "extra: is no known key; known are currentContext, contexts",
            "contexts.eu.endpont: is no known key",
            "contexts.eu.endpoints[0]: \"http://10.0.0.1\" is not on this machine",
            "contexts.eu.endpoints[1]: must be a text, not a number",
            "contexts.eu.key: must be the path of a file",
            "contexts.eu.timeout: must be above zero",
            "contexts.eu.server-name: is no known key",
            "contexts.us: must be a mapping, not a text",
        ] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
        for (broken, expected) in [
            ("contexts: [", "config.yaml is neither YAML nor JSON (line "),
            ("contexts: {a: {}, a: {}}", "config.yaml has a key twice (line 1, column "),
        ] {
            let error = read(&write(&folder, broken)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let large = "#".repeat((1 << 20) + 1);
        assert!(read(&write(&folder, &large)).unwrap_err().to_string().contains("larger than 1 MiB"));
    }

    #[test]
    fn a_missing_or_empty_file_has_no_contexts() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join("none")).unwrap(), ConfigFile::default());
        assert_eq!(read(&write(&folder, "# nothing\n")).unwrap(), ConfigFile::default());
    }

    #[test]
    fn a_change_is_written_whole_for_the_user_alone_and_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("dotfiles/real.yaml"), folder.path().join("config.yaml"));
        fs::create_dir(folder.path().join("dotfiles")).unwrap();
        fs::write(&real, "contexts: {}\n").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let name: ContextName = "eu/admin@1".parse().unwrap();
        let context = Context {
            endpoints: vec!["https://eu.example:8080".parse().unwrap()],
            ca: Some("/ca.crt".into()),
            timeout: Some(GoDuration::from_secs(90)),
            ..Context::default()
        };
        change(&link, |config| {
            config.contexts.insert(name.clone(), context.clone());
            config.current_context = Some(name.clone());
            Ok(())
        })
        .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("dotfiles")).unwrap().count(), 1);
        let linked = read(&link).unwrap();
        assert_eq!((linked.current_context.as_ref(), &linked.contexts[&name]), (Some(&name), &context));
        assert!(!linked.to_yaml().unwrap().contains("null"));

        let nested = folder.path().join("new/folder/config.yaml");
        change(&nested, |_| Ok(())).unwrap();
        let made = fs::metadata(folder.path().join("new/folder")).unwrap().permissions().mode();
        assert_eq!(made & 0o777, 0o700);
        assert!(change(&nested, |_| -> Result<()> { bail!("no") }).is_err());
        assert_eq!(read(&nested).unwrap(), ConfigFile::default());
    }

    #[test]
    fn a_link_to_a_file_that_does_not_exist_stays_and_its_target_is_created() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("middle", path("config.yaml")).unwrap();
        std::os::unix::fs::symlink("dotfiles/real.yaml", path("middle")).unwrap();
        let choose = |path: &Path| {
            change(path, |config| {
                config.current_context = Some(name("eu"));
                Ok(())
            })
        };
        choose(&path("config.yaml")).unwrap();
        assert!(fs::symlink_metadata(path("config.yaml")).unwrap().is_symlink());
        assert_eq!(
            fs::read_to_string(path("dotfiles/real.yaml")).unwrap(),
            "currentContext: eu\ncontexts: {}\n"
        );
        assert_eq!(read(&path("config.yaml")).unwrap().current_context, Some(name("eu")));
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        let error = choose(&path("loop")).unwrap_err().to_string();
        assert!(error.ends_with("loop is a symbolic link that leads to itself"), "{error}");
    }

    #[test]
    fn a_file_in_utf_16_is_read_and_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let text = "currentContext: eu # größer\r\ncontexts: {}\r\n";
        // The encoding that PowerShell writes.
        let utf16: Vec<u8> =
            [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        fs::write(&path, utf16).unwrap();
        assert_eq!(read(&path).unwrap().current_context, Some(name("eu")));
        change(&path, |config| {
            config.current_context = Some(name("us"));
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text.replace("eu", "us"));
        fs::write(&path, b"caf\xe9").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.ends_with("config.yaml is neither UTF-8 nor UTF-16 text"), "{error}");
    }

    const BY_HAND: &str = "\
# My installations.
currentContext: eu   # where I work

contexts:
  # The old one.
  us:
    endpoints:
    - https://us-0.example
    - https://us-1.example
    ca: us/ca.crt  # relative
  'eu':
    timeout: 7s
    endpoints: [\"https://eu.example\"]
    ca: ca.crt

    cert: me.crt # mine
    key: me.key
# The end.
";

    /// The file after a change.
    fn changed(text: &str, work: impl FnOnce(&mut ConfigFile)) -> Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = write(&folder, text);
        change(&path, |config| {
            work(config);
            Ok(())
        })?;
        Ok(fs::read_to_string(&path).unwrap())
    }

    fn name(text: &str) -> ContextName {
        text.parse().unwrap()
    }

    #[test]
    fn a_change_leaves_comments_order_and_relative_paths_as_they_are() {
        let chosen = changed(BY_HAND, |config| config.current_context = Some(name("us"))).unwrap();
        assert_eq!(chosen, BY_HAND.replace("currentContext: eu ", "currentContext: us "));
        let none = changed(BY_HAND, |config| config.current_context = None).unwrap();
        assert_eq!(none, BY_HAND.replace("currentContext: eu   # where I work\n", ""));
        let again = changed(&none, |config| config.current_context = Some(name("eu"))).unwrap();
        assert_eq!(again, format!("{none}currentContext: eu\n"));
        let set = changed(BY_HAND, |config| {
            let us = config.contexts.get_mut(&name("us")).unwrap();
            us.endpoints = vec!["https://new.example:8080".parse().unwrap()];
            us.server_name = Some("a b".to_owned());
            let eu = config.contexts.get_mut(&name("eu")).unwrap();
            (eu.timeout, eu.cert) = (None, Some("/new/me.crt".into()));
        });
        let expected = BY_HAND
            .replace(
                "    endpoints:\n    - https://us-0.example\n    - https://us-1.example\n",
                "    endpoints: [https://new.example:8080]\n",
            )
            .replace("us/ca.crt  # relative\n", "us/ca.crt  # relative\n    serverName: \"a b\"\n")
            .replace("    timeout: 7s\n", "")
            .replace("cert: me.crt # mine", "cert: /new/me.crt # mine");
        assert_eq!(set.unwrap(), expected);
        let context =
            Context { endpoints: vec!["https://asia.example".parse().unwrap()], ..Context::default() };
        let added = changed(BY_HAND, |config| drop(config.contexts.insert(name("asia"), context.clone())));
        let asia = "    key: me.key\n  asia:\n    endpoints: [https://asia.example]\n";
        assert_eq!(added.unwrap(), BY_HAND.replace("    key: me.key\n", asia));
        let removed = changed(BY_HAND, |config| drop(config.contexts.remove(&name("eu")))).unwrap();
        assert!(
            removed.contains("ca: us/ca.crt  # relative\n# The end.") && removed.contains("# The old one.")
        );
        let empty = changed("contexts:\n  a: {}\n", |config| config.contexts.clear()).unwrap();
        assert_eq!(empty, "contexts: {}\n");
        let first = changed("# nothing yet\n", |config| drop(config.contexts.insert(name("a#b"), context)));
        let text = "# nothing yet\ncontexts:\n  \"a#b\":\n    endpoints: [https://asia.example]\n";
        assert_eq!(first.unwrap(), text);
    }

    #[test]
    fn other_forms_are_changed_without_loss_or_not_at_all() {
        let json = r#"{"currentContext": "eu", "contexts": {"us": {}, "eu": {"timeout": "3s", "endpoints": ["https://a"]}}}"#;
        let set = |config: &mut ConfigFile| {
            config.contexts.get_mut(&name("eu")).unwrap().server_name = Some("n".to_owned());
        };
        let expected = json.replace(r#"["https://a"]"#, r#"["https://a"], "serverName": "n""#);
        assert_eq!(changed(json, set).unwrap(), expected);
        let added = changed(json, |config| {
            config.contexts.remove(&name("eu"));
            config
                .contexts
                .insert(name("a"), Context { server_name: Some("n".to_owned()), ..Context::default() });
            config.current_context = None;
        });
        assert_eq!(added.unwrap(), r#"{"contexts": {"us": {}, "a": {"endpoints": [], "serverName": "n"}}}"#);
        for text in [
            "contexts:\n  eu: {endpoints: [https://a], ca: ca.crt} # mine\n",
            "contexts: {eu: {endpoints: [https://a]}}\n",
            "contexts:\n  eu: &eu\n    endpoints: [https://a]\n  us: *eu\n",
            "{contexts: {eu: {endpoints: [https://a]}}} # mine\n",
        ] {
            let error = changed(text, set).unwrap_err().to_string();
            assert!(error.contains("config.yaml was not changed"), "{text}: {error}");
        }
        let flow = "contexts:\n  eu: {endpoints: [https://a], ca: ca.crt} # mine\n";
        let chosen = changed(flow, |config| config.current_context = Some(name("eu"))).unwrap();
        assert_eq!(chosen, format!("{flow}currentContext: eu\n"));
        let windows = changed("currentContext: a\r\ncontexts: {}\r\n", |config| {
            config.current_context = Some(name("b"));
        });
        assert_eq!(windows.unwrap(), "currentContext: b\r\ncontexts: {}\r\n");
        assert_eq!(changed(BY_HAND, |_| ()).unwrap(), BY_HAND);
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let add = |n: usize| {
            let name: ContextName = format!("c{n}").parse().unwrap();
            change(&path, |config| Ok(config.contexts.insert(name, Context::default()))).unwrap();
        };
        std::thread::scope(|scope| {
            for n in 0..8 {
                scope.spawn(move || add(n));
            }
        });
        assert_eq!(read(&path).unwrap().contexts.len(), 8);
    }
}
