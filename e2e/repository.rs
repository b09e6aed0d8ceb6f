//! Rules the repository keeps about itself. `UPDATE_EXPECT=1 cargo test --test repository` rewrites generated files.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use spaceport::cluster::resources;
use spaceport::runtime::config::Config;

/// What each room may import besides itself. The way of the data is the order of the rooms, and arrows point towards
/// `domain`; `api`, `cluster` and `store` never import one another.
const DIRECTIONS: [(&str, &[&str]); 9] = [
    ("domain", &[]),
    ("proto", &[]),
    ("runtime", &["domain"]),
    ("store", &["domain"]),
    ("cluster", &["domain"]),
    ("controller", &["cluster", "domain", "proto"]),
    ("federation", &["store", "cluster", "controller", "domain"]),
    ("api", &["federation", "domain", "proto", "runtime"]),
    ("cli", &["proto", "domain", "runtime"]),
];
/// Files that know every room: the wiring, the program, and the list of rooms.
const WIRING: [&str; 3] = ["src/manager.rs", "src/main.rs", "src/lib.rs"];
/// The one place where errors become status codes has to name the errors of the rooms behind `federation`.
const ERROR_MAPPING: (&str, [&str; 2]) =
    ("src/api/error.rs", ["crate::cluster::Error", "crate::store::Error"]);
/// Crates that do IO or belong to an outer room.
const OUTER_CRATES: [&str; 10] = [
    "tokio",
    "tokio_util",
    "tokio_stream",
    "kube",
    "k8s_openapi",
    "tonic",
    "prost",
    "etcd_client",
    "hyper",
    "axum",
];
/// Lines of a file up to its tests.
const LONGEST_FILE: usize = 400;

/// The wire is a promise to clients that exist: whoever changes it sees the change as a diff of `proto/wire.lock`.
#[test]
fn wire_matches_the_lock() -> Result<()> {
    let set = FileDescriptorSet::decode(spaceport::proto::FILE_DESCRIPTOR_SET)?;
    let mut lines = Vec::new();
    for file in set.file.iter().filter(|file| !file.name().starts_with("google/")) {
        let package = file.package();
        for message in &file.message_type {
            list_message(package, message, &mut lines);
        }
        for enumeration in &file.enum_type {
            list_enum(package, enumeration, &mut lines);
        }
        for service in &file.service {
            for method in &service.method {
                let stream = |on: bool| if on { "stream " } else { "" };
                lines.push(format!(
                    "{package}.{}.{}({}{}) -> {}{}",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    bare(method.input_type()),
                    stream(method.server_streaming()),
                    bare(method.output_type()),
                ));
            }
        }
    }
    lines.sort();
    matches_file("proto/wire.lock", &(lines.join("\n") + "\n"))
}

/// What is installed in member clusters is what the types say, and reads back as the same thing.
#[test]
fn crds_match_the_types() -> Result<()> {
    for crd in resources::crds() {
        let yaml = resources::to_yaml(&crd)?;
        let read: serde_json::Value = serde_saphyr::from_str(&yaml)?;
        ensure!(
            read == serde_json::to_value(&crd)?,
            "the YAML of {:?} reads as something else",
            crd.metadata.name
        );
        matches_file(&format!("crds/{}.yaml", crd.name_any()), &yaml)?;
    }
    Ok(())
}

#[test]
fn rooms_import_only_in_the_allowed_direction() -> Result<()> {
    let mut wrong = Vec::new();
    for source in sources("src")? {
        if WIRING.contains(&source.path.as_str()) {
            continue;
        }
        let room = source.room();
        let Some((_, allowed)) = DIRECTIONS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: {room} is no room that the rule knows", source.path));
            continue;
        };
        for (line, text) in source.code() {
            for (import, path) in imports(text) {
                let mapping = source.path == ERROR_MAPPING.0 && ERROR_MAPPING.1.contains(&path);
                if import != room && !allowed.contains(&import) && !mapping {
                    wrong.push(format!("{}:{line}: {room} must not know {import}: {path}", source.path));
                }
            }
        }
    }
    none(&wrong, "imports against the direction of the rooms")
}

