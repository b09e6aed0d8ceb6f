use super::*;
use crate::cluster::fields::parse;
use domain::secret_ref::SecretRef;
use proto::spaceport::v1::SecretReference;

/// A complete kubeconfig with this token.
fn complete(token: &str) -> String {
    format!(
        r#"{{"contexts": [{{"name": "a", "context": {{"cluster": "c", "user": "u"}}}}], "clusters": [{{"name": "c", "cluster":
        {{"server": "https://c"}}}}], "users": [{{"name": "u", "user": {{"token": "{token}"}}}}]}}"#
    )
    .replace('\n', "")
}

fn with_kubeconfig(text: &str) -> String {
    format!("kubeconfig: {{inline: '{}'}}\n{text}", complete("t"))
}

fn token_of(kubeconfig: &[u8]) -> String {
    let read: Value = serde_json::from_slice(kubeconfig).unwrap();
    read["users"][0]["user"]["token"].as_str().unwrap().to_owned()
}

fn requests_of(text: &str) -> Result<Vec<RegisterRequest>> {
    let found = requests(parse(text).unwrap(), Path::new("eu.yaml"), &Overrides::default())?;
    Ok(found.into_iter().map(|registration| registration.request).collect())
}

fn problems_of(text: &str) -> Vec<String> {
    let error = requests_of(&with_kubeconfig(text)).unwrap_err().to_string();
    match error.split_once("problems:\n") {
        Some((_, list)) => list.lines().map(|line| line.trim().to_owned()).collect(),
        None => vec![error.trim_start_matches("eu.yaml: ").to_owned()],
    }
}

#[test]
fn a_whole_file_becomes_the_request() {
    let text = r#"
name: eu
region: europe
labels: {tier: gold}
weight: 80
cordoned: true
admissionConstraints: [{permission: new-workspace-cluster}, {featurePreview: true}]
namespaces:
- namespace: workspaces
  secretsNamespace: workspace-secrets
  preferredClass: small
  classes:
    small: {name: Small, container: {requests: {cpu: 500m, memory: 1Gi}}}
  urlTemplate: https://{{ .Prefix }}.eu.example
  imageBuilder: {targetAddr: "builder:8080"}
"#;
    let request = requests_of(&with_kubeconfig(text)).unwrap().remove(0);
    let spec = request.spec.unwrap();
    assert_eq!(
        (spec.name.as_str(), spec.region.as_str(), spec.weight, spec.max_weight),
        ("eu", "europe", 80, 100)
    );
    assert!(spec.cordoned);
    assert_eq!(spec.labels["tier"], "gold");
    assert_eq!(spec.admission_constraints[1].constraint, Some(Constraint::FeaturePreview(true)));
    assert_eq!(spec.namespaces[0].image_builder_target, "builder:8080");
    let class: RawClass = serde_json::from_str(&spec.namespaces[0].classes["small"]).unwrap();
    assert_eq!(class.container.requests.cpu, "500m");
    assert_eq!(token_of(&request.kubeconfig), "t");
}

#[test]
fn weights_have_defaults() {
    let spec = |more: &str| {
        let text = format!("name: a\nregion: b\nnamespaces: [{{namespace: c}}]\n{more}");
        requests_of(&with_kubeconfig(&text)).unwrap().remove(0).spec.unwrap()
    };
    assert_eq!((spec("").weight, spec("").max_weight), (50, 100));
    assert_eq!(spec("maxWeight: 10").weight, 10);
}

#[test]
fn every_problem_is_reported_at_once_with_its_field() {
    let text = "name: EU\nregoin: europe\nweight: 200\ncordoned: maybe\nlabels: {a: 1}\n\
                admissionConstraints: [{}, {permission: ''}, {permission: a, featurePreview: true}]\n\
                namespaces: [{namespace: a, secretsNamespace: a, secretNamespace: b, urlTemplate: '{{ .Id }}', \
                preferredClass: x, imageBuilder: {}, \
                classes: {y: {container: {requests: {cpu: lots}}}, z: {nme: Z}}}, {namespace: a}, 3]\n";
    let problems = problems_of(text);
    for start in [
        "name: cluster name must be",
        "region: is required",
        "labels.a: must be a text",
        "weight: must not be above maxWeight",
        "cordoned: must be true or false",
        "admissionConstraints[0]: must be either",
        "admissionConstraints[1].permission: must not be empty",
        "admissionConstraints[2]: must be either",
        "namespaces[0].classes.y.container.requests.cpu: ",
        "namespaces[0].classes.z.nme: is no known key",
        "namespaces[0].imageBuilder.targetAddr: is required",
        "namespaces[0].urlTemplate: ",
        "namespaces[0].secretsNamespace: must differ",
        "namespaces[0].preferredClass: \"x\" is none",
        "namespaces[0].secretNamespace: is no known key",
        "namespaces[1].namespace: is named twice",
        "namespaces[2]: must be a mapping",
        "regoin: is no known key; did you mean region? known are name, region",
    ] {
        assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start}: {problems:#?}");
    }
    assert_eq!(problems.len(), 18, "{problems:#?}");
    // The keys that are unknown come before those that are missing.
    assert!(problems[0].starts_with("regoin: "), "{problems:#?}");
}

