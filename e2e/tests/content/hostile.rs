//! Archives and repositories that attack the node: nothing of them runs, nothing outside of the workspace is written, and what
//! they are called does no harm where it is shown.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use proto::contentservice::workspace_initializer::Spec;
use proto::wsman::{StopWorkspaceRequest, TakeSnapshotRequest};

use super::life::{backup, initializer, is_backed_up, repository, snapshot};
use super::secrets::{everything, planted};
use super::stage::{BUCKET, Life, Stage, stage};
use e2e::harness::assets::source_dir;

/// Archives of the corpus that must be refused, and words of the rule.
const ARCHIVES: [(&str, &str); 8] = [
    ("absolute", "its path is absolute"),
    ("device", "a device node"),
    ("hard-outside", "component \"..\""),
    ("hard-through", "hard link"),
    ("parent", "component \"..\""),
    ("sizes", "size"),
    ("swap", "no directory"),
    // By whichever of the two entries is made first.
    ("swap-late", "directory"),
];

/// Names of a folder of a node, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A snapshot's URL, and the file of its object.
async fn taken(stage: &mut Stage) -> Result<(String, std::path::PathBuf)> {
    let source = Life::new("source-1", "source");
    stage.run(&source).await?;
    stage.exec(&source, "filetree fill /workspace/random 1 3").await?;
    let request = TakeSnapshotRequest { id: "source-1".to_owned(), return_immediately: false };
    let url = stage.client.take_snapshot(request).await?.into_inner().url;
    stage.client.stop_workspace(StopWorkspaceRequest { id: "source-1".to_owned(), policy: 2 }).await?;
    stage.stopped("source-1").await?;
    let key = url.split('@').next().context("no key")?.to_owned();
    Ok((url, stage.server.object(BUCKET, &key)))
}

#[test]
fn hostile_archives_fail_the_start_and_write_nothing_outside() -> Result<()> {
    stage("content-hostile", async |stage| {
        let (url, object) = taken(stage).await?;
        let witness = Life::new("witness-1", "witness");
        stage.run(&witness).await?;
        stage.exec(&witness, "filetree make /workspace/tree").await?;
        let made = stage.list(&witness).await?;
        for (name, rule) in ARCHIVES {
            let archive = fs::read(source_dir().join(format!("corpus/content-tar/{name}.tar")))?;
            fs::write(&object, archive)?;
            let id = format!("bad-{name}");
            let why = stage.fails(&Life::new(&id, &id).with(snapshot(&url))).await?;
            eprintln!("{id}: {why}");
            ensure!(why.contains(rule) && !why.contains('\n') && why.len() < 1500, "{id}: {why}");
            ensure!(names(&stage.agent(0)?.path(&id)?).is_empty(), "{id} left something in its folder");
        }
        let root = stage.agent(0)?.path("")?;
        ensure!(!names(&root).iter().any(|name| name == "secret"), "an archive wrote beside its folder");
        for place in [Path::new("/tmp"), &stage.cluster(0)?.real_node()?.path("/var/tmp")] {
            ensure!(
                !place.join("spaceport-fuzz-absolute").exists(),
                "an archive wrote into {}",
                place.display()
            );
        }
        stage.list(&witness).await?.is(&made)?;
        ensure!(is_backed_up(&stage.stop("witness-1").await?), "no backup of the other workspace");
        Ok(())
    })
}

/// Settings, hooks and filters that would run something, and names that a terminal or a log would take for more than names.
const TRAPS: &str = r#"
cd /workspace/project
run="touch /workspace/pwned"
cat >>.git/config <<END
[core]
	fsmonitor = $run
	hooksPath = /workspace/project/hooks
	pager = $run
	sshCommand = $run
[filter "evil"]
	clean = $run
	process = $run
	required = true
[alias]
	status = "!$run"
END
mkdir -p hooks .git/hooks
for hook in post-index-change post-checkout reference-transaction pre-auto-gc; do
	printf '#!/bin/sh\n%s\n' "$run" >hooks/$hook
	cp hooks/$hook .git/hooks/$hook
	chmod +x hooks/$hook .git/hooks/$hook
done
echo "* filter=evil" >.gitattributes
echo changed >>README.md
printf x >"$(printf 'line\nbreak')"
printf x >"$(printf 'red\033[31m\007')"
printf x >"$(printf '\377\376')"
"#;

#[test]
fn a_hostile_repository_runs_nothing_on_the_node_and_its_names_are_harmless() -> Result<()> {
    stage("content-repository", async |stage| {
        stage.git.create("project").await?;
        let files = [
            ("README.md", "hello\n"),
            (".gitattributes", "* filter=evil\n"),
            (".gitmodules", "[submodule \"a\"]\n\tpath = a\n\turl = ext::sh -c touch% /workspace/pwned\n"),
            ("\"control\\033[31m\\n\"", "x\n"),
        ];
        stage.git.commit("project", "main", &files).await?;
        let life = Life::new("trap-1", "trap").with(initializer(Spec::Git(repository(stage, "project"))));
        stage.run(&life).await?;
        stage.exec(&life, TRAPS).await?;
        let made = stage.list(&life).await?;
        let down = stage.stop("trap-1").await?;
        ensure!(is_backed_up(&down), "{down:?}");
        let repo = down.repo.clone().context("no git status")?;
        let lists = [&repo.uncommited_files, &repo.untracked_files, &repo.unpushed_commits];
        ensure!(repo.total_untracked_files >= 3 && repo.branch == "main", "{repo:?}");
        let is_plain = |text: &String| !text.chars().any(char::is_control);
        ensure!(lists.iter().all(|list| list.iter().all(is_plain)), "{repo:?}");
        // In the container nothing ran git, so what there is came from the node.
        let again = Life::new("trap-2", "trap").with(backup()).on(1);
        stage.run(&again).await?;
        let found = stage.list(&again).await?;
        ensure!(!found.names().any(|name| name.contains("pwned")), "something of the repository ran");
        found.is(&made)?;
        let texts = everything(stage).await?;
        planted(stage, &texts)?;
        let logs = texts.iter().filter(|(place, _)| place.starts_with("log of"));
        for (place, text) in logs {
            ensure!(!text.contains(&0x1b) && !text.contains(&0x07), "{place} has control characters");
        }
        stage.stop("trap-2").await?;
        Ok(())
    })
}
