use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};

use super::exec::Credential;
use super::*;

/// As `aws eks update-kubeconfig` writes it.
const EKS: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: CA
    server: https://A1B2.gr7.eu-central-1.eks.amazonaws.com
  name: arn:aws:eks:eu-central-1:1234:cluster/prod
contexts:
- context:
    cluster: arn:aws:eks:eu-central-1:1234:cluster/prod
    user: arn:aws:eks:eu-central-1:1234:cluster/prod
  name: arn:aws:eks:eu-central-1:1234:cluster/prod
current-context: arn:aws:eks:eu-central-1:1234:cluster/prod
kind: Config
preferences: {}
users:
- name: arn:aws:eks:eu-central-1:1234:cluster/prod
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      args:
      - --region
      - eu-central-1
      - eks
      - get-token
      - --cluster-name
      - prod
      - --output
      - json
      command: aws
      env: null
      interactiveMode: IfAvailable
      provideClusterInfo: false
";

/// As `gcloud container clusters get-credentials` writes it.
const GKE: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: CA
    server: https://34.1.2.3
  name: gke_project_europe-west1_prod
contexts:
- context:
    cluster: gke_project_europe-west1_prod
    user: gke_project_europe-west1_prod
  name: gke_project_europe-west1_prod
current-context: gke_project_europe-west1_prod
kind: Config
preferences: {}
users:
- name: gke_project_europe-west1_prod
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      command: gke-gcloud-auth-plugin
      installHint: Install gke-gcloud-auth-plugin for use with kubectl
      provideClusterInfo: true
";

/// As `az aks get-credentials` and `kubelogin convert-kubeconfig` write it.
const AKS: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: CA
    server: https://prod-dns-1234.hcp.westeurope.azmk8s.io:443
  name: prod
contexts:
- context: {cluster: prod, user: clusterUser_rg_prod}
  name: prod
current-context: prod
kind: Config
users:
- name: clusterUser_rg_prod
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      args: [get-token, --environment, AzurePublicCloud, --server-id, 6dae42f8, --login, devicecode]
      command: kubelogin
      env: null
      installHint: 'kubelogin is not installed'
      provideClusterInfo: false
";

/// As k3s, kind, minikube with embedded certificates, and kubeadm write it.
const K3S: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: CA
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
preferences: {}
users:
- name: default
  user:
    client-certificate-data: CERTIFICATE
    client-key-data: KEY
";

/// As minikube writes it without embedded certificates; other contexts beside it.
const MINIKUBE: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority: /home/jane/.minikube/ca.crt
    extensions:
    - extension:
        last-update: Thu, 01 Jan 2026 00:00:00 UTC
        provider: minikube.sigs.k8s.io
        version: v1.35.0
      name: cluster_info
    server: https://192.168.49.2:8443
  name: minikube
contexts:
- context:
    cluster: minikube
    extensions:
    - extension: {provider: minikube.sigs.k8s.io}
      name: context_info
    namespace: default
    user: minikube
  name: minikube
current-context: minikube
kind: Config
preferences: {}
users:
- name: minikube
  user:
    client-certificate: /home/jane/.minikube/profiles/minikube/client.crt
    client-key: /home/jane/.minikube/profiles/minikube/client.key
";

/// As Rancher writes it: quoted, a token, wrapped base64 that ends with an escaped line end.
const RANCHER: &str = "\
apiVersion: v1
kind: Config
clusters:
- name: \"prod\"
  cluster:
    server: \"https://rancher.example.com/k8s/clusters/c-m-abcd\"
    certificate-authority-data: \"CA\\
      \"
- name: \"prod-node-1\"
  cluster:
    server: \"https://10.0.0.1:6443\"
    certificate-authority-data: \"CA\"

users:
- name: \"prod\"
  user:
    token: \"kubeconfig-u-abcd:t0ken\"

contexts:
- name: \"prod\"
  context:
    user: \"prod\"
    cluster: \"prod\"
- name: \"prod-node-1\"
  context:
    user: \"prod\"
    cluster: \"prod-node-1\"

current-context: \"prod\"
";