#[test]
fn the_domain_does_no_io() -> Result<()> {
    let mut wrong = Vec::new();
    for source in sources("src/domain")? {
        for (line, text) in source.code() {
            for name in OUTER_CRATES.iter().filter(|name| mentions_crate(text, name)) {
                wrong.push(format!("{}:{line}: {name}", source.path));
            }
        }
    }
    none(&wrong, "crates that the domain must not know")
}

#[test]
fn files_stay_short() -> Result<()> {
    let sources = sources("src")?.into_iter().chain(sources("e2e")?);
    let long: Vec<String> = sources
        .filter(|source| !source.is_test() && source.lines_before_tests() > LONGEST_FILE)
        .map(|source| format!("{}: {} lines", source.path, source.lines_before_tests()))
        .collect();
    none(&long, &format!("files of more than {LONGEST_FILE} lines without their tests"))
}

/// Clippy denies these too; an `allow` would get past it.
#[test]
fn no_panics_in_the_product() -> Result<()> {
    const PANICS: [&str; 5] = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("];
    let mut wrong = Vec::new();
    for source in sources("src")?.into_iter().filter(|source| !source.is_test()) {
        let product = source.lines_before_tests();
        for (line, text) in source.code().filter(|(line, _)| *line <= product) {
            wrong.extend(
                PANICS
                    .iter()
                    .filter(|panic| text.contains(*panic))
                    .map(|p| format!("{}:{line}: {p}", source.path)),
            );
        }
    }
    none(&wrong, "panics")
}

/// Read by the program itself, up to the point where it would ask a server.
#[test]
fn the_example_clusters_are_understood() -> Result<()> {
    const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    fs::write(&kubeconfig, KUBECONFIG)?;
    let mut examples = 0;
    for file in fs::read_dir(root().join("clusters"))? {
        let file = file?.path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        examples += 1;
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_spaceport"))
            .args(["cluster", "register", "--file"])
            .arg(&file)
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .env_remove("SPACEPORT_ENDPOINT")
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(error.contains("no server is named"), "{} is refused: {error}", file.display());
    }
    ensure!(examples >= 3, "an example a region, but there are {examples}");
    Ok(())
}

/// The manager starts with the configuration that `deploy/` installs, and the files that it names are the mounted ones.
#[test]
fn the_deployed_configuration_is_understood() -> Result<()> {
    let manifests: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(&fs::read_to_string(root().join("deploy/manager.yaml"))?)?;
    let config = manifests
        .iter()
        .find(|manifest| manifest["kind"] == "ConfigMap")
        .and_then(|manifest| manifest["data"]["config.yaml"].as_str())
        .context("deploy/manager.yaml has no ConfigMap with config.yaml")?;
    let folder = tempfile::tempdir()?;
    let issued = rcgen::generate_simple_self_signed(["spaceport".to_owned()])?;
    for group in ["etcd", "rpc"] {
        let secrets = folder.path().join(group);
        fs::create_dir(&secrets)?;
        for name in ["ca.crt", "tls.crt"] {
            fs::write(secrets.join(name), issued.cert.pem())?;
        }
        fs::write(secrets.join("tls.key"), issued.signing_key.serialize_pem())?;
    }
    fs::create_dir(folder.path().join("seal"))?;
    fs::write(folder.path().join("seal/key"), [7; 32])?;
    let file = folder.path().join("config.yaml");
    fs::write(&file, config.replace("/secrets", &folder.path().to_string_lossy()))?;
    Config::load(&file).context("the ConfigMap of deploy/manager.yaml")?;
    Ok(())
}

/// Compares a generated text with the committed file, or rewrites the file where `UPDATE_EXPECT` is set.
fn matches_file(path: &str, generated: &str) -> Result<()> {
    let file = root().join(path);
    if env::var_os("UPDATE_EXPECT").is_some() {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        return fs::write(&file, generated).with_context(|| format!("write {path}"));
    }
    let committed = fs::read_to_string(&file).with_context(|| format!("read {path}"))?;
    let differs = committed.lines().zip(generated.lines()).find(|(left, right)| left != right);
    ensure!(
        committed == generated,
        "{path} is out of date, first difference (committed, generated): {differs:?}; \
         UPDATE_EXPECT=1 cargo test --test repository rewrites it"
    );
    Ok(())
}

fn list_message(scope: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{scope}.{}", message.name());
    lines.extend(message.field.iter().map(|field| {
        format!("{name}.{} = {} {}", field.name(), field.number(), type_of(&name, message, field))
    }));
    // A message's range excludes its end.
    lines.extend(message.reserved_range.iter().map(|range| reserved(&name, range.start(), range.end() - 1)));
    lines.extend(message.reserved_name.iter().map(|field| format!("{name} reserves {field}")));
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        list_message(&name, nested, lines);
    }
    for enumeration in &message.enum_type {
        list_enum(&name, enumeration, lines);
    }
}

