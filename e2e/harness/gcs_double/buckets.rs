//! Buckets with objects, their generations, and uploads in parts.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use parking_lot::Mutex;

use super::auth::hex;

/// The smallest part but the last, as Google has it.
const PART_MIN: usize = 5 * 1024 * 1024;

/// An object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) content: Bytes,
    /// With quotes.
    pub(super) e_tag: String,
    pub(super) generation: u64,
    pub(super) modified: Timestamp,
    pub(super) content_type: String,
}

/// An upload in parts.
struct Upload {
    bucket: String,
    key: String,
    content_type: String,
    parts: BTreeMap<u32, (String, Bytes)>,
}

/// Why something was not done: error code and HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rejected(pub(super) u16, pub(super) &'static str);

pub(super) const NO_BUCKET: Rejected = Rejected(404, "NoSuchBucket");
const NO_KEY: Rejected = Rejected(404, "NoSuchKey");
const NO_UPLOAD: Rejected = Rejected(404, "NoSuchUpload");
const PRECONDITION: Rejected = Rejected(412, "PreconditionFailed");
const INVALID_PART: Rejected = Rejected(400, "InvalidPart");

#[derive(Default)]
struct Inner {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    uploads: BTreeMap<String, Upload>,
    generation: u64,
}

/// All buckets.
#[derive(Default)]
pub(super) struct Buckets(Mutex<Inner>);

impl Inner {
    fn bucket(&mut self, name: &str) -> Result<&mut BTreeMap<String, Object>, Rejected> {
        self.buckets.get_mut(name).ok_or(NO_BUCKET)
    }

    fn next_generation(&mut self) -> u64 {
        // Google's are microseconds; what matters is that they rise.
        self.generation += 1;
        1_700_000_000_000_000 + self.generation
    }
}

pub(super) fn md5(content: &[u8]) -> Vec<u8> {
    Md5::digest(content).to_vec()
}

impl Buckets {
    pub(super) fn names(&self) -> Vec<String> {
        self.0.lock().buckets.keys().cloned().collect()
    }

    pub(super) fn keys(&self, bucket: &str) -> Vec<String> {
        self.0.lock().buckets.get(bucket).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    pub(super) fn uploads(&self) -> usize {
        self.0.lock().uploads.len()
    }

    pub(super) fn damage(&self, bucket: &str, key: &str, damage: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut inner = self.0.lock();
        let object = inner.buckets.get_mut(bucket).and_then(|objects| objects.get_mut(key));
        let object = object.with_context(|| format!("{bucket} has no {key}"))?;
        let mut content = object.content.to_vec();
        damage(&mut content);
        object.content = content.into();
        Ok(())
    }

    /// Whether it was created: its name may be taken.
    pub(super) fn create(&self, name: &str) -> bool {
        let mut inner = self.0.lock();
        let is_new = !inner.buckets.contains_key(name);
        inner.buckets.entry(name.to_owned()).or_default();
        is_new
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Result<Object, Rejected> {
        self.0.lock().bucket(bucket)?.get(key).cloned().ok_or(NO_KEY)
    }

    /// `generation` is the precondition; zero: there must be no object.
    pub(super) fn put(
        &self,
        (bucket, key): (&str, &str),
        content: Bytes,
        content_type: &str,
        generation: Option<u64>,
    ) -> Result<Object, Rejected> {
        let e_tag = format!("\"{}\"", hex(&md5(&content)));
        self.insert((bucket, key), content, e_tag, content_type, generation)
    }

    fn insert(
        &self,
        (bucket, key): (&str, &str),
        content: Bytes,
        e_tag: String,
        content_type: &str,
        wanted: Option<u64>,
    ) -> Result<Object, Rejected> {
        let mut inner = self.0.lock();
        let now = inner.bucket(bucket)?.get(key).map_or(0, |object| object.generation);
        if wanted.is_some_and(|wanted| wanted != now) {
            return Err(PRECONDITION);
        }
        let (generation, modified) = (inner.next_generation(), Timestamp::now());
        let content_type = content_type.to_owned();
        let object = Object { content, e_tag, generation, modified, content_type };
        inner.bucket(bucket)?.insert(key.to_owned(), object.clone());
        Ok(object)
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) -> Result<(), Rejected> {
        self.0.lock().bucket(bucket)?.remove(key).map(drop).ok_or(NO_KEY)
    }

    /// At most `most` objects whose names begin with `prefix` and come after `after`, and whether there are more.
    pub(super) fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: &str,
        most: usize,
    ) -> Result<(Vec<(String, Object)>, bool), Rejected> {
        let mut inner = self.0.lock();
        let all = inner.bucket(bucket)?.iter();
        let mut wanted = all
            .filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after)
            .map(|(key, object)| (key.clone(), object.clone()));
        let page: Vec<_> = wanted.by_ref().take(most).collect();
        Ok((page, wanted.next().is_some()))
    }

    pub(super) fn begin(&self, bucket: &str, key: &str, content_type: &str) -> Result<String, Rejected> {
        let mut inner = self.0.lock();
        inner.bucket(bucket)?;
        let id = format!("upload-{}", inner.next_generation());
        let upload = Upload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            content_type: content_type.to_owned(),
            parts: BTreeMap::new(),
        };
        inner.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    /// The ETag of the part.
    pub(super) fn part(&self, id: &str, number: u32, content: Bytes) -> Result<String, Rejected> {
        let mut inner = self.0.lock();
        let upload = inner.uploads.get_mut(id).ok_or(NO_UPLOAD)?;
        if !(1..=10_000).contains(&number) {
            return Err(INVALID_PART);
        }
        let e_tag = format!("\"{}\"", hex(&md5(&content)));
        upload.parts.insert(number, (e_tag.clone(), content));
        Ok(e_tag)
    }

    pub(super) fn abort(&self, id: &str) -> Result<(), Rejected> {
        self.0.lock().uploads.remove(id).map(drop).ok_or(NO_UPLOAD)
    }

    /// Makes the object of the parts with these numbers and ETags.
    pub(super) fn complete(&self, id: &str, named: &[(u32, String)]) -> Result<Object, Rejected> {
        let (target, content_type, content, e_tag) = {
            let inner = self.0.lock();
            let upload = inner.uploads.get(id).ok_or(NO_UPLOAD)?;
            let (mut content, mut sums) = (Vec::new(), Vec::new());
            for (place, (number, wanted)) in named.iter().enumerate() {
                let (e_tag, part) = upload.parts.get(number).ok_or(INVALID_PART)?;
                if e_tag.trim_matches('"') != wanted.trim_matches('"') {
                    return Err(INVALID_PART);
                }
                if part.len() < PART_MIN && place + 1 < named.len() {
                    return Err(Rejected(400, "EntityTooSmall"));
                }
                content.extend_from_slice(part);
                sums.extend(md5(part));
            }
            let e_tag = format!("\"{}-{}\"", hex(&md5(&sums)), named.len());
            ((upload.bucket.clone(), upload.key.clone()), upload.content_type.clone(), content, e_tag)
        };
        let made = self.insert((&target.0, &target.1), content.into(), e_tag, &content_type, None)?;
        self.0.lock().uploads.remove(id);
        Ok(made)
    }
}
