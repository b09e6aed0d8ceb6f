use domain::secret::Secret;
use serde_json::json;

use super::*;

#[test]
fn problems_of_settings_name_the_key_and_quote_no_value() {
    let read = |settings| Settings::read(&Secret::new(settings)).unwrap_err().to_string();
    assert_eq!(read(json!({"kind": "s3", "s3": {"bucket": "b"}})), "content.storage: s3.region: is required");
    let both = json!({"kind": "minio", "minio": {"endpoint": "m", "accessKey": "hunter2", "accessKeyFile": "f", "secretKey": "s"}});
    assert_eq!(
        read(both),
        "content.storage: minio.accessKey: is required, or minio.accessKeyFile, and not both"
    );
    let wrong =
        json!({"kind": "minio", "minio": {"endpoint": "m", "accessKey": "k", "secretKey": ["hunter2"]}});
    assert_eq!(read(wrong), "content.storage: does not have the documented form");
    for endpoint in ["http://m:9000", "key@m:9000", "m/path", "m m", "ä"] {
        let settings =
            json!({"kind": "minio", "minio": {"endpoint": endpoint, "accessKey": "k", "secretKey": "s"}});
        assert_eq!(
            read(settings),
            "content.storage: minio.endpoint: must be HOST or HOST:PORT, without a scheme"
        );
    }
    let name = json!({"kind": "s3", "s3": {"bucket": "a/b", "region": "r"}});
    assert_eq!(
        read(name),
        "content.storage: s3.bucket: must be letters, digits, dots, dashes and underscores"
    );
    let nulls = json!({"kind": "s3", "stage": null, "gcloud": null, "s3": {"bucket": "b", "region": "r", "credentialsFile": null}});
    Settings::read(&Secret::new(nulls)).unwrap();
}

#[test]
fn parts_in_memory_are_bounded() {
    assert!(UploadLimits::new(16 << 20, 4).is_ok());
    assert!(UploadLimits::new(16 << 20, 5).is_err());
    assert!(UploadLimits::new(1 << 20, 4).is_err());
    assert!(UploadLimits::new(16 << 20, 0).is_err());
}

#[tokio::test]
async fn secrets_are_in_no_debug_text_and_no_error() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, "[default]\naws_access_key_id=AKIA\naws_secret_access_key=hunter2\n").unwrap();
    let s3 = json!({"kind": "s3", "blobQuota": 0, "s3": {"bucket": "content", "region": "eu", "credentialsFile": file}});
    // Nothing listens on port 1.
    let minio = json!({"kind": "minio", "blobQuota": 0, "minio": {"endpoint": "127.0.0.1:1", "accessKey": "AKIA", "secretKey": "hunter2", "bucket": "content"}});
    for settings in [s3, minio] {
        let settings = Settings::read(&Secret::new(settings)).unwrap();
        let store = Store::open(&settings).await.unwrap().with_retry(hasty());
        let signed = store.presign_put(&owner("o"), &"b".parse().unwrap(), None).await.unwrap();
        assert!(signed.url.expose().contains("X-Amz-Signature"));
        let printed = format!("{settings:?} {store:?} {signed:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("Signature"), "{printed}");
        if store.name().starts_with("minio") {
            let error = store.list_backups(&keys("o", "w")).await.unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("minio:127.0.0.1:1") && text.contains("cannot connect"), "{text}");
            assert!(!text.contains("hunter2") && !text.contains("AKIA"), "{text}");
            assert!(error.is_retryable() && error.fault() == Fault::Platform);
        }
    }
    let missing =
        json!({"kind": "s3", "caFile": folder.path().join("ca"), "s3": {"bucket": "b", "region": "r"}});
    let error = Store::open(&Settings::read(&Secret::new(missing)).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("caFile") && error.fault() == Fault::Configuration, "{error}");
}
