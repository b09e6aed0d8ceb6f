//! Clones a repository and checks out its target.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::super::files;
use super::super::ground::Paced;
use super::super::protocol::{Checkout, Failure, Outcome, Repository};
use super::super::settings::Settings;
use super::program::{Program, set_global};
use super::settings::{Setting, text};

/// Commits of a shallow clone whose target is a commit, as existing agents have it.
const DEPTH_OF_COMMIT: &str = "--depth=20";
const DEPTH: &str = "--depth=1";
const ORIGIN_HEAD: &str = "refs/remotes/origin/HEAD";

/// Clones a repository, unless its folder is a working copy already.
pub(in crate::helper) fn clone(repository: &Repository, settings: &Settings) -> Result<Outcome, Failure> {
    let program = Program::of(repository, settings)?;
    let field = &repository.field;
    let platform = |what: &str, error: &io::Error| Failure::platform(format!("{field}: {what}: {error}"));
    fs::create_dir_all(program.folder()).map_err(|error| platform("the folder cannot be created", &error))?;
    if program.is_working_copy() {
        return Ok(Outcome::Cloned { bytes: 0, cloned: false, warnings: Vec::new() });
    }
    let custom: Vec<Setting> =
        repository.config.iter().map(|(key, value)| Setting::new(key, &value.0)).collect();
    let inert = text(custom.iter().filter(|setting| setting.is_inert()));
    set_global(&inert).map_err(|error| platform("the settings cannot be prepared", &error))?;
    // Not `git clone`: the folder may have files already, and the settings must not be arguments.
    program.run(&["init", "--quiet", "--template="])?;
    let append = |settings: &[Setting]| {
        append(program.folder(), &text(settings))
            .map_err(|error| platform("the settings cannot be written", &error))
    };
    append(&remotes(repository))?;
    let mut warnings = Vec::new();
    realize(&program, repository, !repository.is_full)
        .map_err(|failure| keyless(&repository.remote, failure))?;
    if repository.upstream.is_some() {
        report("fetching upstream");
        let depth = (!repository.is_full).then_some(DEPTH);
        let upstream = repository.upstream.as_deref().unwrap_or_default();
        program.run(&fetch(depth, &["upstream"])).map_err(|failure| keyless(upstream, failure))?;
    }
    submodules(&program, !repository.is_full, &mut warnings);
    // After all runs: some of them name programs.
    append(&custom)?;
    Ok(Outcome::Cloned { bytes: files::size(program.folder()), cloned: true, warnings })
}

/// Says of a failure with an address of ssh that there are no keys.
fn keyless(url: &str, failure: Failure) -> Failure {
    let is_ssh = match url.split_once("://") {
        Some((scheme, _)) => scheme.contains("ssh"),
        None => url.contains(':'),
    };
    if !is_ssh {
        return failure;
    }
    let message = format!(
        "{}; there are no ssh keys here: use an https address, with a login if the repository is private",
        failure.message
    );
    Failure { message, ..failure }
}

fn remotes(repository: &Repository) -> Vec<Setting> {
    let all = [("origin", Some(&repository.remote)), ("upstream", repository.upstream.as_ref())];
    let settings = all.into_iter().filter_map(|(name, url)| {
        let heads = format!("+refs/heads/*:refs/remotes/{name}/*");
        let fetch = Setting::new(&format!("remote.{name}.fetch"), &heads);
        Some([Setting::new(&format!("remote.{name}.url"), url?), fetch])
    });
    settings.flatten().collect()
}

/// Appends to the configuration of a working copy.
pub(super) fn append(folder: &Path, text: &str) -> io::Result<()> {
    let file = OpenOptions::new().append(true).open(folder.join(".git/config"));
    file?.write_all(text.as_bytes())
}

fn report(step: &str) {
    Paced::default().report(step, 0);
}

fn fetch<'a>(depth: Option<&'a str>, rest: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["fetch", "--progress"];
    if let Some(depth) = depth {
        arguments.extend([depth, "--no-tags"]);
    }
    arguments.extend_from_slice(rest);
    arguments
}

/// Fetches and checks out the target of a repository.
pub(super) fn realize(
    program: &Program<'_>,
    repository: &Repository,
    is_shallow: bool,
) -> Result<(), Failure> {
    report("fetching");
    match &repository.target {
        Checkout::Commit(name) => commit(program, name, is_shallow),
        Checkout::RemoteHead => match head(program, is_shallow)? {
            Head::Branch(name) => check_out_branch(program, &name),
            Head::Detached => check_out(program, &["--detach", ORIGIN_HEAD]),
            Head::Unborn => Ok(()),
        },
        Checkout::LocalBranch(name) => match head(program, is_shallow)? {
            Head::Unborn => program.run(&["symbolic-ref", "HEAD", &format!("refs/heads/{name}")]),
            Head::Branch(_) | Head::Detached => check_out(program, &["-B", name, "--no-track", ORIGIN_HEAD]),
        },
        Checkout::RemoteBranch(name) => {
            if !Remote::of(program, Some(name))?.has_branch {
                let field = &repository.field;
                return Err(Failure::user(format!(
                    "{field}.clone_taget is {name}, and the repository has no such branch"
                )));
            }
            fetch_branch(program, name, is_shallow)?;
            check_out_branch(program, name)
        }
    }
}

