//! No two files of a crate need each other: what each file imports is read, and the graph must have no circle.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, Path, UseTree, Visibility};

use super::none;
use super::sources::{root, sources};

/// Names from the root of the crate: `["fleet", "gate"]` is `fleet/gate.rs`, and `[]` is `lib.rs`.
type Name = Vec<String>;
/// Files by what they are called, with what each imports.
type Graph = BTreeMap<Name, BTreeSet<Name>>;

#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle() -> Result<()> {
    let mut wrong = Vec::new();
    for room in std::fs::read_dir(root().join("src"))? {
        let folder = format!("src/{}", room?.file_name().to_string_lossy());
        for (file, imports) in circles(&graph_of(&folder)?) {
            let imports: Vec<String> = imports.iter().map(shown).collect();
            wrong.push(format!("{folder}: {} imports {}", shown(&file), imports.join(", ")));
        }
    }
    none(&wrong, "files in a circle")
}

#[test]
fn a_circle_is_found_through_any_kind_of_import_and_whoever_is_beside_it_is_not_in_it() -> Result<()> {
    let files = [
        ("", "mod a; mod b; pub mod c; pub use c::d::Deep; mod e;"),
        ("a", "use super::b::{self, Item};"),
        ("b", "fn f() { crate::Deep::new(); }"),
        ("c", "pub mod d;"),
        ("c/d", "use crate::a; pub struct Deep; #[cfg(test)] mod tests { use crate::e; }"),
        ("e", "use super::a;"),
    ];
    let files = files.into_iter().map(|(name, text)| (name_of(name), text.to_owned())).collect();
    let found: Vec<String> = circles(&graph(&files)?).into_keys().map(|name| shown(&name)).collect();
    ensure!(found == ["a", "b", "c/d"], "{found:?}");
    Ok(())
}

fn name_of(path: &str) -> Name {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn shown(name: &Name) -> String {
    if name.is_empty() { "lib".to_owned() } else { name.join("/") }
}

/// The graph of the product files of a crate.
fn graph_of(folder: &str) -> Result<Graph> {
    let mut files = BTreeMap::new();
    for source in sources(folder)?.into_iter().filter(|source| !source.is_test()) {
        let path = source.path.trim_start_matches(folder).trim_end_matches(".rs");
        if path == "/build" || path == "/main" {
            continue;
        }
        files.insert(name_of(if path == "/lib" { "" } else { path }), source.text);
    }
    graph(&files).with_context(|| folder.to_owned())
}

fn graph(files: &BTreeMap<Name, String>) -> Result<Graph> {
    let mut read = BTreeMap::new();
    for (name, text) in files {
        let children =
            files.keys().filter(|file| file.split_last().is_some_and(|(_, parent)| parent == name));
        let children = children.filter_map(|child| child.last().cloned()).collect();
        let mut imports =
            Imports { file: name.clone(), children, all: Vec::new(), reexports: BTreeMap::new() };
        let parsed = syn::parse_file(text).with_context(|| shown(name))?;
        imports.visit_file(&parsed);
        read.insert(name.clone(), imports);
    }
    let targets = |(name, imports): (&Name, &Imports)| {
        let mut targets: BTreeSet<Name> = imports.all.iter().map(|path| resolved(path, &read, 0)).collect();
        targets.remove(name);
        (name.clone(), targets)
    };
    Ok(read.iter().map(targets).collect())
}

/// The file that a path leads to, through re-exports too.
fn resolved(path: &[String], read: &BTreeMap<Name, Imports>, depth: usize) -> Name {
    let end = (0..=path.len()).rev().find(|end| read.contains_key(&path[..*end])).unwrap_or(0);
    let (file, rest) = path.split_at(end);
    let through = rest.first().and_then(|item| read.get(file)?.reexports.get(item));
    match through {
        Some(target) if depth < 8 => {
            resolved(&[target.as_slice(), rest.get(1..).unwrap_or_default()].concat(), read, depth + 1)
        }
        _ => file.to_vec(),
    }
}

/// The files that import themselves through others, each with what it imports on the way back to itself.
fn circles(graph: &Graph) -> Graph {
    let reached: BTreeMap<&Name, BTreeSet<&Name>> =
        graph.keys().map(|name| (name, reachable(graph, name))).collect();
    let back = |(name, imports): (&Name, &BTreeSet<Name>)| {
        let leads_back = |import: &&Name| reached.get(import).is_some_and(|all| all.contains(name));
        let imports: BTreeSet<Name> = imports.iter().filter(leads_back).cloned().collect();
        (!imports.is_empty()).then(|| (name.clone(), imports))
    };
    graph.iter().filter_map(back).collect()
}

/// All that a file imports, through others too.
fn reachable<'a>(graph: &'a Graph, from: &Name) -> BTreeSet<&'a Name> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Name> = graph.get(from).into_iter().flatten().collect();
    while let Some(name) = next.pop() {
        if reached.insert(name) {
            next.extend(graph.get(name).into_iter().flatten());
        }
    }
    reached
}

