//! Tar headers as the writer makes them: ustar, and pax where ustar has no room.

use tar::{EntryType, Header};

use super::member::{Body, Member};
use crate::tree::{Segment, Time};

/// Size of a tar block.
pub(super) const BLOCK: usize = 512;
/// Largest size that fits into the octal field of a header.
pub(super) const LARGEST_OCTAL: u64 = 0o777_7777_7777;
/// Largest owner that fits.
const LARGEST_ID: u32 = 0o777_7777;
/// Name of headers whose real name is in a pax record.
const PAX_NAME: &[u8] = b"PaxHeaders/entry";
const SPARSE_NAME: &[u8] = b"GNUSparseFile.0/entry";

/// Appends the headers of an entry and, for a sparse file, its list of segments.
pub(super) fn encode(member: &Member, out: &mut Vec<u8>) {
    let mut records = Vec::new();
    let map = match &member.body {
        Body::File { size, segments: Some(segments) } => sparse(member, *size, segments, &mut records),
        _ => Vec::new(),
    };
    let mut header = Header::new_ustar();
    name(member, !map.is_empty(), &mut header, &mut records);
    link(&member.body, &mut header, &mut records);
    owner(member, &mut header, &mut records);
    time(member.meta.mtime, &mut header, &mut records);
    let size = member.body.stored() + map.len() as u64;
    header.set_size(if size > LARGEST_OCTAL { 0 } else { size });
    if size > LARGEST_OCTAL {
        record(&mut records, b"size", size.to_string().as_bytes());
    }
    for xattr in &member.meta.xattrs {
        record(&mut records, &xattr_key(&xattr.name), &xattr.value);
    }
    header.set_mode(member.meta.mode);
    header.set_entry_type(entry_type(&member.body));
    header.set_cksum();
    if !records.is_empty() {
        pax(&records, out);
    }
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&map);
}

/// Appends zeros up to the next block.
pub(super) fn padding(length: u64) -> usize {
    let over = usize::try_from(length % BLOCK as u64).unwrap_or_default();
    if over == 0 { 0 } else { BLOCK - over }
}

fn entry_type(body: &Body) -> EntryType {
    match body {
        Body::File { .. } => EntryType::Regular,
        Body::Directory => EntryType::Directory,
        Body::Symlink(_) => EntryType::Symlink,
        Body::HardLink(_) => EntryType::Link,
        Body::Fifo => EntryType::Fifo,
    }
}

fn pax(records: &[u8], out: &mut Vec<u8>) {
    let mut header = Header::new_ustar();
    put(PAX_NAME, header.as_ustar_mut().map(|header| &mut header.name[..]));
    header.set_size(records.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(EntryType::XHeader);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(records);
    out.resize(out.len() + padding(records.len() as u64), 0);
}

/// `length key=value\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length += 1;
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// GNU tar escapes these two characters of a name, since `=` ends the key.
fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            byte => key.push(*byte),
        }
    }
    key
}

/// The list of segments in GNU's format 1.0, padded to a block.
fn sparse(member: &Member, size: u64, segments: &[Segment], records: &mut Vec<u8>) -> Vec<u8> {
    record(records, b"GNU.sparse.major", b"1");
    record(records, b"GNU.sparse.minor", b"0");
    record(records, b"GNU.sparse.name", &member.path);
    record(records, b"GNU.sparse.realsize", size.to_string().as_bytes());
    // A hole at the end needs an empty segment there.
    let end = segments.last().map_or(0, |last| last.offset + last.length);
    let last = (end < size).then_some(Segment { offset: size, length: 0 });
    let mut map = format!("{}\n", segments.len() + usize::from(last.is_some()));
    for Segment { offset, length } in segments.iter().chain(&last) {
        for number in [offset, length] {
            map.push_str(&number.to_string());
            map.push('\n');
        }
    }
    let mut map = map.into_bytes();
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}

fn name(member: &Member, sparse: bool, header: &mut Header, records: &mut Vec<u8>) {
    let Some(ustar) = header.as_ustar_mut() else { return };
    if sparse {
        return put(SPARSE_NAME, Some(&mut ustar.name));
    }
    let mut path = member.path.clone();
    if member.body == Body::Directory {
        path.push(b'/');
    }
    if path.len() <= ustar.name.len() {
        return put(&path, Some(&mut ustar.name));
    }
    // The longest prefix that fits leaves the shortest name.
    let longest = ustar.prefix.len().min(path.len().saturating_sub(2));
    let slash = path.iter().take(longest + 1).rposition(|byte| *byte == b'/');
    if let Some((prefix, [_, name @ ..])) = slash.and_then(|slash| path.split_at_checked(slash))
        && !name.is_empty()
        && !prefix.is_empty()
        && name.len() <= ustar.name.len()
    {
        put(prefix, Some(&mut ustar.prefix));
        return put(name, Some(&mut ustar.name));
    }
    record(records, b"path", &path);
    put(PAX_NAME, Some(&mut ustar.name));
}

fn link(body: &Body, header: &mut Header, records: &mut Vec<u8>) {
    let (Body::Symlink(target) | Body::HardLink(target)) = body else { return };
    let Some(ustar) = header.as_ustar_mut() else { return };
    if target.len() > ustar.linkname.len() {
        record(records, b"linkpath", target);
    }
    put(target, Some(&mut ustar.linkname));
}

fn owner(member: &Member, header: &mut Header, records: &mut Vec<u8>) {
    let fits = |id: u32| if id > LARGEST_ID { 0 } else { u64::from(id) };
    header.set_uid(fits(member.meta.uid));
    header.set_gid(fits(member.meta.gid));
    for (key, id) in [(&b"uid"[..], member.meta.uid), (b"gid", member.meta.gid)] {
        if id > LARGEST_ID {
            record(records, key, id.to_string().as_bytes());
        }
    }
}

fn time(mtime: Time, header: &mut Header, records: &mut Vec<u8>) {
    let seconds = u64::try_from(mtime.seconds).ok().filter(|seconds| *seconds <= LARGEST_OCTAL);
    header.set_mtime(seconds.unwrap_or_default());
    if mtime.nanos != 0 || seconds.is_none() {
        record(records, b"mtime", decimal(mtime).as_bytes());
    }
}

/// A time as a decimal number; before the epoch the fraction counts away from it.
fn decimal(time: Time) -> String {
    if time.seconds < 0 && time.nanos > 0 {
        return format!("-{}.{:09}", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - time.nanos);
    }
    format!("{}.{:09}", time.seconds, time.nanos)
}

/// Copies what fits.
fn put(text: &[u8], field: Option<&mut [u8]>) {
    for (to, from) in field.unwrap_or_default().iter_mut().zip(text) {
        *to = *from;
    }
}
