//! Reads the pod templates that the configuration names, and the folder of those that cluster files may name.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use controller::{TemplateError, TemplateFolder, parse_template};
use runtime::{config, files};

/// Maximum bytes of one template.
const LARGEST: usize = 256 * 1024;

/// Reads a template that the configuration names.
pub(super) fn read(path: &Path) -> Result<Pod, TemplateError> {
    let text = files::read_text(path, LARGEST)
        .map_err(|error| TemplateError::Read { path: path.to_owned(), reason: error.to_string() })?;
    parse_template(path, &text)
}

/// Checks a template that the configuration names.
pub(super) fn check(path: &Path) -> Result<(), String> {
    read(path).map(drop).map_err(|error| error.to_string())
}

/// Reads all files below the folder; an invalid one matters only to a cluster file that names it.
pub(super) fn read_folder(folder: Option<&Path>) -> Result<TemplateFolder, config::Problem> {
    let Some(folder) = folder else { return Ok(TemplateFolder::default()) };
    let files = config::files_below(folder).map_err(|error| config::Problem {
        path: "manager.templateFolder".to_owned(),
        message: format!("{}: {error}", folder.display()),
    })?;
    Ok(TemplateFolder::new(folder.to_owned(), files))
}
