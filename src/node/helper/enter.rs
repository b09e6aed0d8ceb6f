//! From a fresh process of the agent to the workspace's user in namespaces: the steps before any work, in a process that has one
//! thread.

use std::fs;
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::protocol::{Event, GO, Operation, Request, emit};
use super::root;
use super::settings::Limits;

/// What work on files of all users of the workspace needs, inside of the user namespace.
const OF_FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETFCAP);

/// Dies with the agent, and inherits nothing of it. The first step of all.
pub(super) fn detach(agent: u32) -> io::Result<()> {
    close_inherited()?;
    // Where memory runs out, the kernel kills a helper first.
    fs::write("/proc/self/oom_score_adj", "1000")?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The agent may have died before the line above; `getppid` is 0 for a parent in another pid namespace.
    if parent()? != agent {
        return Err(io::Error::other("the agent is gone"));
    }
    Ok(())
}

/// The parent's id, as the agent's /proc has it.
fn parent() -> io::Result<u32> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name before may contain anything.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let id = after.split_whitespace().nth(1).and_then(|id| id.parse().ok());
    id.ok_or_else(|| io::Error::other("/proc/self/stat has no parent"))
}

fn close_inherited() -> io::Result<()> {
    let names = fs::read_dir("/proc/self/fd")?.map(|entry| entry.map(|entry| entry.file_name()));
    let numbers: Vec<RawFd> =
        names.filter_map(|name| name.ok()?.to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    for number in numbers {
        // The descriptor of the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// Enters all namespaces, and becomes the workspace's user without privileges.
pub(super) fn enter(request: &Request, input: &mut impl Read) -> io::Result<()> {
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if !request.operation.has_network() {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(|error| context(error, "make namespaces"))?;
    nix::unistd::sethostname("workspace").map_err(|error| context(error, "name the host"))?;
    root::enter(&request.settings, &request.workspace)?;
    // Last, so that the namespaces before belong to the node's root.
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| context(error, "make a user namespace"))?;
    emit(&Event::Unshared)?;
    wait(input)?;
    become_user()?;
    // A change of user took the signal away.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    emit(&Event::Entered)?;
    // Fails if the agent died before the signal was set.
    wait(input)?;
    restrict(&request.operation, &request.settings.limits)
}

fn wait(input: &mut impl Read) -> io::Result<()> {
    let mut go = [0];
    input.read_exact(&mut go)?;
    if go == [GO] { Ok(()) } else { Err(io::Error::other("the agent answered something else than to go on")) }
}

fn become_user() -> io::Result<()> {
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).map_err(|error| context(error, "leave all groups"))?;
    setresgid(group, group, group).map_err(|error| context(error, "become the workspace's group"))?;
    setresuid(user, user, user).map_err(|error| context(error, "become the workspace's user"))?;
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

fn restrict(operation: &Operation, limits: &Limits) -> io::Result<()> {
    // No further user namespaces, in which programs would have capabilities again. Only older kernels lack the file.
    let spaces = Path::new("/proc/sys/user/max_user_namespaces");
    if spaces.exists() {
        fs::write(spaces, "0")
            .map_err(|error| io::Error::other(format!("forbid user namespaces: {error}")))?;
    }
    // Programs of the same user can read neither its memory nor its environment.
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    // Without git, and on files of any user of the workspace.
    let is_trusted = matches!(operation, Operation::Archive { .. } | Operation::Ready { .. });
    let kept = if is_trusted { OF_FILES } else { CapabilitySet::empty() };
    drop_from_bounding_set(kept)?;
    rustix::thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    limit(Resource::RLIMIT_CORE, 0)?;
    limit(Resource::RLIMIT_NPROC, limits.processes)?;
    limit(Resource::RLIMIT_NOFILE, limits.files)?;
    limit(Resource::RLIMIT_AS, limits.space)?;
    limit(Resource::RLIMIT_DATA, limits.private(operation.runs_git()))?;
    limit(Resource::RLIMIT_FSIZE, limits.file_size)
}

/// Leaves only `kept` in the bounding set, whatever capabilities the kernel has.
fn drop_from_bounding_set(kept: CapabilitySet) -> io::Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel has no more.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let (_, hard) = nix::sys::resource::getrlimit(resource)?;
    let most = most.min(hard);
    setrlimit(resource, most, most).map_err(|error| context(error, "set a resource limit"))
}

fn context(error: nix::errno::Errno, what: &str) -> io::Error {
    io::Error::new(io::Error::from(error).kind(), format!("{what}: {error}"))
}
