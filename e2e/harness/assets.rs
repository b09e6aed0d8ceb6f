//! The programs: from `KUBEBUILDER_ASSETS` if that is set, else built once from `controlplane/` with Go.

use std::{
    env, fs,
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

const KUBERNETES: &str = "v1.36.3";
/// An S3 server for the stores of content. Built apart from the control planes, whose modules it would pin to other versions.
const S3_SERVER: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";
/// Asked for by the tests of the chart alone.
const HELM: &str = "helm.sh/helm/v4/cmd/helm@v4.3.2";
/// What backups are compared with, for the benchmark alone.
const PEERS: [Peer; 2] = [
    Peer { name: "restic", module: "github.com/restic/restic", version: "v0.18.1", package: "/cmd/restic" },
    Peer { name: "kopia", module: "github.com/kopia/kopia", version: "v0.22.3", package: "" },
];
const KWOK: &str = "sigs.k8s.io/kwok/cmd/kwok@v0.8.0";
const PROGRAMS: [&str; 8] = [
    "etcd",
    "etcdctl",
    "etcdutl",
    "kube-apiserver",
    "kube-scheduler",
    "kube-controller-manager",
    "kubelet",
    "kubectl",
];

/// A program in Go that is built from a module of its own.
struct Peer {
    name: &'static str,
    module: &'static str,
    version: &'static str,
    /// Below the module.
    package: &'static str,
}

impl Peer {
    /// `go install` would ask the proxy for the list of all versions, which it does not have for each module.
    fn build(&self, bin: &Path) -> Result<()> {
        let Self { name, module, version, package } = self;
        let source = bin.join("..").join(format!("{name}-module"));
        fs::create_dir_all(&source).with_context(|| format!("cannot create {}", source.display()))?;
        fs::write(
            source.join("go.mod"),
            format!("module benchmark\n\ngo 1.26\n\nrequire {module} {version}\n"),
        )?;
        let (output, package) = (bin.join(name).display().to_string(), format!("{module}{package}"));
        let args = ["build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o", &output, &package];
        run_go(&source, None, &args, name)
    }
}

/// Folders of the programs.
#[derive(Clone, Debug)]
pub struct Assets {
    bin: PathBuf,
    envtest: Option<PathBuf>,
}

impl Assets {
    /// Finds or builds the programs. The first build takes minutes and reports its progress on standard error.
    pub fn ensure() -> Result<Self> {
        let bin = target_dir()?.join("e2e/bin");
        fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
        let lock = File::create(bin.join(".lock")).context("cannot create the build lock")?;
        lock.lock().context("cannot take the build lock")?;
        let assets = Self { bin, envtest: env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) };
        assets.build()?;
        Ok(assets)
    }

    /// Builds the programs that backups are compared with.
    pub fn ensure_peers(&self) -> Result<()> {
        let lock = File::create(self.bin.join(".lock")).context("cannot create the build lock")?;
        lock.lock().context("cannot take the build lock")?;
        PEERS.iter().try_for_each(|peer| self.cached(peer.name, peer.version, || peer.build(&self.bin)))
    }

    /// Path of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        let given = self.envtest.as_ref().map(|dir| dir.join(name)).filter(|path| path.exists());
        given.unwrap_or_else(|| self.bin.join(name))
    }

    /// The wrapper that starts every program.
    pub fn babysit(&self) -> PathBuf {
        self.bin.join("babysit")
    }

    /// The machine of a real node.
    pub fn nodebox(&self) -> PathBuf {
        self.bin.join("nodebox")
    }

    /// Helm, which nothing else needs: built when it is asked for.
    pub fn helm(&self) -> Result<PathBuf> {
        let lock = File::create(self.bin.join(".helm.lock")).context("cannot create the build lock")?;
        lock.lock().context("cannot take the build lock")?;
        self.cached("helm", HELM, || go_install(&source_dir().join("controlplane"), &self.bin, HELM))?;
        Ok(self.bin.join("helm"))
    }

    fn build(&self) -> Result<()> {
        let source = source_dir().join("controlplane");
        for name in ["babysit", "nodebox", "filetree"] {
            self.cached(name, &stamp(&[&source.join(name).join("main.go")])?, || {
                go_build(&source, &self.bin.join(name), &format!("./{name}"), "-s -w")
            })?;
        }
        self.cached("kwok", KWOK, || go_install(&source, &self.bin, KWOK))?;
        self.cached("versitygw", S3_SERVER, || go_install(&source, &self.bin, S3_SERVER))?;
        if PROGRAMS.iter().all(|name| self.program(name).parent() != Some(&self.bin)) {
            return Ok(());
        }
        let files = ["go.mod", "go.sum", "main.go"].map(|name| source.join(name));
        self.cached("controlplane", &stamp(&files.each_ref().map(PathBuf::as_path))?, || {
            go_build(&source, &self.bin.join("controlplane"), ".", &version_flags())
        })?;
        for name in PROGRAMS {
            link("controlplane", &self.bin.join(name))?;
        }
        Ok(())
    }

    /// Runs `make` unless the stamp says that the program was built from this source.
    fn cached(&self, name: &str, stamp: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
        let stamp_file = self.bin.join(format!(".{name}.stamp"));
        let fresh = fs::read_to_string(&stamp_file).is_ok_and(|text| text == stamp);
        if fresh && self.bin.join(name).exists() {
            return Ok(());
        }
        make().with_context(|| format!("cannot build {name}"))?;
        fs::write(&stamp_file, stamp).with_context(|| format!("cannot write {}", stamp_file.display()))
    }
}

