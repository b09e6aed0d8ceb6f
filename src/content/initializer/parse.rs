//! From the bytes in the resource to a plan.

use std::collections::BTreeMap;

use domain::git as rules;
use domain::layout::Layout;
use domain::secret::Secret;
use domain::{image, path, snapshot_name};
use prost::Message;
use proto::contentservice::workspace_initializer::Spec;
use proto::contentservice::{
    CloneTargetMode, FileDownloadInitializer, GitAuthMethod, GitConfig, GitInitializer, PrebuildInitializer,
    SnapshotInitializer, WorkspaceInitializer,
};

use super::error::Error;
use super::plan::{
    Auth, Digest, Download, Folder, Git, Login, Object, Plan, Prebuild, RemoteFile, Step, Target,
};

/// Replaces a secret: this, then the key in the Secret.
const REFERENCE: &str = "extracted-secret/";
/// Bytes of an encoded initializer; a resource holds less.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Steps of a plan, and repositories of a prebuild.
const STEPS_MAX: usize = 512;
/// Files of a download.
const FILES_MAX: usize = 4096;

/// The plan of an encoded initializer, with the secrets that its references name.
pub fn parse(encoded: &[u8], secrets: &BTreeMap<String, Secret<String>>) -> Result<Plan, Error> {
    if encoded.len() > BYTES_MAX {
        return Err(Error::Undecodable(format!("it has {} bytes, more than {BYTES_MAX}", encoded.len())));
    }
    let initializer = WorkspaceInitializer::decode(encoded).map_err(|e| Error::Undecodable(e.to_string()))?;
    let is_composite = matches!(initializer.spec, Some(Spec::Composite(_)));
    let mut parse = Parse { secrets, steps: Vec::new(), layout: Layout::default() };
    parse.initializer("initializer", initializer)?;
    let Parse { steps, layout, .. } = parse;
    if let Some(overlap) = layout.overlaps().into_iter().next() {
        return Err(Error::Refused { field: overlap.field, why: overlap.why });
    }
    let (steps, superseded) = keep_the_last_restore(steps);
    Ok(Plan { steps, is_composite, superseded })
}

/// Every restore replaces all of `/workspace`, so of several only the last one is left.
fn keep_the_last_restore(steps: Vec<(String, Step)>) -> (Vec<Step>, Vec<String>) {
    let restores = |step: &Step| match step {
        Step::Snapshot(_) => true,
        Step::Prebuild(prebuild) => prebuild.snapshot.is_some(),
        _ => false,
    };
    let last = steps.iter().rposition(|(_, step)| restores(step));
    let (mut kept, mut superseded) = (Vec::new(), Vec::new());
    for (at, (field, step)) in steps.into_iter().enumerate() {
        if restores(&step) && Some(at) != last {
            superseded.push(field);
        } else {
            kept.push(step);
        }
    }
    (kept, superseded)
}

fn refused(field: &str, why: impl Into<String>) -> Error {
    Error::Refused { field: field.to_owned(), why: why.into() }
}

fn check(field: &str, result: Result<(), &'static str>) -> Result<(), Error> {
    result.map_err(|why| refused(field, why))
}

/// Settings of a repository by their keys.
type Settings = Vec<(String, Secret<String>)>;

struct Parse<'a> {
    secrets: &'a BTreeMap<String, Secret<String>>,
    /// With the field of each.
    steps: Vec<(String, Step)>,
    layout: Layout,
}

