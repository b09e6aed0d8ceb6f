//! Writes audit lines to standard error or to a file that is rotated.
//!
//! A separate thread writes, so that a slow disk or a full pipe does not delay calls. Lines wait in a queue of 2048. A line is
//! dropped if the queue is full or the write fails; dropped lines are counted, and the next written line has their number.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};
use tracing::error;

use super::config::AuditTarget;

/// Capacity of the queue in lines.
const WAITING: usize = 2048;

/// Counters of written and dropped lines. Cloning shares them.
#[derive(Debug, Clone)]
pub struct AuditMeters(IntCounterVec);

impl AuditMeters {
    const OUTCOMES: [&str; 3] = ["written", "queue_full", "write_failed"];

    /// All at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let lines = Opts::new(
            "spaceport_audit_lines_total",
            "Audit lines that were `written`, or dropped: `queue_full`, `write_failed`.",
        );
        let lines = IntCounterVec::new(lines, &["outcome"])?;
        for outcome in Self::OUTCOMES {
            lines.with_label_values(&[outcome]);
        }
        Ok(Self(lines))
    }

    fn count(&self, outcome: &str) {
        self.0.with_label_values(&[outcome]).inc();
    }
}

impl Collector for AuditMeters {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

/// Accepts lines. Cloning shares it.
#[derive(Debug, Clone)]
pub struct AuditSink {
    /// `None` if audit is off.
    queue: Option<SyncSender<Message>>,
    dropped: Arc<AtomicU64>,
    meters: AuditMeters,
}

#[derive(Debug)]
enum Message {
    Line(String),
    Flush(SyncSender<()>),
}

impl AuditSink {
    /// Opens the file, if one is configured, and starts the thread.
    pub fn open(target: &AuditTarget, meters: AuditMeters) -> io::Result<Self> {
        let output: Box<dyn Output> = match target {
            AuditTarget::Off => {
                return Ok(Self { queue: None, dropped: Arc::default(), meters });
            }
            AuditTarget::Log => Box::new(StandardError),
            AuditTarget::File { path, max_bytes, keep } => Box::new(Rotated::open(path, *max_bytes, *keep)?),
        };
        Self::start(output, meters)
    }

    fn start(output: Box<dyn Output>, meters: AuditMeters) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(WAITING);
        let dropped = Arc::<AtomicU64>::default();
        let writer =
            Writer { output, dropped: Arc::clone(&dropped), meters: meters.clone(), is_failing: false };
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&waiting))?;
        Ok(Self { queue: Some(queue), dropped, meters })
    }

    /// Whether audit is on.
    pub const fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues a JSON object as one line. Never blocks.
    pub fn write(&self, line: String) {
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            queue.try_send(Message::Line(line))
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.meters.count("queue_full");
        }
    }

    /// Waits until all queued lines are written, at most so long. Blocks the thread.
    pub fn flush(&self, within: Duration) {
        let Some(queue) = &self.queue else { return };
        let (done, wait) = sync_channel(1);
        if queue.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(within);
        }
    }
}

trait Output: Send {
    /// Writes a line with its line break. As far as possible, a failed write leaves nothing of it.
    fn write(&mut self, line: &[u8]) -> io::Result<()>;
}

struct StandardError;

impl Output for StandardError {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(line)
    }
}

struct Writer {
    output: Box<dyn Output>,
    dropped: Arc<AtomicU64>,
    meters: AuditMeters,
    is_failing: bool,
}

impl Writer {
    /// Writes until every sink is gone.
    fn run(mut self, waiting: &Receiver<Message>) {
        while let Ok(message) = waiting.recv() {
            match message {
                Message::Line(line) => self.line(line),
                Message::Flush(done) => {
                    let _ = done.try_send(());
                }
            }
        }
    }

    fn line(&mut self, mut line: String) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 && line.starts_with('{') {
            line.insert_str(1, &format!("\"dropped\":{dropped},"));
        }
        line.push('\n');
        match self.output.write(line.as_bytes()) {
            Ok(()) => {
                self.is_failing = false;
                self.meters.count("written");
            }
            Err(error) => {
                self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
                self.meters.count("write_failed");
                if !std::mem::replace(&mut self.is_failing, true) {
                    error!(%error, "failed to write audit lines; calls continue without them");
                }
            }
        }
    }
}

/// A file of bounded size, with older ones.
struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
    max_bytes: u64,
    keep: u32,
    /// Whether the last write left an incomplete line.
    is_torn: bool,
}

