//! Checks the content of an initializer: paths below `/workspace` that do not conflict, and sources that the programs
//! that fetch them read as intended.

use super::{Problems, git};
use domain::git::check_web;
use domain::layout::Layout;
use domain::{image, path, snapshot_name};
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{
    FileDownloadInitializer, GitInitializer, SnapshotInitializer, WorkspaceInitializer,
};

/// Checks an initializer and everything it is composed of.
pub(super) fn check(problems: &mut Problems, field: &str, initializer: &WorkspaceInitializer) {
    let mut check = Check { problems, layout: Layout::default(), restored: None };
    check.initializer(field, initializer);
    let Check { problems, layout, .. } = check;
    for overlap in layout.overlaps() {
        problems.add(overlap.field, overlap.why);
    }
}

struct Check<'a> {
    problems: &'a mut Problems,
    layout: Layout,
    /// The field that restores the whole of `/workspace`.
    restored: Option<String>,
}

impl Check<'_> {
    fn initializer(&mut self, field: &str, initializer: &WorkspaceInitializer) {
        match &initializer.spec {
            Some(Spec::Git(git)) => self.git(&format!("{field}.git"), git),
            Some(Spec::Snapshot(from)) => {
                let field = format!("{field}.snapshot.snapshot");
                if from.snapshot.is_empty() {
                    self.problems.add(field, "is required");
                } else {
                    self.snapshot(field, from);
                }
            }
            Some(Spec::Prebuild(prebuild)) => {
                // Without a snapshot, the repositories are cloned.
                if let Some(from) = prebuild.prebuild.as_ref().filter(|from| !from.snapshot.is_empty()) {
                    self.snapshot(format!("{field}.prebuild.prebuild.snapshot"), from);
                }
                for (at, git) in prebuild.git.iter().enumerate() {
                    self.git(&format!("{field}.prebuild.git[{at}]"), git);
                }
            }
            Some(Spec::Composite(composite)) => {
                // prost limits nesting, so the recursion ends.
                for (at, child) in composite.initializer.iter().enumerate() {
                    self.initializer(&format!("{field}.composite.initializer[{at}]"), child);
                }
            }
            Some(Spec::Download(files)) => self.download(&format!("{field}.download"), files),
            Some(Spec::Backup(backup)) => {
                let field = format!("{field}.backup.checkout_location");
                self.problems.check(&*field, path::check_folder(&backup.checkout_location));
                self.restores(field);
            }
            Some(Spec::Empty(_)) => {}
            None => self.problems.add(field, "must say what to initialise from"),
        }
    }

    fn git(&mut self, field: &str, git: &GitInitializer) {
        git::check(self.problems, field, git);
        if path::check_folder(&git.checkout_location).is_ok() {
            self.layout.repository(&git.checkout_location, format!("{field}.checkout_location"));
        }
    }

    fn snapshot(&mut self, field: String, from: &SnapshotInitializer) {
        self.problems.check(&*field, snapshot_name::check(&from.snapshot));
        self.restores(field);
    }

    /// Each restore replaces everything: of two, one would be lost, and node agents use only the last.
    fn restores(&mut self, field: String) {
        match &self.restored {
            None => self.restored = Some(field),
            Some(first) => {
                self.problems.add(field, format_args!("restores all of /workspace, as {first} does"));
            }
        }
    }

    fn download(&mut self, field: &str, download: &FileDownloadInitializer) {
        let folder = &download.target_location;
        let checked = path::check_folder(folder);
        self.problems.check(format!("{field}.target_location"), checked);
        for (at, file) in download.files.iter().enumerate() {
            let field = format!("{field}.files[{at}]");
            self.problems.check(format!("{field}.url"), check_web(&file.url));
            let path = path::check_file_in(folder, &file.file_path);
            self.problems.check(format!("{field}.file_path"), path);
            if checked.and(path).is_ok() {
                self.layout.file(folder, &file.file_path, format!("{field}.file_path"));
            }
            if !file.digest.is_empty() {
                self.problems.check(format!("{field}.digest"), image::check_digest(&file.digest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::contentservice::{
        CompositeInitializer, EmptyInitializer, FromBackupInitializer, GitAuthMethod,
        GitAuthMethod::{BasicAuth, BasicAuthOts, NoAuth},
        GitConfig, PrebuildInitializer,
        file_download_initializer::FileInfo,
    };

    fn fields(spec: Spec) -> Vec<String> {
        let mut problems = Problems::default();
        check(&mut problems, "i", &WorkspaceInitializer { spec: Some(spec) });
        problems.fields()
    }

    fn git(change: impl FnOnce(&mut GitInitializer)) -> GitInitializer {
        let mut git = GitInitializer { remote_uri: "https://example.org/a.git".into(), ..Default::default() };
        change(&mut git);
        git
    }

    #[test]
    fn content_stays_below_the_workspace_wherever_it_comes_from() {
        let out = || git(|git| git.checkout_location = "../a".into());
        assert_eq!(fields(Spec::Git(out())), ["i.git.checkout_location"]);
        let prebuild = PrebuildInitializer { prebuild: None, git: vec![git(|_| {}), out()] };
        assert_eq!(fields(Spec::Prebuild(prebuild.clone())), ["i.prebuild.git[1].checkout_location"]);
        let nested =
            |spec| CompositeInitializer { initializer: vec![WorkspaceInitializer { spec: Some(spec) }] };
        assert_eq!(
            fields(Spec::Composite(nested(Spec::Composite(nested(Spec::Prebuild(prebuild)))))),
            ["i.composite.initializer[0].composite.initializer[0].prebuild.git[1].checkout_location"]
        );
        let backup = FromBackupInitializer { checkout_location: "/etc".into(), ..Default::default() };
        assert_eq!(fields(Spec::Backup(backup)), ["i.backup.checkout_location"]);
        let file = |url: &str, file_path: &str, digest: &str| FileInfo {
            url: url.into(),
            file_path: file_path.into(),
            digest: digest.into(),
        };
        let download = FileDownloadInitializer {
            files: vec![
                file("https://example.org/a?b=~~", "a/b", ""),
                file("file:///etc/passwd", "/a", "sha256:00"),
            ],
            target_location: "..".into(),
        };
        assert_eq!(
            fields(Spec::Download(download)),
            [
                "i.download.target_location",
                "i.download.files[1].url",
                "i.download.files[1].file_path",
                "i.download.files[1].digest"
            ]
        );
    }

    #[test]
    fn a_target_is_named_where_the_mode_needs_one() {
        let with = |mode, target: &str| {
            fields(Spec::Git(git(|git| (git.target_mode, git.clone_taget) = (mode, target.to_owned()))))
        };
        assert!(with(0, "").is_empty() && with(1, "0123abc").is_empty() && with(3, "main").is_empty());
        assert_eq!(with(2, ""), ["i.git.clone_taget"]);
        assert_eq!(with(9, "a"), ["i.git.target_mode"]);
    }

    fn part(spec: Spec) -> WorkspaceInitializer {
        WorkspaceInitializer { spec: Some(spec) }
    }

    fn all(parts: Vec<Spec>) -> Spec {
        Spec::Composite(CompositeInitializer { initializer: parts.into_iter().map(part).collect() })
    }

    fn at(folder: &str) -> GitInitializer {
        git(|git| git.checkout_location = folder.into())
    }

    fn files(folder: &str, names: &[&str]) -> Spec {
        let file = |name: &&str| FileInfo {
            url: "https://example.org/a".into(),
            file_path: (*name).into(),
            ..Default::default()
        };
        let files = names.iter().map(file).collect();
        Spec::Download(FileDownloadInitializer { files, target_location: folder.into() })
    }

    #[test]
    fn two_parts_never_take_one_place_whatever_composes_them() {
        assert!(
            fields(all(vec![Spec::Git(at("")), Spec::Git(at("a")), files("a", &["f", "g/h"])])).is_empty()
        );
        let nested = all(vec![Spec::Git(at("a")), all(vec![Spec::Git(at("/workspace/a"))])]);
        let inner = "i.composite.initializer[1].composite.initializer[0].git.checkout_location";
        assert_eq!(fields(nested), [inner]);
        let prebuild = PrebuildInitializer { prebuild: None, git: vec![at(""), at("."), at("b")] };
        assert_eq!(fields(Spec::Prebuild(prebuild)), ["i.prebuild.git[1].checkout_location"]);
        assert_eq!(fields(files("", &["f", "./f"])), ["i.download.files[1].file_path"]);
        assert_eq!(fields(files("a", &["f", "f/g"])), ["i.download.files[1].file_path"]);
        let two = all(vec![files("a/b", &["f"]), files("/workspace/a", &["b/f"])]);
        assert_eq!(fields(two), ["i.composite.initializer[1].download.files[0].file_path"]);
        let inside = all(vec![files("a", &["f"]), Spec::Git(at("a/f/g"))]);
        assert_eq!(fields(inside), ["i.composite.initializer[1].git.checkout_location"]);
        assert_eq!(fields(files(".gitpod", &["ready"])), ["i.download.files[0].file_path"]);
    }

    #[test]
    fn the_workspace_is_restored_from_one_place() {
        let snapshot = || {
            Spec::Snapshot(SnapshotInitializer {
                snapshot: "workspaces/a/s.tar@bucket".into(),
                ..Default::default()
            })
        };
        let backup = || Spec::Backup(FromBackupInitializer::default());
        assert!(fields(all(vec![snapshot(), Spec::Git(at("a"))])).is_empty());
        assert_eq!(
            fields(all(vec![snapshot(), all(vec![backup()])])),
            ["i.composite.initializer[1].composite.initializer[0].backup.checkout_location"]
        );
    }

    #[test]
    fn a_snapshot_is_named_as_it_was_taken() {
        let named = |name: &str| SnapshotInitializer { snapshot: name.into(), ..Default::default() };
        let field = ["i.snapshot.snapshot"];
        for bad in ["", "a b", "../x", "a\n", "https://user:password@host/x"] {
            assert_eq!(fields(Spec::Snapshot(named(bad))), field, "{bad}");
        }
        let prebuilt = |name| PrebuildInitializer { prebuild: Some(named(name)), git: vec![at("")] };
        assert!(fields(Spec::Prebuild(prebuilt("workspaces/a/s.tar@bucket"))).is_empty());
        assert!(fields(Spec::Prebuild(prebuilt(""))).is_empty(), "then the repositories are cloned");
        assert_eq!(fields(Spec::Prebuild(prebuilt("../x"))), ["i.prebuild.prebuild.snapshot"]);
    }

    #[test]
    fn every_part_says_what_it_is_made_of_under_its_own_field() {
        let none = CompositeInitializer {
            initializer: vec![part(Spec::Empty(EmptyInitializer {})), WorkspaceInitializer::default()],
        };
        assert_eq!(fields(Spec::Composite(none)), ["i.composite.initializer[1]"]);
        let prebuild = PrebuildInitializer { prebuild: None, git: vec![GitInitializer::default()] };
        assert_eq!(fields(Spec::Prebuild(prebuild)), ["i.prebuild.git[0].remote_uri"]);
    }

    #[test]
    fn logins_are_what_http_can_carry() {
        let with = |method: GitAuthMethod, user: &str, password: &str, ots: &str| {
            let config = GitConfig {
                authentication: method.into(),
                auth_user: user.into(),
                auth_password: password.into(),
                auth_ots: ots.into(),
                ..Default::default()
            };
            fields(Spec::Git(git(|git| git.config = Some(config))))
        };
        assert!(with(BasicAuth, "jane", &"p".repeat(8192), "").is_empty());
        assert!(with(BasicAuth, "oauth2", "päss wörd$@:/", "not looked at").is_empty());
        assert!(with(BasicAuthOts, "", "", "https://ots.example/get/1?t=2#3").is_empty());
        for ots in
            ["", "ots", "ftp://h/a", "https://", "https:///a", "https://h/a b", "http:h", "https://h\n/a"]
        {
            assert_eq!(with(BasicAuthOts, "", "", ots), ["i.git.config.auth_ots"], "{ots:?}");
        }
        for bad in ["a\nb", "a\r", "a\tb", "a\0", "\u{1b}[31m", "\u{85}", &"x".repeat(8193)] {
            assert_eq!(with(BasicAuth, bad, "", ""), ["i.git.config.auth_user"], "{bad:?}");
            assert_eq!(with(NoAuth, "", bad, ""), ["i.git.config.auth_password"], "{bad:?}");
        }
        assert_eq!(with(BasicAuth, "jane:doe", "", ""), ["i.git.config.auth_user"]);
        for login in ["jane:a%0Ab", "ja%0Dne", "jane%3Adoe:a", "a:%7f"] {
            let remote = git(|git| git.remote_uri = format!("https://{login}@example.org/"));
            assert_eq!(fields(Spec::Git(remote)), ["i.git.remote_uri"], "{login}");
        }
        let large = GitConfig {
            custom_config: [("user.name".to_owned(), "x".repeat(64 * 1024 + 1))].into(),
            ..Default::default()
        };
        assert_eq!(fields(Spec::Git(git(|git| git.config = Some(large)))), ["i.git.config.custom_config"]);
    }
}