fn list_enum(scope: &str, enumeration: &EnumDescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{scope}.{}", enumeration.name());
    lines.extend(
        enumeration.value.iter().map(|value| format!("{name}.{} = {}", value.name(), value.number())),
    );
    // An enum's range includes its end.
    lines.extend(enumeration.reserved_range.iter().map(|range| reserved(&name, range.start(), range.end())));
    lines.extend(enumeration.reserved_name.iter().map(|value| format!("{name} reserves {value}")));
}

fn reserved(name: &str, first: i32, last: i32) -> String {
    if first == last {
        format!("{name} reserves {first}")
    } else {
        format!("{name} reserves {first} to {last}")
    }
}

/// The type as it is written in a `.proto` file, with the oneof a field is part of.
fn type_of(scope: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        is_map_entry(nested) && bare(field.type_name()) == format!("{scope}.{}", nested.name())
    });
    if let Some([key, value]) = entry.map(|entry| entry.field.as_slice()) {
        return format!("map<{}, {}>", bare_type(key), bare_type(value));
    }
    let bare = bare_type(field);
    if field.proto3_optional() {
        return format!("optional {bare}");
    }
    if field.label() == Label::Repeated {
        return format!("repeated {bare}");
    }
    let oneof = field.oneof_index.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
    oneof.map_or(bare.clone(), |oneof| format!("{bare} (oneof {})", oneof.name()))
}

fn bare_type(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum | Type::Group => bare(field.type_name()).to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

/// A type's full name without the leading dot that descriptors have.
fn bare(name: &str) -> &str {
    name.trim_start_matches('.')
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

/// A Rust file of the repository.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl Source {
    /// `src/api/mod.rs` is in `api`, `src/proto.rs` in `proto`.
    fn room(&self) -> &str {
        let rest = self.path.trim_start_matches("src/");
        rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs")
    }

    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.contains("tests") || self.path.contains("/tests/")
    }

    /// A list of modules may declare tests and go on.
    fn lines_before_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let tests = |pair: &[&str]| matches!(pair, ["#[cfg(test)]", next] if !next.ends_with(';'));
        lines.windows(2).position(tests).unwrap_or(lines.len())
    }

    /// Numbered lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = |line: &str| !line.trim_start().starts_with("//");
        self.text.lines().enumerate().filter(move |(_, line)| code(line)).map(|(at, line)| (at + 1, line))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder.
fn sources(folder: &str) -> Result<Vec<Source>> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let file = entry?.path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|extension| extension == "rs") {
                let path = file.strip_prefix(root())?.to_string_lossy().into_owned();
                found.push(Source { path, text: fs::read_to_string(&file)? });
            }
        }
    }
    ensure!(!found.is_empty(), "there is no Rust file in {folder}");
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

/// The rooms that a line names, each with the path it stands in. What is no plain path, as `crate::{…}`, is no room.
fn imports(line: &str) -> Vec<(&str, &str)> {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let paths =
        line.match_indices("crate::").filter(|(at, _)| !line[..*at].ends_with(|c| in_name(c) || c == '$'));
    paths
        .map(|(at, prefix)| {
            let path = &line[at..];
            let end = path.find(|c| !in_name(c) && c != ':').unwrap_or(path.len());
            let room = path[prefix.len()..end].split("::").next().unwrap_or_default();
            (room, &path[..end])
        })
        .collect()
}

/// Whether a line has the name as a path's beginning.
fn mentions_crate(line: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        !before.ends_with(inside)
            && (after.starts_with("::") || (before.trim() == "use" && after.starts_with(';')))
    })
}

fn none(wrong: &[String], what: &str) -> Result<()> {
    ensure!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    Ok(())
}
