//! The content API of real managers over a real S3 server: lists, signed URLs and deletion, of any replica.

use anyhow::{Context as _, Result, ensure};
use content::store::{BackupId, Format, Key, Settings, Store, WorkspaceKeys};
use domain::secret::Secret;
use e2e::harness::{S3Options, pki::Identity};
use proto::contentservice::blob_service_client::BlobServiceClient;
use proto::contentservice::content_service_client::ContentServiceClient;
use proto::contentservice::headless_log_service_client::HeadlessLogServiceClient;
use proto::contentservice::workspace_service_client::WorkspaceServiceClient;
use proto::contentservice::{
    DeleteRequest, DeleteUserContentRequest, DeleteWorkspaceRequest, DownloadUrlRequest, ListLogsRequest,
    LogDownloadUrlRequest, UploadUrlRequest, WorkspaceDownloadUrlRequest, WorkspaceSnapshotExistsRequest,
    delete_request::Name,
};
use proto::ideplugin::ide_plugin_service_client::IdePluginServiceClient;
use proto::ideplugin::{PluginDownloadUrlRequest, PluginHashRequest, PluginUploadUrlRequest};
use proto::spaceport::v1::workspace_content_client::WorkspaceContentClient;
use proto::spaceport::v1::{ListBackupsRequest, ListBackupsResponse, WorkspaceBackup, WorkspaceBackupKind};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::content_store::gcs::Double;
use crate::content_store::stories::Backend as _;
use crate::content_store::{BUCKET, Stage, keys, meta, open, random, read, send, upload, written};
use crate::story::{Story, refused, request, resource_gone, run, stop, story, until};

/// Clients of all services over one connection.
struct Clients {
    content: ContentServiceClient<Channel>,
    workspaces: WorkspaceServiceClient<Channel>,
    logs: HeadlessLogServiceClient<Channel>,
    blobs: BlobServiceClient<Channel>,
    plugins: IdePluginServiceClient<Channel>,
    backups: WorkspaceContentClient<Channel>,
}

impl Clients {
    fn over(channel: &Channel) -> Self {
        Self {
            content: ContentServiceClient::new(channel.clone()),
            workspaces: WorkspaceServiceClient::new(channel.clone()),
            logs: HeadlessLogServiceClient::new(channel.clone()),
            blobs: BlobServiceClient::new(channel.clone()),
            plugins: IdePluginServiceClient::new(channel.clone()),
            backups: WorkspaceContentClient::new(channel.clone()),
        }
    }

    /// Of a manager, as a client without a special role.
    async fn of(story: &Story, manager: usize) -> Result<Self> {
        let replica = story.replicas.get(manager).context("no such manager")?;
        Ok(Self::over(&story.installation.client_channel(replica).await?))
    }

    async fn of_identity(story: &Story, identity: &Identity) -> Result<Self> {
        let replica = story.replicas.first().context("no manager")?;
        Ok(Self::over(&story.installation.channel(&replica.endpoint, Some(identity)).await?))
    }

    async fn delete_workspace(
        &mut self,
        owner: &str,
        id: &str,
        include_snapshots: bool,
    ) -> Result<Response<proto::contentservice::DeleteWorkspaceResponse>, Status> {
        let (owner_id, workspace_id) = (owner.to_owned(), id.to_owned());
        let request = DeleteWorkspaceRequest { owner_id, workspace_id, include_snapshots };
        self.workspaces.delete_workspace(request).await
    }

    async fn delete_user(
        &mut self,
        owner: &str,
    ) -> Result<Response<proto::contentservice::DeleteUserContentResponse>, Status> {
        self.content.delete_user_content(DeleteUserContentRequest { owner_id: owner.to_owned() }).await
    }

    async fn upload_url(&mut self, owner: &str, name: &str) -> Result<String, Status> {
        let (owner_id, name) = (owner.to_owned(), name.to_owned());
        let request = UploadUrlRequest { owner_id, name, content_type: "text/plain".to_owned() };
        Ok(self.blobs.upload_url(request).await?.into_inner().url)
    }