impl Rotated {
    fn open(path: &Path, max_bytes: u64, keep: u32) -> io::Result<Self> {
        let file = open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            max_bytes,
            keep,
            is_torn: size > 0 && !ends_a_line(path)?,
        })
    }

    /// `audit.log` → `audit.log.1` → `audit.log.2` …; the oldest is deleted.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.keep).rev() {
            match std::fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, numbered(1))?;
        self.file = open(&self.path)?;
        (self.size, self.is_torn) = (0, false);
        Ok(())
    }
}

impl Output for Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        // Rather a file that exceeds its size than lost lines.
        if self.size > 0
            && self.size.saturating_add(length) > self.max_bytes
            && let Err(error) = self.rotate()
        {
            error!(%error, path = %self.path.display(), "failed to rotate the audit file; it keeps growing");
            // The next attempt is after the same number of bytes.
            self.size = 0;
        }
        if self.is_torn {
            self.file.write_all(b"\n")?;
        }
        self.is_torn = true;
        self.file.write_all(line)?;
        self.is_torn = false;
        self.size = self.size.saturating_add(length);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    // It contains names of people.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Whether a file ends with a line break: a killed process may have left an incomplete line.
fn ends_a_line(path: &Path) -> io::Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let target = AuditTarget::File { path: path.clone(), max_bytes: 20, keep: 2 };
        let sink = AuditSink::open(&target, AuditMeters::new().unwrap()).unwrap();
        for n in 0..8 {
            sink.write(format!("{{\"n\":{n}}}"));
        }
        sink.flush(SOON);
        let all: Vec<Vec<String>> = ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]
            .iter()
            .map(|name| lines(&folder.path().join(name)))
            .collect();
        assert_eq!(all[0], [r#"{"n":6}"#, r#"{"n":7}"#]);
        assert_eq!(all[1], [r#"{"n":4}"#, r#"{"n":5}"#]);
        assert_eq!(all[2], [r#"{"n":2}"#, r#"{"n":3}"#]);
        assert!(all[3].is_empty());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_restart_appends_to_the_file_and_terminates_an_incomplete_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "{\"n\":0}\n{\"n\":").unwrap();
        let target = AuditTarget::File { path: path.clone(), max_bytes: 1 << 20, keep: 1 };
        let sink = AuditSink::open(&target, AuditMeters::new().unwrap()).unwrap();
        sink.write("{\"n\":2}".to_owned());
        sink.flush(SOON);
        assert_eq!(lines(&path), ["{\"n\":0}", "{\"n\":", "{\"n\":2}"]);
    }

    /// A writer that blocks and fails on request.
    struct Slow {
        turns: Receiver<bool>,
        written: Sender<String>,
    }

    impl Output for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<()> {
            let fine = self.turns.recv().map_err(io::Error::other)?;
            if !fine {
                return Err(io::Error::other("disk full"));
            }
            let _ = self.written.send(String::from_utf8_lossy(line).into_owned());
            Ok(())
        }
    }

    #[test]
    fn lines_beyond_the_queue_and_lines_that_fail_are_dropped_counted_and_noted() {
        let ((turn, turns), (written, lines)) = (channel(), channel());
        let meters = AuditMeters::new().unwrap();
        let sink = AuditSink::start(Box::new(Slow { turns, written }), meters.clone()).unwrap();
        // The writer may have the first one already.
        for n in 0..WAITING + 10 {
            sink.write(format!("{{\"n\":{n}}}"));
        }
        let count = |outcome: &str| meters.0.with_label_values(&[outcome]).get();
        let dropped = count("queue_full");
        assert!((9..=10).contains(&dropped), "{dropped}");
        turn.send(false).unwrap();
        turn.send(true).unwrap();
        let next = lines.recv_timeout(SOON).unwrap();
        assert_eq!(next, format!("{{\"dropped\":{},\"n\":1}}\n", dropped + 1));
        turn.send(true).unwrap();
        assert_eq!(lines.recv_timeout(SOON).unwrap(), "{\"n\":2}\n");
        assert_eq!((count("queue_full"), count("write_failed")), (dropped, 1));
    }

    #[test]
    fn nothing_is_recorded_if_audit_is_off() {
        let sink = AuditSink::open(&AuditTarget::Off, AuditMeters::new().unwrap()).unwrap();
        sink.write("{}".to_owned());
        sink.flush(SOON);
        assert!(!sink.is_on());
    }
}
