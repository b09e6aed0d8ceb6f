//! A kubeconfig that stands alone: files it refers to are on this machine, and the manager is not.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Far above any kubeconfig, far below what fills memory.
const LARGEST: u64 = 1 << 20;
/// Keys that name a file, and the keys that hold its content.
const FILES: [(&str, &str); 3] = [
    ("certificate-authority", "certificate-authority-data"),
    ("client-certificate", "client-certificate-data"),
    ("client-key", "client-key-data"),
];

/// Reads a kubeconfig file; paths in it are relative to it.
pub fn from_file(path: &Path) -> Result<Vec<u8>> {
    let text = String::from_utf8(read(path)?);
    let text = text.ok().with_context(|| format!("{} is not a text", path.display()))?;
    let base = path.parent().unwrap_or(Path::new(""));
    standalone(text, base).with_context(|| format!("kubeconfig {}", path.display()))
}

/// Puts the content of every file in place of its name; what refers to none stays as it is.
pub fn standalone(text: String, base: &Path) -> Result<Vec<u8>> {
    // The parser's message may quote the text, and so a secret: it is not passed on.
    let options = serde_saphyr::options! { strict_booleans: true };
    let Ok(mut config) = serde_saphyr::from_str_with_options::<Value>(&text, options) else {
        bail!("is not valid YAML")
    };
    ensure!(config.get("clusters").is_some_and(Value::is_array), "has no clusters: it is not a kubeconfig");
    let mut changed = false;
    for (list, entry) in [("clusters", "cluster"), ("users", "user")] {
        let entries = config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for object in entries.filter_map(|item| item.get_mut(entry)).filter_map(Value::as_object_mut) {
            changed |= lay_in(object, base)?;
        }
    }
    Ok(if changed { serde_json::to_vec(&config)? } else { text.into_bytes() })
}

fn lay_in(object: &mut Map<String, Value>, base: &Path) -> Result<bool> {
    let mut changed = false;
    for (file_key, data_key) in FILES {
        let Some(Value::String(file)) = object.remove(file_key) else { continue };
        changed = true;
        // As kubectl has it: data wins over a file.
        if !object.contains_key(data_key) && !file.is_empty() {
            let content = read(&base.join(&file)).context(file_key)?;
            object.insert(data_key.to_owned(), STANDARD.encode(content).into());
        }
    }
    if let Some(Value::String(file)) = object.remove("tokenFile") {
        changed = true;
        if !file.is_empty() {
            let token = read(&base.join(&file)).context("tokenFile")?;
            object.insert("token".to_owned(), String::from_utf8_lossy(&token).trim().into());
        }
    }
    Ok(changed)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content));
    file.with_context(|| format!("failed to read {}", path.display()))?;
    ensure!(content.len() as u64 <= LARGEST, "{} is larger than 1 MiB", path.display());
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_laid_in_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), "CA").unwrap();
        std::fs::write(folder.path().join("token"), "t0ken\n").unwrap();
        let config = "clusters: [{name: a, cluster: {server: 'https://a', certificate-authority: ca.pem}}]\n\
                      users: [{name: u, user: {tokenFile: token}}]\ncurrent-context: x\n";
        std::fs::write(folder.path().join("config"), config).unwrap();
        let read: Value = serde_json::from_slice(&from_file(&folder.path().join("config")).unwrap()).unwrap();
        assert_eq!(read["clusters"][0]["cluster"]["certificate-authority-data"], STANDARD.encode("CA"));
        assert_eq!(read["clusters"][0]["cluster"].get("certificate-authority"), None);
        assert_eq!(read["users"][0]["user"]["token"], "t0ken");
        assert_eq!(read["current-context"], "x");
    }

    #[test]
    fn a_kubeconfig_without_files_is_passed_on_as_it_is() {
        let text = "clusters: []   # mine\n";
        assert_eq!(standalone(text.to_owned(), Path::new("")).unwrap(), text.as_bytes());
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused_without_quoting_it() {
        for text in ["a: [hunter2", "hunter2", "", "clusters: hunter2"] {
            let error = format!("{:#}", standalone(text.to_owned(), Path::new("")).unwrap_err());
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
