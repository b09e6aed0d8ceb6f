//! Brings the working copies of a restored prebuild to their targets.
//!
//! The settings in them are those of whoever ran the prebuild. While git runs here, with the network and a login, they hold only
//! what is inert; the others are put back at the end.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::protocol::{Failure, Outcome, Repository};
use super::super::settings::Settings;
use super::clone::{realize, submodules};
use super::program::Program;
use super::settings::{Setting, parse, text};

/// Repositories of submodules that are prepared; more are not updated.
const MODULES_MAX: usize = 1024;
/// Submodules within each other.
const DEPTH_MAX: usize = 16;

/// Updates repositories. What does not exist in the prebuild is left out, as in existing agents.
pub(in crate::helper) fn update(
    repositories: &[Repository],
    settings: &Settings,
) -> Result<Outcome, Failure> {
    let (mut head_changed, mut warnings) = (false, Vec::new());
    for repository in repositories {
        let program = Program::of(repository, settings)?;
        if !program.is_working_copy() {
            warnings.push(format!(
                "{}: the prebuild has no working copy in {:?}",
                repository.field, repository.folder
            ));
            continue;
        }
        let mut quiet = Quiet::default();
        let result =
            quiet.enter(&program, repository).and_then(|()| update_one(&program, repository, &mut warnings));
        let left = quiet.leave().map_err(|error| {
            Failure::platform(format!("{}: the settings cannot be put back: {error}", repository.field))
        });
        head_changed |= result?;
        left?;
    }
    Ok(Outcome::Updated { head_changed, warnings })
}

