//! Creating the bucket of an owner, in stores where each owner has one. The client library only reads and writes objects.
//! Before the first write there is no bucket, and the objects in it are simply not there.

use domain::names::OwnerId;
use http::{Method, Request, StatusCode, header};
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpClient, HttpConnector as _, HttpError, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::{CredentialProvider as _, ObjectStoreExt as _};
use serde_json::json;

use super::connector::Connector;
use super::credentials::{AwsFiles, GcpFile};
use super::error::{At, Error};
use super::open::{Bucket, Store};
use super::problem::CredentialProblem;
use super::settings::{Kind, Minio, Settings};

/// Where Google's buckets are created, unless the credentials file names another address.
const GOOGLE: &str = "https://storage.googleapis.com";
/// An object that never exists: reading it shows whether the bucket does.
const NO_OBJECT: &str = ".spaceport/none";

impl Store {
    /// Creates the bucket of an owner before the first write, where each owner has one. Once it is there, that is not checked
    /// again.
    pub(super) async fn ensure_own_bucket(&self, bucket: &Bucket, owner: &OwnerId) -> Result<(), Error> {
        if !self.is_per_owner() {
            return Ok(());
        }
        bucket.present.get_or_try_init(|| self.ensure_bucket(owner)).await.copied()
    }

    /// Runs a read. Where each owner has a bucket, no bucket means no object.
    pub(super) async fn read<T, F>(&self, at: &At, bytes: u64, request: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        match self.retry.run(at, bytes, request).await {
            Err(Error::NoBucket(_)) if self.is_per_owner() => Err(Error::NotFound(at.clone())),
            other => other,
        }
    }

    /// Runs a listing. Where each owner has a bucket, no bucket means an empty list.
    pub(super) async fn list<T: Default, F>(&self, at: &At, request: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        // A listing carries about 1 KiB an object; its deadline is that of 64 MiB.
        match self.read(at, 64 << 20, request).await {
            Err(Error::NotFound(_)) if self.is_per_owner() => Ok(T::default()),
            other => other,
        }
    }

    /// Creates the bucket of an owner unless it is there. Call it before the first write for an owner. A bucket that all owners
    /// share is the admin's, and is only checked.
    pub async fn ensure_bucket(&self, owner: &OwnerId) -> Result<(), Error> {
        let name = self.bucket_name(owner)?;
        let bucket = self.bucket_named(&name)?;
        let at = self.at(&name, "");
        let missing = Path::parse(NO_OBJECT).map_err(|error| Error::Settings(error.to_string()))?;
        match self.retry.run(&at, 0, || bucket.objects.get(&missing)).await {
            Ok(_) | Err(Error::NotFound(_)) => return Ok(()),
            Err(Error::NoBucket(_)) => {}
            Err(error) => return Err(error),
        }
        tracing::info!(%at, "creating the bucket of an owner");
        let settings = self.shared.settings.as_ref();
        let Some(create) = settings.and_then(|settings| Create::of(settings, &name)) else {
            return Err(Error::NoBucket(at));
        };
        let options = self.shared.options.clone().with_allow_http(true);
        let client = Connector.connect(&options).map_err(|error| Error::of(&at, &error))?;
        let status = self.retry.run(&at, 0, || create.send(&client)).await?;
        created(&at, status)
    }
}

/// Judges the answer. Of the errors only those arrive here that the client library would map itself.
fn created(at: &At, status: StatusCode) -> Result<(), Error> {
    match status {
        // Another agent created it just now. A bucket of somebody else denies the first write.
        StatusCode::CONFLICT => Ok(()),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            Err(Error::Denied { at: at.clone(), known: status == StatusCode::FORBIDDEN })
        }
        status if status.is_success() => Ok(()),
        status => Err(Error::Unavailable { at: at.clone(), why: format!("creating the bucket: {status}") }),
    }
}

/// The request that creates a bucket.
enum Create<'s> {
    Minio { minio: &'s Minio, bucket: String },
    Google { file: Option<&'s std::path::Path>, project: &'s str, region: &'s str, bucket: String },
}

impl<'s> Create<'s> {
    fn of(settings: &'s Settings, bucket: &str) -> Option<Self> {
        let bucket = bucket.to_owned();
        match &settings.kind {
            Kind::Minio(minio) if minio.bucket.is_none() => Some(Self::Minio { minio, bucket }),
            Kind::Gcloud { credentials_file, region, project, .. } => {
                Some(Self::Google { file: credentials_file.as_deref(), project, region, bucket })
            }
            _ => None,
        }
    }

    async fn send(&self, client: &HttpClient) -> object_store::Result<StatusCode> {
        let request = match self {
            Self::Minio { minio, bucket } => for_minio(minio, bucket).await?,
            Self::Google { file, project, region, bucket } => {
                for_google(*file, project, region, bucket).await?
            }
        };
        Ok(client.execute(request).await.map_err(failed)?.status())
    }
}

fn failed(error: HttpError) -> object_store::Error {
    object_store::Error::Generic { store: "bucket", source: Box::new(error) }
}

async fn for_minio(minio: &Minio, bucket: &str) -> object_store::Result<HttpRequest> {
    let scheme = if minio.secure { "https" } else { "http" };
    let url = format!("{scheme}://{}/{bucket}", minio.endpoint);
    let mut request = request(Method::PUT, &url, HttpRequestBody::empty())?;
    let credential = AwsFiles::minio(minio).get_credential().await?;
    AwsAuthorizer::new(&credential, "s3", &minio.region).try_authorize(&mut request, None)?;
    Ok(request)
}

async fn for_google(
    file: Option<&std::path::Path>,
    project: &str,
    region: &str,
    bucket: &str,
) -> object_store::Result<HttpRequest> {
    let needs = "creating buckets needs content.storage.gcloud.credentialsFile";
    let file = file.ok_or_else(|| CredentialProblem(needs.to_owned()))?;
    let base = GcpFile::base_url(file)?.unwrap_or_else(|| GOOGLE.to_owned());
    let body = json!({
        "name": bucket,
        "location": region,
        "iamConfiguration": {
            "uniformBucketLevelAccess": {"enabled": true},
            "publicAccessPrevention": "enforced",
        },
    });
    let url = format!("{base}/storage/v1/b?project={project}");
    let mut request = request(Method::POST, &url, HttpRequestBody::from(body.to_string()))?;
    let token = GcpFile::new(file.to_owned()).get_credential().await?;
    let bearer = header::HeaderValue::from_str(&format!("Bearer {}", token.bearer));
    let mut bearer = bearer.map_err(|_| CredentialProblem("the token is no header value".to_owned()))?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(request)
}

fn request(method: Method, url: &str, body: HttpRequestBody) -> object_store::Result<HttpRequest> {
    let invalid = |_| CredentialProblem("the address of the store is not valid".to_owned());
    Ok(Request::builder().method(method).uri(url).body(body).map_err(invalid)?)
}