/// Cargo's target folder: from the path of this program, else from the environment, else `./target`.
pub fn target_dir() -> Result<PathBuf> {
    let exe = env::current_exe().context("cannot tell where this program lies")?;
    let profile = exe.ancestors().find(|dir| dir.join(".fingerprint").is_dir() && dir.join("deps").is_dir());
    let found = profile.and_then(Path::parent).map(Path::to_path_buf);
    let found = found.or_else(|| env::var_os("CARGO_TARGET_DIR").map(PathBuf::from));
    std::path::absolute(found.unwrap_or_else(|| PathBuf::from("target"))).context("no working folder")
}

/// The `e2e` folder of the repository.
pub fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn stamp(files: &[&Path]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.hash(&mut hasher);
    }
    version_flags().hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// Stripped, to link faster; with the version, because clients parse it.
fn version_flags() -> String {
    let set = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(|package| {
        format!("-X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor=36")
    });
    format!("-s -w {}", set.join(" "))
}

fn go_build(source: &Path, output: &Path, package: &str, flags: &str) -> Result<()> {
    let what = output.file_name().unwrap_or_default().to_string_lossy();
    let output = output.to_string_lossy();
    run_go(source, None, &["build", "-trimpath", "-ldflags", flags, "-o", &output, package], &what)
}

fn go_install(source: &Path, bin: &Path, module: &str) -> Result<()> {
    run_go(source, Some(bin), &["install", "-trimpath", "-ldflags", "-s -w", module], module)
}

/// Runs Go at low priority and reports every few seconds that it still runs.
fn run_go(source: &Path, bin: Option<&Path>, args: &[&str], what: &str) -> Result<()> {
    // Once babysit exists, an interrupted build ends with this process.
    let babysit = target_dir()?.join("e2e/bin/babysit");
    let mut command = Command::new(if babysit.exists() { babysit.as_path() } else { Path::new("env") });
    command.args(["--", "nice", "-n", "5", "go"]).args(args).current_dir(source);
    command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-buildvcs=false").env("CGO_ENABLED", "0");
    if let Some(bin) = bin {
        command.env("GOBIN", bin);
    }
    let log = tempfile::tempfile().context("cannot create a log file for Go")?;
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log.try_clone()?);
    let mut child = command.spawn().context("cannot start `go`: is Go 1.26 installed?")?;
    let started = Instant::now();
    let mut reported = Duration::ZERO;
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() { Ok(()) } else { bail!("go {}: {}", args.join(" "), text_of(log)) };
        }
        let elapsed = started.elapsed();
        if elapsed
            >= reported
                + if std::io::stderr().is_terminal() {
                    Duration::from_secs(1)
                } else {
                    Duration::from_secs(15)
                }
        {
            reported = elapsed;
            progress(&format!("building {what} (up to 5 min the first time) ... {} s", elapsed.as_secs()));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn text_of(mut log: File) -> String {
    use std::io::{Read as _, Seek as _};
    let mut text = String::new();
    let _ = log.rewind().and_then(|()| log.read_to_string(&mut text));
    text
}

/// Overwrites one line on a terminal; elsewhere prints lines.
fn progress(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = if stderr.is_terminal() { write!(stderr, "\r{line}\x1b[K") } else { writeln!(stderr, "{line}") };
}

fn link(target: &str, path: &Path) -> Result<()> {
    if fs::read_link(path).is_ok_and(|found| found == Path::new(target)) {
        return Ok(());
    }
    let _ = fs::remove_file(path);
    std::os::unix::fs::symlink(target, path).with_context(|| format!("cannot link {}", path.display()))
}