    async fn download_url(&mut self, owner: &str, id: &str) -> Result<String, Status> {
        let (owner_id, workspace_id) = (owner.to_owned(), id.to_owned());
        let request = WorkspaceDownloadUrlRequest { owner_id, workspace_id };
        Ok(self.workspaces.workspace_download_url(request).await?.into_inner().url)
    }

    /// Whether workspace `ws` of jane has a snapshot.
    async fn has_snapshot(&mut self, filename: &str) -> Result<bool, Status> {
        let (owner_id, workspace_id) = ("jane".to_owned(), "ws".to_owned());
        let request =
            WorkspaceSnapshotExistsRequest { owner_id, workspace_id, filename: filename.to_owned() };
        Ok(self.workspaces.workspace_snapshot_exists(request).await?.into_inner().exists)
    }

    async fn list(&mut self, owner: &str, id: &str) -> Result<ListBackupsResponse, Status> {
        let request = ListBackupsRequest {
            owner: owner.to_owned(),
            meta_id: id.to_owned(),
            ..ListBackupsRequest::default()
        };
        Ok(self.backups.list_backups(request).await?.into_inner())
    }
}

/// Starts managers that have a store.
async fn managers(story: &mut Story, storage: &Value, number: usize) -> Result<()> {
    for n in 0..number {
        story.installation.overrides = json!({
            "content": { "storage": storage },
            "audit": { "target": "file", "file": format!("audit-{n}.log") },
        });
        story.replicas.push(story.installation.start(&format!("manager-{n}")).await?);
    }
    Ok(())
}

/// Writes backups with heads, as node agents do.
async fn back_up(store: &Store, keys: &WorkspaceKeys, ids: &[(u64, u64)]) -> Result<()> {
    for (generation, sequence) in ids {
        let id = BackupId { generation: *generation, sequence: *sequence };
        let (content, key) = (random(2000 + sequence), keys.archive(id));
        let uploaded = upload(store, &key, &content).await?;
        let expected = content::store::Expectation::sent(&written(&content), &uploaded);
        let proven = store.prove(&key, &expected).await?;
        store.write_head(keys, id, proven, meta("node-1")).await?;
    }
    Ok(())
}

/// A workspace with two heads, a snapshot and a log.
async fn fill(store: &Store, owner: &str, id: &str) -> Result<WorkspaceKeys> {
    let keys = keys(owner, id)?;
    back_up(store, &keys, &[(1, 1), (2, 5)]).await?;
    upload(store, &keys.snapshot(7, Format::Zst), b"snapshot").await?;
    upload(store, &keys.log(&"i-1".parse()?, "0")?, b"log of task 0").await?;
    upload(store, &keys.log(&"i-1".parse()?, "1")?, b"log of task 1").await?;
    Ok(keys)
}

async fn get(url: &str) -> Result<Vec<u8>> {
    let (status, body) = send("GET", url, "", b"").await?;
    ensure!(status == 200, "{status}");
    Ok(body.to_vec())
}

fn kinds(backups: &[WorkspaceBackup]) -> Vec<(WorkspaceBackupKind, u64)> {
    backups.iter().map(|backup| (backup.kind(), backup.sequence)).collect()
}

