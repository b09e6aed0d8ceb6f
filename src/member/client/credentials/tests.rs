use super::*;

fn cluster() -> ClusterName {
    "eu-1".parse().unwrap()
}

fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
         contexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n"
    )
}

const SERVER: &str = "server: 'https://API.example.org'";

fn refusal(text: &str) -> String {
    Credentials::parse(&cluster(), text).unwrap_err().to_string()
}

#[test]
fn the_address_is_the_same_however_it_is_written() {
    for server in ["https://API.example.org", "https://api.example.org:443/", "https://api.example.org"] {
        let text = kubeconfig(&format!("server: '{server}'"), "token: t0ken");
        let credentials = Credentials::parse(&cluster(), &text).unwrap();
        assert_eq!(credentials.server(), "https://api.example.org:443", "{server}");
    }
}

#[test]
fn what_points_out_of_the_document_is_refused_by_the_name_of_its_field() {
    let cases = [
        ("exec: {apiVersion: v1, command: aws}", "users[].user.exec"),
        ("auth-provider: {name: gcp}", "users[].user.auth-provider"),
        ("client-certificate: /a, client-key: /b", "users[].user.client-certificate"),
        ("tokenFile: /a", "users[].user.tokenFile"),
        ("username: a, password: b", "users[].user.username"),
        ("token: t, as: admin", "users[].user.as"),
        ("", "users[].user"),
        ("client-key-data: aGk=", "users[].user.client-certificate-data"),
        ("client-certificate-data: aGk=, client-key-data: aGk=", "users[].user.client-certificate-data"),
    ];
    for (user, field) in cases {
        let text = refusal(&kubeconfig(SERVER, user));
        assert!(text.starts_with(&format!("cluster eu-1: kubeconfig field {field} ")), "{user}: {text}");
    }
    let cases = [
        ("server: 'https://a', certificate-authority: /ca", "clusters[].cluster.certificate-authority"),
        (
            "server: 'https://a', insecure-skip-tls-verify: true",
            "clusters[].cluster.insecure-skip-tls-verify",
        ),
        ("server: 'https://a', proxy-url: 'http://p'", "clusters[].cluster.proxy-url"),
        ("server: 'http://a'", "clusters[].cluster.server"),
        ("server: 'https://u:p@a'", "clusters[].cluster.server"),
        ("certificate-authority-data: aGk=", "clusters[].cluster.server"),
        (
            "server: 'https://a', certificate-authority-data: aGk=",
            "clusters[].cluster.certificate-authority-data",
        ),
    ];
    for (named, field) in cases {
        let text = refusal(&kubeconfig(named, "token: t"));
        assert!(text.starts_with(&format!("cluster eu-1: kubeconfig field {field} ")), "{named}: {text}");
    }
}

#[test]
fn a_refusal_and_a_debug_print_show_no_secret() {
    let text = kubeconfig(SERVER, "token: hunter2, client-key-data: hunter2");
    assert!(!refusal(&text).contains("hunter2"));
    assert!(!refusal("users: [token: hunter2").contains("hunter2"));
    assert!(!refusal("users: {token: hunter2}").contains("hunter2"));
    let good = Credentials::parse(&cluster(), &kubeconfig(SERVER, "token: hunter2")).unwrap();
    assert!(!format!("{good:?}").contains("hunter2"));
    assert!(!format!("{:?}", good.authorization()).contains("hunter2"));
}

#[test]
fn the_only_context_is_taken_where_none_is_current() {
    let text = kubeconfig(SERVER, "token: t").replace("current-context: a\n", "");
    assert!(Credentials::parse(&cluster(), &text).is_ok());
    let text = kubeconfig(SERVER, "token: t").replace("current-context: a", "current-context: b");
    assert!(refusal(&text).contains("current-context"));
}

#[test]
fn a_client_certificate_tells_when_it_ends() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 2);
    let certificate = params.self_signed(&key).unwrap();
    let user = format!(
        "client-certificate-data: {}, client-key-data: {}",
        STANDARD.encode(certificate.pem()),
        STANDARD.encode(key.serialize_pem())
    );
    let credentials = Credentials::parse(&cluster(), &kubeconfig(SERVER, &user)).unwrap();
    assert_eq!(credentials.expires(), Some("2040-01-02T00:00:00Z".parse().unwrap()));
    assert!(credentials.authorization().is_none());
}

fn login(certificate: &str, key: &str) -> String {
    let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
    kubeconfig(SERVER, &format!("client-certificate-data: {certificate}, client-key-data: {key}"))
}

#[test]
fn a_key_that_is_not_the_certificates_or_none_at_all_is_told() {
    let pair = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let ((certificate, key), (other, theirs)) = (pair(), pair());
    assert!(Credentials::parse(&cluster(), &login(&certificate, &key)).is_ok());
    let block = |label: &str| format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
    for (key, rule) in [
        (theirs.clone(), "is not the key of the certificate"),
        (other, "holds a certificate and no private key"),
        (block("ENCRYPTED PRIVATE KEY"), "is encrypted with a password"),
        (block("PRIVATE KEY"), "of a kind or size that TLS here does not take"),
        (block("OPENSSH PRIVATE KEY"), "of a kind that TLS does not take"),
        (theirs[..theirs.len() / 2].to_owned(), "cut short or damaged"),
        ("hunter2".to_owned(), "holds no PEM private key"),
    ] {
        let told = refusal(&login(&certificate, &key));
        assert!(told.contains("users[].user.client-key-data"), "{told}");
        assert!(told.contains(rule) && !told.contains("hunter2"), "{rule}: {told}");
    }
    let garbage = block("CERTIFICATE");
    assert!(refusal(&login(&garbage, &key)).contains("client-certificate-data is not an X.509 certificate"));
    let authority = format!("{SERVER}, certificate-authority-data: {}", STANDARD.encode(garbage));
    let told = refusal(&kubeconfig(&authority, "token: t"));
    assert!(told.contains("holds a PEM certificate that is not an X.509 certificate"), "{told}");
}

#[test]
fn the_same_login_is_known_however_it_is_written() {
    let parse = |text: &str| Credentials::parse(&cluster(), text).unwrap();
    let one = parse(&kubeconfig(SERVER, "token: t"));
    let same =
        kubeconfig("server: 'https://api.example.org:443/', tls-server-name: ''", "token: \"t\", as: ''");
    assert!(one.is_same(&parse(&same)));
    for (cluster, user) in [
        (SERVER, "token: u"),
        ("server: 'https://b'", "token: t"),
        (&format!("{SERVER}, tls-server-name: n"), "token: t"),
    ] {
        assert!(!one.is_same(&parse(&kubeconfig(cluster, user))), "{cluster} {user}");
    }
}
