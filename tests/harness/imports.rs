//! Reads which module of the host's packages names which other, from the source text.
//!
//! A name counts wherever it stands: in a `use` tree, in a path of an expression or a type, and inside a macro's tokens.
//! Names that a module re-exports are followed to the module that defines them. Code that is compiled only for tests
//! does not count.

#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "the indices are those of the same lists, and the enums those of the parser"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, ItemMod, ItemUse, Macro, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

use crate::repository;

/// The names of the folders below `host/`, each a package.
pub const PACKAGES: [&str; 7] = ["executor", "queue", "sandhog", "simple", "sqs", "sqs-wire", "traces"];
/// A chain of re-exports is not longer.
const MAX_REEXPORTS: usize = 8;

type ModulePath = Vec<String>;

/// One source file of a package, with the names that it uses.
#[derive(Debug)]
pub struct SourceFile {
    /// The path below the repository, with `/`.
    pub path: String,
    module: ModulePath,
    /// Each name that the file uses: first segment `crate` for names of its own package.
    names: BTreeSet<ModulePath>,
    /// The names that its `use` items bring in, and where they come from.
    brought: BTreeMap<(ModulePath, String), ModulePath>,
}

impl SourceFile {
    /// Returns the path below the package's `src`.
    pub fn below(&self) -> &str {
        self.path.split_once("/src/").map_or(&self.path, |(_, below)| below)
    }

    /// Returns whether the file uses a path that begins with `prefix`, such as `std::env::var`.
    pub fn names_path(&self, prefix: &str) -> bool {
        let prefix: Vec<_> = prefix.split("::").collect();
        self.names
            .iter()
            .any(|name| name.len() >= prefix.len() && name.iter().zip(&prefix).all(|(have, want)| have == want))
    }
}

/// The files of one package and the graph of their imports.
#[derive(Debug)]
pub struct PackageImports {
    /// The files, by their modules' order.
    pub files: Vec<SourceFile>,
}

impl PackageImports {
    /// Reads the package in `host/FOLDER/src`.
    ///
    /// # Panics
    ///
    /// A file can't be read, or is no Rust.
    pub fn read(folder: &str) -> Self {
        let source = repository().join("host").join(folder).join("src");
        let mut paths = Vec::new();
        collect(&source, &mut paths);
        paths.sort();
        let files: Vec<_> = paths
            .iter()
            // A program is a package of its own that uses the library.
            .filter(|path| path.file_name().is_none_or(|name| name != "main.rs"))
            .map(|path| read_file(&source, path))
            .collect();
        assert!(files.len() > 3, "only {} files below {}", files.len(), source.display());
        Self { files }
    }

    /// Returns the files that each file imports from, as indices into `files`.
    fn edges(&self) -> Vec<BTreeSet<usize>> {
        let modules: BTreeMap<_, _> = self
            .files
            .iter()
            .enumerate()
            .map(|(index, file)| (file.module.clone(), index))
            .collect();
        let brought: BTreeMap<_, _> = self.files.iter().flat_map(|file| file.brought.clone()).collect();
        self.files
            .iter()
            .enumerate()
            .map(|(index, file)| {
                file.names
                    .iter()
                    .filter_map(|name| defining_file(name, &modules, &brought))
                    .filter(|target| *target != index)
                    .collect()
            })
            .collect()
    }

    /// Returns the groups of two and more files that import from each other in a circle, the largest first, as paths
    /// below the package's `src`.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let edges = self.edges();
        let reach: Vec<_> = (0..edges.len()).map(|from| reachable(from, &edges)).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for from in 0..edges.len() {
            if !seen.insert(from) {
                continue;
            }
            let circle: Vec<_> = reach[from]
                .iter()
                .copied()
                .filter(|to| *to != from && reach[*to].contains(&from))
                .collect();
            if circle.is_empty() {
                continue;
            }
            seen.extend(&circle);
            let mut paths: Vec<_> = std::iter::once(from)
                .chain(circle)
                .map(|index| self.files[index].below().to_owned())
                .collect();
            paths.sort();
            circles.push(paths);
        }
        circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
        circles
    }
}

fn reachable(from: usize, edges: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for next in &edges[node] {
            if found.insert(*next) {
                open.push(*next);
            }
        }
    }
    found
}