/// As `oc login` writes it.
const OPENSHIFT: &str = "\
apiVersion: v1
clusters:
- cluster:
    server: https://api.ocp.example.com:6443
  name: api-ocp-example-com:6443
contexts:
- context:
    cluster: api-ocp-example-com:6443
    namespace: default
    user: kube:admin/api-ocp-example-com:6443
  name: default/api-ocp-example-com:6443/kube:admin
current-context: default/api-ocp-example-com:6443/kube:admin
kind: Config
preferences: {}
users:
- name: kube:admin/api-ocp-example-com:6443
  user:
    token: sha256~t0ken
";

fn issued() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Fills real certificates into a template.
fn filled(shape: &str) -> String {
    let (certificate, key) = issued();
    let certificate = STANDARD.encode(certificate);
    shape
        .replace("-data: CA", &format!("-data: {certificate}"))
        .replace("-data: \"CA", &format!("-data: \"{certificate}"))
        .replace("-data: CERTIFICATE", &format!("-data: {certificate}"))
        .replace("-data: KEY", &format!("-data: {}", STANDARD.encode(key)))
}

fn chosen(text: &str) -> Chosen {
    choose(text, None, Aliases::Refused).unwrap_or_else(|problem| panic!("{problem}: {text}"))
}

fn told(text: &str) -> String {
    match choose(text, None, Aliases::Refused).and_then(|chosen| chosen.login()) {
        Ok(_) => "it is good".to_owned(),
        Err(problem) => problem.to_string(),
    }
}

fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://a', {cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
    )
}

#[test]
fn kubeconfigs_of_all_tools_are_parsed_and_self_contained_ones_have_a_login() {
    for (shape, server) in [
        (K3S, "https://127.0.0.1:6443"),
        (RANCHER, "https://rancher.example.com:443/k8s/clusters/c-m-abcd"),
        (OPENSHIFT, "https://api.ocp.example.com:6443"),
    ] {
        let login = chosen(&filled(shape)).login().unwrap_or_else(|problem| panic!("{problem}: {shape}"));
        assert_eq!(login.server, server);
        assert_eq!(login.token.is_some(), login.identity.is_none(), "{shape}");
        assert_eq!(login.authority.is_some(), shape != OPENSHIFT);
    }
    for (shape, field) in [
        (EKS, "users[].user.exec would run a program"),
        (GKE, "users[].user.exec would run a program"),
        (AKS, "users[].user.exec would run a program"),
        (MINIKUBE, "users[].user.client-certificate names a file"),
    ] {
        assert!(told(&filled(shape)).starts_with(field), "{}", told(&filled(shape)));
    }
    for (shape, command, args) in [(EKS, "aws", 8), (GKE, "gke-gcloud-auth-plugin", 0), (AKS, "kubelogin", 7)]
    {
        let exec = exec::Exec::of(&chosen(&filled(shape)).user).unwrap().unwrap();
        assert_eq!((exec.command.as_str(), exec.args.len()), (command, args));
    }
}

#[test]
fn empty_fields_are_absent_in_a_cluster_and_a_user() {
    let cluster = "proxy-url: '', tls-server-name: '', certificate-authority: '', certificate-authority-data: '', \
                   insecure-skip-tls-verify: false, disable-compression: false, extensions: [], extra: null";
    let user = "token: t, tokenFile: '', username: '', password: '', client-certificate: '', client-key: '', \
                client-certificate-data: '', client-key-data: '', as: '', as-uid: '', as-groups: [], \
                as-user-extra: {}, exec: null, auth-provider: {}, extensions: null";
    let login = chosen(&kubeconfig(cluster, user)).login().unwrap();
    assert!(login.authority.is_none() && login.tls_server_name.is_none() && login.identity.is_none());
    let unset = "token: t, exec: {command: '', args: [], env: null, provideClusterInfo: false}, \
                 auth-provider: {name: '', config: {}}";
    assert_eq!(told(&kubeconfig(cluster, unset)), "it is good");
    assert!(told(&kubeconfig("", "token: '  '")).contains("has no login"));
    assert!(told(&kubeconfig("", "token:")).contains("has no login"));
    let skipping = "insecure-skip-tls-verify: 'yes'";
    assert!(told(&kubeconfig(skipping, "token: t")).contains("insecure-skip-tls-verify must not be true"));
    assert_eq!(told(&kubeconfig("insecure-skip-tls-verify: no", "token: t")), "it is good");
}