impl Parse<'_> {
    /// Recurses as deep as messages nest, which prost limits to 100.
    fn initializer(&mut self, field: &str, initializer: WorkspaceInitializer) -> Result<(), Error> {
        let Some(spec) = initializer.spec else {
            return Err(refused(field, "must say what to initialise from"));
        };
        let (field, step) = match spec {
            Spec::Empty(_) => (format!("{field}.empty"), Step::Empty),
            Spec::Git(git) => {
                let field = format!("{field}.git");
                let git = self.git(&field, git)?;
                (field, Step::Git(Box::new(git)))
            }
            Spec::Snapshot(from) => {
                let field = format!("{field}.snapshot.snapshot");
                let object = object(&field, &from)?.ok_or_else(|| refused(&field, "is required"))?;
                (field, Step::Snapshot(object))
            }
            Spec::Prebuild(prebuild) => {
                let field = format!("{field}.prebuild");
                let prebuild = self.prebuild(&field, prebuild)?;
                (field, Step::Prebuild(prebuild))
            }
            Spec::Composite(composite) => {
                for (at, child) in composite.initializer.into_iter().enumerate() {
                    self.initializer(&format!("{field}.composite.initializer[{at}]"), child)?;
                }
                return Ok(());
            }
            Spec::Download(download) => {
                let field = format!("{field}.download");
                let download = self.download(&field, download)?;
                (field, Step::Download(download))
            }
            Spec::Backup(backup) => {
                let field = format!("{field}.backup");
                let folder = folder(&format!("{field}.checkout_location"), &backup.checkout_location)?;
                (field, Step::Backup(folder))
            }
        };
        if self.steps.len() >= STEPS_MAX {
            return Err(refused(&field, format!("is one of more than {STEPS_MAX} steps")));
        }
        self.steps.push((field, step));
        Ok(())
    }

    fn prebuild(&mut self, field: &str, prebuild: PrebuildInitializer) -> Result<Prebuild, Error> {
        let named = format!("{field}.prebuild.snapshot");
        let snapshot = prebuild.prebuild.map(|from| object(&named, &from)).transpose()?.flatten();
        if prebuild.git.len() > STEPS_MAX {
            return Err(refused(&format!("{field}.git"), format!("has more than {STEPS_MAX} elements")));
        }
        let repositories = prebuild.git.into_iter().enumerate();
        let git = repositories.map(|(at, git)| self.git(&format!("{field}.git[{at}]"), git));
        Ok(Prebuild { snapshot, git: git.collect::<Result<_, _>>()? })
    }

    fn git(&mut self, field: &str, git: GitInitializer) -> Result<Git, Error> {
        let at = |name: &str| format!("{field}.{name}");
        let (remote, remote_login) = self.remote(&at("remote_uri"), git.remote_uri)?;
        let remote = remote.ok_or_else(|| refused(&at("remote_uri"), "is required"))?;
        let (upstream, upstream_login) = self.remote(&at("upstream_Remote_uri"), git.upstream_remote_uri)?;
        let target = target(field, git.target_mode, git.clone_taget)?;
        let folder = folder(&at("checkout_location"), &git.checkout_location)?;
        self.layout.repository(folder.as_str(), at("checkout_location"));
        let (auth, config) = self.config(&at("config"), git.config.unwrap_or_default())?;
        Ok(Git {
            field: field.to_owned(),
            remote,
            upstream,
            target,
            folder,
            config,
            auth,
            remote_login,
            upstream_login,
            is_full: git.full_clone,
        })
    }

    /// The address of a remote, and the login that was in it.
    fn remote(&self, field: &str, address: String) -> Result<(Option<String>, Option<Login>), Error> {
        if address.is_empty() {
            return Ok((None, None));
        }
        let address = self.resolve(field, address)?.into_exposed();
        check(field, rules::check_remote(&address))?;
        Ok(match rules::login(&address) {
            Some(login) => {
                let parts = Login { user: login.user.into(), password: login.password.into() };
                (Some(login.url), Some(parts))
            }
            // Another scheme, whose password git would store in the repository and print.
            None if rules::has_login(&address) => {
                return Err(refused(field, "must not hold a password, except for http and https"));
            }
            None => (Some(address), None),
        })
    }

    fn config(&self, field: &str, config: GitConfig) -> Result<(Auth, Settings), Error> {
        let mut settings = Vec::new();
        let setting = format!("{field}.custom_config");
        for (key, value) in config.custom_config {
            // Existing agents trim both.
            let key = key.trim();
            check(&setting, rules::check_setting(key))?;
            let value = self.resolve(&setting, value)?.map(|value| value.trim().to_owned());
            if value.expose().len() > rules::SETTING_MAX {
                return Err(refused(&setting, "must have values of at most 65536 bytes"));
            }
            if value.expose().contains('\0') {
                return Err(refused(&setting, "must have values without NUL"));
            }
            settings.push((key.to_owned(), value));
        }
        let method = GitAuthMethod::try_from(config.authentication);
        let method =
            method.map_err(|_| refused(&format!("{field}.authentication"), "is not a known method"))?;
        let login = (config.auth_user, config.auth_password);
        Ok((self.auth(field, method, login, config.auth_ots)?, settings))
    }

    fn auth(
        &self,
        field: &str,
        method: GitAuthMethod,
        (user, password): (String, String),
        url: String,
    ) -> Result<Auth, Error> {
        let at = |name: &str| format!("{field}.{name}");
        match method {
            GitAuthMethod::NoAuth => Ok(Auth::None),
            GitAuthMethod::BasicAuth => {
                let user = self.resolve(&at("auth_user"), user)?;
                let password = self.resolve(&at("auth_password"), password)?;
                check(&at("auth_user"), rules::check_login(user.expose()))?;
                check(&at("auth_password"), rules::check_login(password.expose()))?;
                if user.expose().contains(':') {
                    let why = "must not contain a colon, which ends the user in HTTP";
                    return Err(refused(&at("auth_user"), why));
                }
                Ok(Auth::Basic(Login { user, password }))
            }
            GitAuthMethod::BasicAuthOts => {
                let url = self.resolve(&at("auth_ots"), url)?;
                check(&at("auth_ots"), rules::check_web(url.expose()))?;
                Ok(Auth::OneTime(url))
            }
        }
    }

    fn download(&mut self, field: &str, download: FileDownloadInitializer) -> Result<Download, Error> {
        let target = format!("{field}.target_location");
        let below = folder(&target, &download.target_location)?;
        if download.files.len() > FILES_MAX {
            return Err(refused(&format!("{field}.files"), format!("has more than {FILES_MAX} elements")));
        }
        let mut files = Vec::new();
        for (at, file) in download.files.into_iter().enumerate() {
            let field = format!("{field}.files[{at}]");
            let named = |name: &str| format!("{field}.{name}");
            let url = self.resolve(&named("url"), file.url)?;
            check(&named("url"), rules::check_web(url.expose()))?;
            let checked = path::check_file_in(below.as_str(), &file.file_path);
            check(&named("file_path"), checked)?;
            self.layout.file(below.as_str(), &file.file_path, named("file_path"));
            let digest =
                (!file.digest.is_empty()).then(|| digest(&named("digest"), &file.digest)).transpose()?;
            let below = path::names(below.as_str()) + &path::names(&file.file_path);
            let path = below.trim_end_matches('/').to_owned();
            files.push(RemoteFile { field, url, path, digest });
        }
        Ok(Download { files })
    }

    /// The secret that a field refers to, or the field itself.
    fn resolve(&self, field: &str, text: String) -> Result<Secret<String>, Error> {
        let Some(key) = text.strip_prefix(REFERENCE) else { return Ok(text.into()) };
        let missing = || Error::SecretMissing { field: field.to_owned(), key: key.to_owned() };
        self.secrets.get(key).cloned().ok_or_else(missing)
    }
}

