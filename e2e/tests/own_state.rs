//! Spaceport's own state is backed up and restored by the commands of `docs/operations/back-up-spaceport.md`, run as they are
//! written there.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use e2e::harness::assets::source_dir;
use e2e::harness::etcd::{Etcd, EtcdOptions, EtcdSecurity};
use e2e::harness::process::Signal;
use e2e::harness::spaceport::{Installation, program};

use crate::adopt::standing;
use crate::story::{SOON, Story, describe, request, resource_gone, run, stop, story, until};

/// The commands of the page: its blocks of shell that set no example's values.
struct Page(Vec<String>);

impl Page {
    fn read() -> Result<Self> {
        let text = fs::read_to_string(source_dir().join("../docs/operations/back-up-spaceport.md"))?;
        let mut blocks = Vec::new();
        let mut block: Option<Vec<&str>> = None;
        for line in text.lines().map(str::trim) {
            match (&mut block, line) {
                (None, "```sh") => block = Some(Vec::new()),
                (Some(lines), "```") => {
                    if !lines.iter().all(|line| line.starts_with("export ")) {
                        blocks.push(lines.join("\n"));
                    }
                    block = None;
                }
                (Some(lines), line) => lines.push(line),
                (None, _) => {}
            }
        }
        Ok(Self(blocks))
    }

    /// The block that has these words.
    fn block(&self, words: &str) -> Result<&str> {
        let mut found = self.0.iter().filter(|block| block.contains(words));
        let one = found.next().with_context(|| format!("no block has {words:?}"))?;
        ensure!(found.next().is_none(), "two blocks have {words:?}");
        Ok(one)
    }
}

/// What a reader of the page has set before, and the folder that they work in.
struct Shell<'a> {
    folder: &'a Path,
    environment: BTreeMap<String, String>,
}

impl Shell<'_> {
    async fn run(&self, block: &str) -> Result<String> {
        let mut command = tokio::process::Command::new("bash");
        command.args(["-eu", "-o", "pipefail", "-c", block]).current_dir(self.folder).kill_on_drop(true);
        command.envs(&self.environment);
        let output = command.output().await.context("cannot run bash")?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "{block}: {}{}", said(&output.stdout), said(&output.stderr));
        Ok(said(&output.stdout) + &said(&output.stderr))
    }
}

#[test]
fn an_installation_goes_on_from_a_backup_made_and_restored_by_the_commands_of_the_page() -> Result<()> {
    story("own-state", 0, &[], async |story| {
        let page = Page::read()?;
        let folder = story.installation.dir().to_path_buf();
        let options = EtcdOptions { security: EtcdSecurity::MutualTls, ..EtcdOptions::default() };
        let etcd = Etcd::start_new(story.fleet.assets(), &folder.join("etcd"), "own", options).await?;
        story.installation = Installation::apart(
            story.fleet.assets(),
            &folder.join("own"),
            &etcd,
            "/spaceport/",
            (&story.namespace, &story.secrets_namespace),
        )?;
        let key = folder.join("own/sealing.key");
        let mut shell = Shell { folder: &folder, environment: environment(story, &etcd, &key)? };
        begin(story, "first").await?;
        story.register("eu-1").await?;
        let mut client = story.client().await?;
        run(&mut client, request("before", &[])).await?;
        run(&mut client, request("ended", &[])).await?;

        let said = shell.run(page.block("snapshot save")?).await?;
        ensure!(said.contains("Snapshot saved at spaceport.db"), "{said}");
        stop(&mut client, "ended").await?;
        resource_gone(&story.resources("eu-1")?, "ended").await?;
        run(&mut client, request("after", &[])).await?;
        end(story).await?;
        etcd.stop().await?;
        // The machine is lost.
        fs::remove_dir_all(etcd.data())?;
        fs::remove_file(&key)?;

        shell.environment.insert("DATA".to_owned(), etcd.data().display().to_string());
        shell.run(page.block("snapshot restore")?).await?;
        fs::copy(folder.join("sealing.key"), &key)?;
        etcd.start().await?;
        begin(story, "second").await?;
        shell.environment.extend(story.installation.cli_env(&story.replicas.iter().collect::<Vec<_>>()));
        shell.environment.insert("CLUSTER".to_owned(), "eu-1".to_owned());
        let said = shell.run(page.block("incarnation open")?).await?;
        ensure!(said.contains("incarnation 2 is open"), "{said}");
        story.available("eu-1").await?;
        until("the fence to be raised, and the workspace to be an orphan", async || {
            ensure!(standing(story, "eu-1", "after").await? == "UNKNOWN", "it is not");
            Ok(())
        })
        .await?;
        shell.run(page.block("cluster adopt")?).await?;

        let mut client = story.client().await?;
        for id in ["before", "after"] {
            ensure!(describe(&mut client, id).await?.is_some(), "{id} is not there");
            stop(&mut client, id).await?;
            resource_gone(&story.resources("eu-1")?, id).await?;
        }
        until("the record of what ended since the backup to end", async || {
            ensure!(describe(&mut client, "ended").await?.is_none(), "it is shown");
            Ok(())
        })
        .await
    })
}

/// What the page says to set first.
fn environment(story: &Story, etcd: &Etcd, key: &Path) -> Result<BTreeMap<String, String>> {
    let login = etcd.client_identity().context("etcd has no TLS")?;
    let ca = etcd.ca().context("etcd has no authority")?;
    let programs = [story.fleet.assets().program("etcdctl"), program()?];
    let folders: Vec<String> =
        programs.iter().filter_map(|program| Some(program.parent()?.display().to_string())).collect();
    let set = [
        ("PATH", format!("{}:{}", folders.join(":"), env::var("PATH")?)),
        ("ETCDCTL_ENDPOINTS", etcd.endpoint()),
        ("ETCDCTL_CACERT", ca.display().to_string()),
        ("ETCDCTL_CERT", login.cert.display().to_string()),
        ("ETCDCTL_KEY", login.key.display().to_string()),
        ("SEALING_KEY", key.display().to_string()),
        ("MEMBER", etcd.name().to_owned()),
        ("PEER", Etcd::PEER.to_owned()),
        ("PEERS", format!("{}={}", etcd.name(), Etcd::PEER)),
    ];
    Ok(set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

async fn begin(story: &mut Story, name: &str) -> Result<()> {
    let replica = story.installation.start(name).await?;
    story.replicas.push(replica);
    Ok(())
}

async fn end(story: &mut Story) -> Result<()> {
    let replica = story.replicas.pop().context("no manager")?;
    replica.process.signal(Signal::Term).await?;
    replica.process.exited(SOON).await?;
    Ok(())
}
