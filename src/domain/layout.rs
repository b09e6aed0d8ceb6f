//! Where the parts of an initializer put content, and which of them conflict.
//!
//! Parts are executed in their order. git clones into an empty folder, so no earlier part may write into the folder of a
//! repository; later parts may: files, and other repositories below it. A file must not be where a folder is needed. The content
//! of a backup or a snapshot is not known from a request.

use super::path;

/// Path that the node agent writes once content is ready.
const READY: &str = ".gitpod/ready/";

/// Places of an initializer, each with the field that names it.
#[derive(Debug, Default)]
pub struct Layout {
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    /// Relative to `/workspace`, each name followed by a slash: a place is below another if its path begins with the other's.
    path: String,
    kind: Kind,
    field: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A repository is cloned here.
    Repository,
    /// One file.
    File,
    /// The node agent's own file; written last.
    Reserved,
}

/// A field whose place conflicts with that of another.
#[derive(Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The later one of the two fields.
    pub field: String,
    /// Description of the conflict.
    pub why: String,
}

/// Places above a place, of those that were checked before it.
struct Above {
    at: usize,
    /// The latest repository of this place and those above it.
    latest_repository: Option<usize>,
    /// A file at this place or above it.
    file: Option<usize>,
}

impl Layout {
    /// Adds a repository that is cloned into a folder.
    pub fn repository(&mut self, folder: &str, field: impl Into<String>) {
        self.add(path::below_root(folder), Kind::Repository, field.into());
    }

    /// Adds a file below a folder.
    pub fn file(&mut self, folder: &str, file: &str, field: impl Into<String>) {
        let folder = path::below_root(folder);
        self.add(folder + &path::names(file), Kind::File, field.into());
    }

    fn add(&mut self, path: String, kind: Kind, field: String) {
        self.places.push(Place { path, kind, field });
    }

    /// All conflicts, in the order of the request.
    pub fn overlaps(mut self) -> Vec<Overlap> {
        self.add(READY.to_owned(), Kind::Reserved, String::new());
        // Sorted by path, places below a place follow it directly.
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by(|a, b| (&self.places[*a].path, *a).cmp(&(&self.places[*b].path, *b)));
        let mut found: Vec<(usize, String)> = Vec::new();
        let mut above: Vec<Above> = Vec::new();
        for at in order {
            let path = &self.places[at].path;
            while above.last().is_some_and(|above| !path.starts_with(&self.places[above.at].path)) {
                above.pop();
            }
            let nearest = above.last();
            found.extend(nearest.and_then(|above| self.overlap(at, above)));
            let is = |kind| (self.places[at].kind == kind).then_some(at);
            let is_file = is(Kind::File).or(is(Kind::Reserved));
            above.push(Above {
                at,
                latest_repository: nearest
                    .and_then(|above| above.latest_repository)
                    .max(is(Kind::Repository)),
                file: nearest.and_then(|above| above.file).or(is_file),
            });
        }
        found.sort();
        found.dedup_by_key(|(at, _)| *at);
        found.into_iter().map(|(at, why)| Overlap { field: self.places[at].field.clone(), why }).collect()
    }