/// Whether HEAD is at another commit than before.
fn update_one(
    program: &Program<'_>,
    repository: &Repository,
    warnings: &mut Vec<String>,
) -> Result<bool, Failure> {
    let commit = || program.line(&["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]);
    let latest_stash = || program.line(&["rev-parse", "--quiet", "--verify", "refs/stash"]);
    let before = commit()?;
    // git looks into submodules from here on.
    if let Err(why) = check_modules(program) {
        warnings.push(format!("{}: the prebuild is not updated: the submodule {why}", repository.field));
        return Ok(false);
    }
    let stash = latest_stash()?;
    // Without a commit there is nothing to stash upon.
    if before.is_some() {
        program.run(&["stash", "push", "--include-untracked", "--quiet"])?;
    }
    let has_stashed = latest_stash()? != stash;
    let is_shallow = program.line(&["rev-parse", "--is-shallow-repository"])?.as_deref() == Some("true");
    realize(program, repository, is_shallow)?;
    // The target may have other submodules.
    if let Err(why) = check_modules(program) {
        let field = &repository.field;
        warnings.push(format!(
            "{field}: submodules are not updated, and changes stay in the stash: the submodule {why}"
        ));
        return Ok(commit()? != before);
    }
    submodules(program, is_shallow, warnings);
    // On a conflict the changes stay in the stash.
    if has_stashed && !program.succeeds(&["stash", "pop", "--quiet"])? {
        warnings
            .push(format!("{}: changes of the prebuild conflict, and stay in the stash", repository.field));
        program.run(&["reset", "--hard", "--quiet"])?;
    }
    Ok(commit()? != before)
}

/// Configuration files with only inert settings in them, and what was taken out.
#[derive(Default)]
struct Quiet {
    taken: Vec<(PathBuf, Vec<Setting>)>,
}

impl Quiet {
    /// Makes the settings of a working copy and of its submodules inert, and names the remote of the request.
    fn enter(&mut self, program: &Program<'_>, repository: &Repository) -> Result<(), Failure> {
        let folder = program.folder().join(".git");
        let failed = |error: io::Error| {
            Failure::user(format!(
                "{}: the settings in the prebuild cannot be read: {error}",
                repository.field
            ))
        };
        let result = self.file(program, &folder.join("config"), Some(&repository.remote));
        result.map_err(|error| error.unwrap_or_else(failed))?;
        for config in module_configs(&folder.join("modules")).map_err(failed)? {
            self.file(program, &config, None).map_err(|error| error.unwrap_or_else(failed))?;
        }
        Ok(())
    }

    /// Rewrites one file. A link becomes a file: what it names is not the repository's.
    fn file(&mut self, program: &Program<'_>, path: &Path, remote: Option<&str>) -> Result<(), Broken> {
        let is_file = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
        let list = if is_file {
            let name = path.to_str().ok_or_else(|| io::Error::other("its path is not UTF-8"))?;
            program.answer(&["config", "--no-includes", "--file", name, "--list", "-z"])?.text
        } else {
            String::new()
        };
        let is_origin = |setting: &Setting| remote.is_some() && setting.key == "remote.origin.url";
        let (mut kept, taken): (Vec<_>, Vec<_>) =
            parse(&list).into_iter().filter(|setting| !is_origin(setting)).partition(Setting::is_inert);
        kept.extend(remote.map(|url| Setting::new("remote.origin.url", url)));
        if fs::symlink_metadata(path).is_ok() {
            fs::remove_file(path)?;
        }
        fs::write(path, text(&kept))?;
        self.taken.push((path.to_path_buf(), taken));
        Ok(())
    }

    /// Puts the settings back that were taken out.
    fn leave(&mut self) -> io::Result<()> {
        for (path, taken) in self.taken.drain(..) {
            if !taken.is_empty() {
                let now = fs::read_to_string(&path)?;
                fs::write(&path, now + &text(&taken))?;
            }
        }
        Ok(())
    }
}

/// Whether git finds the settings of all submodules where [`Quiet::enter`] made them inert.
fn check_modules(program: &Program<'_>) -> Result<(), String> {
    let top = fs::canonicalize(program.folder()).map_err(|error| error.to_string())?;
    let mut left = VecDeque::from([(PathBuf::new(), 0)]);
    let mut seen = 0;
    while let Some((folder, depth)) = left.pop_front() {
        for path in gitlinks(program, &folder)? {
            seen += 1;
            if seen > MODULES_MAX || depth >= DEPTH_MAX {
                return Err("is one of too many".to_owned());
            }
            let path = folder.join(path);
            if has_repository(&top, &path)? {
                left.push_back((path, depth + 1));
            }
        }
    }
    Ok(())
}

/// A failure of git, or of a file.
enum Broken {
    Git(Failure),
    File(io::Error),
}

impl Broken {
    fn unwrap_or_else(self, other: impl FnOnce(io::Error) -> Failure) -> Failure {
        match self {
            Self::Git(failure) => failure,
            Self::File(error) => other(error),
        }
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Git(failure)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

/// Files named `config` or `config.worktree` below the repositories of submodules; no link is followed.
fn module_configs(modules: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![(modules.to_path_buf(), 0)];
    while let Some((folder, depth)) = left.pop() {
        if !fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            // Of objects there are many, and no settings.
            if entry.file_type()?.is_dir() && name != "objects" && depth < 4 * DEPTH_MAX {
                left.push((entry.path(), depth + 1));
            } else if name == "config" {
                found.push(entry.path());
            }
            if found.len() > MODULES_MAX {
                return Err(io::Error::other("it has too many submodules"));
            }
        }
    }
    Ok(found)
}

/// Paths of the submodules that the index of a working copy names.
fn gitlinks(program: &Program<'_>, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let arguments = ["-C", folder.to_str().ok_or("a path is not UTF-8")?, "ls-files", "--stage", "-z"];
    let arguments = if folder.as_os_str().is_empty() { &arguments[2..] } else { &arguments[..] };
    let mut found = Vec::new();
    let result = program.each(program.command(arguments), arguments, 0, |record| {
        let text = String::from_utf8_lossy(record);
        if let Some((_, path)) = text.strip_prefix("160000 ").and_then(|rest| rest.split_once('\t')) {
            found.push(PathBuf::from(path));
        }
    });
    result.map_err(|failure| failure.message)?;
    Ok(found)
}

/// Whether a submodule has a repository, which then must be below `.git/modules` of the outermost working copy.
fn has_repository(top: &Path, path: &Path) -> Result<bool, String> {
    let named = |why: &str| format!("{} {why}", path.display());
    let folder = top.join(path);
    let Ok(found) = fs::symlink_metadata(folder.join(".git")) else { return Ok(false) };
    if !found.is_file() {
        return Err(named("has a repository of its own"));
    }
    let text = fs::read_to_string(folder.join(".git")).map_err(|error| named(&error.to_string()))?;
    let directory = text.trim_end().strip_prefix("gitdir: ").ok_or_else(|| named("has a broken .git"))?;
    let real = fs::canonicalize(folder.join(directory)).map_err(|error| named(&error.to_string()))?;
    let real_folder = fs::canonicalize(&folder).map_err(|error| named(&error.to_string()))?;
    if real.starts_with(top.join(".git/modules")) && real_folder == folder {
        Ok(true)
    } else {
        Err(named("has its repository elsewhere"))
    }
}
