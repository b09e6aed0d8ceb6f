use proptest::prelude::*;

use super::*;

#[test]
fn objects_have_the_names_that_existing_node_agents_use() {
    let keys = keys("4f3b", "ws-1");
    let id = BackupId { generation: 2, sequence: 41 };
    for (key, path) in [
        (keys.full_tar(), "workspaces/ws-1/full.tar"),
        (keys.head(id), "workspaces/ws-1/heads/00000000000000000002-00000000000000000041"),
        (keys.archive(id), "workspaces/ws-1/archives/00000000000000000002-00000000000000000041.tar.zst"),
        (
            keys.snapshot(1_732_873_453_123_456_789, Format::Tar),
            "workspaces/ws-1/snapshot-1732873453123456789.tar",
        ),
        (keys.snapshot(7, Format::Zst), "workspaces/ws-1/snapshot-7.tar.zst"),
        (
            keys.instance_object(&"i-1".parse().unwrap(), "logs/task-0").unwrap(),
            "workspaces/ws-1/instances/i-1/logs/task-0",
        ),
        (Key::blob(&owner("4f3b"), &"a/b.txt".parse().unwrap()), "blobs/a/b.txt"),
    ] {
        assert_eq!(key.path(), path);
        assert_eq!(Key::parse(&owner("4f3b"), path).unwrap(), key);
    }
    assert_eq!(keys.head(id).object().unwrap().1, ObjectName::Head(id));
    assert_eq!(keys.archive(id).object().unwrap().1, ObjectName::Archive(id));
    let snapshot = Key::parse(&owner("4f3b"), "workspaces/ws-1/snapshot-7.tar.gz").unwrap();
    assert_eq!(snapshot.object().unwrap().1, ObjectName::Snapshot(7));
}

#[test]
fn hostile_names_are_refused() {
    for name in ["", "/", "a//b", "../x", "a/..", "./a", "a/", "/a", "a b", "a\\b", "a%2f", "ä", "a\0b"] {
        assert!(name.parse::<BlobName>().is_err(), "{name:?}");
        assert!(keys("o", "w").instance_object(&"i".parse().unwrap(), name).is_err(), "{name:?}");
        assert!(Key::parse(&owner("o"), &format!("workspaces/w/{name}")).is_err(), "{name:?}");
    }
    for path in
        ["", "workspaces", "workspaces/w", "workspaces/../o2/full.tar", "other/x", "blobs", "workspaces/W/x"]
    {
        assert!(Key::parse(&owner("o"), path).is_err(), "{path:?}");
    }
    assert!("a".repeat(513).parse::<BlobName>().is_err());
    assert!("1-2".parse::<BackupId>().is_err(), "numbers are padded");
}

#[test]
fn a_prefix_does_not_contain_names_that_only_begin_like_it() {
    let (one, ten) = (keys("o", "ws-1"), keys("o", "ws-10"));
    assert!(one.all().contains(&one.full_tar()));
    assert!(!one.all().contains(&ten.full_tar()));
    assert!(!one.all().contains(&keys("p", "ws-1").full_tar()));
    assert!(Prefix::of_owner(&owner("o")).contains(&ten.full_tar()));
}

#[tokio::test]
async fn snapshots_are_named_by_object_and_bucket() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let open = async |settings: serde_json::Value| {
        Store::open(&Settings::read(&domain::secret::Secret::new(settings)).unwrap()).await.unwrap()
    };
    let login = |bucket: &str| serde_json::json!({"endpoint": "m:9000", "accessKey": "k", "secretKey": "s", "bucket": bucket});
    let key = keys("jane", "ws-1").snapshot(7, Format::Tar);
    for (settings, name) in [
        (
            serde_json::json!({"kind": "s3", "s3": {"bucket": "content", "region": "eu"}}),
            "jane/workspaces/ws-1/snapshot-7.tar@content",
        ),
        (
            serde_json::json!({"kind": "minio", "minio": login("")}),
            "workspaces/ws-1/snapshot-7.tar@gitpod-user-jane",
        ),
        (
            serde_json::json!({"kind": "minio", "minio": login("all")}),
            "jane/workspaces/ws-1/snapshot-7.tar@all",
        ),
        (
            serde_json::json!({"kind": "gcloud", "stage": "prod", "gcloud": {"region": "eu", "projectId": "p"}}),
            "workspaces/ws-1/snapshot-7.tar@gitpod-prod-user-jane",
        ),
    ] {
        let store = open(settings).await;
        assert_eq!(store.snapshot_name(&key).unwrap(), name);
        assert_eq!(store.parse_snapshot(name).unwrap(), key);
        for other in [
            "workspaces/ws-1/snapshot-7.tar@elsewhere",
            "x@content",
            "../snapshot-7.tar@all",
            "jane/other/x@all",
        ] {
            assert!(store.parse_snapshot(other).is_err(), "{other}");
        }
    }
    let minio = open(serde_json::json!({"kind": "minio", "minio": login("")})).await;
    let error = minio.bucket_name(&owner("Jane")).unwrap_err();
    assert_eq!(error.fault(), Fault::Configuration);
}

proptest! {
    #[test]
    fn the_order_of_texts_is_the_order_of_backups(a: (u64, u64), b: (u64, u64)) {
        let id = |(generation, sequence)| BackupId { generation, sequence };
        let (a, b) = (id(a), id(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        prop_assert_eq!(a.to_string().parse::<BackupId>().unwrap(), a);
    }

    #[test]
    fn no_path_leaves_its_owner(path in "[a-z./]{0,30}|workspaces/[a-z-]{1,5}/[a-zA-Z0-9./_-]{0,20}|\\PC{0,30}") {
        if let Ok(key) = Key::parse(&owner("o"), &path) {
            let full = format!("o/{}", key.path());
            let parsed = object_store::path::Path::parse(&full).unwrap();
            prop_assert_eq!(parsed.as_ref(), full.as_str());
            prop_assert!(key.path().split('/').all(|part| !matches!(part, "" | "." | "..")));
        }
    }

    #[test]
    fn an_owner_is_one_segment(name in "\\PC{1,40}") {
        if let Ok(name) = name.parse::<domain::names::OwnerId>() {
            let place = WorkspaceKeys::new(name.clone(), "w".parse().unwrap()).full_tar();
            let store = Store::in_memory();
            let path = store.snapshot_name(&place).unwrap();
            prop_assert_eq!(path.split('/').next().unwrap(), name.as_str());
            prop_assert!(!name.as_str().starts_with('.'));
        }
    }
}