fn folder(field: &str, path: &str) -> Result<Folder, Error> {
    check(field, path::check_folder(path))?;
    Ok(Folder::of_checked(path))
}

/// `None` if the name is empty.
fn object(field: &str, from: &SnapshotInitializer) -> Result<Option<Object>, Error> {
    if from.snapshot.is_empty() {
        return Ok(None);
    }
    check(field, snapshot_name::check(&from.snapshot))?;
    let (object, bucket) = from.snapshot.split_once('@').unwrap_or((&from.snapshot, ""));
    Ok(Some(Object { name: from.snapshot.clone(), object: object.to_owned(), bucket: bucket.to_owned() }))
}

fn digest(field: &str, text: &str) -> Result<Digest, Error> {
    check(field, image::check_digest(text))?;
    let (algorithm, hex) = text.split_once(':').unwrap_or((text, ""));
    Ok(Digest { algorithm: algorithm.to_owned(), hex: hex.to_owned() })
}

fn target(field: &str, mode: i32, name: String) -> Result<Target, Error> {
    let mode = CloneTargetMode::try_from(mode)
        .map_err(|_| refused(&format!("{field}.target_mode"), "is not a known mode"))?;
    let field = format!("{field}.clone_taget");
    if mode == CloneTargetMode::RemoteHead {
        return Ok(Target::RemoteHead);
    }
    if name.is_empty() {
        return Err(refused(&field, "is required by the target mode"));
    }
    check(&field, rules::check_revision(&name))?;
    Ok(match mode {
        CloneTargetMode::RemoteHead => Target::RemoteHead,
        CloneTargetMode::RemoteCommit => Target::Commit(name),
        CloneTargetMode::RemoteBranch => Target::RemoteBranch(name),
        CloneTargetMode::LocalBranch => Target::LocalBranch(name),
    })
}