/// Base64 as `base64` without `-w0`, Windows and YAML fold it.
#[test]
fn base64_may_be_wrapped_in_every_data_field() {
    let (certificate, key) = issued();
    let wrapped = |text: &str, end: &str| {
        let encoded = STANDARD.encode(text);
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join(end)
    };
    for (style, end) in [("|", "\n      "), (">", "\n      "), (">-", "\r\n      "), ("", "\n\n      ")] {
        let field = |text: &str| format!("{style}\n      {}\n", wrapped(text, end));
        let text = K3S
            .replace(" CA\n", &format!(" {}", field(&certificate)))
            .replace(" CERTIFICATE\n", &format!(" {}", field(&certificate)))
            .replace(" KEY\n", &format!(" {}", field(&key)));
        let login = chosen(&text).login().unwrap_or_else(|problem| panic!("{problem}: {text}"));
        assert_eq!(login.identity.unwrap().key.expose(), key.as_bytes());
    }
    let quoted = wrapped(&certificate, "\\n\\t \\r\\n");
    let text = kubeconfig(&format!("certificate-authority-data: \"{quoted}\""), "token: t");
    assert_eq!(told(&text), "it is good");
    let bare = STANDARD.encode(&certificate).trim_end_matches('=').to_owned();
    assert_eq!(told(&kubeconfig(&format!("certificate-authority-data: {bare}"), "token: t")), "it is good");
}

