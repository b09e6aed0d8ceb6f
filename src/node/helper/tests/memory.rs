//! What helpers take of memory. By hand, with the product's own program and a million files:
//! `HELPER_PROGRAM=$PWD/target/debug/spaceport HELPER_FILES=1000000 cargo test -p spaceport-node --test helper -- memory`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use content::initializer::scrub::Scrubber;
use node::archives::{Answer, Kind, Request, header};
use node::helper::{Error, Helper, Job, Operation, Outcome, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stage::{Stage, USER};

/// The goal of an operation over an agent that is idle.
const MOST: u64 = 128 << 20;

/// Memory of the helpers of this process.
struct Meter {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u64, u64)>,
}

impl Meter {
    fn begin() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let (mut peak, mut data) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                for (resident, private) in helpers() {
                    (peak, data) = (peak.max(resident), data.max(private));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            (peak, data)
        });
        Self { is_over, thread }
    }

    /// Most resident memory, and most private memory that a limit counts.
    fn end(self, what: &str) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let (peak, data) = self.thread.join().unwrap();
        println!("{what}: {} MiB resident, {} MiB of data", peak >> 20, data >> 20);
        peak
    }
}

fn helpers() -> Vec<(u64, u64)> {
    let marker = format!("content-helper\0{}\0", std::process::id());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&line).contains(&marker) {
            continue;
        }
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
        };
        found.push((of("VmHWM:"), of("VmData:")));
    }
    found
}

fn settings() -> Settings {
    Settings { program: std::env::var_os("HELPER_PROGRAM").map(Into::into), ..Settings::default() }
}

/// Runs archive work with this input, and writes what comes to files.
async fn work(folder: &Path, request: Request, input: Option<&Path>, output: &Path) -> Result<Answer, Error> {
    let job = Job {
        workspace: folder.to_owned(),
        operation: Operation::Archive { request: serde_json::to_value(request).unwrap() },
        deadline: Duration::from_mins(10),
        scrubber: Scrubber::default(),
    };
    let mut running = Helper::new(settings()).start(job).await?;
    let (mut to, mut from) = (running.input.take().unwrap(), running.output.take().unwrap());
    let mut source = input.map(|path| File::open(path).unwrap());
    let feed = async move {
        let mut buffer = vec![0; 256 << 10];
        while let Some(source) = &mut source {
            let count = source.read(&mut buffer).unwrap();
            if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    let receive = async move {
        let mut archive = File::create(output.join("archive")).unwrap();
        let mut tree = File::create(output.join("tree")).unwrap();
        let mut first = [0; 5];
        while from.read_exact(&mut first).await.is_ok() {
            let (kind, length) = header(first).unwrap();
            let mut bytes = vec![0; length];
            from.read_exact(&mut bytes).await.unwrap();
            match kind {
                Kind::Data => archive.write_all(&bytes).unwrap(),
                Kind::Tree => tree.write_all(&bytes).unwrap(),
                Kind::Name | Kind::End => {}
            }
        }
    };
    tokio::join!(feed, receive);
    match running.end().await? {
        Outcome::Archive { result } => Ok(serde_json::from_value(result).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn fill(root: &Path, files: usize, is_spread: bool) {
    let name = "n".repeat(if is_spread { 20 } else { 240 });
    for number in 0..files {
        let mut folder = root.to_owned();
        if is_spread {
            folder.push(format!("{}", number % 100));
            folder.push(format!("{}", number / 100 % 100));
            if number < 10_000 {
                fs::create_dir_all(&folder).unwrap();
                chown(&folder, Some(USER), Some(USER)).unwrap();
            }
        }
        let path = folder.join(format!("{name}{:09}", number * 7919 % 1_000_003));
        let file = File::create(path).unwrap();
        std::os::unix::fs::fchown(&file, Some(USER), Some(USER)).unwrap();
    }
}

pub async fn an_operation_takes_128_mib_at_most_however_many_files_there_are() {
    let files = std::env::var("HELPER_FILES").map_or(20_000, |text| text.parse().unwrap());
    for is_spread in [false, true] {
        let (stage, output) = (Stage::new(), tempfile::tempdir().unwrap());
        fill(&stage.path(""), files, is_spread);
        let (folder, place) = (stage.path(""), if is_spread { "spread" } else { "in one folder" });
        let what = |what: &str| format!("{what} {files} files {place}");
        let meter = Meter::begin();
        let write = Request::Write { excludes: Vec::new(), plain: false, tree: true };
        let Answer::Written { entries, notes, .. } = work(&folder, write, None, output.path()).await.unwrap()
        else {
            panic!()
        };
        assert!(meter.end(&what("writing")) <= MOST);
        assert!(entries > files as u64 && notes.is_empty(), "{entries} {notes:?}");
        let (archive, tree) = (output.path().join("a"), output.path().join("t"));
        fs::rename(output.path().join("archive"), &archive).unwrap();
        fs::rename(output.path().join("tree"), &tree).unwrap();
        let meter = Meter::begin();
        let compare = Request::Compare { excludes: Vec::new() };
        let compared = work(&folder, compare, Some(&tree), output.path()).await.unwrap();
        assert!(meter.end(&what("comparing")) <= MOST);
        assert_eq!(compared, Answer::Unchanged { entries });
        let (other, meter) = (Stage::new(), Meter::begin());
        let restore = Request::Restore { bytes: 1 << 40, tree: Some(Vec::new()) };
        let restored = work(&other.path(""), restore, Some(&archive), output.path()).await.unwrap();
        assert!(meter.end(&what("restoring")) <= MOST);
        let Answer::Restored { entries: restored, .. } = restored else { panic!("{restored:?}") };
        assert_eq!(restored, entries);
    }
}