/// What a remote has.
struct Remote {
    /// Name of the default branch.
    head: Option<String>,
    /// Whether HEAD names a commit.
    has_head: bool,
    has_branch: bool,
}

impl Remote {
    fn of(program: &Program<'_>, branch: Option<&str>) -> Result<Self, Failure> {
        let wanted = branch.map(|branch| format!("refs/heads/{branch}"));
        let mut arguments = vec!["ls-remote", "--symref", "origin", "HEAD"];
        arguments.extend(wanted.as_deref());
        let answer = program.answer(&arguments)?;
        let mut remote = Self { head: None, has_head: false, has_branch: false };
        for line in answer.text.lines() {
            let Some((value, name)) = line.split_once('\t') else { continue };
            match value.strip_prefix("ref: refs/heads/") {
                // The name is the server's: only one that is none of git's options.
                Some(head) if name == "HEAD" && domain::git::check_revision(head).is_ok() => {
                    remote.head = Some(head.to_owned());
                }
                Some(_) => {}
                None if name == "HEAD" => remote.has_head = true,
                None => remote.has_branch |= wanted.as_deref() == Some(name),
            }
        }
        Ok(remote)
    }
}

enum Head {
    Branch(String),
    Detached,
    /// The remote has no commit.
    Unborn,
}

/// Fetches the default branch, and has `origin/HEAD` name it.
fn head(program: &Program<'_>, is_shallow: bool) -> Result<Head, Failure> {
    let remote = Remote::of(program, None)?;
    if !remote.has_head {
        return Ok(Head::Unborn);
    }
    let Some(name) = remote.head else {
        let depth = is_shallow.then_some(DEPTH);
        program.run(&fetch(depth, &["origin", &format!("+HEAD:{ORIGIN_HEAD}")]))?;
        return Ok(Head::Detached);
    };
    fetch_branch(program, &name, is_shallow)?;
    program.run(&["symbolic-ref", ORIGIN_HEAD, &format!("refs/remotes/origin/{name}")])?;
    Ok(Head::Branch(name))
}

fn fetch_branch(program: &Program<'_>, name: &str, is_shallow: bool) -> Result<(), Failure> {
    if is_shallow {
        program
            .run(&fetch(Some(DEPTH), &["origin", &format!("+refs/heads/{name}:refs/remotes/origin/{name}")]))
    } else {
        program.run(&fetch(None, &["origin"]))
    }
}

fn check_out_branch(program: &Program<'_>, name: &str) -> Result<(), Failure> {
    check_out(program, &["-B", name, "--track", &format!("refs/remotes/origin/{name}")])
}

fn check_out(program: &Program<'_>, arguments: &[&str]) -> Result<(), Failure> {
    report("checking out");
    program.run(&[&["checkout", "--quiet", "--force"], arguments].concat())
}

/// Checks out a commit, or what its name is at the remote: an abbreviation, a tag, any reference.
fn commit(program: &Program<'_>, name: &str, is_shallow: bool) -> Result<(), Failure> {
    let known =
        |name: &str| program.line(&["rev-parse", "--quiet", "--verify", &format!("{name}^{{commit}}")]);
    if let Some(commit) = known(name)? {
        return check_out(program, &["--detach", &commit]);
    }
    if is_shallow && program.succeeds(&fetch(Some(DEPTH_OF_COMMIT), &["origin", name]))? {
        return check_out(program, &["--detach", "FETCH_HEAD"]);
    }
    let is_cut = program.line(&["rev-parse", "--is-shallow-repository"])?.as_deref() == Some("true");
    program.run(&fetch(None, if is_cut { &["--unshallow", "origin"] } else { &["origin"] }))?;
    for name in [name, &format!("refs/remotes/origin/{name}"), &format!("refs/tags/{name}")] {
        if let Some(commit) = known(name)? {
            return check_out(program, &["--detach", &commit]);
        }
    }
    program.run(&fetch(None, &["origin", name]))?;
    check_out(program, &["--detach", "FETCH_HEAD"])
}

/// Checks out the submodules. The content is usable without, so failing is a warning, as in existing agents.
pub(super) fn submodules(program: &Program<'_>, is_shallow: bool, warnings: &mut Vec<String>) {
    if fs::symlink_metadata(program.folder().join(".gitmodules")).is_err() {
        return;
    }
    report("checking out submodules");
    let mut arguments = vec!["submodule", "update", "--init", "--recursive", "--jobs=4"];
    if is_shallow {
        arguments.push(DEPTH);
    }
    if let Err(failure) = program.run(&arguments) {
        warnings.push(failure.message);
    }
}