/// Follows re-exports, and returns the file of the module that defines the name.
fn defining_file(
    name: &[String],
    modules: &BTreeMap<ModulePath, usize>,
    brought: &BTreeMap<(ModulePath, String), ModulePath>,
) -> Option<usize> {
    let mut name = name.to_vec();
    for _ in 0..MAX_REEXPORTS {
        if name.first().is_none_or(|first| first != "crate") {
            return None;
        }
        let (module, rest) = split_module(name.get(1..)?, modules);
        let next = rest
            .first()
            .and_then(|first| brought.get(&(module.clone(), first.clone())));
        match next {
            Some(target) if *target != name => {
                name = target.iter().chain(rest.iter().skip(1)).cloned().collect();
            }
            _ => return modules.get(&module).copied(),
        }
    }
    None
}

/// Splits a path within a package into the longest prefix that is a file's module, and what follows.
fn split_module<'a>(path: &'a [String], modules: &BTreeMap<ModulePath, usize>) -> (ModulePath, &'a [String]) {
    let length = (0..=path.len())
        .rev()
        .find(|length| modules.contains_key(&path[..*length]))
        .unwrap_or(0);
    (path[..length].to_vec(), &path[length..])
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn read_file(source: &Path, path: &Path) -> SourceFile {
    let text = fs::read_to_string(path).unwrap();
    let tree = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let below = path.strip_prefix(source).unwrap().with_extension("");
    let mut module: ModulePath = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module == ["lib"] {
        module.clear();
    }
    let mut reader = Reader {
        at: module.clone(),
        children: vec![children(&tree.items)],
        names: BTreeSet::new(),
        brought: BTreeMap::new(),
    };
    reader.visit_file(&tree);
    SourceFile {
        path: path.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned(),
        module,
        names: reader.names,
        brought: reader.brought,
    }
}

fn children(items: &[Item]) -> BTreeSet<String> {
    items
        .iter()
        .filter_map(|item| match item {
            Item::Mod(module) => Some(module.ident.to_string()),
            _ => None,
        })
        .collect()
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

struct Reader {
    at: ModulePath,
    children: Vec<BTreeSet<String>>,
    names: BTreeSet<ModulePath>,
    brought: BTreeMap<(ModulePath, String), ModulePath>,
}

impl Reader {
    /// Returns the path from the package's root, or from the other package's.
    fn resolve(&self, path: &[String]) -> Option<ModulePath> {
        let own = |module: &[String], rest: &[String]| {
            std::iter::once("crate".to_owned())
                .chain(module.iter().cloned())
                .chain(rest.iter().cloned())
                .collect()
        };
        match path.first()?.as_str() {
            "crate" => Some(path.to_vec()),
            "self" => Some(own(&self.at, &path[1..])),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let module = &self.at[..self.at.len().checked_sub(up)?];
                Some(own(module, &path[up..]))
            }
            first if self.children.last().is_some_and(|children| children.contains(first)) => Some(own(&self.at, path)),
            _ => Some(path.to_vec()),
        }
    }

    fn note(&mut self, path: &[String]) {
        if let Some(name) = self.resolve(path) {
            self.names.insert(name);
        }
    }

    fn use_tree(&mut self, tree: &UseTree, before: &[String], reexport: bool) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.use_tree(&path.tree, &with(path.ident.to_string()), reexport),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, before, reexport);
                }
            }
            UseTree::Name(name) if name.ident == "self" => {
                let local = before.last().cloned().unwrap_or_default();
                self.bring(before, &local, reexport);
            }
            UseTree::Name(name) => self.bring(&with(name.ident.to_string()), &name.ident.to_string(), reexport),
            UseTree::Rename(rename) => {
                self.bring(&with(rename.ident.to_string()), &rename.rename.to_string(), reexport);
            }
            UseTree::Glob(_) => self.note(before),
        }
    }

    fn bring(&mut self, path: &[String], local: &str, reexport: bool) {
        let Some(name) = self.resolve(path) else { return };
        self.brought.insert((self.at.clone(), local.to_owned()), name.clone());
        if !reexport {
            self.names.insert(name);
        }
    }

    /// Notes each `a::b::c` among the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Ident(ident) => {
                    self.end(&mut path);
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                TokenTree::Group(group) => {
                    self.end(&mut path);
                    self.tokens(group.stream());
                }
                _ => self.end(&mut path),
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.note(path);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if let Some((_, items)) = &module.content {
            self.at.push(module.ident.to_string());
            self.children.push(children(items));
            visit::visit_item_mod(self, module);
            self.children.pop();
            self.at.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let reexport = !matches!(item.vis, Visibility::Inherited);
        self.use_tree(&item.tree, &[], reexport);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.note(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}