/// What one file names, as paths from the root of the crate.
struct Imports {
    file: Name,
    /// Modules that are files below it.
    children: BTreeSet<String>,
    all: Vec<Name>,
    /// What it gives on under a name of its own.
    reexports: BTreeMap<String, Name>,
}

impl Imports {
    /// A path as it is written; none where it leads to another crate, or to what is in scope already.
    fn absolute(&self, written: &[String]) -> Option<Name> {
        let first = written.first()?.as_str();
        let above = written.iter().take_while(|part| *part == "super").count();
        let (base, rest) = match first {
            "crate" => (&[][..], &written[1..]),
            "self" => (self.file.as_slice(), &written[1..]),
            "super" => (&self.file[..self.file.len().checked_sub(above)?], &written[above..]),
            child if self.children.contains(child) => (self.file.as_slice(), written),
            _ => return None,
        };
        Some([base, rest].concat())
    }

    fn import(&mut self, tree: &UseTree, before: &mut Name, is_public: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before, is_public);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.import(item, before, is_public));
            }
            UseTree::Glob(_) => self.note(before, None, is_public),
            UseTree::Name(name) => self.note_named(&name.ident.to_string(), None, before, is_public),
            UseTree::Rename(rename) => {
                let alias = rename.rename.to_string();
                self.note_named(&rename.ident.to_string(), Some(alias), before, is_public);
            }
        }
    }

    fn note_named(&mut self, name: &str, alias: Option<String>, before: &mut Name, is_public: bool) {
        if name == "self" {
            let alias = alias.or_else(|| before.last().cloned());
            self.note(before, alias, is_public);
        } else {
            before.push(name.to_owned());
            self.note(before, Some(alias.unwrap_or_else(|| name.to_owned())), is_public);
            before.pop();
        }
    }

    fn note(&mut self, written: &[String], alias: Option<String>, is_public: bool) {
        let Some(path) = self.absolute(written) else { return };
        // A file that only gives on what is below it needs nothing of that.
        if is_public && path.starts_with(&self.file) {
            self.reexports.extend(alias.map(|alias| (alias, path)));
        } else {
            self.reexports.extend(alias.filter(|_| is_public).map(|alias| (alias, path.clone())));
            self.all.push(path);
        }
    }
}

impl Visit<'_> for Imports {
    fn visit_item_mod(&mut self, module: &ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<Path>().is_ok_and(|condition| condition.is_ident("test"))
        });
        if !is_test {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, &mut Vec::new(), is_public);
    }

    fn visit_path(&mut self, path: &Path) {
        let written: Name = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if written.len() > 1
            && let Some(path) = self.absolute(&written)
        {
            self.all.push(path);
        }
        visit::visit_path(self, path);
    }
}