#[test]
fn a_file_of_many_clusters_says_which_document_is_wrong() {
    let one = |name: &str, region: &str| {
        with_kubeconfig(&format!("name: {name}\nregion: {region}\nnamespaces: [{{namespace: n}}]\n"))
    };
    assert_eq!(requests_of(&format!("{}---\n{}", one("a", "r"), one("b", "r"))).unwrap().len(), 2);
    // The same document again adds no request.
    assert_eq!(requests_of(&format!("{}---\n{}", one("a", "r"), one("a", "r"))).unwrap().len(), 2);
    let error = requests_of(&format!("{}---\n{}", one("a", "r"), one("a", "s"))).unwrap_err().to_string();
    assert_eq!(error, "eu.yaml: document 2: name: is already used by a document above");
}

#[test]
fn a_kubeconfig_is_needed_from_one_place() {
    let rest = "name: a\nregion: b\nnamespaces: [{namespace: c}]\n";
    for (source, rule) in [
        ("", "kubeconfig: is required"),
        ("kubeconfig: {}\n", "kubeconfig: must have one of"),
        ("kubeconfig: {file: a, inline: b}\n", "kubeconfig: must have one of"),
        ("kubeconfig: {fiel: a}\n", "kubeconfig.fiel: is no known key"),
        ("kubeconfig: {file: /does/not/exist}\n", "kubeconfig: failed to read /does/not/exist"),
        ("kubeconfig: secret\n", "kubeconfig: must be a mapping"),
    ] {
        let error = requests_of(&format!("{source}{rest}")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("eu.yaml: {rule}")), "{error}");
    }
}

#[test]
fn a_kubeconfig_file_is_found_beside_the_cluster_file_and_name_and_kubeconfig_can_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("eu.kubeconfig"), complete("beside")).unwrap();
    std::fs::write(folder.path().join("other"), complete("other")).unwrap();
    let file = folder.path().join("eu.yaml");
    let text = "name: a\nregion: b\nkubeconfig: {file: eu.kubeconfig}\n";
    // The encoding that PowerShell writes.
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    std::fs::write(&file, utf16).unwrap();
    let requests = |instead: Overrides<'_>| {
        requests(read(&file, Patience::default()).unwrap(), &file, &instead).unwrap().remove(0)
    };
    let found = requests(Overrides::default()).request;
    assert_eq!(token_of(&found.kubeconfig), "beside");
    assert!(found.spec.unwrap().namespaces.is_empty());
    let (name, other) = ("z".parse().unwrap(), folder.path().join("other"));
    let login = Some(Login::File(&other));
    let replaced = requests(Overrides { name: Some(&name), login, ..Overrides::default() }).request;
    assert_eq!(replaced.spec.unwrap().name, "z");
    assert_eq!(token_of(&replaced.kubeconfig), "other");
}

