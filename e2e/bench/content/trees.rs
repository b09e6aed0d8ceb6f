//! The trees: the same bytes in every run.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result};
use fastrand::Rng;

use super::super::scenarios::Scale;
use super::peers::sh;

const MIB: u64 = 1 << 20;
const SEED: u64 = 20_261_130;
/// Bytes of a file of source text on average.
const TEXT: u64 = 5170;

/// What a tree is made of.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// So many files of source text.
    Files { count: u32, average: u64 },
    /// So many files of so many MiB, every other one incompressible.
    Large { count: u32, mebibytes: u64 },
    /// Hard links, a sparse file of 10 GiB, attributes, closed directories, odd names.
    Odd,
}

/// A tree.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    pub name: &'static str,
    kind: Kind,
    /// Only the first backup and the restore, by the product and the floor.
    pub is_memory_only: bool,
}

/// The trees of a scale, and how often each is measured.
pub fn trees(scale: Scale) -> Vec<(Tree, usize)> {
    let files =
        |name, count, average| Tree { name, kind: Kind::Files { count, average }, is_memory_only: false };
    let large =
        |count, mebibytes| Tree { name: "L", kind: Kind::Large { count, mebibytes }, is_memory_only: false };
    let odd = Tree { name: "X", kind: Kind::Odd, is_memory_only: false };
    match scale {
        Scale::Small => vec![(files("S", 10_000, TEXT), 1), (large(2, 64), 1), (odd, 1)],
        Scale::Medium => vec![(files("S", 100_000, TEXT), 2), (large(4, 1024), 1), (odd, 1)],
        Scale::Full => {
            let many = Tree { is_memory_only: true, ..files("M", 1_000_000, 100) };
            vec![(files("S", 100_000, TEXT), 3), (large(4, 1024), 2), (odd, 1), (many, 1)]
        }
    }
}

impl Tree {
    /// Writes it, owned by the workspace's user.
    pub fn make(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let mut rng = Rng::with_seed(SEED);
        match self.kind {
            Kind::Files { count, average } => files(folder, count, average, &mut rng)?,
            Kind::Large { count, mebibytes } => large(folder, count, mebibytes, &mut rng)?,
            Kind::Odd => odd(folder, &mut rng)?,
        }
        // Modes last: a change of the owner removes setuid.
        let modes = if matches!(self.kind, Kind::Odd) {
            " && chmod 4755 \"$0/setuid\" && chmod 0000 \"$0/closed\" && chmod 0555 \"$0/read-only\""
        } else {
            ""
        };
        sh(&format!("chown -h -R 33333:33333 \"$0\"{modes}"), &[folder], &[]).map(drop)
    }
}

fn files(folder: &Path, count: u32, average: u64, rng: &mut Rng) -> Result<()> {
    let lines = Lines::new(rng);
    let mut buffer = Vec::new();
    for number in 0..count {
        let inner = folder.join(format!("module-{:03}/part-{:02}", number / 1000, number / 50 % 20));
        if number % 50 == 0 {
            fs::create_dir_all(&inner)?;
        }
        buffer.clear();
        // From a tenth of the average to nearly twice of it.
        lines.write(&mut buffer, rng.u64(average / 10..average * 19 / 10), rng);
        let path = inner.join(format!("file-{number:07}.rs"));
        fs::write(&path, &buffer).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn large(folder: &Path, count: u32, mebibytes: u64, rng: &mut Rng) -> Result<()> {
    let lines = Lines::new(rng);
    for number in 0..count {
        let mut file =
            BufWriter::with_capacity(1 << 20, File::create(folder.join(format!("large-{number}")))?);
        let mut buffer = Vec::new();
        for _ in 0..mebibytes {
            buffer.clear();
            if number % 2 == 0 {
                lines.write(&mut buffer, MIB, rng);
            } else {
                buffer.resize(1 << 20, 0);
                rng.fill(&mut buffer);
            }
            file.write_all(&buffer)?;
        }
        file.flush()?;
    }
    Ok(())
}

fn odd(folder: &Path, rng: &mut Rng) -> Result<()> {
    files(&folder.join("text"), 1000, TEXT, rng)?;
    for name in ["closed", "read-only", "a name with spaces", "line\nbreak", "\u{1f980}"] {
        fs::create_dir_all(folder.join(name))?;
        fs::write(folder.join(name).join("file"), name)?;
    }
    let linked = folder.join("text/module-000/part-00");
    for number in 0..100 {
        fs::hard_link(
            linked.join(format!("file-{:07}.rs", number % 50)),
            folder.join(format!("link-{number}")),
        )?;
    }
    symlink("../nowhere", folder.join("symlink"))?;
    fs::write(folder.join("setuid"), "#!/bin/sh\n")?;
    let sparse = File::create(folder.join("sparse"))?;
    sparse.set_len(10 << 30)?;
    for number in 0..16_u64 {
        sparse.write_all_at(&[7; 4096], number * (640 << 20))?;
    }
    Ok(())
}

/// Lines of source text, of which files are made: they compress as source does, and no two files are alike.
struct Lines {
    text: Vec<String>,
}

impl Lines {
    fn new(rng: &mut Rng) -> Self {
        let words: Vec<String> =
            (0..3000).map(|_| (0..rng.usize(2..11)).map(|_| rng.lowercase()).collect()).collect();
        let word = |rng: &mut Rng| words.get(rng.usize(..words.len())).cloned().unwrap_or_default();
        let line = |rng: &mut Rng| {
            let all: Vec<String> = (0..rng.usize(1..9)).map(|_| word(rng)).collect();
            format!(
                "{}{};\n",
                "    ".repeat(rng.usize(0..4)),
                all.join(["_", " ", ".", "::"][rng.usize(..4)])
            )
        };
        Self { text: (0..40_000).map(|_| line(rng)).collect() }
    }

    fn write(&self, out: &mut Vec<u8>, bytes: u64, rng: &mut Rng) {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX);
        while out.len() < most {
            out.extend_from_slice(
                self.text.get(rng.usize(..self.text.len())).map_or(b"\n", |line| line.as_bytes()),
            );
        }
        out.truncate(most);
    }
}

/// A change of a tree.
pub struct Change {
    kind: Kind,
}

impl Change {
    pub const fn of(tree: &Tree) -> Self {
        Self { kind: tree.kind }
    }

    /// Replaces one of 100 files, or 7 bytes of a large one.
    pub fn make(&self, folder: &Path) -> Result<()> {
        let Kind::Files { count, .. } = self.kind else {
            let path = if matches!(self.kind, Kind::Odd) { "setuid" } else { "large-1" };
            let file = File::options().write(true).open(folder.join(path))?;
            return Ok(file.write_all_at(b"changed", file.metadata()?.len() / 2)?);
        };
        let (mut rng, mut buffer) = (Rng::with_seed(SEED + 1), Vec::new());
        let lines = Lines::new(&mut rng);
        for number in (37..count).step_by(100) {
            let inner =
                format!("module-{:03}/part-{:02}/file-{number:07}.rs", number / 1000, number / 50 % 20);
            let file = File::options().write(true).open(folder.join(inner))?;
            buffer.clear();
            lines.write(&mut buffer, file.metadata()?.size(), &mut rng);
            file.write_all_at(&buffer, 0)?;
        }
        Ok(())
    }
}
