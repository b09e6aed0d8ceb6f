//! Settings of a repository: which may be in force while git runs in the helper, and how they are written.

/// Settings that start no program, name no file and lead to no other server, by section.
const INERT: [(&str, &[&str]); 16] = [
    ("author", &[]),
    ("branch", &["remote", "merge", "rebase", "pushremote", "description", "vscode-merge-base"]),
    ("checkout", &["defaultremote", "workers"]),
    ("color", &[]),
    ("committer", &[]),
    (
        "core",
        &[
            "autocrlf",
            "bigfilethreshold",
            "compression",
            "eol",
            "filemode",
            "ignorecase",
            "logallrefupdates",
            "longpaths",
            "precomposeunicode",
            "quotepath",
            "repositoryformatversion",
            "safecrlf",
            "sharedrepository",
            "sparsecheckout",
            "sparsecheckoutcone",
            "symlinks",
            "untrackedcache",
        ],
    ),
    ("extensions", &["objectformat", "partialclone", "noop", "refstorage", "compatobjectformat"]),
    ("fetch", &["prune", "prunetags", "parallel", "writecommitgraph"]),
    ("http", &["extraheader", "postbuffer", "sslverify", "useragent", "version"]),
    ("index", &["threads", "version"]),
    ("init", &["defaultbranch"]),
    ("pack", &["threads", "windowmemory"]),
    ("pull", &["rebase", "ff"]),
    ("push", &["default", "autosetupremote", "followtags"]),
    ("remote", &["url", "fetch", "promisor", "partialclonefilter", "tagopt", "prune"]),
    ("user", &["name", "email"]),
];

/// One setting, `section.name` or `section.subsection.name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    /// Without one it is true.
    pub(super) value: Option<String>,
}

impl Setting {
    pub(super) fn new(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), value: Some(value.to_owned()) }
    }

    fn parts(&self) -> Option<(&str, Option<&str>, &str)> {
        let (section, rest) = self.key.split_once('.')?;
        Some(match rest.rsplit_once('.') {
            Some((subsection, name)) => (section, Some(subsection), name),
            None => (section, None, rest),
        })
    }

    /// Whether git may read it in the helper.
    pub(super) fn is_inert(&self) -> bool {
        let Some((section, subsection, name)) = self.parts() else { return false };
        let (section, name) = (section.to_ascii_lowercase(), name.to_ascii_lowercase());
        // Updates with a command are in force from here only.
        if section == "submodule" {
            return match (&*name, &self.value) {
                ("active" | "fetchjobs" | "branch", _) => true,
                ("url", Some(url)) => domain::git::check_remote(url).is_ok(),
                _ => false,
            };
        }
        if section == "remote" && name == "url" {
            return self.value.as_ref().is_some_and(|url| domain::git::check_remote(url).is_ok());
        }
        if section == "core" && name == "bare" {
            return self.value.as_deref() == Some("false");
        }
        // A helper would answer for this protocol.
        if section == "extensions" && subsection.is_some() {
            return false;
        }
        INERT.iter().any(|(known, names)| *known == section && (names.is_empty() || names.contains(&&*name)))
    }

    /// Adds it to the text of a configuration file.
    pub(super) fn write(&self, text: &mut String) {
        let Some((section, subsection, name)) = self.parts() else { return };
        match subsection {
            // git has no escape for these, so no file can hold them.
            Some(subsection) if subsection.contains(['\n', '\0']) => return,
            Some(subsection) => {
                let escaped = subsection.replace('\\', "\\\\").replace('"', "\\\"");
                text.extend(["[", section, " \"", &escaped, "\"]\n"]);
            }
            None => text.extend(["[", section, "]\n"]),
        }
        match &self.value {
            Some(value) => {
                let escaped = value
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n")
                    .replace('\t', "\\t");
                text.extend(["\t", name, " = \"", &escaped, "\"\n"]);
            }
            None => text.extend(["\t", name, "\n"]),
        }
    }
}

/// The text of a configuration file.
pub(super) fn text<'a>(settings: impl IntoIterator<Item = &'a Setting>) -> String {
    let mut text = String::new();
    settings.into_iter().for_each(|setting| setting.write(&mut text));
    text
}

/// Parses `git config --list -z`.
pub(super) fn parse(list: &str) -> Vec<Setting> {
    let entries = list.split('\0').filter(|entry| !entry.is_empty());
    entries
        .map(|entry| match entry.split_once('\n') {
            Some((key, value)) => Setting::new(key, value),
            None => Setting { key: entry.to_owned(), value: None },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn settings_that_run_programs_or_name_files_are_not_inert() {
        for (key, value) in [
            ("core.sshcommand", "touch /tmp/x"),
            ("core.fsmonitor", "touch /tmp/x"),
            ("core.hookspath", "hooks"),
            ("core.worktree", "/"),
            ("core.bare", "true"),
            ("core.gitproxy", "x"),
            ("core.editor", "x"),
            ("core.attributesfile", "/etc/shadow"),
            ("credential.helper", "!x"),
            ("credential.https://example.org.helper", "!x"),
            ("filter.lfs.clean", "x"),
            ("filter.lfs.process", "x"),
            ("merge.x.driver", "x"),
            ("diff.x.textconv", "x"),
            ("alias.fetch", "!x"),
            ("include.path", "/etc/shadow"),
            ("includeif.gitdir:/.path", "x"),
            ("remote.origin.uploadpack", "x"),
            ("remote.origin.vcs", "ext"),
            ("remote.origin.proxy", "x"),
            ("remote.origin.url", "ext::sh -c x"),
            ("remote.origin.url", "/etc"),
            ("submodule.a.update", "!x"),
            ("submodule.a.url", "file:///etc"),
            ("url.ext::sh.insteadof", "https://"),
            ("http.sslkey", "/etc/shadow"),
            ("http.cookiefile", "/etc/shadow"),
            ("http.proxy", "http://evil"),
            ("gpg.program", "x"),
            ("protocol.ext.allow", "always"),
            ("extensions.worktreeconfig", "true"),
            ("gc.recentobjectshook", "x"),
            ("nodots", "x"),
        ] {
            assert!(!Setting::new(key, value).is_inert(), "{key}");
        }
        for (key, value) in [
            ("core.repositoryformatversion", "0"),
            ("core.bare", "false"),
            ("core.autoCRLF", "input"),
            ("user.name", "Jane"),
            ("remote.origin.url", "https://example.org/a.git"),
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
            ("branch.feature/a.b.merge", "refs/heads/a.b"),
            ("http.https://example.org/.extraheader", "X: y"),
            ("submodule.a.active", "true"),
        ] {
            assert!(Setting::new(key, value).is_inert(), "{key}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// git reads back exactly what was written.
        #[test]
        fn written_settings_are_read_back_by_git(
            subsection in "[ -~ü]{0,12}", value in "[ -~\\n\\tü]{0,24}", is_set in any::<bool>()
        ) {
            let key = format!("test.{subsection}.name");
            let setting = Setting { key, value: is_set.then_some(value) };
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("config");
            std::fs::write(&file, text([&setting])).unwrap();
            let output = Command::new("git").args(["config", "--list", "-z", "--file"]).arg(&file).output().unwrap();
            prop_assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            prop_assert_eq!(parse(&String::from_utf8(output.stdout).unwrap()), vec![setting]);
        }
    }
}