#[test]
fn content_that_is_no_certificate_is_named() {
    let (certificate, key) = issued();
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(certificate.as_bytes())
        .map(|der: rustls::pki_types::CertificateDer<'_>| der.to_vec())
        .unwrap();
    let cut = &certificate[..certificate.len() / 2];
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    for (content, rule) in [
        (key.as_bytes(), "holds a private key and no certificate"),
        (request.as_bytes(), "holds a certificate request and no certificate"),
        (cut.as_bytes(), "holds PEM that is cut short or damaged"),
        (b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "holds PEM that is cut short"),
        (
            b"-----BEGIN TRUSTED CERTIFICATE-----\nAA\n-----END TRUSTED CERTIFICATE-----",
            "TRUSTED CERTIFICATE",
        ),
        (&der, "holds a certificate in DER"),
        (STANDARD.encode(&certificate).as_bytes(), "is base64 of base64"),
        (b"garbage", "holds no PEM certificate"),
    ] {
        let text = told(&kubeconfig(
            &format!("certificate-authority-data: {}", STANDARD.encode(content)),
            "token: t",
        ));
        assert!(text.starts_with("clusters[].cluster.certificate-authority-data"), "{text}");
        assert!(text.contains(rule), "{rule}: {text}");
    }
    let plain = kubeconfig("certificate-authority-data: '-----BEGIN CERTIFICATE-----'", "token: t");
    assert!(told(&plain).contains("is PEM as it is, and must be base64 of it"));
    assert!(told(&kubeconfig("certificate-authority-data: '%'", "token: t")).contains("is not base64"));
}

const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBFzCBvQIUO29f7pRhM4exjenuNFm687pSeIswCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCdjEwIBcNMjYxMTI5MjEzNTEwWhgPMjEyNjExMDUyMTM1MTBaMA0xCzAJ
BgNVBAMMAnYxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAETiI51ILl0mjVPQ/G
mSuRDptWQAeUz2few3oLV1jWb9fVbPP7ef3ocfD753TDEQYNa/bTQC+6g79bsIns
KdKiwDAKBggqhkjOPQQDAgNJADBGAiEAn08OQqgyfqwj+mUXy1qjLEzgIRQvEKpv
qfbLomFjqWsCIQCgCHVcT2XWTNpv46Wz9Qe/BivDqwhh4CxlxVcmZT73Xg==
-----END CERTIFICATE-----
";

#[test]
fn a_client_certificate_of_version_1_is_rejected_and_an_authority_of_version_1_is_accepted() {
    let (_, key) = issued();
    let data = STANDARD.encode(VERSION_1);
    let user = format!("client-certificate-data: {data}, client-key-data: {}", STANDARD.encode(key));
    assert!(told(&kubeconfig("", &user)).contains("X.509 certificate of version 1"));
    assert_eq!(told(&kubeconfig(&format!("certificate-authority-data: {data}"), "token: t")), "it is good");
    let der = pem::certificates("", VERSION_1.as_bytes()).unwrap();
    assert!(!pem::are_leaves(&der));
}

#[test]
fn yaml_problems_are_reported_by_kind_without_quoting_the_text() {
    let good = kubeconfig("", "token: hunter2");
    for text in [
        format!("---\n---\n{good}---\n...\n---\n# nothing\n"),
        format!("\u{feff}{good}").trim_start_matches('\u{feff}').to_owned(),
        good.replace('\n', "\r\n"),
        "{\n\t\"current-context\": \"a\",\n\t\"contexts\": [{\"name\": \"a\", \"context\": {\"cluster\": \"c\", \"user\": \
         \"u\"}}],\n\t\"clusters\": [{\"name\": \"c\", \"cluster\": {\"server\": \"https:\\/\\/a\"}}],\n\t\"users\": \
         [{\"name\": \"u\", \"user\": {\"token\": \"t\"}}]\n}\n"
            .to_owned(),
    ] {
        assert_eq!(told(&text), "it is good", "{text}");
    }
    let anchored = format!("x: &x {{token: hunter2}}\n{}", good.replace("{token: hunter2}", "*x"));
    for (text, rule) in [
        (format!("{good}current-context: hunter2\n"), "has a key twice (line 5, column 1)"),
        (format!("{good}---\n{good}"), "holds several documents"),
        (anchored.clone(), "uses YAML aliases"),
        (good.replace("{token: hunter2}", "*hunter2"), "YAML"),
        ("users:\n\t- token: hunter2\n".to_owned(), "line 2 is indented with a tab"),
        (format!("kind: List\nitems: [{{{}}}]\n", "token: hunter2"), "kind: List"),
        ("kind: Secret\ndata: {value: aHVudGVyMg==}\n".to_owned(), "is a Secret and not a kubeconfig"),
        (format!("kind: hunter2\n{good}"), "its kind is not Config"),
        ("- hunter2\n".to_owned(), "it is no mapping"),
        ("hunter2".to_owned(), "it is no mapping"),
        ("a: [hunter2".to_owned(), "is neither YAML nor JSON"),
        ("{\"a\": \"hunter2\", \"a\": 1}".to_owned(), "has a key twice"),
        ("# nothing\n".to_owned(), "is empty"),
        ("a: hunter2\n".to_owned(), "it has no clusters, contexts and users"),
        ("x".repeat(LARGEST + 1), "1 MiB"),
        ("users: {token: hunter2}\ncurrent-context: a".to_owned(), "current-context names a context"),
        ("contexts: hunter2\ncurrent-context: a".to_owned(), "contexts must be a list"),
    ] {
        let told = told(&text);
        assert!(told.contains(rule), "{rule}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let resolved = choose(&anchored, None, Aliases::Resolved).unwrap().login().unwrap();
    assert_eq!(resolved.token.unwrap().expose(), "hunter2");
    let merged = format!(
        "x: &x {{server: 'https://b', tls-server-name: n}}\n{}",
        good.replace("{server: 'https://a', }", "{<<: *x, server: 'https://c'}")
    );
    let login = choose(&merged, None, Aliases::Resolved).unwrap().login().unwrap();
    assert_eq!((login.server.as_str(), login.tls_server_name.as_deref()), ("https://c:443", Some("n")));
    let bomb = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../e2e/corpus/kubeconfigs/aliases.yaml"
    ));
    assert!(choose(&bomb.unwrap(), None, Aliases::Resolved).is_err());
}

#[test]
fn only_the_chosen_context_is_validated() {
    let text = "current-context: gone\n\
        contexts: [{name: a, context: {cluster: c, user: u}}, {name: 2, context: {cluster: d, user: v}}, nonsense, \
        {name: twice, context: {}}, {name: twice, context: {cluster: c, user: u}}, {name: half, context: {cluster: c}}]\n\
        clusters: [{name: c, cluster: {server: 'https://c'}}, {name: d, cluster: [nonsense]}]\n\
        users: [{name: u, user: {token: good}}, {name: v, user: {token: [hunter2]}}, {name: w, user: 3}]\n";
    let choose = |context| choose(text, context, Aliases::Refused).map_err(|problem| problem.to_string());
    let taken = choose(Some("a")).unwrap();
    assert_eq!(taken.login().unwrap().token.unwrap().expose(), "good");
    let sent = taken.minimal().unwrap();
    assert!(!sent.contains("hunter2") && !sent.contains("nonsense"), "{sent}");
    assert!(chosen(&sent).login().unwrap().is_same(&taken.login().unwrap()));
    for (context, rule) in [
        (None, "current-context names a context that is not in contexts"),
        (Some("b"), "contexts names a context that is not in contexts"),
        (Some("twice"), "contexts names a context that is in contexts twice"),
        (Some("2"), "clusters[].cluster must be a mapping"),
        (Some("half"), "contexts[].context.user names a user that is not in users"),
    ] {
        assert_eq!(choose(context).err().as_deref(), Some(rule), "{context:?}");
    }
    assert_eq!(contexts(text), ["a", "2", "twice", "twice", "half"]);
}

#[test]
fn the_minimal_kubeconfig_has_only_the_login() {
    let text = filled(K3S).replace(
        "  user:\n",
        "  user:\n    exec: {apiVersion: client.authentication.k8s.io/v1, command: hunter2}\n    extra: hunter2\n",
    );
    let mut plugin = chosen(&text);
    assert!(plugin.has_static_login());
    plugin.user.remove("client-certificate-data");
    plugin.user.remove("client-key-data");
    assert!(!plugin.has_static_login());
    let credential = Credential {
        token: Some("t0ken".to_owned().into()),
        certificate: None,
        expires: Some("2040-01-02T03:04:05Z".parse().unwrap()),
    };
    let made = plugin.with(credential);
    let sent = made.minimal().unwrap();
    assert!(!sent.contains("exec") && !sent.contains("hunter2"), "{sent}");
    let login = chosen(&sent).login().unwrap();
    assert_eq!(login.token.unwrap().expose(), "t0ken");
    assert_eq!(login.expires, Some("2040-01-02T03:04:05Z".parse().unwrap()));
}

#[test]
fn numbers_are_read_as_texts() {
    let login = |user: &str| told(&kubeconfig("", user));
    assert_eq!(login("token: 123456"), "it is good");
    assert_eq!(login("token: 0123"), "it is good");
    assert!(login("token: 1.5").contains("users[].user.token is a number: put it in quotes"));
    assert!(login("token: {a: 1}").contains("users[].user.token must be a text"));
    assert!(login("token: 'a b'").contains("holds characters that no token has"));
    assert!(login("token: größe").contains("holds characters that no token has"));
}

#[test]
fn expired_authorities_are_rejected_unless_one_is_valid() {
    let authority = |year: i32| {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 2, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    };
    let refusal = |pem: String| {
        let data = STANDARD.encode(pem);
        let text = format!(
            "contexts: [{{name: a, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://a', certificate-authority-data: {data}}}}}]\n"
        );
        let login = choose(&text, None, Aliases::Refused).unwrap().login().unwrap();
        login
            .refuse_expired_authority("2030-01-01T00:00:00Z".parse().unwrap())
            .map_err(|problem| problem.to_string())
    };
    let told = refusal(authority(2029)).unwrap_err();
    assert!(
        told.contains("certificate-authority-data holds an authority that expired at 2029-02-01T00:00:00Z"),
        "{told}"
    );
    assert_eq!(refusal(authority(2031)), Ok(()));
    assert_eq!(refusal(authority(2029) + &authority(2031)), Ok(()));
}
