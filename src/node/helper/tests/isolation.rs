use std::net::TcpListener;

use serde_json::json;

use super::stage::Stage;

pub async fn the_helper_sees_nothing_but_its_root_and_the_workspace() {
    let stage = Stage::new();
    stage.write("inside", "x");
    let agent = tempfile::NamedTempFile::new().unwrap();
    // Without close-on-exec, as a library of the agent may open it.
    let inherited = nix::unistd::pipe().unwrap();
    let found = stage.probe(json!({ "do": "look", "file": agent.path() })).await;
    drop(inherited);
    assert_eq!(found["shadow"], false, "{found}");
    assert_eq!(found["file"], false, "{found}");
    assert_eq!(found["workspace"], json!(["inside"]));
    assert_eq!(found["processes"], json!(["1"]));
    assert_eq!(found["environment"], json!(["MIMALLOC_ARENA_EAGER_COMMIT"]));
    assert_eq!(found["oom_score"], "1000", "the kernel kills a helper before its agent");
    let root = found["root"].as_array().unwrap();
    let known = [
        "bin",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "proc",
        "sbin",
        "spaceport",
        "tmp",
        "usr",
        "workspace",
    ];
    assert!(root.iter().all(|name| known.contains(&name.as_str().unwrap())), "{root:?}");
    let etc = found["etc"].as_array().unwrap();
    assert!(!etc.iter().any(|name| ["shadow", "kubernetes"].contains(&name.as_str().unwrap())), "{etc:?}");
    // Three pipes, the workspace that archive work gets, and the listing itself.
    let descriptors = found["descriptors"].as_array().unwrap();
    let is_known =
        |text: &str| text.starts_with("pipe:") || text == "/workspace" || text.starts_with("/proc/");
    assert!(descriptors.iter().all(|path| is_known(path.as_str().unwrap())), "{descriptors:?}");
    assert!(descriptors.len() <= 6, "{descriptors:?}");
    // No mount of the node's root is left, and only two can be written to.
    for line in found["mounts"].as_str().unwrap().lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (place, options) = (fields[4], fields[5]);
        let is_writable = options.split(',').any(|option| option == "rw");
        let may_be = ["/workspace", "/tmp", "/proc"].contains(&place) || place.starts_with("/dev/");
        assert!(!is_writable || may_be, "{line}");
        assert!(options.contains("nosuid"), "{line}");
    }
}

pub async fn the_helper_has_no_capabilities_outside_and_few_inside() {
    let stage = Stage::new();
    let found = stage.probe(json!({ "do": "look" })).await;
    assert_eq!(found["no_new_privileges"], "1");
    assert_eq!(found["groups"], "");
    assert_eq!(found["uid"], "0\t0\t0\t0");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID and SETFCAP.
    let few = (1_u64 << 0) | (1 << 1) | (1 << 3) | (1 << 4) | (1 << 31);
    for set in ["effective", "bounding"] {
        assert_eq!(u64::from_str_radix(found[set].as_str().unwrap(), 16).unwrap(), few, "{set}");
    }
    let tried = stage.probe(json!({ "do": "try" })).await;
    let allowed = ["write_tmp", "write_workspace"];
    for (name, worked) in tried.as_object().unwrap() {
        assert_eq!(worked.as_bool().unwrap(), allowed.contains(&name.as_str()), "{name}: {tried}");
    }
    assert!(!stage.path("ran").exists());
    assert!(!stage.path("device").exists());
}

pub async fn archive_work_has_no_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stage = Stage::new();
    let address = listener.local_addr().unwrap();
    let found = stage.probe(json!({ "do": "connect", "address": address })).await;
    assert_eq!(found, json!({ "connected": false, "devices": 1 }));
}
