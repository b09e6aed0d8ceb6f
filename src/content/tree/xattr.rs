//! Extended attributes that belong to content: `user.*` and `security.capability`.

use std::os::fd::BorrowedFd;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;

/// Longest list of names and longest value that Linux permits.
const LONGEST: usize = 64 << 10;

/// Most bytes of names and values of one entry in an archive.
pub(crate) const MOST: usize = 512 << 10;

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Name with its namespace, such as `user.comment`.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// Whether an attribute of this name is archived and restored.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && name.len() > 5 && name.len() <= 255 && !name.contains(&0))
        || name == b"security.capability"
}

/// The kept attributes of an open file or directory, sorted by name, and whether these are all.
pub(crate) fn read(file: BorrowedFd<'_>) -> Result<(Vec<Xattr>, bool), Errno> {
    let mut small = [0_u8; 1024];
    match flistxattr(file, &mut small[..]) {
        Ok(0) | Err(Errno::NOTSUP | Errno::NOSYS) => Ok((Vec::new(), true)),
        Ok(length) => values(file, small.get(..length).unwrap_or_default()),
        Err(Errno::RANGE) => {
            let mut names = vec![0; LONGEST];
            let length = flistxattr(file, &mut names[..])?;
            values(file, names.get(..length).unwrap_or_default())
        }
        Err(error) => Err(error),
    }
}

fn values(file: BorrowedFd<'_>, names: &[u8]) -> Result<(Vec<Xattr>, bool), Errno> {
    let mut found = Vec::new();
    let mut length = 0;
    for name in names.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0; LONGEST];
        match fgetxattr(file, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            // Removed meanwhile, or not for our eyes.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => continue,
            Err(error) => return Err(error),
        }
        length += name.len() + value.len();
        if length > MOST {
            found.sort();
            return Ok((found, false));
        }
        value.shrink_to_fit();
        found.push(Xattr { name: name.to_vec(), value });
    }
    found.sort();
    Ok((found, true))
}

/// Sets an attribute of an open file or directory.
pub(crate) fn set(file: BorrowedFd<'_>, xattr: &Xattr) -> Result<(), Errno> {
    fsetxattr(file, &xattr.name[..], &xattr.value, XattrFlags::empty())
}
