//! The names of one directory in order, in few allocations and in bounded memory: of a directory with more names than a window holds,
//! the next ones are read from the directory again when they are needed. 1,000,000 names of 16 bytes take two windows.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{RawDir, SeekFrom, seek};
use rustix::io::Errno;

/// Size of the buffer for `getdents`.
pub(crate) const BUFFER: usize = 64 << 10;
/// Bytes of the names of a window, roughly. While it is read, it has up to half as much again.
pub(crate) const WINDOW: usize = 16 << 20;

/// A window of the names of a directory, sorted by their bytes, without `.` and `..`.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    starts: Vec<u32>,
    has_more: bool,
}

impl Names {
    /// Reads the first names of a directory that come after this one: at least one if there are any, and with `window` bytes.
    pub(crate) fn read(
        directory: BorrowedFd<'_>,
        buffer: &mut Vec<MaybeUninit<u8>>,
        after: Option<&CStr>,
        window: usize,
    ) -> Result<Names, Errno> {
        buffer.resize(BUFFER, MaybeUninit::uninit());
        // An open directory goes on where it was read last.
        seek(directory, SeekFrom::Start(0))?;
        let after = after.map(CStr::to_bytes_with_nul).unwrap_or_default();
        let (mut names, mut ceiling) = (Names::default(), Vec::new());
        let mut entries = RawDir::new(directory, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            let is_beyond = !ceiling.is_empty() && name >= &ceiling[..];
            if name == b".\0" || name == b"..\0" || name <= after || is_beyond {
                continue;
            }
            names.starts.push(u32::try_from(names.bytes.len()).map_err(|_| Errno::OVERFLOW)?);
            names.bytes.extend_from_slice(name);
            if names.size() > window + window / 2 {
                ceiling = names.keep(window);
            }
        }
        names.sort();
        names.has_more = !ceiling.is_empty();
        Ok(names)
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + self.starts.len() * size_of::<u32>()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&CStr> {
        self.starts.get(index).map(|start| at(&self.bytes, *start))
    }

    /// The name after which the next window begins; `None` if this one has the last names of the directory.
    pub(crate) fn resume(&self) -> Option<CString> {
        self.get(self.starts.len().checked_sub(1)?).filter(|_| self.has_more).map(CStr::to_owned)
    }

    /// Gives up all but one name. The others after it are read again.
    pub(crate) fn shrink(&mut self, index: usize) {
        if let Some(name) = self.get(index).map(CStr::to_owned) {
            let has_more = self.has_more || index + 1 < self.starts.len();
            *self = Names { bytes: name.into_bytes_with_nul(), starts: vec![0], has_more };
        }
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.starts.sort_unstable_by(|one, other| at(bytes, *one).cmp(at(bytes, *other)));
    }

    /// Keeps the first names, at least one, with this many bytes, and returns the last of them.
    fn keep(&mut self, window: usize) -> Vec<u8> {
        self.sort();
        let mut kept = Names { bytes: Vec::with_capacity(window), ..Names::default() };
        let (mut last, mut size) = (Vec::new(), 0);
        for start in &self.starts {
            let name = at(&self.bytes, *start).to_bytes_with_nul();
            size += name.len() + size_of::<u32>();
            if size > window && !kept.starts.is_empty() {
                break;
            }
            kept.starts.push(u32::try_from(kept.bytes.len()).unwrap_or(u32::MAX));
            kept.bytes.extend_from_slice(name);
        }
        if let Some(name) = kept.get(kept.starts.len().saturating_sub(1)) {
            last = name.to_bytes_with_nul().to_vec();
        }
        *self = kept;
        last
    }
}

fn at(bytes: &[u8], start: u32) -> &CStr {
    let rest = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
    CStr::from_bytes_until_nul(rest).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn windows_of_any_size_have_every_name_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected: Vec<String> =
            (0..300).map(|number| format!("{:x}", number * 7919 % 65_537)).collect();
        expected.sort();
        expected.dedup();
        for name in &expected {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let directory = File::open(folder.path()).unwrap();
        for window in [1, 9, 40, 1000, WINDOW] {
            let (mut found, mut after, mut buffer) = (Vec::new(), None::<CString>, Vec::new());
            loop {
                let names = Names::read(directory.as_fd(), &mut buffer, after.as_deref(), window).unwrap();
                assert!(names.size() <= window.max(9) * 2, "{} of {window}", names.size());
                found.extend((0..).map_while(|at| Some(names.get(at)?.to_str().unwrap().to_owned())));
                after = names.resume();
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{window}");
        }
    }

    #[test]
    fn what_was_given_up_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let directory = File::open(folder.path()).unwrap();
        let read =
            |after: Option<&CStr>| Names::read(directory.as_fd(), &mut Vec::new(), after, WINDOW).unwrap();
        let mut names = read(None);
        names.shrink(1);
        assert_eq!((names.get(0), names.get(1)), (Some(c"b"), None));
        let rest = read(names.resume().as_deref());
        assert_eq!((rest.get(0), rest.get(1), rest.resume()), (Some(c"c"), None, None));
        let mut names = read(None);
        names.shrink(2);
        assert_eq!(names.resume(), None);
    }
}