    /// The later of two places that conflict, and why.
    fn overlap(&self, at: usize, above: &Above) -> Option<(usize, String)> {
        let (place, nearest) = (&self.places[at], &self.places[above.at]);
        let (other, why) = if place.path == nearest.path {
            (above.at, "has the same path as")
        } else if let Some(file) = above.file {
            (file, "needs a folder where there is a file, or the other way round, because of")
        } else {
            let repository = above.latest_repository.filter(|repository| *repository > at)?;
            (repository, "must come first: git clones into an empty folder, and there is already content of")
        };
        let (earlier, later) = if other < at { (other, at) } else { (at, other) };
        Some(if self.places[later].kind == Kind::Reserved {
            (earlier, "conflicts with .gitpod/ready, a file of the node agent".to_owned())
        } else {
            (later, format!("{why} {}", self.places[earlier].field))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `g` a repository, `f` a file below the root.
    fn fields(places: &[(char, &str)]) -> Vec<String> {
        let mut layout = Layout::default();
        for (at, (kind, path)) in places.iter().enumerate() {
            match kind {
                'g' => layout.repository(path, at.to_string()),
                _ => layout.file("", path, at.to_string()),
            }
        }
        layout.overlaps().into_iter().map(|overlap| overlap.field).collect()
    }

    #[test]
    fn separate_places_and_content_inside_an_earlier_repository_are_valid() {
        for good in [
            &[('g', "a"), ('g', "b"), ('f', "c")][..],
            &[('g', ""), ('g', "a"), ('g', "a/b"), ('f', "a/b/c"), ('f', "x")],
            &[('g', "a"), ('g', "a-b"), ('g', "a.b"), ('f', "ab")],
            &[('f', "A"), ('f', "a")],
            &[('g', ".gitpod"), ('f', ".gitpod/tasks")],
            &[('f', "b/c"), ('g', "a")],
        ] {
            assert!(fields(good).is_empty(), "{good:?}");
        }
    }

    #[test]
    fn the_later_of_two_that_take_one_place_is_named() {
        for (bad, field) in [
            (&[('g', "a"), ('g', "a")][..], "1"),
            (&[('g', ""), ('g', "/workspace")], "1"),
            (&[('g', "a/./b/"), ('g', "/workspace//a/b")], "1"),
            (&[('f', "a"), ('f', "./a")], "1"),
            (&[('f', "a"), ('f', "a/b")], "1"),
            (&[('f', "a/b"), ('f', "a")], "1"),
            (&[('f', "a"), ('g', "a")], "1"),
            (&[('g', "a"), ('f', "a")], "1"),
            (&[('f', "a"), ('g', "a/b")], "1"),
            (&[('g', "a/b"), ('f', "a")], "1"),
            // git clones into an empty folder.
            (&[('g', "a/b"), ('g', "a")], "1"),
            (&[('f', "a/b"), ('g', "a")], "1"),
            (&[('f', "x"), ('g', "")], "1"),
            (&[('g', "a/b/c"), ('g', "a/b-c"), ('g', "a")], "2"),
            (&[('g', "b"), ('f', ".gitpod")], "1"),
            (&[('g', "b"), ('f', ".gitpod/ready")], "1"),
            (&[('g', ".gitpod/ready/a")], "0"),
        ] {
            assert_eq!(fields(bad), [field], "{bad:?}");
        }
        assert_eq!(fields(&[('g', "a"), ('g', "a"), ('f', "a"), ('g', "b")]), ["1", "2"]);
    }

    #[test]
    fn an_overlap_names_the_other_field() {
        let mut layout = Layout::default();
        layout.repository("a", "first");
        layout.repository("/workspace/a", "second");
        let overlap = layout.overlaps().remove(0);
        assert_eq!((&*overlap.field, &*overlap.why), ("second", "has the same path as first"));
    }

    proptest! {
        /// Compares with a file system to which the same parts are written in order.
        #[test]
        fn places_are_refused_where_a_file_system_would_refuse_one(
            places in proptest::collection::vec((prop_oneof![Just('g'), Just('f')], "([ab]/){0,2}[ab]"), 0..7)
        ) {
            let mut taken: Vec<(char, String)> = Vec::new();
            let mut works = true;
            for (kind, path) in &places {
                let below = format!("{path}/");
                works &= taken.iter().all(|(other, there)| {
                    let is_inside = path.starts_with(&format!("{there}/"));
                    let is_around = there.starts_with(&below);
                    there != path && !(is_inside && *other == 'f') && !is_around
                });
                taken.push((*kind, path.clone()));
            }
            let given: Vec<(char, &str)> = places.iter().map(|(kind, path)| (*kind, path.as_str())).collect();
            prop_assert_eq!(fields(&given).is_empty(), works);
        }
    }
}
