//! Times beside the programs of the system, and memory; run by hand:
//! `MEASURE=/var/tmp/x MEASURE_FILES=100000 cargo test -p spaceport-content measure -- --ignored --nocapture`.
#![allow(clippy::disallowed_types, reason = "nothing pauses the clock of a measurement")]

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::support::open;
use crate::archive::{RestoreOptions, WriteOptions, restore, write};
use crate::tree::{Comparison, Excludes, compare, record};

fn text(random: &mut fastrand::Rng, size: usize) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "let ", "fn ", "self.", "match ", "return ", "    ", "\n", "(", ") {\n", "value", "index", "Result<",
    ];
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        match random.u8(..8) {
            0 => text.extend_from_slice(random.u32(..).to_string().as_bytes()),
            1 => text.extend((0..random.usize(2..9)).map(|_| random.u8(b'a'..=b'z'))),
            _ => text.extend_from_slice(WORDS[random.usize(..WORDS.len())].as_bytes()),
        }
    }
    text
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn make(root: &Path, files: usize, mean: usize) {
    let mut random = fastrand::Rng::with_seed(7);
    let sample = text(&mut random, 8 << 20);
    for file in 0..files {
        let folder = root.join(format!("{:02}/{:03}", file % 50, (file / 50) % 200));
        if file < 10_000 {
            fs::create_dir_all(&folder).unwrap();
        }
        let size = random.usize(..=2 * mean);
        let start = random.usize(..sample.len() - size);
        fs::write(folder.join(format!("source_{file}.rs")), &sample[start..start + size]).unwrap();
    }
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = run();
    println!("{what}: {:.2} s, peak {} MiB", begun.elapsed().as_secs_f64(), peak());
    result
}

/// Highest resident memory so far.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn shell(what: &str, program: &str) {
    timed(what, || assert!(Command::new("sh").args(["-c", program]).status().unwrap().success()));
}

#[test]
#[ignore = "a measurement"]
fn measure() {
    let base = PathBuf::from(std::env::var("MEASURE").unwrap());
    let (tree, file, state) = (base.join("tree"), base.join("ours.tar.zst"), base.join("state"));
    let files = number("MEASURE_FILES", 100_000);
    if !tree.exists() {
        fs::create_dir_all(&tree).unwrap();
        make(&tree, files, number("MEASURE_MEAN", 5170));
    }
    let excludes = Excludes::none();
    let peers = number("MEASURE_PEERS", 1) == 1;
    let shown = base.display();
    println!("idle: {} MiB", peak());
    for _ in 0..number("MEASURE_ROUNDS", 3) {
        timed("state", || {
            record(open(&tree).as_fd(), &excludes, BufWriter::new(File::create(&state).unwrap())).unwrap()
        });
        let same = timed("unchanged", || compare(open(&tree).as_fd(), &excludes, open(&state), &[]).unwrap());
        assert!(matches!(same, Comparison::Unchanged { .. }), "{same:?}");
        if peers {
            shell(
                "tar | zstd -3 -T2",
                &format!("tar -C {shown}/tree -cf - . | zstd -q -3 -T2 -f -o {shown}/peer.tar.zst"),
            );
        }
        let spill = Some(tempfile::tempfile_in(&base).unwrap());
        let options = WriteOptions { spill, ..WriteOptions::default() };
        let summary = timed("write", || {
            write(open(&tree).as_fd(), &excludes, options, File::create(&file).unwrap(), None).unwrap()
        });
        println!("{} entries, {} bytes, index {}", summary.entries, summary.bytes, summary.index_length);
        for copy in ["peer", "copy"] {
            fs::remove_dir_all(base.join(copy)).ok();
            fs::create_dir(base.join(copy)).unwrap();
        }
        Command::new("sync").status().unwrap();
        if peers {
            shell(
                "zstd -d | tar x",
                &format!("zstd -q -d -c {shown}/peer.tar.zst | tar -C {shown}/peer -xf -"),
            );
            Command::new("sync").status().unwrap();
        }
        let limits = crate::archive::Limits::of_bytes(100 << 30);
        timed("restore", || {
            let source = BufReader::new(open(&file));
            restore(source, open(&base.join("copy")).as_fd(), &RestoreOptions::new(limits)).unwrap()
        });
        Command::new("sync").status().unwrap();
    }
}