/// Lists in pages of one, each from another replica.
async fn page_by_page(story: &Story, owner: &str, id: &str) -> Result<Vec<WorkspaceBackup>> {
    let (mut backups, mut token) = (Vec::new(), String::new());
    for turn in 0.. {
        let request = ListBackupsRequest {
            owner: owner.to_owned(),
            meta_id: id.to_owned(),
            page_size: 1,
            page_token: token,
            ..ListBackupsRequest::default()
        };
        let mut clients = Clients::of(story, turn % story.replicas.len()).await?;
        let page = clients.backups.list_backups(request).await?.into_inner();
        ensure!(page.backups.len() == 1, "{page:?}");
        backups.extend(page.backups);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    Ok(backups)
}

#[test]
fn every_replica_lists_backups_and_signs_downloads() -> Result<()> {
    story("content-reads", 0, &[], async |story| {
        let stage = Stage::new(S3Options::default()).await?;
        let store = stage.store().await?;
        let keys = fill(&store, "jane", "ws").await?;
        managers(story, &stage.storage(), 2).await?;
        for manager in 0..2 {
            let mut clients = Clients::of(story, manager).await?;
            let all = clients.list("jane", "ws").await?;
            ensure!((all.owner.as_str(), all.meta_id.as_str()) == ("jane", "ws"), "{all:?}");
            let (head, snapshot) = (WorkspaceBackupKind::Head, WorkspaceBackupKind::Snapshot);
            ensure!(kinds(&all.backups) == [(head, 5), (head, 1), (snapshot, 0)], "{all:?}");
            let newest = all.backups.first().context("no backup")?;
            ensure!(newest.newest && newest.generation == 2 && newest.size == 2005, "{newest:?}");
            ensure!(newest.agent == "node-1" && newest.instance_id == "instance-1", "{newest:?}");
            let archive = keys.archive(BackupId { generation: 2, sequence: 5 });
            ensure!(store.parse_snapshot(&newest.snapshot)? == archive, "{newest:?}");
            let paged = page_by_page(story, "jane", "ws").await?;
            ensure!(paged == all.backups, "{paged:?}");
            ensure!(
                clients.list("jane", "w").await?.backups.is_empty(),
                "an id that is a prefix has backups"
            );

            let url = clients.download_url("jane", "ws").await?;
            ensure!(get(&url).await? == random(2005), "the URL has other content");
            ensure!(clients.has_snapshot("snapshot-7.tar.zst").await?, "the snapshot is not there");
            ensure!(!clients.has_snapshot("snapshot-8.tar.zst").await?, "there is another snapshot");
            let request = ListLogsRequest {
                owner_id: "jane".to_owned(),
                workspace_id: "ws".to_owned(),
                instance_id: "i-1".to_owned(),
            };
            let logs = clients.logs.list_logs(request).await?.into_inner();
            ensure!(logs.task_id == ["0", "1"], "{logs:?}");
            let url = clients.logs.log_download_url(log("1")).await?.into_inner().url;
            ensure!(get(&url).await? == b"log of task 1", "the URL has another log");
            let none = refused(clients.logs.log_download_url(log("2")).await, Code::NotFound)?;
            ensure!(none.message().contains("there is no such object"), "{none}");
        }
        Ok(())
    })
}

#[test]
fn the_newest_backup_is_answered_as_it_is_stored_and_never_an_older_one_for_a_damaged_one() -> Result<()> {
    story("content-newest", 0, &[], async |story| {
        let stage = Stage::new(S3Options::default()).await?;
        let store = stage.store().await?;
        let keys = fill(&store, "jane", "ws").await?;
        managers(story, &stage.storage(), 1).await?;
        let mut clients = Clients::of(story, 0).await?;
        // A newer full.tar of an existing node agent wins.
        until("the newer full.tar to be the newest", async || {
            // The store's clock has seconds: written in the same one, the head wins.
            upload(&store, &keys.full_tar(), b"a tar").await?;
            let url = Clients::of(story, 0).await?.download_url("jane", "ws").await?;
            ensure!(get(&url).await? == b"a tar", "the head is the newest");
            Ok(())
        })
        .await?;
        let listed = clients.list("jane", "ws").await?.backups;
        let newest: Vec<_> =
            listed.iter().filter(|backup| backup.newest).map(WorkspaceBackup::kind).collect();
        ensure!(newest == [WorkspaceBackupKind::FullTar], "{listed:?}");

        back_up(&store, &keys, &[(3, 1)]).await?;
        store.delete(&keys.full_tar()).await?;
        upload(&store, &keys.archive(BackupId { generation: 3, sequence: 1 }), b"cut").await?;
        let lost = clients.download_url("jane", "ws").await.map(Response::new);
        let lost = refused(lost, Code::DataLoss)?;
        ensure!(lost.message().contains("3 bytes instead of 2001"), "{lost}");
        let listed = clients.list("jane", "ws").await?.backups;
        ensure!(listed[0].newest && listed[0].problem.contains("3 bytes instead of 2001"), "{listed:?}");
        let none = clients.download_url("jane", "other").await.map(Response::new);
        let none = refused(none, Code::NotFound)?;
        ensure!(none.message().contains("workspace other of owner jane has no backup"), "{none}");
        Ok(())
    })
}

fn log(task: &str) -> LogDownloadUrlRequest {
    LogDownloadUrlRequest {
        owner_id: "jane".to_owned(),
        workspace_id: "ws".to_owned(),
        instance_id: "i-1".to_owned(),
        task_id: task.to_owned(),
    }
}

#[test]
fn deletion_removes_all_of_what_it_names_and_nothing_of_others() -> Result<()> {
    story("content-deletion", 0, &[], async |story| {
        let stage = Stage::new(S3Options::default()).await?;
        let store = stage.store().await?;
        for (owner, id) in [("jane", "a"), ("jane", "ab"), ("jane2", "a")] {
            fill(&store, owner, id).await?;
        }
        upload(&store, &Key::blob(&"jane".parse()?, &"settings".parse()?), b"{}").await?;
        upload(&store, &keys("jane", "a")?.full_tar(), b"tar").await?;
        upload(&store, &keys("jane", "a")?.named("trail-7.tar")?, b"trail").await?;
        managers(story, &stage.storage(), 2).await?;
        let leader = story.leader().await?;
        let standby =
            story.replicas.iter().position(|replica| replica.name != leader).context("no standby")?;
        let mut clients = Clients::of(story, standby).await?;
        let here = |path: &str| stage.server.object(BUCKET, path).exists();

        clients.delete_workspace("jane", "a", false).await?;
        let left = clients.list("jane", "a").await?.backups;
        ensure!(kinds(&left) == [(WorkspaceBackupKind::Snapshot, 0)], "{left:?}");
        ensure!(here("jane/workspaces/a/snapshot-7.tar.zst"), "the snapshot is gone");
        for gone in ["heads", "archives", "instances", "full.tar", "trail-7.tar"] {
            ensure!(!here(&format!("jane/workspaces/a/{gone}")), "{gone} is left");
        }
        clients.delete_workspace("jane", "a", true).await?;
        clients.delete_workspace("jane", "a", true).await?;
        ensure!(!here("jane/workspaces/a"), "something is left");
        for (owner, id) in [("jane", "ab"), ("jane2", "a")] {
            ensure!(clients.list(owner, id).await?.backups.len() == 3, "{owner}/{id} lost something");
        }
        clients.delete_user("jane").await?;
        ensure!(!here("jane"), "something of jane is left");
        ensure!(clients.list("jane", "ab").await?.backups.is_empty(), "something is listed");
        ensure!(clients.list("jane2", "a").await?.backups.len() == 3, "another owner lost something");
        ensure!(read(&store, &keys("jane2", "a")?.log(&"i-1".parse()?, "0")?).await? == b"log of task 0", "");

        let audit = story.installation.dir().join(format!("audit-{standby}.log"));
        until("the deletions to be recorded", async || {
            let lines = std::fs::read_to_string(&audit)?;
            let recorded: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
            let of = |method: &str| {
                let ends = |line: &&Value| line["method"].as_str().is_some_and(|name| name.ends_with(method));
                recorded.iter().filter(ends).collect::<Vec<_>>()
            };
            ensure!(of("/DeleteWorkspace").len() == 3 && of("/DeleteUserContent").len() == 1, "{lines}");
            let first = of("/DeleteWorkspace")[0];
            ensure!(first["object"] == json!({ "metaId": "a", "owner": "jane" }), "{first}");
            ensure!(first["outcome"] == "OK" && first["identity"]["name"] == "client", "{first}");
            Ok(())
        })
        .await?;
        Ok(())
    })
}

#[test]
fn content_of_a_live_workspace_is_not_deleted() -> Result<()> {
    story("content-in-use", 0, &[], async |story| {
        let stage = Stage::new(S3Options::default()).await?;
        let store = stage.store().await?;
        let keys = fill(&store, "jane", "meta-ws").await?;
        fill(&store, "joe", "meta-ws").await?;
        managers(story, &stage.storage(), 2).await?;
        story.register("eu-1").await?;
        let mut client = story.client().await?;
        run(&mut client, request("ws", &[])).await?;
        for manager in 0..2 {
            let mut clients = Clients::of(story, manager).await?;
            let live =
                refused(clients.delete_workspace("jane", "meta-ws", true).await, Code::FailedPrecondition)?;
            ensure!(live.message().contains("in use by a live workspace: ws; stop it"), "{live}");
            let info = live.get_details_error_info().context("no reason")?;
            ensure!(info.reason == "CONTENT_IN_USE", "{info:?}");
            let live = refused(clients.delete_user("jane").await, Code::FailedPrecondition)?;
            ensure!(live.message().contains("ws"), "{live}");
            // By its instance id a caller needs to know neither owner nor workspace id.
            let by_id = ListBackupsRequest { id: "ws".to_owned(), ..ListBackupsRequest::default() };
            let listed = clients.backups.list_backups(by_id.clone()).await?.into_inner();
            ensure!(listed.meta_id == "meta-ws" && listed.backups.len() == 3, "{listed:?}");
            let wrong = ListBackupsRequest { owner: "joe".to_owned(), ..by_id };
            refused(clients.backups.list_backups(wrong).await, Code::InvalidArgument)?;
        }
        // Another owner's content under the same id is not the live workspace's.
        Clients::of(story, 0).await?.delete_workspace("joe", "meta-ws", true).await?;
        ensure!(read(&store, &keys.snapshot(7, Format::Zst)).await? == b"snapshot", "it is gone");

        stop(&mut client, "ws").await?;
        resource_gone(&story.resources("eu-1")?, "ws").await?;
        until("the ended workspace's content to be deleted", async || {
            Clients::of(story, 1).await?.delete_workspace("jane", "meta-ws", true).await?;
            Ok(())
        })
        .await?;
        ensure!(!stage.server.object(BUCKET, "jane/workspaces/meta-ws").exists(), "something is left");
        // Its record is kept for a while: it still says whose it was.
        let by_id = ListBackupsRequest { id: "ws".to_owned(), ..ListBackupsRequest::default() };
        let listed = Clients::of(story, 1).await?.backups.list_backups(by_id).await?.into_inner();
        ensure!(listed.owner == "jane" && listed.backups.is_empty(), "{listed:?}");
        Ok(())
    })
}

#[test]
fn blobs_count_against_a_quota_of_their_owner_and_go_by_name_or_folder() -> Result<()> {
    story("content-blobs", 0, &[], async |story| {
        let stage = Stage::new(S3Options::default()).await?;
        let mut storage = stage.storage();
        // A bucket an owner: created when it is first needed.
        storage["minio"]["bucket"] = json!("");
        storage["blobQuota"] = json!(10);
        managers(story, &storage, 1).await?;
        let store = open(storage).await?;
        // Backups do not count.
        back_up(&store, &keys("jane", "ws")?, &[(1, 1)]).await?;
        let mut clients = Clients::of(story, 0).await?;
        // The server keeps objects as files, so none can be both an object and a folder.
        for name in ["a/b", "ab", "x"] {
            let url = clients.upload_url("jane", name).await?;
            ensure!(send("PUT", &url, "application/json", b"x").await?.0 == 403, "another content type");
            ensure!(send("PUT", &url, "text/plain", b"1234").await?.0 == 200, "the upload failed");
        }
        let full =
            refused(clients.upload_url("jane", "c").await.map(Response::new), Code::ResourceExhausted)?;
        ensure!(
            full.message().contains("blobs take 12 bytes, and content.storage.blobQuota is 10"),
            "{full}"
        );
        let info = full.get_details_error_info().context("no reason")?;
        ensure!(info.reason == "BLOB_QUOTA" && info.metadata["fault"] == "user", "{info:?}");
        clients.upload_url("joe", "c").await?;
        ensure!(stage.server.has_bucket("gitpod-user-joe"), "the bucket of a new owner is not there");

        let download = |name: &str| DownloadUrlRequest {
            owner_id: "jane".to_owned(),
            name: name.to_owned(),
            content_type: "application/x-own".to_owned(),
        };
        let url = clients.blobs.download_url(download("a/b")).await?.into_inner().url;
        ensure!(get(&url).await? == b"1234" && url.contains("application%2Fx-own"), "{url}");
        let delete = |name| DeleteRequest { owner_id: "jane".to_owned(), name: Some(name) };
        clients.blobs.delete(delete(Name::Prefix("a".to_owned()))).await?;
        refused(clients.blobs.download_url(download("a/b")).await, Code::NotFound)?;
        clients.blobs.download_url(download("ab")).await?;
        clients.blobs.delete(delete(Name::Prefix("ab/".to_owned()))).await?;
        clients.blobs.download_url(download("ab")).await?;
        clients.blobs.delete(delete(Name::Prefix("ab".to_owned()))).await?;
        refused(clients.blobs.download_url(download("ab")).await, Code::NotFound)?;
        clients.blobs.delete(delete(Name::Exact("x".to_owned()))).await?;
        clients.blobs.delete(delete(Name::Exact("x".to_owned()))).await?;
        refused(clients.blobs.download_url(download("x")).await, Code::NotFound)?;
        clients.upload_url("jane", "c").await?;
        ensure!(clients.list("jane", "ws").await?.backups.len() == 1, "the backup is gone");
        // An owner without a bucket has nothing, which is no error.
        ensure!(clients.list("nobody", "ws").await?.backups.is_empty(), "");
        clients.delete_user("nobody").await?;
        clients.delete_workspace("nobody", "ws", true).await?;
        ensure!(!stage.server.has_bucket("gitpod-user-nobody"), "a read made a bucket");
        let read = |name: &str| std::fs::read_to_string(story.installation.dir().join(name));
        until("the uploads to be recorded", async || {
            ensure!(read("audit-0.log")?.contains("/contentservice.BlobService/Delete"), "they are not");
            Ok(())
        })
        .await?;
        for (log, secret) in [
            ("audit-0.log", "X-Amz-Signature"),
            ("manager-0.log", "X-Amz-Signature"),
            ("manager-0.log", "secret-of-root"),
        ] {
            ensure!(!read(log)?.contains(secret), "{secret} is in {log}");
        }
        Ok(())
    })
}

#[test]
fn plug_ins_are_signed_in_listed_buckets_only() -> Result<()> {
    story("content-plugins", 0, &[], async |story| {
        let stage = Stage::new(S3Options::default()).await?;
        stage.server.create_bucket("plugins")?;
        stage.server.create_bucket("others")?;
        let store = stage.store().await?;
        fill(&store, "jane", "ws").await?;
        let mut storage = stage.storage();
        storage["pluginBuckets"] = json!(["plugins", BUCKET]);
        managers(story, &storage, 1).await?;
        let mut clients = Clients::of(story, 0).await?;
        let request = |bucket: &str| PluginUploadUrlRequest {
            bucket: bucket.to_owned(),
            name: "vim/1.0.vsix".to_owned(),
        };
        let url = clients.plugins.upload_url(request("plugins")).await?.into_inner().url;
        ensure!(send("PUT", &url, "", b"plug-in").await?.0 == 200, "the upload failed");
        let request = |bucket: &str| PluginDownloadUrlRequest {
            bucket: bucket.to_owned(),
            name: "vim/1.0.vsix".to_owned(),
        };
        let url = clients.plugins.download_url(request("plugins")).await?.into_inner().url;
        ensure!(get(&url).await? == b"plug-in", "other content");
        let request =
            |bucket: &str| PluginHashRequest { bucket: bucket.to_owned(), name: "vim/1.0.vsix".to_owned() };
        let hash = clients.plugins.plugin_hash(request("plugins")).await?.into_inner().hash;
        ensure!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
        // The bucket of the owners' content never, even where it is listed by mistake.
        for bucket in [BUCKET, "others", "", "../plugins", "plugins/"] {
            let name = "jane/workspaces/ws/snapshot-7.tar.zst".to_owned();
            let request = PluginDownloadUrlRequest { bucket: bucket.to_owned(), name };
            let denied = refused(clients.plugins.download_url(request).await, Code::InvalidArgument)?;
            ensure!(
                denied.message().contains("bucket") && denied.message().contains("pluginBuckets"),
                "{denied}"
            );
        }
        Ok(())
    })
}

#[test]
fn names_that_could_leave_an_owner_are_rejected_and_scopes_hold() -> Result<()> {
    story("content-scopes", 0, &[], async |story| {
        let stage = Stage::new(S3Options::default()).await?;
        let store = stage.store().await?;
        fill(&store, "jane", "ws").await?;
        let storage = stage.storage();
        story.installation.overrides = json!({
            "content": { "storage": storage },
            "rpcServer": { "clients": { "scopes": [{ "commonName": "of-joe", "owners": ["joe"] }] } },
        });
        story.replicas.push(story.installation.start("manager-0").await?);
        let mut clients = Clients::of(story, 0).await?;
        for (owner, field) in [
            ("", "owner_id"),
            ("..", "owner_id"),
            ("jane/workspaces", "owner_id"),
            ("jane\n", "owner_id"),
            ("ja%2Fne", "owner_id"),
        ] {
            for outcome in [
                clients.delete_user(owner).await.map(drop),
                clients.delete_workspace(owner, "ws", true).await.map(drop),
            ] {
                let bad = refused(outcome.map(Response::new), Code::InvalidArgument)?;
                ensure!(bad.message().contains(field), "{owner:?}: {bad}");
            }
        }
        for id in ["", ".", "..", "ws/..", "WS", "a b"] {
            let bad = refused(clients.delete_workspace("jane", id, true).await, Code::InvalidArgument)?;
            ensure!(bad.message().contains("workspace_id"), "{id:?}: {bad}");
        }
        for task in ["", "..", "../../../full.tar", "0/1"] {
            let bad = refused(clients.logs.log_download_url(log(task)).await, Code::InvalidArgument)?;
            ensure!(bad.message().contains("task_id"), "{task:?}: {bad}");
        }
        for name in ["", "/", "../workspaces/ws/full.tar", "a//b", "a/../b", "a\u{7f}"] {
            let bad =
                refused(clients.upload_url("jane", name).await.map(Response::new), Code::InvalidArgument)?;
            ensure!(bad.message().contains("name"), "{name:?}: {bad}");
            for selection in [Name::Exact(name.to_owned()), Name::Prefix(name.to_owned())] {
                let request = DeleteRequest { owner_id: "jane".to_owned(), name: Some(selection) };
                refused(clients.blobs.delete(request).await, Code::InvalidArgument)?;
            }
        }
        for request in [
            ListBackupsRequest::default(),
            ListBackupsRequest { owner: "jane".to_owned(), ..Default::default() },
            ListBackupsRequest {
                owner: "jane".to_owned(),
                meta_id: "ws".to_owned(),
                page_size: 1001,
                ..Default::default()
            },
            ListBackupsRequest {
                owner: "jane".to_owned(),
                meta_id: "ws".to_owned(),
                page_token: "full.tar".to_owned(),
                ..Default::default()
            },
        ] {
            refused(clients.backups.list_backups(request).await, Code::InvalidArgument)?;
        }

        let joe = story.installation.authority().client("of-joe", &[])?;
        let mut joe = Clients::of_identity(story, &joe).await?;
        joe.list("joe", "ws").await?;
        let denied = refused(joe.delete_user("jane").await, Code::PermissionDenied)?;
        ensure!(denied.message().contains("owner_id"), "{denied}");
        refused(joe.delete_workspace("jane", "ws", true).await, Code::PermissionDenied)?;
        refused(joe.upload_url("jane", "a").await.map(Response::new), Code::PermissionDenied)?;
        refused(joe.logs.log_download_url(log("0")).await, Code::PermissionDenied)?;
        refused(joe.list("jane", "ws").await.map(Response::new), Code::PermissionDenied)?;
        let request = PluginHashRequest { bucket: "plugins".to_owned(), name: "a".to_owned() };
        refused(joe.plugins.plugin_hash(request).await, Code::PermissionDenied)?;
        let unknown = ListBackupsRequest { id: "ws".to_owned(), ..Default::default() };
        refused(joe.backups.list_backups(unknown).await, Code::NotFound)?;
        ensure!(clients.list("jane", "ws").await?.backups.len() == 3, "something is gone");
        Ok(())
    })
}

#[test]
fn a_manager_without_its_store_serves_everything_else() -> Result<()> {
    story("content-without", 0, &[], async |story| {
        story.replicas.push(story.installation.start("manager-0").await?);
        let mut clients = Clients::of(story, 0).await?;
        let none = refused(clients.list("jane", "ws").await.map(Response::new), Code::FailedPrecondition)?;
        ensure!(none.message().contains("set content.storage in its configuration"), "{none}");

        // A store that does not answer: the manager is ready, and calls end.
        let stage = Stage::new(S3Options::default()).await?;
        let storage = stage.storage();
        stage.server.stop().await?;
        story.installation.overrides = json!({ "content": { "storage": storage } });
        story.replicas.push(story.installation.start("manager-1").await?);
        let mut clients = Clients::of(story, 1).await?;
        let down = refused(clients.list("jane", "ws").await.map(Response::new), Code::Unavailable)?;
        ensure!(down.message().contains("cannot connect"), "{down}");
        let info = down.get_details_error_info().context("no reason")?;
        ensure!(info.metadata["fault"] == "platform", "{info:?}");
        refused(clients.delete_user("jane").await, Code::Unavailable)?;
        stage.server.restart().await?;
        ensure!(clients.list("jane", "ws").await?.backups.is_empty(), "it did not recover");

        // A folder has no signed URLs, and is not created on the manager's machine.
        let folder = story.installation.dir().join("content");
        story.installation.overrides =
            json!({ "content": { "storage": { "kind": "local", "local": { "path": folder } } } });
        story.replicas.push(story.installation.start("manager-2").await?);
        let mut clients = Clients::of(story, 2).await?;
        let missing = refused(clients.list("jane", "ws").await.map(Response::new), Code::FailedPrecondition)?;
        ensure!(missing.message().contains("content.storage: local.path"), "{missing}");
        ensure!(!folder.exists(), "it was created");
        std::fs::create_dir(&folder)?;
        let settings = Settings::read(&Secret::new(json!({ "kind": "local", "local": { "path": folder } })))?;
        fill(&Store::open(&settings).await?, "jane", "ws").await?;
        ensure!(clients.list("jane", "ws").await?.backups.len() == 3, "nothing is listed");
        let unsigned = refused(clients.logs.log_download_url(log("0")).await, Code::FailedPrecondition)?;
        ensure!(unsigned.message().contains("this kind of store has no signed URLs"), "{unsigned}");
        clients.delete_user("jane").await?;
        ensure!(!folder.join("jane").exists(), "something is left");
        Ok(())
    })
}

#[test]
fn the_content_api_works_over_gcs_too() -> Result<()> {
    story("content-gcs", 0, &[], async |story| {
        let gcs = Double::new().await?;
        let store = gcs.store().await?;
        for (owner, id) in [("jane", "a"), ("jane", "ab"), ("jane2", "a")] {
            fill(&store, owner, id).await?;
        }
        managers(story, &gcs.settings(&gcs.address())?, 1).await?;
        let mut clients = Clients::of(story, 0).await?;
        let listed = clients.list("jane", "a").await?.backups;
        ensure!(listed.len() == 3 && listed[0].newest, "{listed:?}");
        ensure!(listed[0].snapshot.ends_with(".tar.zst@gitpod-dev-user-jane"), "{listed:?}");
        let url = clients.download_url("jane", "a").await?;
        ensure!(get(&url).await? == random(2005), "the URL has other content");

        // A new owner: the bucket is made before the upload.
        let url = clients.upload_url("joe", "settings").await?;
        ensure!(send("PUT", &url, "application/json", b"x").await?.0 == 403, "another content type");
        ensure!(send("PUT", &url, "text/plain", b"1234").await?.0 == 200, "the upload failed");
        let (owner_id, name) = ("joe".to_owned(), "settings".to_owned());
        let request = DownloadUrlRequest { owner_id, name, content_type: "application/x-own".to_owned() };
        let url = clients.blobs.download_url(request).await?.into_inner().url;
        ensure!(get(&url).await? == b"1234", "the URL has another blob");

        clients.delete_workspace("jane", "a", true).await?;
        let left = gcs.double.objects("gitpod-dev-user-jane");
        ensure!(!left.is_empty() && left.iter().all(|key| key.starts_with("workspaces/ab/")), "{left:?}");
        clients.delete_user("jane").await?;
        let left = gcs.double.objects("gitpod-dev-user-jane");
        ensure!(left.is_empty(), "{left:?}");
        ensure!(clients.list("jane2", "a").await?.backups.len() == 3, "another owner lost something");
        Ok(())
    })
}