#[test]
fn a_context_is_named_by_the_file_or_the_command_line() {
    let kubeconfig = complete("a").replace(
        r#""contexts": ["#,
        r#""contexts": [{"name": "b", "context": {"cluster": "c", "user": "v"}}, "#,
    );
    let kubeconfig =
        kubeconfig.replace(r#""users": ["#, r#""users": [{"name": "v", "user": {"token": "b"}}, "#);
    let text =
        |context: &str| format!("name: a\nregion: b\nkubeconfig: {{inline: '{kubeconfig}'{context}}}\n");
    let token = |text: &str, context| {
        let instead = Overrides { context, ..Overrides::default() };
        let found = requests(parse(text).unwrap(), Path::new("eu.yaml"), &instead)?.remove(0);
        Ok::<_, anyhow::Error>(token_of(&found.request.kubeconfig))
    };
    assert_eq!(token(&text(", context: a"), None).unwrap(), "a");
    assert_eq!(token(&text(", context: a"), Some("b")).unwrap(), "b");
    assert_eq!(token(&text(""), Some("b")).unwrap(), "b");
    let reported = token(&text(""), None).unwrap_err().to_string();
    assert!(
        reported.contains("current-context is not set") && reported.contains("--kube-context: b, a"),
        "{reported}"
    );
    let secret = "name: a\nregion: b\nkubeconfig: {secret: {namespace: s, name: n}, context: a}\n";
    assert!(
        token(secret, None).unwrap_err().to_string().contains("must not name a context together with secret")
    );
}

#[test]
fn a_kubeconfig_in_a_secret_is_named_by_the_file_or_the_command_line_and_by_one_of_them() {
    let text = |kubeconfig: &str| {
        format!("name: a\nregion: b\nnamespaces: [{{namespace: c}}]\nkubeconfig: {kubeconfig}\n")
    };
    let named = text("{secret: {namespace: spaceport, name: cluster-eu}}");
    let request = requests_of(&named).unwrap().remove(0);
    let expected = SecretReference {
        namespace: "spaceport".to_owned(),
        name: "cluster-eu".to_owned(),
        key: String::new(),
    };
    assert_eq!((request.spec.unwrap().kubeconfig_secret, request.kubeconfig), (Some(expected), Vec::new()));
    let other: SecretRef = "spaceport/other:key".parse().unwrap();
    let login = Some(Login::Secret(&other));
    let inline = parse(&text("{inline: 'clusters: []'}")).unwrap();
    let instead = Overrides { login, ..Overrides::default() };
    let request = requests(inline, Path::new("eu.yaml"), &instead).unwrap().remove(0).request;
    assert_eq!(request.spec.unwrap().kubeconfig_secret, Some(to_wire(&other)));
    assert!(request.kubeconfig.is_empty());
    for (bad, reported) in [
        ("{secret: {namespace: spaceport}}", "kubeconfig.secret.name: is required"),
        ("{secret: {namespace: a, name: B}}", "kubeconfig.secret.name: Secret name must be"),
        ("{secret: {namespace: a, name: b, keys: c}}", "keys: is no known key"),
        ("{inline: 'clusters: []', secret: {namespace: a, name: b}}", "must have one of"),
        ("{secret: {namespace: a, name: b}, context: c}", "must not name a context together with secret"),
        ("{}", "must have one of file, inline and secret"),
    ] {
        let error = requests_of(&text(bad)).unwrap_err().to_string();
        assert!(error.contains(reported), "{bad}: {error}");
    }
}

#[test]
fn json_is_read_and_what_is_neither_is_refused_on_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.json");
    std::fs::write(&file, r#"{"name": "a", "region": "b"}"#).unwrap();
    assert_eq!(read(&file, Patience::default()).unwrap()[0]["region"], "b");
    for text in ["a: [b", "a: 1\na: 2\n", "", "---\n---\n"] {
        std::fs::write(&file, text).unwrap();
        let error = format!("{:#}", read(&file, Patience::default()).unwrap_err());
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn paths_in_a_file_from_a_pipe_start_at_the_working_directory() {
    for pipe in ["-", "/dev/stdin", "/dev/fd/63"] {
        let documents =
            parse("name: eu\nregion: europe\nkubeconfig: {file: clusters/missing.kubeconfig}\n").unwrap();
        let error = requests(documents, Path::new(pipe), &Overrides::default()).err().unwrap();
        assert!(format!("{error:#}").contains("failed to read clusters/missing.kubeconfig"), "{error:#}");
    }
}

#[test]
fn the_example_files_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    std::fs::write(&kubeconfig, complete("t")).unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clusters");
    let mut read_files = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let instead = Overrides { login: Some(Login::File(&kubeconfig)), ..Overrides::default() };
            requests(read(&path, Patience::default()).unwrap(), &path, &instead).unwrap();
            read_files += 1;
        }
    }
    assert!(read_files > 0);
}

#[test]
fn any_text_is_a_cluster_file_or_refused() {
    fuzz::text_target("cluster-files", &[], |text| {
        if let Ok(documents) = parse(text) {
            let _ = spec(documents, Path::new("eu.yaml"));
        }
    });
}
