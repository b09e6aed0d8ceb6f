//! `manager.workspaceClass`.

use std::collections::BTreeMap;

use super::reader::Group;
use domain::class::{Class, RawClass, RawContainer, RawCpu, RawLimits, RawRequests, RawTemplates};
use domain::names::ClassId;

/// Reads all classes. Those with problems are omitted, and their problems recorded.
pub(super) fn read(classes: Vec<(String, Group<'_>)>) -> BTreeMap<ClassId, Class> {
    let mut valid = BTreeMap::new();
    for (name, mut group) in classes {
        let raw = raw(&mut group);
        match Class::parse(&name, &raw, group.base()) {
            Ok(class) => {
                valid.insert(class.id.clone(), class);
            }
            Err(problems) => {
                for problem in problems {
                    group.problem_below(problem.path, problem.message);
                }
            }
        }
    }
    valid
}

fn raw(group: &mut Group<'_>) -> RawClass {
    #[expect(clippy::cast_possible_truncation, reason = "the wire has 32 bits for credits")]
    let credits_per_minute = group.decimal("creditsPerMinute").unwrap_or_default() as f32;
    let mut container = group.group("container");
    RawClass {
        name: group.text("name").unwrap_or_default(),
        description: group.text("description").unwrap_or_default(),
        credits_per_minute,
        container: RawContainer {
            requests: requests(container.group("requests")),
            limits: limits(container.group("limits")),
        },
        templates: templates(group.group("templates")),
    }
}

fn requests(mut group: Group<'_>) -> RawRequests {
    RawRequests {
        cpu: group.text_or_number("cpu"),
        memory: group.text_or_number("memory"),
        ephemeral_storage: group.text_or_number("ephemeral-storage"),
        storage: group.text_or_number("storage"),
    }
}

fn limits(mut group: Group<'_>) -> RawLimits {
    let mut cpu = group.group("cpu");
    RawLimits {
        cpu: RawCpu { min: cpu.text_or_number("min"), burst: cpu.text_or_number("burst") },
        memory: group.text_or_number("memory"),
        ephemeral_storage: group.text_or_number("ephemeral-storage"),
        storage: group.text_or_number("storage"),
    }
}

fn templates(mut group: Group<'_>) -> RawTemplates {
    // Reading them as files checks that they exist; making the absolute paths absolute again has no effect.
    let check = group.template_check();
    let mut path = |key: &str| {
        let before = group.problems_so_far();
        let Some(path) = group.file(key) else { return String::new() };
        if group.problems_so_far() == before
            && let Err(problem) = check(&path)
        {
            group.problem("", problem);
        }
        path.to_string_lossy().into_owned()
    };
    let (default_path, regular_path) = (path("defaultPath"), path("regularPath"));
    let (prebuild_path, imagebuild_path) = (path("prebuildPath"), path("imagebuildPath"));
    group.ignore("probePath");
    RawTemplates { default_path, regular_path, prebuild_path, imagebuild_path, ..RawTemplates::default() }
}
