use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, symlink};

use content::initializer::Fault;
use node::helper::{Error, Operation, Outcome};
use proto::contentservice::FileDownloadInitializer;
use proto::contentservice::file_download_initializer::FileInfo;
use proto::contentservice::workspace_initializer::Spec;

use super::stage::{Stage, USER, plan};

const TEXT: &str = "content of a file\n";
/// Of the text above.
const DIGEST: &str = "sha256:1ed3e97551da7a9af6aa5b0f0c7a4d4d7c5a4f4d0f0f3c1bd7ea0c1ba6d0a1b7";

/// Answers every request with the same text, and redirects from `/away`.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 2048];
            let read = stream.read(&mut request).unwrap_or_default();
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            let answer = if text.starts_with("GET /away") {
                "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/planted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
            } else if text.starts_with("GET /missing") {
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
            } else if text.starts_with("GET /broken") {
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    .to_owned()
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{TEXT}",
                    TEXT.len()
                )
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

async fn download(stage: &Stage, url: &str, path: &str, digest: &str) -> Result<Outcome, Error> {
    let file = FileInfo { url: url.into(), file_path: path.into(), digest: digest.into() };
    let files = FileDownloadInitializer { files: vec![file], target_location: "below".into() };
    let plan = plan(Spec::Download(files));
    let content::initializer::Step::Download(download) = &plan.steps[0] else { panic!("{plan:?}") };
    stage.run(Operation::download_of(download)).await
}

fn digest() -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, TEXT.as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub async fn files_arrive_with_their_digest_and_the_owner_of_the_workspace() {
    let (stage, url) = (Stage::new(), server());
    let outcome =
        download(&stage, &format!("{url}/a?sig=planted-signature"), "x/y", &digest()).await.unwrap();
    assert_eq!(outcome, Outcome::Downloaded { bytes: TEXT.len() as u64 });
    assert_eq!(stage.read("below/x/y"), TEXT);
    let stat = std::fs::metadata(stage.path("below/x/y")).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o777), (USER, USER, 0o644));
    // The same again, over the file that is there.
    download(&stage, &url, "x/y", "").await.unwrap();
}

pub async fn wrong_digests_sizes_and_addresses_are_refused() {
    let (mut stage, url) = (Stage::new(), server());
    let field = "initializer.download.files[0]";
    let error = download(&stage, &url, "x", DIGEST).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{field}.digest is {DIGEST}, and the file has {}", digest()));
    let error = download(&stage, &format!("{url}/missing?sig=planted-signature"), "x", "").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{field}.url cannot be downloaded: the server answered 404 Not Found")
    );
    assert_eq!(error.fault(), Fault::User);
    let error = download(&stage, &format!("{url}/broken"), "x", "").await.unwrap_err();
    assert!(error.to_string().contains("503") && error.fault() == Fault::Platform, "{error}");
    for (url, words) in [
        ("http://169.254.169.254/latest", "link-local"),
        ("http://[::ffff:169.254.169.254]/latest", "link-local"),
        (&*format!("{url}/away"), "a redirect to a URL that names a link-local"),
        ("http://127.0.0.1:1/planted-signature", "refused"),
    ] {
        let error = download(&stage, url, "x", "").await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("planted"), "{error}");
    }
    // What content has in its place is not followed.
    symlink("/tmp", stage.path("link")).unwrap();
    std::fs::remove_dir_all(stage.path("below")).unwrap();
    symlink("link", stage.path("below")).unwrap();
    assert!(download(&stage, &url, "x", "").await.is_err());
    std::fs::remove_file(stage.path("below")).unwrap();
    stage.settings.limits.download = 5;
    let error = download(&stage, &url, "x", "").await.unwrap_err();
    assert_eq!(error.to_string(), format!("{field}.url takes the download over the limit of this node"));
}
