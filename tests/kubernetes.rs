//! What packaging ships for Kubernetes, KEDA and Compose is accepted by those it is for, and by the host itself.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use harness::{
    repository,
    toolchains::{copied, packaging},
};
use sandhog::config::{Config, ConfigOverrides};

fn shipped(file: &str) -> PathBuf {
    repository().join("host/sandhog/packaging").join(file)
}

fn text(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_host_accepts_the_configurations_for_kubernetes() {
    for (file, is_open) in [("base", true), ("overlays/sidecar", false)] {
        let place = tempfile::tempdir().unwrap();
        let plugins = place.path().join("plugins");
        fs::create_dir(&plugins).unwrap();
        let text = fs::read_to_string(shipped(&format!("kubernetes/{file}/sandhog.toml"))).unwrap();
        let source = place.path().join("sandhog.toml");
        fs::write(&source, text.replace("/plugins", plugins.to_str().unwrap())).unwrap();
        let secret = |name: &str| (name == "SANDHOG_SECRET" && is_open).then(|| "0123456789abcdef".to_owned());
        let config = Config::load(Some(&source), ConfigOverrides::default(), &secret).unwrap();
        assert_eq!(config.data, Some("/data".into()));
    }
}

/// The objects of a kustomization, validated: each with its kind and name. Fails with what is wrong.
fn applied(directory: &Path) -> (String, BTreeSet<String>) {
    let tools = packaging();
    let built = Command::new(&tools.reader)
        .arg("kustomize")
        .arg(directory)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}: {}", directory.display(), text(&built));
    let mut validate = Command::new(&tools.python)
        .arg(&tools.validate)
        .arg(&tools.keda)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    validate.stdin.take().unwrap().write_all(&built.stdout).unwrap();
    let validated = validate.wait_with_output().unwrap();
    assert!(
        validated.status.success(),
        "{}: {}",
        directory.display(),
        text(&validated)
    );
    let objects = String::from_utf8(validated.stdout).unwrap();
    let manifests = String::from_utf8(built.stdout).unwrap();
    (manifests, objects.lines().map(str::to_owned).collect())
}

/// A copy of the manifests, with one more overlay of these components.
fn with_components(components: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    copied(&shipped("kubernetes"), place.path());
    let overlay = place.path().join("overlays/tried");
    fs::create_dir(&overlay).unwrap();
    let head =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../base]\ncomponents:\n";
    let components = components
        .iter()
        .map(|component| format!("  - ../../components/{component}\n"));
    let text = head.to_owned() + &components.collect::<String>();
    fs::write(overlay.join("kustomization.yaml"), text).unwrap();
    (place, overlay)
}

#[test]
fn kubernetes_accepts_a_host_with_its_own_storage() {
    let (manifests, objects) = applied(&shipped("kubernetes/overlays/standalone"));
    for object in ["StatefulSet sandhog", "Service sandhog", "ConfigMap sandhog-plugins"] {
        assert!(objects.contains(object), "{object} in {objects:?}");
    }
    assert!(manifests.contains("  replicas: 1\n"), "{manifests}");
    assert!(
        manifests.contains("image: ghcr.io/sandhog/sandhog:0.1.0"),
        "{manifests}"
    );
    assert!(manifests.contains("name: sandhog-plugins\n"), "{manifests}");
}

#[test]
fn kubernetes_accepts_a_native_sidecar() {
    let (manifests, objects) = applied(&shipped("kubernetes/overlays/sidecar"));
    assert!(objects.contains("StatefulSet shop"), "{objects:?}");
    assert!(manifests.contains("restartPolicy: Always"), "{manifests}");
}

#[test]
fn kubernetes_accepts_handlers_from_an_image_and_keda_accepts_its_objects() {
    let (_place, overlay) = with_components(&["plugins-image", "keda"]);
    let (manifests, objects) = applied(&overlay);
    assert!(
        manifests.contains("reference: registry.example.com/shop/handlers:1"),
        "{manifests}"
    );
    for object in ["ScaledObject invoice-printer", "TriggerAuthentication sandhog-sqs"] {
        assert!(objects.contains(object), "{object} in {objects:?}");
    }
}

#[test]
fn a_mistake_in_a_manifest_is_found() {
    let (place, overlay) = with_components(&["keda"]);
    let spoil = |file: &str, from: &str, to: &str| {
        let path = place.path().join(file);
        let before = fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{before}");
        fs::write(&path, before.replace(from, to)).unwrap();
        let refused = std::panic::catch_unwind(|| applied(&overlay)).is_err();
        fs::write(&path, before).unwrap();
        refused
    };
    assert!(spoil("base/statefulset.yaml", "readOnlyRootFilesystem", "readOnlyRoot"));
    assert!(spoil(
        "components/keda/scaledobject.yaml",
        "maxReplicaCount",
        "maxReplicas"
    ));
    applied(&overlay);
}

#[test]
fn compose_accepts_its_file() {
    let tools = packaging();
    let loaded = Command::new(&tools.reader)
        .arg("compose")
        .arg(shipped("compose.yml"))
        .output()
        .unwrap();
    assert!(loaded.status.success(), "{}", text(&loaded));
    let project = String::from_utf8(loaded.stdout).unwrap();
    assert!(project.contains("SANDHOG_SECRET: 0123456789abcdef"), "{project}");
}
