use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: RequestArgs,
}

fn parse(flags: &str) -> Result<StartWorkspaceRequest> {
    let line = format!("start --owner me --image registry.example:5000/org/Full_Image:v1@sha256:0 {flags}");
    build(&Line::try_parse_from(line.split_whitespace())?.args)
}

fn spec_of(flags: &str) -> StartWorkspaceSpec {
    parse(flags).unwrap().spec.unwrap()
}

#[test]
fn the_least_request_has_what_every_server_needs() {
    let request = parse("--id a").unwrap();
    let spec = request.spec.unwrap();
    assert_eq!(spec.placement, None);
    assert_eq!(spec.workspace_location, ".");
    assert!(spec.ide_image.is_some());
    assert!(matches!(spec.initializer.unwrap().spec, Some(Initializer::Empty(_))));
    let meta_id = request.metadata.unwrap().meta_id;
    assert!(meta_id.starts_with("full-image-") && meta_id.parse::<MetaId>().is_ok(), "{meta_id}");
    assert_eq!(request.service_prefix, meta_id);
}

#[test]
fn the_same_instance_id_makes_the_same_request() {
    assert_eq!(parse("--id a").unwrap(), parse("--id a").unwrap());
    assert_ne!(parse("--id a").unwrap().service_prefix, parse("--id b").unwrap().service_prefix);
    assert_ne!(parse("").unwrap().id, parse("").unwrap().id);
}

#[test]
fn the_suffix_of_a_made_name_is_the_same_in_every_release() {
    let request = parse("--id 0f2c4f0e-6f3c-4b5e-9d5e-3b1c7f6a2d10").unwrap();
    assert_eq!(request.service_prefix, "full-image-a080e55bc9");
}

#[test]
fn the_place_is_asked_for_in_order() {
    let placement = spec_of(
        "--region asia --region europe --require-region --cluster eu --label a=b=c --permission p --namespace n",
    )
    .placement
    .unwrap();
    assert_eq!(placement.regions, ["asia", "europe"]);
    assert!(placement.require_region);
    assert_eq!((placement.cluster.as_str(), placement.namespace.as_str()), ("eu", "n"));
    assert_eq!(placement.cluster_labels["a"], "b=c");
    assert_eq!(placement.permissions, ["p"]);
}

#[test]
fn a_repository_gives_the_content_and_the_folder() {
    let spec = spec_of("--git-url https://git.example/org/site.git --git-branch next");
    assert_eq!(spec.workspace_location, "site");
    let Some(Initializer::Git(git)) = spec.initializer.unwrap().spec else { panic!("not git") };
    assert_eq!((git.clone_taget.as_str(), git.checkout_location.as_str()), ("next", "site"));
    assert_eq!(git.target_mode(), CloneTargetMode::RemoteBranch);
    assert!(git.config.is_some());
}

#[test]
fn a_repository_is_named_by_its_path_and_never_by_host_or_login() {
    for (url, name) in [
        ("git@git.example:org/site", "site"),
        ("git@git.example:site.git", "site"),
        ("https://git.example/org/site.git/?a=/b#c", "site"),
        ("ssh://git@git.example:22/site", "site"),
        ("site", "site"),
    ] {
        assert_eq!(repository_name(url).as_deref(), Some(name), "{url}");
    }
    for url in [
        "",
        "https://",
        "https://git.example",
        "https://jane:hunter2@git.example",
        "https://git.example/..",
        "a:",
    ] {
        assert_eq!(repository_name(url), None, "{url}");
        // The server reports the address; nothing else is wrong.
        let mut args = Line::try_parse_from(["start", "--owner", "me", "--image", "image"]).unwrap().args;
        args.git_url = Some(url.to_owned());
        let request = build(&args).unwrap();
        assert!(!request.service_prefix.contains("hunter2"), "{}", request.service_prefix);
        let spec = request.spec.unwrap();
        assert_eq!(spec.workspace_location, ".", "{url}");
        let Some(Initializer::Git(git)) = spec.initializer.unwrap().spec else { panic!("not git") };
        assert_eq!((git.remote_uri.as_str(), git.checkout_location.as_str()), (url, ""), "{url}");
    }
}

#[test]
fn ports_variables_and_timeouts_are_taken_over() {
    let spec =
        spec_of("--port 80:public --port 443 --env A=b=c --env PATH --timeout-after 90m --closed-timeout 0");
    assert_eq!(spec.ports[0].visibility(), PortVisibility::Public);
    assert_eq!(spec.ports[1].visibility(), PortVisibility::Private);
    assert_eq!(spec.envvars[0].value, "b=c");
    assert_eq!(spec.envvars[1].value, std::env::var("PATH").unwrap());
    assert_eq!((spec.timeout.as_str(), spec.closed_timeout.as_str()), ("1h30m0s", "0s"));
}

#[test]
fn wrong_flags_are_refused_and_values_are_never_shown() {
    for bad in [
        "--port 0",
        "--port 70000",
        "--port 80:open",
        "--port 80 --port 80:public",
        "--env =x",
        "--env NOT_SET_ANYWHERE",
        "--label a",
        "--id A_b",
        "--region Europe!",
        "--require-region",
        "--timeout-after 5",
        "--timeout-after 0s",
        "--max-lifetime 0",
        "--closed-timeout=-1s",
        "--type x",
        "--git-branch x",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    let variable: Variable = "TOKEN=hunter2".parse().unwrap();
    assert_eq!(format!("{variable:?}"), "TOKEN=***");
}
